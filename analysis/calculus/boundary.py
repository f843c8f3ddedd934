"""Expressions where some probabilities are 0, by 0 log 0 = 0."""

from __future__ import annotations

from typing import Any

import sympy as sp


def without(expression: Any, probabilities: Any, absent: Any) -> Any:
    """The limit of an expression as some probabilities go to 0.

    A multiple of x log x goes to 0 with x, and so does one of p log x where p is a part of x. What
    else is infinite or no number there is NaN.

    >>> p, q = sp.symbols("p q", positive=True)
    >>> without(p * sp.log(p + q) + q * sp.log(q), sp.Matrix([p, q]), [False, True])
    p*log(p)

    Args:
        expression: scalar or matrix.
        probabilities: column of symbols.
        absent: for each whether it is 0.
    """
    zero = {p: sp.S.Zero for p, is_absent in zip(probabilities, absent, strict=True) if is_absent}
    if not zero:
        return expression

    def vanishes(x: Any) -> bool:
        return x.xreplace(zero) == 0

    def diverges(x: Any) -> bool:
        by_log = isinstance(x, sp.log) or x.is_Add
        return by_log and any(vanishes(log.args[0]) for log in x.atoms(sp.log))

    def is_lost(term: Any) -> bool:
        return term.is_Mul and any(map(diverges, term.args)) and any(map(vanishes, term.args))

    def limit(entry: Any) -> Any:
        found = entry.replace(is_lost, lambda term: sp.S.Zero).xreplace(zero)
        return sp.nan if found.has(sp.zoo, sp.oo, sp.nan) else found

    is_matrix = isinstance(expression, sp.MatrixBase)
    return expression.applyfunc(limit) if is_matrix else limit(expression)
