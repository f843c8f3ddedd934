"""Bilevel problems: the outer loop; `single_loop`, `likelihood` and its plug-in beside it."""

from .loop import (
    AdamSteps,
    Bilevel,
    Exact,
    Inexact,
    Observe,
    Outer,
    Record,
    Result,
    lbfgs,
    record,
    solve,
    solve_inner,
)

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
