"""Signs that SymPy can prove: of expressions in parameters, and of polynomials for all outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import combinations
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from ..calculus.factors import factored
from ..calculus.ldl import to_coordinates
from ..calculus.normal_form import normal
from ..calculus.symbols import QUANTITIES, symbol


def sign(f: Any) -> int | None:
    """1, 0 or -1 where the sign follows from the assumptions on symbols, else None.

    Entries of SPD symbols are written in LDL coordinates, whose signs are known.
    """
    f = sp.sympify(f)
    for form in (
        lambda: f,
        lambda: factored(to_coordinates(f)),
        lambda: normal(_without_roots(plain(f))),
    ):
        value = form()
        if value.is_zero:
            return 0
        if value.is_positive:
            return 1
        if value.is_negative:
            return -1
    return None


def plain(f: Any) -> Any:
    """f with a symbol for every function without a rule, and for its derivatives: they are free."""
    for kind in (sp.Derivative, AppliedUndef):
        f = _free(f, f.atoms(kind))
    return f


def _without_roots(f: Any) -> Any:
    """f with a symbol for every root of a sum: of known sign, where that of the root is known."""
    powers = f.atoms(sp.Pow)
    return _free(f, [x for x in powers if x.base.is_Add and not x.exp.is_Integer])


def _free(f: Any, nodes: Iterable[Any]) -> Any:
    return f.xreplace({x: sp.Dummy(real=True, positive=x.is_positive) for x in nodes})


def sign_everywhere(f: Any, v: Sequence[Any]) -> int | None:
    """1 or -1 where f, a polynomial in v, has this sign almost everywhere; 0 if f = 0; else None.

    A proof takes factors one by one: an even power, a sum of even monomials of one sign, a
    quadratic with a semidefinite Gram matrix, or, for one variable and numbers as coefficients, a
    polynomial without real roots of odd order.
    """
    if not f.has(*v):
        return sign(f)
    f = factored(to_coordinates(f))
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
    elif all(sum(powers) <= 2 for powers, _ in terms):
        gram = _gram(f, own)
        return next((way for way in (1, -1) if is_semidefinite(way * gram)), None)
    return None


def _gram(f: Any, v: Sequence[Any]) -> Any:
    """G with f = (1, v)ᵀ G (1, v), of a quadratic."""
    one = sp.Dummy("one", real=True)
    form = sp.Add(
        *(
            value * one ** (2 - sum(powers)) * sp.Mul(*map(sp.Pow, v, powers))
            for powers, value in sp.Poly(f, *v).terms()
        )
    )
    return (sp.hessian(form, [one, *v]) / 2).as_immutable()


def by_weights(Q: Any) -> list[Any]:
    """The coefficients of products of positive symbols, matrices if Q is one.

    Entries of SPD symbols are written in LDL coordinates: one is Σ_k d_k c_k c_kᵀ, d_k > 0.
    """
    is_matrix = isinstance(Q, sp.MatrixBase)
    cells, shape = (list(Q), Q.shape) if is_matrix else ([Q], (1, 1))
    found: dict[Any, list[Any]] = {}
    for place, cell in enumerate(cells):
        for term in sp.Add.make_args(sp.expand(to_coordinates(cell))):
            weight, rest = sp.S.One, sp.S.One
            for factor in sp.Mul.make_args(term):
                if factor.free_symbols and factor.is_positive:
                    weight *= factor
                else:
                    rest *= factor
            found.setdefault(weight, [sp.S.Zero] * len(cells))[place] += rest
    parts = [sp.ImmutableMatrix(*shape, part) for part in found.values()]
    return parts if is_matrix else [part[0] for part in parts]


def is_positive_definite(Q: Any) -> bool | None:
    """Whether a symmetric matrix of parameters is positive definite.

    A multiple of an SPD symbol plus a semidefinite matrix is, and so is a sum of semidefinite
    matrices with positive weights if their plain sum is; else the leading minors decide.

    Returns:
        None where the sign of a minor is not known.
    """
    rest = _without_definite_part(Q)
    if rest is not None and is_semidefinite(rest):
        return True
    parts = by_weights(Q)
    if len(parts) > 1 and all(_is_semidefinite_part(part) for part in parts):
        unweighted = sum(parts, sp.zeros(*Q.shape))
        if all(sign(_leading(unweighted, k)) == 1 for k in range(1, Q.rows + 1)):
            return True
    found: list[int | None] = []
    for k in range(1, Q.rows + 1):
        found.append(sign(_leading(Q, k)))
        if found[-1] in (0, -1):
            return False
    return True if all(one == 1 for one in found) else None


def _without_definite_part(Q: Any) -> Any:
    """Q less positive multiples of SPD symbols of its size, None where there are none."""
    found = None
    names = {str(x) for x in Q.free_symbols}
    for quantity in QUANTITIES.values():
        if quantity.domain != "spd" or Q.rows == 1 or f"{quantity.name}_11" not in names:
            continue
        X = symbol(quantity.name, Q.rows)
        factor = sp.diff(Q[0, 0], X[0, 0])
        rest = (Q - factor * X).applyfunc(sp.expand)
        if not (rest.has(*X) or factor.has(*X)) and sign(factor) == 1:
            found = Q = rest
    return found


def is_semidefinite(Q: Any, v: Sequence[Any] = ()) -> bool:
    """Whether Q is proved to be positive semidefinite, for all v.

    It is where the coefficients of positive weights are; else every principal minor must be >= 0.
    """
    parts = [part for part in by_weights(Q) if not part.is_zero_matrix]
    if all(_is_rational(part) for part in parts) and len(parts) == 1:
        return _eliminates(parts[0])
    return all(_is_semidefinite_part(part, v) for part in parts) or (
        len(parts) > 1 and _has_minors(Q, v)
    )


def _is_semidefinite_part(Q: Any, v: Sequence[Any] = ()) -> bool:
    return _eliminates(Q) if _is_rational(Q) else _has_minors(Q, v)


def _is_rational(Q: Any) -> bool:
    return all(entry.is_Rational for entry in Q)


def _eliminates(Q: Any) -> bool:
    """Whether symmetric elimination of a matrix of fractions meets no negative pivot."""
    while Q.rows:
        if any(x < 0 for x in Q.diagonal()):
            return False
        i = next((i for i in range(Q.rows) if Q[i, i] != 0), None)
        if i is None:
            return bool(Q.is_zero_matrix)
        others = [k for k in range(Q.rows) if k != i]
        column = Q.extract(others, [i])
        Q = Q.extract(others, others) - column * column.T / Q[i, i]
    return True


def _has_minors(Q: Any, v: Sequence[Any]) -> bool:
    """Whether every principal minor is proved to be >= 0."""
    size = range(Q.rows)
    for k in range(1, Q.rows + 1):
        for rows in combinations(size, k):
            value = sp.expand(minor(Q, rows))
            if value.is_nonnegative:
                continue
            if sign_everywhere(value, v) not in (0, 1):
                return False
    return True


def _leading(Q: Any, k: int) -> Any:
    return minor(Q, range(k))


def minor(Q: Any, rows: Sequence[int]) -> Any:
    """A principal minor, by its formula in entries."""
    formula, names = _determinant(len(rows))
    return formula.xreplace(dict(zip(names, Q.extract(list(rows), list(rows)), strict=True)))


@cache
def _determinant(size: int) -> tuple[Any, tuple[Any, ...]]:
    names = sp.ImmutableMatrix(size, size, lambda i, j: sp.Dummy(f"q{min(i, j)}{max(i, j)}"))
    named = sp.ImmutableMatrix(size, size, lambda i, j: names[min(i, j), max(i, j)])
    return sp.expand(named.det(method="berkowitz")), tuple(named)
