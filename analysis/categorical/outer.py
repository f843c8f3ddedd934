"""The outer problem of a categorical policy: F(U) = Σ π_c log p*(c), its gradients, concavity."""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from ..assumptions import SYMMETRIC
from ..calculus.conditions import Condition, positive, zero
from ..calculus.matrices import gradient
from ..calculus.structures import free_entries
from ..calculus.symbols import check_classes, symbol
from ..derivation import Derivation, Step
from ..result import CLASSES, result
from . import definitions, stated
from .inner import (
    LAM,
    ONE_HOT,
    ONLY_SIZES,
    SYMMETRIC_U,
    in_policy,
    law,
    levels,
    log_law,
    probabilities,
    rewards,
)


@cache
def likelihood(n: int) -> Any:
    """F as a function of the rewards g_c of the classes."""
    return definitions.log_likelihood(log_law(levels(n)), probabilities("pi", n))


@cache
def likelihood_slopes(n: int) -> Any:
    """∂F/∂g_c at the inner solution, in the probabilities p and π."""
    slopes = [in_policy(sp.diff(likelihood(n), g), n) for g in levels(n)]
    return sp.ImmutableMatrix(slopes)


@cache
def likelihood_curvature(n: int) -> tuple[Any, Any]:
    """d²F along dg_c = φ_c in p, and the symbols φ_c, the last of them 0."""
    t, x = sp.Dummy("t"), sp.ImmutableMatrix([*sp.symbols(f"phi_1:{n}", real=True), 0])
    moved = dict(zip(levels(n), levels(n) + t * x, strict=True))
    second = sp.diff(likelihood(n).xreplace(moved), t, 2).subs(t, 0)
    return in_policy(second, n), x


def at_solution(f: Any, p: Any) -> Any:
    """A function of the probabilities p of the policy, at the values of an inner solution."""
    return f.xreplace(dict(zip(symbol("p", p.rows), p, strict=True)))


def _excess(n: int) -> Any:
    """Symbols for δ_c = π_c - p*(c), which sum to 0."""
    free = sp.symbols(f"delta_1:{n}", real=True)
    return sp.ImmutableMatrix([*free, -sp.Add(*free)])


def _from_excess(f: Any, n: int, p: Any) -> Any:
    """f, linear in the symbols δ_c, in its coefficients multiplied out, with δ = π - p put in."""
    pi, delta = symbol("pi", n), _excess(n)

    def value(entry: Any) -> Any:
        flat = sp.expand(entry)
        return sum((pi[c] - p[c]) * sp.diff(flat, delta[c]) for c in range(n - 1))

    return f.applyfunc(value)


def _contracted(slopes: Any, n: int) -> Any:
    """∇_U F = Σ_c ∂F/∂g_c ∇_U g_c, in the symbols δ_c for π_c - p_c."""
    g, pi, p, delta = rewards(n), symbol("pi", n), symbol("p", n), _excess(n)
    renamed = slopes.xreplace({p[c]: pi[c] - delta[c] for c in range(n - 1)})
    total = sp.zeros(n, n)
    for c in range(n):
        total += sp.expand(renamed[c]) * gradient(g[c], symbol("U", n))
    return total.as_immutable()


