"""Signs that SymPy can prove: of expressions in parameters, and of polynomials for all outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import sympy as sp

from ..calculus.ldl import to_coordinates
from ..calculus.normal_form import normal


def sign(f: Any) -> int | None:
    """1, 0 or -1 where the sign follows from the assumptions on symbols, else None.

    Entries of SPD symbols are written in LDL coordinates, whose signs are known.
    """
    for form in (lambda: f, lambda: sp.factor(to_coordinates(f)), lambda: normal(f)):
        value = form()
        if value.is_zero:
            return 0
        if value.is_positive:
            return 1
        if value.is_negative:
            return -1
    return None


def sign_everywhere(f: Any, v: Sequence[Any]) -> int | None:
    """1 or -1 where f, a polynomial in v, has this sign almost everywhere; 0 if f = 0; else None.

    A proof takes factors one by one: an even power, a sum of even monomials of one sign, or, for
    one variable and numbers as coefficients, a polynomial without real roots of odd order.
    """
    if not f.has(*v):
        return sign(f)
    f = sp.factor(to_coordinates(f))
    found = 1
    for factor in sp.Mul.make_args(f):
        base, power = factor.as_base_exp()
        if power.is_Integer and power % 2 == 0:
            continue
        part = _sign_of_factor(base, v) if base.has(*v) else sign(base)
        if part is None or part == 0:
            return part
        found *= part
    return found


def _sign_of_factor(f: Any, v: Sequence[Any]) -> int | None:
    terms = sp.Poly(f, *v).terms()
    signs = {sign(value) for _, value in terms}
    if len(signs) == 1 and all(power % 2 == 0 for powers, _ in terms for power in powers):
        return signs.pop()
    own = [x for x in v if f.has(x)]
    if len(own) == 1:
        p = sp.Poly(f, own[0])
        if p.domain.is_QQ or p.domain.is_ZZ:
            return sign(p.eval(0)) if sp.count_roots(p) == 0 else None
        if p.degree() == 2 and sign(p.discriminant()) == -1:
            return sign(p.LC())
    return None


def is_positive_definite(Q: Any) -> bool | None:
    """Whether a symmetric matrix of parameters is positive definite: by its leading minors.

    Returns:
        None where the sign of a minor is not known.
    """
    found = [sign(Q[:k, :k].det(method="berkowitz")) for k in range(1, Q.rows + 1)]
    if all(one == 1 for one in found):
        return True
    return False if any(one in (0, -1) for one in found) else None


def is_semidefinite(Q: Any, v: Sequence[Any] = ()) -> bool:
    """Whether every principal minor of Q is proved to be >= 0, for all v."""
    size = range(Q.rows)
    for k in range(1, Q.rows + 1):
        for rows in combinations(size, k):
            minor = Q.extract(list(rows), list(rows)).det(method="berkowitz")
            value = sp.expand(minor)
            if value.is_nonnegative:
                continue
            if sign_everywhere(value, v) not in (0, 1):
                return False
    return True
