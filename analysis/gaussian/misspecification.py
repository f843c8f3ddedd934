"""Which Σ? The cost in nats of the wrong covariance; inputs x; errors of the mean."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS, SYMMETRIC
from ..calculus.conditions import positive, zero
from ..calculus.matrices import (
    gradient,
    inverse,
    lowest_terms,
    outer,
    quadratic,
    replace,
    slope,
    zip_entries,
)
from ..calculus.normal_form import normal, reduced, tidy
from ..calculus.stationary import solve_linear
from ..calculus.symbols import dimension, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, result
from . import inner, stated
from .outer import bilevel_solution, objective, optimal_reward

TWO = "x takes two values, the first with probability w"
DOMAIN = ("covariances symmetric positive definite, λ > 0", "P full", MOMENTS)


@result(ANY)
def cost_of_covariance(n: int | None) -> Derivation:
    """F((λ/2)Σ̄⁻¹) - F((λ/2)S⁻¹) = ½ [log det(SΣ̄⁻¹) + Tr(S⁻¹Σ̄) - n] nats.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in S, Sigma (Σ̄, the residual covariance). With S = Σ_m, the marginal
        covariance, it is the price of not subtracting the mean.
    Source: new.
    """
    S, Sigma = symbols("S Sigma", n)
    F = objective("full", n)
    best = optimal_reward("full", n).derived
    top = replace(F.derived, F.arguments["U"], best)
    here = replace(F.derived, F.arguments["U"], replace(best, Sigma, S))
    return Derivation(
        symbol="ΔF",
        arguments={"S": S, "Sigma": Sigma},
        stated=stated.cost_of_covariance(S, Sigma, dimension(n)),
        derived=tidy(top - here),
        assumptions=DOMAIN,
        steps=(Step("F at (λ/2)Σ̄⁻¹", top), Step("F at (λ/2)S⁻¹", here)),
    )


@result(ANY)
def total_covariance(n: int | None) -> Derivation:
    """Σ_m = Σ̄ + Cov(μ(x)): the marginal covariance of y.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in w, mu_a, mu_b, Sigma_a, Sigma_b; shape (n, n).
    Source: new.
    """
    w, mu_a, mu_b, Sigma_a, Sigma_b = symbols("w mu_a mu_b Sigma_a Sigma_b", n)
    y = symbol("y", n)
    # E yyᵀ is the gradient in H of E yᵀHy, which asks for the two moments only
    H = symbol("H", n)
    square = quadratic(H, y)
    mean = w * definitions.expectation(square, y, mu_a, Sigma_a)
    mean += (1 - w) * definitions.expectation(square, y, mu_b, Sigma_b)
    second = gradient(sp.expand(mean), H)
    first = w * mu_a + (1 - w) * mu_b
    return Derivation(
        symbol="Σ_m",
        arguments={"w": w, "mu_a": mu_a, "mu_b": mu_b, "Sigma_a": Sigma_a, "Sigma_b": Sigma_b},
        stated=stated.total_covariance(w, mu_a, mu_b, Sigma_a, Sigma_b),
        derived=_expanded(second - outer(first, first)),
        assumptions=(TWO,),
        steps=(Step("E yᵀHy", mean), Step("E yyᵀ", second), Step("E y", first)),
    )


@result(ANY)
def effective_covariance(n: int | None) -> Derivation:
    """V = Σ̄ + E e eᵀ: one constant U sees F(U) = ½ log det U - Tr(UV)/λ - (n/2) log πλ.

    So U* = (λ/2)V⁻¹ (gaussian.outer.optimal_reward at Σ = V). With mean error e = 0, V is the
    *residual* covariance Σ̄ = E_x Σ(x).

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in w, e_a, e_b, Sigma_a, Sigma_b; shape (n, n). Condition: F averaged over x is
        the outer objective with V in place of Σ.
    Source: new.
    """
    w, e_a, e_b, Sigma_a, Sigma_b = symbols("w e_a e_b Sigma_a Sigma_b", n)
    mu_a, mu_b, U, Sigma = symbols("mu_a mu_b U Sigma", n)
    lam = symbol("lam")
    P = inner.solution("full", n).derived
    F = w * definitions.log_likelihood(mu_a + e_a, P, mu_a, Sigma_a)
    F += (1 - w) * definitions.log_likelihood(mu_b + e_b, P, mu_b, Sigma_b)
    F = normal(F) if n is None else F
    V = reduced(inverse(U) / 2 - gradient(F, U)) * lam
    claim = stated.second_moment_of_errors(w, e_a, e_b, Sigma_a, Sigma_b)
    same_form = replace(objective("full", n).derived, Sigma, claim)
    return Derivation(
        symbol="V",
        arguments={"w": w, "e_a": e_a, "e_b": e_b, "Sigma_a": Sigma_a, "Sigma_b": Sigma_b},
        stated=claim,
        derived=_expanded(V),
        assumptions=(*DOMAIN, TWO, "the mean error e(x) does not depend on U"),
        steps=(Step("F, averaged over x", F), Step("V = λ(½U⁻¹ - ∇F)", V)),
        conditions=(zero("F is the outer objective with V in place of Σ", F - same_form),),
    )


@result(ANY)
def conditional_gain(n: int | None) -> Derivation:
    """½ [log det Σ̄ - E log det Σ(x)]: what U*(x) = (λ/2)Σ(x)⁻¹ gains over the best constant U.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in w, Sigma_a, Sigma_b.
    Source: new.
    """
    w, Sigma_a, Sigma_b, Sigma, mu = symbols("w Sigma_a Sigma_b Sigma mu", n)
    P = bilevel_solution(n).derived
    value = definitions.log_likelihood(mu, P, mu, Sigma)
    value = reduced(value)

    def at(X: Any) -> Any:
        return replace(value, Sigma, X)

    conditional = w * at(Sigma_a) + (1 - w) * at(Sigma_b)
    constant = at(w * Sigma_a + (1 - w) * Sigma_b)
    return Derivation(
        symbol="ΔF",
        arguments={"w": w, "Sigma_a": Sigma_a, "Sigma_b": Sigma_b},
        stated=stated.conditional_gain(w, Sigma_a, Sigma_b),
        derived=conditional - constant,
        assumptions=(*DOMAIN, TWO),
        steps=(
            Step("F at U*, for one covariance Σ", value),
            Step("E_x F(U*(x))", conditional),
            Step("F at the best constant", constant),
        ),
    )


@result(ANY)
def restricted_mean_hypergradient(n: int | None) -> Derivation:
    """∇_U F = ½ U⁻¹ - (Σ̄ + E e_U e_Uᵀ)/λ when the mean is restricted, m(x) = β a(x), β = β_U.

    By the chain rule ∇F = ∂F/∂U + ∂F/∂β dβ_U/dU. A condition checks ∂F/∂β = (1/λ) ∂J/∂β for every
    β, which is 0 at the inner solution (weighted least squares): the envelope theorem. So the fixed
    points are U = (λ/2)(Σ̄ + E e_U e_Uᵀ)⁻¹ (iterated feasible GLS).

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in U, w, e_a, e_b, Sigma_a, Sigma_b, lam; e_a, e_b are the errors at β_U; shape
        (n, n), symmetric gradient.
    Source: new.
    """
    w, mu_a, mu_b, a, b, Sigma_a, Sigma_b = symbols("w mu_a mu_b a b Sigma_a Sigma_b", n)
    e_a, e_b, U, Q = symbols("e_a e_b U P", n)
    lam, beta = symbol("lam"), sp.Symbol("beta", real=True)
    P = inner.solution("full", n).derived

    def mean_of(f: Any, *rest: Any) -> Any:
        first = f(beta * a, rest[0], mu_a, Sigma_a, *rest[1:])
        return w * first + (1 - w) * f(beta * b, rest[0], mu_b, Sigma_b, *rest[1:])

    J = mean_of(definitions.objective, Q, U, lam)
    F = mean_of(definitions.log_likelihood, P)
    if n is None:
        J, F = normal(J), normal(F)  # β outside the traces
    G = gradient(F, U)
    pairs = ((mu_a, beta * a - e_a), (mu_b, beta * b - e_b))
    errors = pairs if n is None else zip_entries(*pairs)
    rate = slope if n is None else sp.diff
    arguments = {"U": U, "w": w, "e_a": e_a, "e_b": e_b, "Sigma_a": Sigma_a, "Sigma_b": Sigma_b}
    return Derivation(
        symbol="∇_U F",
        arguments={**arguments, "lam": lam},
        stated=stated.restricted_mean_hypergradient(U, w, e_a, e_b, Sigma_a, Sigma_b, lam),
        derived=reduced(G.xreplace(dict(errors))),
        assumptions=(*DOMAIN, TWO, "m(x) = β a(x), one β for all inputs", SYMMETRIC),
        steps=(Step("F(U, β), averaged over x", F), Step("∂F/∂U at fixed β", G)),
        conditions=(zero("∂F/∂β = (1/λ) ∂J/∂β for every β", rate(F, beta) - rate(J, beta) / lam),),
    )


def _expanded(X: Any) -> Any:
    return X.applyfunc(sp.expand) if isinstance(X, sp.MatrixBase) else normal(X)


@result(n=2)
def two_maxima() -> Derivation:
    """U = λ diag(¼ + √2/6, ¼ - √2/6) = λ diag(.4857, .0143): one of two equal maxima.

    Diagonal P, one shared mean m = (β, β), data mean (3, -3), Σ = I: F is not concave.

    Returns:
        Derivation in lam; shape (2, 2). Conditions: it is a strict local maximum, so is its swap
        with the same F, and the only other stationary point (U ∝ I) is a saddle.
    Source: new.
    """
    lam, s, q, beta = symbol("lam"), *sp.symbols("s q", positive=True), sp.Symbol("beta", real=True)
    U, one = symbol("U", 2), sp.ImmutableMatrix([1, 1])
    mu, Sigma = sp.ImmutableMatrix([3, -3]), sp.ImmutableMatrix.eye(2)
    weights = sp.ImmutableMatrix.diag(s * (1 - q), s * q)
    J = definitions.objective(beta * one, symbol("P", 2), mu, Sigma, weights, lam)
    (centre,) = solve_linear([sp.expand(sp.diff(J, beta))], [beta])
    P = replace(inner.solution("diagonal", 2).derived, U, weights)
    F = definitions.log_likelihood(centre * one, P, mu, Sigma)
    (size,) = solve_linear([lowest_terms(s * sp.diff(F, s))], [s])
    turn = sp.fraction(lowest_terms(sp.diff(F, q).xreplace({s: size})))[0]
    roots = sorted(sp.roots(sp.Poly(turn, q)))

    def hessian(root: Any) -> Any:
        H = sp.hessian(F, (s, q)).xreplace({s: size}).xreplace({q: root})
        return H.applyfunc(sp.radsimp)

    low, middle, high = (hessian(root) for root in roots)
    levels = [sp.radsimp(size.xreplace({q: root})) for root in roots]
    best = weights.xreplace({s: size}).xreplace({q: roots[0]}).applyfunc(sp.radsimp)
    return Derivation(
        symbol="U*",
        arguments={"lam": lam},
        stated=stated.two_maxima(lam),
        derived=best,
        assumptions=("P diagonal, m = (β, β)", "μ = (3, -3), Σ = I", "λ > 0"),
        steps=(
            Step("β_U, U = s diag(1-q, q)", centre),
            Step("s from ∂F/∂s = 0", size),
            Step("∂F/∂q = 0", turn),
            Step("its roots", sp.Matrix(roots)),
        ),
        conditions=(
            positive("a strict maximum", sp.Matrix([-low[0, 0], sp.radsimp(low.det())])),
            positive("its swap too", sp.Matrix([-high[0, 0], sp.radsimp(high.det())])),
            zero(
                "they are each other's swap",
                sp.Matrix([roots[0] + roots[2] - 1, levels[0] - levels[2]]),
            ),
            zero("F is the same after a swap", F - F.xreplace({q: 1 - q})),
            positive("U ∝ I is a saddle", -sp.radsimp(middle.det())),
        ),
    )