@result(CLASSES, check=check_classes, quick=(16, ONLY_SIZES))
def objective(n: int) -> Derivation:
    """F(U) = Σ_c π_c f_c/λ - log Σ_c exp(f_c/λ), f_c = 2(Uπ)_c - U_cc.

    Args:
        n: number of classes, >= 2.
    Returns:
        Scalar derivation in pi, U, lam.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, U, logs = probabilities("pi", n), symbol("U", n), log_law(rewards(n))
    return Derivation(
        symbol="F",
        arguments={"pi": symbol("pi", n), "U": U, "lam": LAM},
        stated=stated.outer_objective(stated.log_weights(U, pi), pi, LAM),
        derived=definitions.log_likelihood(logs, pi),
        assumptions=(ONE_HOT, SYMMETRIC_U),
        steps=(Step("g_c = E_y r(e_c, y)", rewards(n)), Step("log p*(c)", logs)),
    )


@result(CLASSES, check=check_classes, quick=(8, ONLY_SIZES))
def hypergradient(n: int) -> Derivation:
    """∇_U F = (δπᵀ + πδᵀ - diag δ)/λ, δ = π - p*: (1/λ)(E_π - E_p*) of ∇_U f_c.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in pi, U, lam; shape (n, n), symmetric gradient. Conditions: the chain rule
        through the rewards g_c of the classes, with F differentiated in them.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, q, U = probabilities("pi", n), probabilities("p", n), symbol("U", n)
    slopes, p = likelihood_slopes(n), law(rewards(n))
    return Derivation(
        symbol="∇_U F",
        arguments={"pi": symbol("pi", n), "U": U, "lam": LAM},
        stated=stated.hypergradient(pi, stated.gibbs(stated.log_weights(U, pi), LAM), LAM),
        derived=_from_excess(_contracted(slopes, n), n, p),
        assumptions=(ONE_HOT, SYMMETRIC_U, SYMMETRIC),
        steps=(
            Step("F in the rewards of the classes", likelihood(n)),
            Step("its slopes at the inner solution", slopes),
        ),
        conditions=(zero("∂F/∂g = (π - p*)/λ", slopes - (pi - q) / LAM),),
    )


@result(CLASSES, check=check_classes, quick=(8, ONLY_SIZES))
def implicit_hypergradient(n: int) -> Derivation:
    """-(∂²_{Up}J)(∂²_{pp}J)⁻¹ ∂_pF = ∇_U F at the inner solution: implicit differentiation.

    The inner variables are the first n - 1 probabilities of the policy.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in pi, U, lam; shape (n, n), symmetric gradient. Conditions: the Hessian of J
        times its inverse is the identity.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: paper (implicit differentiation); new for categorical policies.
    """
    pi, p, g, U = probabilities("pi", n), symbol("p", n), levels(n), symbol("U", n)
    J = definitions.objective(p, g, LAM)
    first = _along_simplex(J, p)
    slopes = _along_simplex(definitions.log_likelihood(p.applyfunc(sp.log), pi), p)
    cross = first.jacobian(g)
    curvature = sp.Matrix.hstack(*(_along_simplex(slope, p) for slope in first))
    inverse = _inverse_of_rank_one_update(curvature, sp.diff(J, p[-1], 2), p)
    implicit = (-cross.T * inverse * slopes).applyfunc(lambda f: _on_simplex(f, p))
    product = (curvature * inverse).applyfunc(lambda f: _on_simplex(f, p))
    return Derivation(
        symbol="∇_U F",
        arguments={"pi": symbol("pi", n), "U": U, "lam": LAM},
        stated=stated.hypergradient(pi, stated.gibbs(stated.log_weights(U, pi), LAM), LAM),
        derived=_from_excess(_contracted(implicit, n), n, law(rewards(n))),
        assumptions=(ONE_HOT, SYMMETRIC_U, SYMMETRIC, "p* is the inner solution"),
        steps=(
            Step("∂²_{pp}J", curvature),
            Step("its inverse", inverse),
            Step("∂_pF", slopes),
            Step("implicit ∂F/∂g", implicit),
        ),
        conditions=(zero("∂²_{pp}J times its inverse", product - sp.eye(n - 1)),),
        source="paper; new for categorical policies",
    )


