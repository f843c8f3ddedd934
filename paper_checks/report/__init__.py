"""``python -m paper_checks report``: claims, derivations and figures on one page, OUT/report.html.

The page is a file of its own that asks no network: formulas are MathML, pictures are in it, and
the sliders run JavaScript that SymPy wrote from the derivations.
"""
