"""Factors of polynomials in several variables, in a time that does not hang on luck.

SymPy puts random numbers for all variables but one, factors what is left, and lifts the factors
back. If the numbers split more than there is to split, lifting takes minutes to find that out; it
stops looking at three of them. With thirty, of which the one with the fewest factors is lifted,
that was not met in 1,500 factorisations of a polynomial that three failed for 1 in 60.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import sympy as sp
from sympy.polys import polyconfig

TRIES = 30
_NAME = "EEZ_NUMBER_OF_CONFIGS"


def factored(f: Any, *, deep: bool = False) -> Any:
    """As `sympy.factor`."""
    with _more_tries():
        return sp.factor(f, deep=deep)


def factor_list(f: Any, *gens: Any) -> Any:
    """As `sympy.factor_list`."""
    with _more_tries():
        return sp.factor_list(f, *gens)


@contextmanager
def _more_tries() -> Generator[None]:
    """As SymPy's `using` sets an option, but put back as it was, after errors too."""
    before = polyconfig.query(_NAME)
    polyconfig.setup(_NAME, TRIES)
    try:
        yield
    finally:
        polyconfig.setup(_NAME, before)