@result(CLASSES, check=check_classes, quick=(8, ONLY_SIZES))
def concavity(n: int) -> Derivation:
    """d²F(U; H, H) = -Var_{p*} φ_c/λ² <= 0, φ_c = 2(Hπ)_c - H_cc: concave, of rank < n.

    Args:
        n: number of classes, >= 2.
    Returns:
        Scalar derivation in pi, U, lam, H. Conditions: minus a sum of squares; a quadratic form in
        the n - 1 numbers φ_c - φ_C, which are linear in H, so that the Hessian is a product through
        n - 1 dimensions; all of them vanish along H = a1ᵀ + 1aᵀ, which changes no policy.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, U, H = probabilities("pi", n), symbol("U", n), symbol("H", n)
    curve, x = likelihood_curvature(n)
    features = rewards(n).xreplace(dict(zip(U, H, strict=True)))
    gaps = {x[c]: sp.expand(features[c] - features[-1]) for c in range(n - 1)}
    return Derivation(
        symbol="d²F",
        arguments={"pi": symbol("pi", n), "U": U, "lam": LAM, "H": H},
        stated=stated.second_differential(
            stated.log_weights(H, pi), stated.gibbs(stated.log_weights(U, pi), LAM), LAM
        ),
        derived=at_solution(curve, law(rewards(n))).xreplace(gaps),
        assumptions=(ONE_HOT, SYMMETRIC_U, "H symmetric"),
        steps=(
            Step("d²F in the rewards of the classes, φ_C = 0", curve),
            Step("φ_c, up to a constant", features),
        ),
        conditions=_concave(curve, features, x),
    )


def _concave(curve: Any, features: Any, x: Any) -> tuple[Condition, ...]:
    n = x.rows
    p, free, H = probabilities("p", n), symbol("p", n), symbol("H", n)
    gaps = sp.Matrix([sp.expand(features[c] - features[-1]) for c in range(n - 1)])
    entries = free_entries(H)
    linear = gaps.jacobian(entries)
    form = sp.hessian(curve, list(x)[:-1])
    a, one = sp.ImmutableMatrix(sp.symbols(f"a_1:{n + 1}", real=True)), sp.ones(n, 1)
    idle = a * one.T + one * a.T
    still = gaps.xreplace(dict(zip(H, idle, strict=True)))
    weights = [free[c] * free[k] for k in range(n) for c in range(k)]
    return (
        zero("-λ² d²F = Σ_{c<k} p_c p_k (φ_c - φ_k)²", curve * LAM**2 + stated.pairs(p, x)),
        positive("p_c p_k > 0", sp.Matrix(weights)),
        zero("φ_c - φ_C is linear in H", gaps - linear * sp.Matrix(entries)),
        zero("with coefficients free of H", sp.Matrix([sp.diff(linear, h) for h in entries])),
        zero("d²F is a form in n - 1 numbers", curve - (x[:-1, :].T * form * x[:-1, :])[0] / 2),
        zero("whose coefficients are free of them", sp.Matrix([sp.diff(form, y) for y in x[:-1]])),
        zero("H = a1ᵀ + 1aᵀ changes nothing", still),
    )


def _along_simplex(f: Any, p: Any) -> Any:
    """Slopes of f in the first probabilities, where the last falls as one of them rises."""
    last = sp.diff(f, p[-1])
    return sp.Matrix([sp.diff(f, x) - last for x in p[:-1]])


def _on_simplex(f: Any, p: Any) -> Any:
    """A Laurent polynomial reduced by Σp = 1, with no last probability left if that cancels.

    Putting in the first probability cancels what stands over the last one.
    """
    first = {p[0]: 1 - sp.Add(*p[1:])}
    last = {p[-1]: 1 - sp.Add(*p[:-1])}
    return sp.expand(sp.expand(sp.expand(f).xreplace(first)).xreplace(last))


def _inverse_of_rank_one_update(A: Any, e: Any, p: Any) -> Any:
    """(D + e 11ᵀ)⁻¹ = D⁻¹ - D⁻¹11ᵀD⁻¹/(1/e + Σ 1/D_ii), for A = D + e 11ᵀ.

    The form of A is an ansatz: a condition multiplies A with its inverse.
    """
    inverses = sp.Matrix([1 / sp.expand(x - e) for x in A.diagonal()])
    total = _on_simplex(1 / e + sp.Add(*inverses), p)
    return (sp.diag(*inverses) - inverses * inverses.T / total).applyfunc(sp.expand)
