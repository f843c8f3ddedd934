"""Expectations of sums of polynomials times exponentials of quadratics, by moments.

E of a polynomial takes central moments: Isserlis' theorem gives those of a Gaussian law. Under one,
an exponential of a quadratic is completed to a square first: what is left is the expectation of the
polynomial under another Gaussian law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import sympy as sp

from ..calculus.factors import factored
from ..calculus.matrices import det, inverse, lowest_terms
from ..errors import MomentError, NoMaximumError, RewardError
from .problem import Data, Normal
from .signs import is_positive_definite, is_semidefinite, minor

Moment = Callable[[tuple[int, ...]], Any]
"""From the powers α of a product to its central moment E Π (v_i - E v_i)^α_i."""


_POSITIVE, _REAL = {"positive": True}, {"real": True}
_DECIDED = 4  # symbols of a matrix of which definiteness is asked symbolically


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


@dataclass(frozen=True, eq=False)
class Finite:
    """That E exp(exponent) is finite under a Gaussian law of covariance C.

    Args:
        exponent: -½vᵀAv + ...
        matrix: C + CAC, positive definite where C⁻¹ + A is: where the density times exp decays.
    """

    exponent: Any
    matrix: Any

    def check(self, numbers: Mapping[Any, Any]) -> None:
        """Raise `NoMaximumError` where numbers, exact ones by symbol, make it infinite.

        Nothing is checked where some symbol has no number.
        """
        if not self.matrix.free_symbols <= set(numbers):
            return
        if is_positive_definite(self.matrix.xreplace(numbers)) is not True:
            at = ", ".join(f"{x} = {float(numbers[x]):.6g}" for x in _sorted(self.matrix))
            raise self.infinite(f"at {at}")

    def infinite(self, where: str) -> NoMaximumError:
        """The error that says so."""
        return NoMaximumError(
            f"the expectation of exp({self.exponent}) is infinite {where}: C⁻¹ + A is not positive "
            "definite, where C is the covariance and -A the second derivative of the exponent; "
            "pass a smaller covariance, or an exponential that rises less"
        )

    def __str__(self) -> str:
        return f"E exp({self.exponent}) < ∞"


def _sorted(X: Any) -> list[Any]:
    return sorted(X.free_symbols, key=str)


def finite(terms: Sequence[Term], v: Sequence[Any], covariance: Any) -> tuple[Finite, ...]:
    """What must hold for E_{v ~ N(·, covariance)} of terms to be finite, where it is not proved.

    Raises:
        NoMaximumError: if one is infinite.
    """
    found: dict[Any, Finite] = {}
    for term in terms:
        A = -sp.hessian(term.exponent, list(v)).as_immutable()
        if A.is_zero_matrix or is_semidefinite(A):
            continue
        matrix = (covariance + covariance * A * covariance).as_immutable().applyfunc(sp.expand)
        one = Finite(term.exponent, matrix)
        decided = is_positive_definite(matrix) if len(_sorted(matrix)) <= _DECIDED else None
        if decided is False:
            raise one.infinite("for these data")
        if decided is None:
            found[matrix] = one
    return tuple(found.values())


def finite_over_both(
    terms: Sequence[Term], policy: tuple[Any, Any], data: tuple[Any, Any]
) -> tuple[Finite, ...]:
    """What must hold for E over policy and data, each variables and covariance, to be finite.

    It depends on the policy: wide ones make E exp(ŷ²) infinite.
    """
    found: list[Finite] = []
    for term in terms:
        if not term.exponent.has(*policy[0]):
            continue
        laws = [law for law in (policy, data) if term.exponent.has(*law[0])]
        A = -sp.hessian(term.exponent, [x for v, _ in laws for x in v]).as_immutable()
        if A.is_zero_matrix or is_semidefinite(A):
            continue
        C = sp.diag(*(covariance for _, covariance in laws)).as_immutable()
        found.append(Finite(term.exponent, C + C * A * C))
    return tuple(found)


def restored(f: Any, names: Mapping[Any, Any]) -> Any:
    """f with what its names stand for, derivatives of functions among them carried out."""
    if f is None or not names:
        return f
    if isinstance(f, Mapping):
        return {name: restored(part, names) for name, part in f.items()}
    slopes = {one: one.xreplace(names).doit() for one in f.atoms(sp.Derivative)}
    return f.xreplace(slopes).xreplace(names)


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


def named_over_data(
    terms: Sequence[Term], v: Sequence[Any], y: Sequence[Any], data: Data, mu: Any, Sigma: Any,
    parameters: Sequence[Any],
) -> tuple[tuple[Term, ...], dict[Any, Any]]:  # fmt: skip
    """`over_data`, with names for what exponentials of y alone leave.

    E p(ŷ, y) exp(q(y)) is κ E p(ŷ, y) under another Gaussian law of y. κ > 0 and the moments of
    that law get names: symbols, or functions of those parameters that they depend on.

    Returns:
        The terms, and what their names stand for.
    """
    names: dict[Any, Any] = {}
    named, rest = sp.S.Zero, []
    for term in terms:
        if not isinstance(data, Normal) or term.exponent.has(*v) or not term.exponent.has(*y):
            rest.append(term)
            continue
        scale, exponent, mean, C = _tilted(term.exponent, y, mu, Sigma)

        def name(what: str, value: Any, kind: Any, q: Any = term.exponent) -> Any:
            free = [x for x in parameters if value.has(x)]
            if value.is_Atom:
                return value
            found = sp.Function(f"{what}[{q}]", **kind)(*free) if free else sp.Dummy(what, **kind)
            names[found] = value
            return found

        size = range(len(y))
        kappa = name("kappa", scale * sp.exp(exponent), _POSITIVE)
        at = [name(f"m{i}", mean[i], _REAL) for i in size]
        upper = {
            (i, j): name(f"C{i}{j}", C[i, j], _POSITIVE if i == j else _REAL)
            for i in size
            for j in size
            if i <= j
        }
        spread = sp.Matrix(len(y), len(y), lambda i, j: upper[min(i, j), max(i, j)])  # noqa: B023
        named += sp.expand(kappa * polynomial_mean(term.polynomial, y, at, isserlis(spread)))
    found = over_data(rest, y, data, mu, Sigma)
    return (*found, *([Term(named, sp.S.Zero)] if named != 0 else [])), names


def under_normal(term: Term, v: Sequence[Any], mean: Any, covariance: Any) -> Term:
    """E_{v ~ N(mean, covariance)} of a term, v leaving both of its parts.

    With A = -∂²exponent, b and c its slope and value at 0, d = b - A mean and
    C = (I + covariance A)⁻¹ covariance, it is
    det(I + covariance A)^{-½} exp(c + bᵀmean - ½ meanᵀA mean + ½ dᵀCd) E_{N(mean + Cd, C)}[p].
    """
    if not term.exponent.has(*v):
        value = polynomial_mean(term.polynomial, v, mean, isserlis(covariance))
        return Term(value, term.exponent)
    scale, exponent, centre, C = _tilted(term.exponent, v, mean, covariance)
    return Term(_named_mean(term.polynomial, v, centre, C) * scale, exponent)


def _tilted(exponent: Any, v: Sequence[Any], mean: Any, covariance: Any) -> tuple[Any, ...]:
    """E exp(exponent) as scale and exponent, mean and covariance of the law ∝ density · exp."""
    at_zero = dict.fromkeys(v, 0)
    A = -sp.hessian(exponent, list(v)).as_immutable()
    b = sp.ImmutableMatrix([sp.diff(exponent, x) for x in v]).xreplace(at_zero)
    c = exponent.xreplace(at_zero)
    d = b - A * mean
    C, root = _covariance(A, covariance)
    value = c + b.dot(mean) - (mean.T * A * mean)[0] / 2 + (d.T * C * d)[0] / 2
    if len(v) == 1 and not A.is_zero_matrix:
        value = factored(value)
    return 1 / root, value, mean + C * d, C


def _covariance(A: Any, covariance: Any) -> tuple[Any, Any]:
    """(I + covariance A)⁻¹ covariance, and the root of det(I + covariance A).

    Where A is not known to be semidefinite, the root is that of each pivot of the symmetric
    covariance + covariance A covariance: it is real only where all are positive.
    """
    size = A.rows
    grown = (sp.ImmutableMatrix.eye(size) + covariance * A).as_immutable()
    if size < 3 or grown.is_diagonal():
        C, total = lowest_terms(inverse(grown) * covariance), det(grown)
    else:  # in lowest terms it would take minutes
        names = sp.Matrix(3, 3, sp.symbols("g:9", cls=sp.Dummy))
        back = dict(zip(names, grown, strict=True))
        total = names.det().xreplace(back)
        C = (names.adjugate().xreplace(back) * covariance / total).as_immutable()
    if size == 1 or is_semidefinite(A):
        return C, sp.sqrt(total)
    bent = (covariance + covariance * A * covariance).as_immutable()
    pivots = [sp.S.One, *(minor(bent, range(k)) for k in range(1, size + 1))]
    roots = (sp.sqrt(pivots[k] / pivots[k - 1]) for k in range(1, size + 1))
    return C, sp.Mul(*roots) / sp.sqrt(minor(covariance, range(size)))


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
