"""Bilevel problems: the outer loop; `single_loop`, `likelihood` and its plug-in beside it."""

from .convergence import Record, record
from .inner_solve import AdamSteps, Exact, Inexact, solve_inner
from .lbfgs import lbfgs
from .loop import Observe, Outer, Result, solve
from .problem import Bilevel

__all__ = [
    "AdamSteps",
    "Bilevel",
    "Exact",
    "Inexact",
    "Observe",
    "Outer",
    "Record",
    "Result",
    "lbfgs",
    "record",
    "solve",
    "solve_inner",
]
