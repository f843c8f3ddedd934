"""The inner problem of a Gaussian policy in closed form: quadratics, one variance, one exponential.

Each form is found by solving first-order conditions, and is the maximum because J is strictly
concave in (m, L), P = LLᵀ, wherever g is concave: E g(m + Lε) is, and log det L strictly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sympy as sp

from .. import definitions
from ..calculus.conditions import Condition, zero
from ..calculus.factors import factor_list, factored
from ..calculus.matrices import inverse, logdet, lowest_terms, quadratic, trace
from ..calculus.structures import free_entries
from ..calculus.symbols import Structure, symbol
from .existence import is_separable
from .expectation import Term, isserlis, over_data, polynomial_mean, total, under_normal
from .problem import Normal
from .signs import is_semidefinite, sign

_FEW = 7  # symbols of a 3 x 3 matrix that is inverted in lowest terms


def policy(n: int, structure: Structure) -> dict[str, Any]:
    """The inner variables: m, and P within its structure, or s of P = sI; scalars for n = 1."""
    m, P = symbol("m", n), symbol("P", n)
    if n == 1:
        return {"m": m[0], "P": P[0]}
    if structure == "isotropic":
        return {"m": m, "s": symbol("s")}
    return {"m": m, "P": P if structure == "full" else sp.ImmutableMatrix.diag(*P.diagonal())}


def moments_of(theta: Mapping[str, Any], n: int) -> tuple[Any, Any]:
    """Mean and covariance, as explicit matrices, of a policy in its variables."""
    m = sp.ImmutableMatrix(n, 1, [theta["m"]] if n == 1 else list(theta["m"]))
    if "s" in theta:
        return m, theta["s"] * sp.ImmutableMatrix.eye(n)
    return m, sp.ImmutableMatrix([[theta["P"]]]) if n == 1 else theta["P"]


def mean_log_density(m: Any, P: Any, m0: Any, T: Any, P0: Any) -> Any:
    """E log N(ŷ; m0, P0) over ŷ of moments (m, P), T = P0⁻¹, which may be a symbol."""
    spread = trace(T * P) + quadratic(T, m - m0)
    return -(spread + logdet(P0) + m.rows * sp.log(2 * sp.pi)) / 2


def expectation(
    terms: Sequence[Term], raw: Sequence[Term], data: Any, laws: Mapping[str, Any]
) -> Any:
    """E_ŷ of terms in ŷ, those of the reward averaged over the data.

    An exponential in ŷ - y under Gaussian data is taken over ŷ - y ~ N(m - μ, P + Σ) at once,
    which is one matrix to invert and not two.

    Args:
        terms: r̄.
        raw: r, in ŷ and y.
        data: of `derive`.
        laws: "y_hat", "y": symbols; "m", "P", "mu", "Sigma": moments.
    """
    v, y, m, P = laws["y_hat"], laws["y"], laws["m"], laws["P"]
    kept = dict(zip(v, y, strict=True))
    found = sp.S.Zero
    for term in terms:
        if not term.exponent.has(*v):
            value = polynomial_mean(term.polynomial, v, m, isserlis(P))
            found += value * sp.exp(term.exponent)
    moved = {x: x + other for x, other in kept.items()}  # ŷ stands for ŷ - y
    for term in raw:
        if not term.exponent.has(*v):
            continue
        shifted = Term(
            sp.expand(term.polynomial.xreplace(moved)), sp.expand(term.exponent.xreplace(moved))
        )
        if isinstance(data, Normal) and not any(f.has(*y) for f in vars(shifted).values()):
            found += under_normal(shifted, v, m - laws["mu"], P + laws["Sigma"]).expression
        else:
            means = over_data([term], y, data, laws["mu"], laws["Sigma"])
            found += total([under_normal(mean, v, m, P) for mean in means])
    return found


def slope(f: Any, X: Any) -> Any:
    """∂f/∂X: of a matrix the symmetric G with df = Tr(G dX), 0 where X has no symbol."""
    if not isinstance(X, sp.MatrixBase):
        return sp.diff(f, X)
    half = sp.Rational(1, 2)

    def entry(i: int, j: int) -> Any:
        if not X[i, j].is_Symbol:
            return sp.S.Zero
        return sp.diff(f, X[i, j]) * (1 if X.cols == 1 or i == j else half)

    return sp.ImmutableMatrix(X.rows, X.cols, entry)


def entries(X: Any) -> list[Any]:
    """The free symbols of a scalar, a column or a symmetric matrix."""
    if not isinstance(X, sp.MatrixBase):
        return [X]
    return free_entries(X) if X.rows == X.cols else list(X)


def is_concave(raw: Sequence[Term], averaged: Sequence[Term], v: Any, y: Any) -> bool:
    """Whether g is proved to be concave: its polynomial for each y, exponentials of lines apart."""
    moved = {x: x + other for x, other in zip(v, y, strict=True)}
    for term in raw:
        if not sp.hessian(term.exponent, list(v)).is_zero_matrix:
            return False
        if not term.exponent.has(*v):  # exp of y alone is a positive weight
            bend = -sp.hessian(term.polynomial, list(v))
            shifted = bend.xreplace(moved).applyfunc(sp.expand)
            if not any(is_semidefinite(B.as_immutable(), (*v, *y)) for B in (bend, shifted)):
                return False
    for term in averaged:
        if term.exponent.has(*v):
            straight = sp.Poly(term.exponent, *v).total_degree() == 1
            if not straight or term.polynomial.has(*v) or sign(term.polynomial) != -1:
                return False
    return True


def quadratic_solution(g: Any, v: Any, structure: Structure, lam: Any) -> dict[str, Any]:
    """m* = ½Q⁻¹b, P* = (λ/2)Q⁻¹ within the structure, of g = -ŷᵀQŷ + bᵀŷ + c, Q definite."""
    n = len(v)
    Q = (-sp.hessian(g, list(v)) / 2).as_immutable()
    b = sp.ImmutableMatrix([sp.diff(g, x) for x in v]).xreplace(dict.fromkeys(v, 0))
    if all(entry.is_polynomial() for entry in Q) and (n < 3 or len(Q.free_symbols) <= _FEW):
        inverted = inverse(Q)
        m = lowest_terms(inverted * b / 2)
    else:  # lowest terms would take minutes
        named = symbol("S", n)
        inverted = inverse(named).xreplace(dict(zip(named, Q, strict=True)))
        m = inverted * b / 2
    if n == 1:
        return {"m": factored(m[0]), "P": factored(lam / (2 * Q[0]))}
    if structure == "isotropic":
        return {"m": m, "s": lam * n / (2 * Q.trace())}
    if structure == "diagonal":
        return {"m": m, "P": sp.ImmutableMatrix.diag(*(lam / (2 * q) for q in Q.diagonal()))}
    return {"m": m, "P": (lam / 2 * inverted).as_immutable()}


@cache
def quadratic_conditions(n: int, structure: Structure) -> tuple[Condition, ...]:
    """That `quadratic_solution` is stationary, for every definite Q and every b at once."""
    theta, Q, b, lam = policy(n, structure), symbol("U", n), symbol("b", n), symbol("lam")
    y_hat, (m, P) = symbol("y_hat", n), moments_of(theta, n)
    g = b.dot(y_hat) - quadratic(Q, y_hat)
    J = polynomial_mean(g, tuple(y_hat), m, isserlis(P)) + lam * definitions.entropy(P)
    found = quadratic_solution(g, tuple(y_hat), structure, lam)
    return tuple(
        zero(f"∂J/∂{name} = 0 at the solution, for any quadratic", put(slope(J, X), theta, found))
        for name, X in theta.items()
    )


def by_coordinates(
    averaged: Sequence[Term], v: Any, structure: Structure, lam: Any, mu: Any
) -> dict[str, Any] | None:
    """θ* of a sum over coordinates: each alone, and P* diagonal, as det P <= Π P_ii."""
    n = len(v)
    if n == 1 or structure == "isotropic" or not is_separable(averaged, v):
        return None
    m, P = [], []
    for i, x in enumerate(v):
        others = dict.fromkeys((other for other in v if other != x), 0)
        own = [t for t in averaged if t.exponent.has(x) or not t.exponent.has(*v)]
        own = [Term(t.polynomial.xreplace(others), t.exponent) for t in own]
        at, variance = symbol("m", n)[i], symbol("P", n)[i, i]
        cell = sp.ImmutableMatrix
        J = total([under_normal(t, (x,), cell([at]), cell([variance])) for t in own])
        J += lam * sp.log(variance) / 2
        found = one_variance(J, [at], variance, [mu[i]])
        if found is None:
            return None
        m.append(found[0][0])
        P.append(found[1])
    return {"m": sp.ImmutableMatrix(m), "P": sp.ImmutableMatrix.diag(*P)}


def one_variance(J: Any, m: Sequence[Any], s: Any, mu: Any) -> tuple[list[Any], Any] | None:
    """A stationary point (m, s) of J in closed form, or None: the mean first, then a root in s.

    The mean is μ where every slope vanishes there for all s, or a root of a linear factor of the
    slope (n = 1), or follows from the one exponential in J.
    """
    slopes = [sp.diff(J, x) for x in m]
    bend = sp.diff(J, s)
    for mean in _means(slopes, m, mu):
        at = dict(zip(m, mean, strict=True))
        variance = positive_root(sp.together(sp.expand(bend.xreplace(at))), s)
        if variance is not None:
            return [sp.sympify(x).xreplace({s: variance}) for x in mean], variance
    return _one_exponential(slopes[0], bend, m[0], s) if len(m) == 1 else None


def _means(slopes: Sequence[Any], m: Sequence[Any], mu: Any) -> list[list[Any]]:
    at = dict(zip(m, mu, strict=True))
    if all(sp.expand(slope.xreplace(at)) == 0 for slope in slopes):
        return [list(mu)]
    if len(m) > 1 or slopes[0].has(sp.exp):
        return []
    factors = factor_list(sp.fraction(sp.together(slopes[0]))[0], m[0])[1]
    linear = [sp.Poly(f, m[0]) for f, _ in factors if sp.degree(f, m[0]) == 1]
    return [[factored(-p.nth(0) / p.nth(1))] for p in linear]


def positive_root(f: Any, s: Any) -> Any:
    """The one positive root s of a rational function, of a numerator of degree 1 or 2; or None."""
    numerator = sp.fraction(sp.together(f))[0]
    if not numerator.is_polynomial(s):
        return None
    p = sp.Poly(numerator, s)
    p = sp.Poly(p.as_expr() / s ** min(power for (power,) in p.monoms()), s)
    if p.degree() == 1:
        root = factored(-p.nth(0) / p.nth(1))
        return root if sign(root) == 1 else None
    if p.degree() != 2:
        return None
    a, b, c = (p.nth(k) for k in (2, 1, 0))
    if sign(a) == -1:
        a, b, c = -a, -b, -c
    if sign(a) != 1 or sign(c) != -1:  # then exactly one root is positive
        return None
    return (-b + sp.sqrt(factored(b**2 - 4 * a * c))) / (2 * a)


def smaller_root(f: Any, s: Any) -> Any:
    """The smaller of two positive roots of a numerator of degree 2; or None."""
    numerator = sp.fraction(sp.together(f))[0]
    if not numerator.is_polynomial(s) or sp.degree(numerator, s) != 2:
        return None
    a, b, c = (sp.Poly(numerator, s).nth(k) for k in (2, 1, 0))
    if sign(a) == -1:
        a, b, c = -a, -b, -c
    if sign(a) != 1 or sign(c) != 1:
        return None
    return (-b - sp.sqrt(factored(b**2 - 4 * a * c))) / (2 * a)


def _one_exponential(first: Any, bend: Any, m: Any, s: Any) -> tuple[list[Any], Any] | None:
    """(m, s) where J has one exponential K(m, s): K from the mean's slope, s, then m from K."""
    atoms = [f for f in first.atoms(sp.exp) if f.has(m)]
    if len(atoms) != 1 or sp.degree(atoms[0].exp, m) != 1:
        return None
    K = sp.Dummy("K", positive=True)
    line = sp.expand(first.xreplace({atoms[0]: K}))
    if line.has(m) or not line.is_polynomial(K) or sp.degree(line, K) != 1:
        return None
    value = factored(-line.coeff(K, 0) / line.coeff(K, 1))
    variance = positive_root(sp.expand(bend.xreplace({atoms[0]: K}).xreplace({K: value})), s)
    if variance is None or sign(value) != 1 or value.has(s):
        return None
    exponent = sp.Poly(atoms[0].exp, m)
    mean = (sp.log(value) - exponent.nth(0)) / exponent.nth(1)
    return [sp.expand(mean.xreplace({s: variance}))], variance


