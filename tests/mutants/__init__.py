"""Mutants: one fault at a time in `analysis` and `solvers`, and whether the nearest tests see it.

`python -m tests.mutants` (`make mutants`) plants them; nothing here runs in CI but its own tests.
"""
