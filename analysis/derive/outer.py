"""The outer problem in closed form: the hypergradient, and parameters that reach the likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import sympy as sp

from ..calculus.factors import factored
from ..calculus.matrices import lowest_terms
from .gaussian import entries, positive_root, put, slope
from .signs import plain, sign

_LARGEST = 900  # nodes of an expression that is brought to lowest terms
_SOLVED = 2000  # nodes of an equation that is solved


def larger_than(f: Any, nodes: int) -> bool:
    """Whether an expression has more nodes than this, without counting all of them."""
    return next(islice(sp.preorder_traversal(f), nodes, None), None) is not None


def implicit(
    J: Any, F: Any, theta: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """-(∂²_{φθ}J)(∂²_{θθ}J)⁻¹∂_θF in θ = (m, P) of n = 1, the inverse by Cramer's rule."""
    inner = [x for X in theta.values() for x in entries(X)]
    (a, b), (_, c) = [[sp.diff(J, x, z) for z in inner] for x in inner]
    f, g = (sp.diff(F, x) for x in inner)
    adjoint = [-(c * f - b * g) / (a * c - b**2), -(a * g - b * f) / (a * c - b**2)]
    # the adjoint does not move with the parameters
    held = [sp.Dummy(f"adjoint of {x}", real=True) for x in inner]
    total = sp.Add(*(one * sp.diff(J, x) for one, x in zip(held, inner, strict=True)))
    back = dict(zip(held, adjoint, strict=True))
    return {name: slope(total, X).xreplace(back) for name, X in parameters.items()}


def matching(equations: Sequence[Any], parameters: Mapping[str, Any]) -> dict[Any, Any] | None:
    """Parameters at which the equations, linear in them, hold: some in terms of others; or None."""
    unknowns = [x for X in parameters.values() for x in entries(X)]
    if not unknowns:
        return None
    at_a_point = len(equations) > len(unknowns) or any(larger_than(f, _LARGEST) for f in equations)
    if at_a_point and _solved([_at_a_point(f, unknowns) for f in equations], unknowns) is None:
        return None  # what has no solution at one point has none in general
    values = _solved(equations, unknowns)
    if values is None:
        return None
    return {x: factored(f) for x, f in zip(unknowns, values, strict=True) if f != x}


def _solved(equations: Sequence[Any], unknowns: Sequence[Any]) -> Sequence[Any] | None:
    flat: list[Any] = []
    for f in equations:
        numerator = sp.expand(sp.fraction(sp.together(f))[0])
        if not numerator.is_polynomial(*unknowns):
            return None
        if numerator != 0 and sp.Poly(numerator, *unknowns).total_degree() > 1:
            return None
        flat += [numerator] if numerator != 0 else []
    found = sp.linsolve(flat, unknowns) if flat else {tuple(unknowns)}
    if not isinstance(found, (sp.FiniteSet, set)) or not found:
        return None
    (values,) = found
    return values


def _at_a_point(f: Any, unknowns: Sequence[Any]) -> Any:
    """f with fractions for every symbol but the unknowns: in their domain, and far from special."""
    f = plain(f)
    others = sorted(f.free_symbols - set(unknowns), key=str)
    point: dict[Any, Any] = {}
    for k, x in enumerate(others):
        small = sp.Rational(sp.prime(k + 1), 401)  # SPD: the diagonal dominates
        point[x] = 2 + small if x.is_positive else -2 - small if x.is_negative else small
    return f.xreplace(point)


def stationary_parameter(F: Any, parameters: Mapping[str, Any]) -> dict[Any, Any] | None:
    """The one positive root of dF/dφ, of a single positive parameter; or None."""
    unknowns = [x for X in parameters.values() for x in entries(X)]
    if len(unknowns) != 1 or not unknowns[0].is_positive:
        return None
    (x,) = unknowns
    bend = lowest_terms_outside(sp.diff(F, x))
    if larger_than(bend, _SOLVED) or positive_root(_at_a_point(bend, unknowns), x) is None:
        return None
    root = positive_root(bend, x)
    return None if root is None else {x: root}


def lowest_terms_outside(f: Any) -> Any:
    """A rational function in lowest terms; what is none stays as it is."""
    odd = any(not p.exp.is_Integer for p in f.atoms(sp.Pow))
    if odd or f.has(sp.exp, sp.log) or larger_than(f, _LARGEST):
        return f
    return lowest_terms(sp.together(f))


def multiple_of_identity(
    equations: Sequence[Any], parameters: Mapping[str, Any]
) -> dict[Any, Any] | None:
    """The U = cI at which the equations hold, of one matrix U; or None."""
    matrices = [X for X in parameters.values() if isinstance(X, sp.MatrixBase)]
    if len(matrices) != 1 or len(parameters) > 1:
        return None
    c, (U,) = sp.Dummy("c", positive=True), matrices
    at = {U[i, j]: c if i == j else sp.S.Zero for i in range(U.rows) for j in range(U.rows)}
    found = matching([f.xreplace(at) for f in equations], {"c": c})
    return None if not found else {x: value.xreplace(found) for x, value in at.items()}


def undetermined(found: Mapping[Any, Any], parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """A note on the parameters that the best ones leave open, where there are such."""
    free = [x for X in parameters.values() for x in entries(X) if x not in found]
    return (f"every {', '.join(map(str, free))} is as good as any other",) if free else ()


def signs_allow(found: Mapping[Any, Any]) -> bool | None:
    """Whether values have the signs that their symbols are declared with; None if not known."""
    known = True
    for x, value in found.items():
        if x.is_positive or x.is_negative:
            way = sign(value)
            if way is None:
                known = False
            elif way != (1 if x.is_positive else -1):
                return False
    return True if known else None


def at_values(f: Any, theta: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """f at values of the inner variables, in lowest terms where it is rational."""
    value = put(f, theta, values)
    if isinstance(value, sp.MatrixBase):
        return value.applyfunc(lowest_terms_outside)
    return lowest_terms_outside(value)


def cancelled(f: Any) -> Any:
    """A difference of likelihoods, without what cancels."""
    rest, logs = sp.expand(f, log=False).as_independent(sp.log, as_Add=True)
    return lowest_terms_outside(rest) + sp.simplify(sp.logcombine(logs))