def largest_weight(J: Any, m: Sequence[Any], s: Any, mu: Any, lam: Any) -> Any:
    """λ below which J has a local maximum in one variance at m = μ: the peak of h(s), or None.

    dJ/ds = push · (λ - h(s)), push > 0: h rises to its one peak, and the smaller root is a maximum
    in s. It is one in m too: ½ tr ∂²J/∂m² is dJ/ds less what the entropy adds, n λ/2s, so that the
    trace is negative there, and all of ∂²J/∂m² with it where it is a multiple of the identity.
    """
    at = dict(zip(m, mu, strict=True))
    if any(sp.simplify(sp.diff(J, x).xreplace(at)) != 0 for x in m):
        return None
    bend = sp.diff(J, s).xreplace(at)
    push = sp.diff(bend, lam)
    bowl = sp.hessian(J, list(m)).xreplace(at).applyfunc(sp.simplify)
    if push.has(lam) or sign(push) != 1 or bowl != bowl[0] * sp.eye(len(m)):
        return None
    h = -(bend - lam * push) / push
    ratio = sp.simplify(s * sp.diff(h, s) / h)
    peak = positive_root(ratio, s)
    if peak is None or sign(sp.simplify(sp.diff(h, s, 2).xreplace({s: peak}))) != -1:
        return None
    top = sp.simplify(h.xreplace({s: peak}))
    return top if sign(top) == 1 else None


def restricted(mu: Any, Sigma: Any, theta: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The maximum-likelihood policy within the structure: m = μ, and P or s of the data's Σ."""
    if n == 1:
        return {"m": mu[0], "P": Sigma[0]}
    if "s" in theta:
        return {"m": mu, "s": Sigma.trace() / n}
    diagonal = theta["P"].is_diagonal()
    return {"m": mu, "P": sp.ImmutableMatrix.diag(*Sigma.diagonal()) if diagonal else Sigma}


def put(f: Any, theta: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """f, scalar or matrix, at the values of the inner variables."""
    pairs: dict[Any, Any] = {}
    for name, X in theta.items():
        if isinstance(X, sp.MatrixBase):
            pairs |= {x: value for x, value in zip(X, values[name], strict=True) if x.is_Symbol}
        else:
            pairs[X] = values[name]
    return f.xreplace(pairs)
