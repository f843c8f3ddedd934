"""Expectations of sums of polynomials times exponentials of quadratics, by moments.

E of a polynomial takes central moments: Isserlis' theorem gives those of a Gaussian law. Under one,
an exponential of a quadratic is completed to a square first: what is left is the expectation of the
polynomial under another Gaussian law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import sympy as sp

from ..calculus.matrices import det, inverse, lowest_terms
from ..errors import MomentError, RewardError
from .problem import Data, Normal

Moment = Callable[[tuple[int, ...]], Any]
"""From the powers α of a product to its central moment E Π (v_i - E v_i)^α_i."""


@dataclass(frozen=True, eq=False)
class Term:
    """polynomial · exp(exponent), the exponent of degree at most 2 in the outcomes."""

    polynomial: Any
    exponent: Any

    @property
    def expression(self) -> Any:
        """The product."""
        return self.polynomial * sp.exp(self.exponent)


def total(terms: Sequence[Term]) -> Any:
    """The sum of terms as one expression."""
    return sp.Add(*(term.expression for term in terms))


def terms_of(f: Any, v: Sequence[Any]) -> tuple[Term, ...]:
    """The terms of f, one for each exponent, the polynomial (exponent 0) first.

    Raises:
        RewardError: naming the part of f that is neither polynomial nor such an exponential.
    """
    if f.has(sp.cosh, sp.sinh):
        f = f.rewrite(sp.exp)
    found: dict[Any, Any] = {}
    for summand in sp.Add.make_args(sp.expand(f, power_exp=False)):
        exponent, rest = sp.S.Zero, sp.S.One
        for factor in sp.Mul.make_args(summand):
            if isinstance(factor, sp.exp) and factor.has(*v):
                exponent += factor.exp
            else:
                rest *= factor
        if not rest.is_polynomial(*v):
            raise RewardError(
                f"the reward has the part {summand}; derive takes polynomials in ŷ and y, and "
                "polynomials times exp of a quadratic in them"
            )
        exponent = sp.expand(exponent)
        if not exponent.is_polynomial(*v) or sp.Poly(exponent, *v).total_degree() > 2:
            raise RewardError(
                f"the reward has exp({exponent}), whose exponent is no quadratic in ŷ and y: its "
                "expectation has no closed form"
            )
        found[exponent] = found.get(exponent, sp.S.Zero) + rest
    found = {e: sp.expand(p) for e, p in found.items() if sp.expand(p) != 0}
    ordered = sorted(found, key=lambda e: (e != 0, sp.default_sort_key(e)))
    return tuple(Term(found[e], e) for e in ordered)


def over_data(terms: Sequence[Term], y: Sequence[Any], data: Data, mu: Any, Sigma: Any) -> Any:
    """E_y of each term, which leaves terms in ŷ.

    Raises:
        MomentError: for an exponential of y where only moments of the data are known.
    """
    found: dict[Any, Any] = {}
    for term in terms:
        if not term.exponent.has(*y):
            moment = isserlis(Sigma) if isinstance(data, Normal) else central(data, Sigma)
            mean = Term(polynomial_mean(term.polynomial, y, mu, moment), term.exponent)
        elif isinstance(data, Normal):
            mean = under_normal(term, y, mu, Sigma)
        else:
            raise MomentError(
                f"exp({term.exponent}) has no expectation in moments of y: pass data=Normal() if "
                "the data are Gaussian"
            )
        found[mean.exponent] = found.get(mean.exponent, sp.S.Zero) + mean.polynomial
    return tuple(Term(sp.expand(p) if e == 0 else p, e) for e, p in found.items())


def under_normal(term: Term, v: Sequence[Any], mean: Any, covariance: Any) -> Term:
    """E_{v ~ N(mean, covariance)} of a term, v leaving both of its parts.

    With A = -∂²exponent, b and c its slope and value at 0, d = b - A mean and
    C = (I + covariance A)⁻¹ covariance, it is
    det(I + covariance A)^{-½} exp(c + bᵀmean - ½ meanᵀA mean + ½ dᵀCd) E_{N(mean + Cd, C)}[p].
    """
    if not term.exponent.has(*v):
        value = polynomial_mean(term.polynomial, v, mean, isserlis(covariance))
        return Term(value, term.exponent)
    at_zero = dict.fromkeys(v, 0)
    A = -sp.hessian(term.exponent, list(v)).as_immutable()
    b = sp.ImmutableMatrix([sp.diff(term.exponent, x) for x in v]).xreplace(at_zero)
    c = term.exponent.xreplace(at_zero)
    grown = (sp.ImmutableMatrix.eye(len(v)) + covariance * A).as_immutable()
    d = b - A * mean
    C = lowest_terms(inverse(grown) * covariance)
    centre = mean + C * d
    exponent = c + b.dot(mean) - (mean.T * A * mean)[0] / 2 + (d.T * C * d)[0] / 2
    if len(v) == 1 and not A.is_zero_matrix:
        exponent = sp.factor(exponent)
    value = _named_mean(term.polynomial, v, centre, C)
    return Term(value / sp.sqrt(det(grown)), exponent)


def _named_mean(p: Any, v: Sequence[Any], mean: Any, C: Any) -> Any:
    """E p(v), v ~ N(mean, C), in powers of the entries of both, which are not multiplied out."""
    size = len(v)
    names = {(i, j): sp.Dummy(f"C{i}{j}") for i in range(size) for j in range(i, size)}
    named = sp.Matrix(size, size, lambda i, j: names[min(i, j), max(i, j)])
    centre = [sp.Dummy(f"m{i}") for i in range(size)]
    value = polynomial_mean(p, v, centre, isserlis(named))
    back = {name: C[place] for place, name in names.items()}
    return value.xreplace(back | dict(zip(centre, mean, strict=True)))


def polynomial_mean(p: Any, v: Sequence[Any], mean: Any, moment: Moment) -> Any:
    """E p(v), from the mean and the central moments of v: by the terms of p(mean + z) in z."""
    if not p.has(*v):
        return p
    found: dict[tuple[int, ...], list[Any]] = {}
    for powers, value in sp.Poly(p, *v).terms():
        for lower in product(*(range(power + 1) for power in powers)):
            if moment(lower) == 0:
                continue
            ways = math.prod(math.comb(a, k) for a, k in zip(powers, lower, strict=True))
            rest = (at ** (a - k) for at, a, k in zip(mean, powers, lower, strict=True))
            found.setdefault(lower, []).append(sp.expand(value * ways * sp.Mul(*rest)))
    return sp.Add(*(sp.Add(*parts) * moment(powers) for powers, parts in found.items()))


def isserlis(C: Any) -> Moment:
    """Central moments of N(·, C): E z_i f(z) = Σ_j C_ij E ∂_j f(z)."""
    known: dict[tuple[int, ...], Any] = {(0,) * C.rows: sp.S.One}

    def moment(powers: tuple[int, ...]) -> Any:
        if sum(powers) % 2:
            return sp.S.Zero
        if powers not in known:
            i = next(k for k, power in enumerate(powers) if power)
            rest = lowered(powers, i)
            known[powers] = sp.Add(
                *(C[i, j] * rest[j] * moment(lowered(rest, j)) for j in range(len(rest)) if rest[j])
            )
        return known[powers]

    return moment


def lowered(powers: tuple[int, ...], i: int) -> tuple[int, ...]:
    """The powers with one factor v_i less."""
    return (*powers[:i], powers[i] - 1, *powers[i + 1 :])


def central(data: Any, Sigma: Any) -> Moment:
    """Central moments of data of any law: Σ, and a symbol for each of higher order."""

    def moment(powers: tuple[int, ...]) -> Any:
        order = sum(powers)
        if order < 2:
            return sp.Integer(1 - order)
        indices = [i for i, power in enumerate(powers) for _ in range(power)]
        if order == 2:
            return Sigma[indices[0], indices[1]]
        if data.symmetric and order % 2:
            return sp.S.Zero
        word = str(order) if len(powers) == 1 else "".join(str(i + 1) for i in indices)
        even = all(power % 2 == 0 for power in powers)
        return (
            sp.Symbol(f"mu_{word}", positive=True) if even else sp.Symbol(f"mu_{word}", real=True)
        )

    return moment
