"""Sums of negative squares of polynomials, and whether they fall in every direction.

-Σ w_i s_i(ŷ, y)² falls in every direction, w_i > 0, if ŷ is bounded wherever all s_i are, y in a
bounded set: a polynomial map that is proper grows like a power, and a bounded set of data has some
probability. The reward -‖φ(ŷ) - y‖² of a triangular φ is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from ..calculus.factors import factor_list
from .signs import by_weights, sign


def squares_of(f: Any, v: Sequence[Any]) -> list[Any] | None:
    """Polynomials s_i with f = c - Σ w_i s_i², w_i > 0 and c without v; None where none are found.

    Each coefficient of positive symbols is a square, or its squares are completed one by one.
    """
    found: list[Any] = []
    for part in by_weights(f):
        own = _squares(part, v)
        if own is None:
            return None
        found += own
    return found


def _squares(f: Any, v: Sequence[Any]) -> list[Any] | None:
    if not f.has(*v):
        return []
    constant, factors = factor_list(f, *v)
    if sign(constant) == -1 and all(power % 2 == 0 for _, power in factors):
        return [sp.expand(sp.Mul(*(base ** (power // 2) for base, power in factors)))]
    for x in reversed(v):
        p = sp.Poly(f, x)
        lead = p.LC()
        if p.degree() != 2 or lead.has(*v) or sign(lead) != -1:
            continue
        s = sp.expand(x + p.nth(1) / (2 * lead))
        own = _squares(sp.expand(f - lead * s**2), v)
        if own is not None:
            return [s, *own]
    return None


def is_proper(polynomials: Sequence[Any], unknown: Sequence[Any]) -> bool:
    """Whether all unknowns are proved to be bounded wherever all polynomials are.

    Every other variable is bounded. A polynomial in one unknown with a leading coefficient of one
    sign bounds it; one that is linear in an unknown, with such a coefficient, eliminates it.
    """
    if not unknown:
        return True
    for s in polynomials:
        own = [x for x in unknown if s.has(x)]
        if len(own) == 1 and sign(sp.Poly(s, own[0]).LC()) in (1, -1):
            return is_proper(polynomials, [x for x in unknown if x != own[0]])
    for i, s in enumerate(polynomials):
        for x in unknown:
            p = sp.Poly(s, x)
            if p.degree() != 1 or sign(p.LC()) not in (1, -1) or p.LC().has(*unknown):
                continue
            value = (sp.Dummy("bounded", real=True) - p.nth(0)) / p.LC()
            rest = [
                sp.expand(other.xreplace({x: value}))
                for k, other in enumerate(polynomials)
                if k != i
            ]
            if is_proper(rest, [other for other in unknown if other != x]):
                return True
    return False
