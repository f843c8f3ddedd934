"""Random problems, independent witnesses and tolerances: what every solver is held against.

The gate runs them on this project's solvers, `python -m paper_checks conform` on anybody's.
"""
