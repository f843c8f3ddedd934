"""The outer problem with a reference: stationary precision, U*, where it leaves the cone, costs.

Over the learned precision S⁻¹ = P₀⁻¹ + (2/λ)U the likelihood is strictly concave. With the pull
a = P₀⁻¹(m₀ - μ) of the reference, m* = μ + Sa, so that S stands for variance *and* mean error.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from .. import definitions as entropic
from .. import gaussian
from ..assumptions import MOMENTS, SYMMETRIC
from ..calculus.conditions import Condition, zero
from ..calculus.matrices import (
    cancel_outside_logs,
    det,
    gradient,
    identity,
    inverse,
    logdet,
    lowest_terms,
    outer,
    product,
    quadratic,
    replace,
    second_differential,
    trace,
)
from ..calculus.normal_form import normal, tidy
from ..calculus.symbols import dimension, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, SIZES, result
from . import inner, stated

PULL = "a = P₀⁻¹(m₀ - μ)"
DOMAIN = ("covariances symmetric positive definite, λ > 0", "P full", MOMENTS, PULL)
_BEST = sp.Symbol("kappa_0", positive=True)  # of the ansatz S⁻¹ = Σ⁻¹ + aaᵀ/κ


def likelihood(n: int | None) -> Any:
    """F = E log N(y; μ + Sa, S) in H = S⁻¹, from the inner solution."""
    P, P0, m0, mu, Sigma, a, H = symbols("P P0 m0 mu Sigma a H", n)
    m = replace(inner.mean(n).derived, m0, mu + P0 * a)
    m = normal(m) if n is None else lowest_terms(m)
    S = inverse(H)
    F = entropic.log_likelihood(replace(m, P, S), S, mu, Sigma)
    return normal(F) if n is None else cancel_outside_logs(F)


@cache
def _slopes(n: int | None) -> tuple[Any, Any]:
    """2H(∂F₀/∂H)H and 2∂F₁/∂H of F = F₀ + F₁, H = S⁻¹, where F₁ holds Σ: polynomials in H."""
    H, Sigma, F = symbol("H", n), symbol("Sigma", n), likelihood(n)
    none = sp.ZeroMatrix(*Sigma.shape) if n is None else sp.zeros(n, n)
    reduced = normal if n is None else cancel_outside_logs
    without = reduced(replace(F, Sigma, none))
    with_Sigma = 2 * gradient(reduced(F - without), H)
    G = gradient(without, H)
    return (normal(2 * H * G * H) if n is None else product(2 * H, G, H)), with_Sigma


@result(ANY)
def hypergradient(n: int | None) -> Derivation:
    """∇_U F = (S + S a aᵀ S - Σ)/λ at the inner solution's covariance S = P*(U).

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in S, Sigma, a, lam; shape (n, n), symmetric gradient. Conditions: how S⁻¹
        moves with U; and, for general n, F is strictly concave in the precision.
    Source: new.
    """
    S, Sigma, a, H = symbols("S Sigma a H", n)
    lam = symbol("lam")
    first, second = _slopes(n)
    around = replace(first, H, inverse(S))
    around = normal(S * around * S) if n is None else product(S, around, S)
    derived = (around + second) / lam  # d(S⁻¹) = (2/λ) dU
    return Derivation(
        symbol="∇_U F",
        arguments={"S": S, "Sigma": Sigma, "a": a, "lam": lam},
        stated=stated.hypergradient(S, Sigma, a, lam),
        derived=normal(derived) if n is None else derived,
        assumptions=(*DOMAIN, SYMMETRIC, "S⁻¹ = P₀⁻¹ + (2/λ)U"),
        steps=(
            Step("F in the precision H = S⁻¹", likelihood(n)),
            Step("2H(∂F/∂H)H without Σ", first),
            Step("2∂F/∂H with Σ", second),
        ),
        conditions=(_rate(n), *(_concavity() if n is None else ())),
    )


def _rate(n: int | None) -> Condition:
    """How the precision moves with U."""
    U, X = symbols("U H", n)
    S = inner.precision(n).derived
    moved = replace(S, U, U + X) - S
    return zero("d(S⁻¹) = (2/λ) dU", moved - 2 / symbol("lam") * X)


def _concavity() -> tuple[Condition, ...]:
    """F is strictly concave in H = S⁻¹, any n."""
    a, H, X = symbols("a H P", None)  # P stands for a direction
    S = inverse(H)
    curvature = second_differential(likelihood(None), (H, X))
    squares = trace(S * X * S * X) / 2 + quadratic(S, X * S * a)
    return (zero("d²F = -½ Tr(SXSX) - (XSa)ᵀS(XSa)", curvature + squares),)


@result(ANY)
def slope_at_reference(n: int | None) -> Derivation:
    """∇_U F = (P₀ + (m₀-μ)(m₀-μ)ᵀ - Σ)/λ at U = 0, where the policy is the reference.

    Where that is negative semidefinite, no reward is better than none: F is concave in S⁻¹.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in P0, m0, mu, Sigma, lam; shape (n, n). Condition for n = 1: it has the sign of
        P₀ - S at the stationary S, so that U* > 0 iff a small reward helps.
    Source: new.
    """
    P0, m0, mu, Sigma, S, a = symbols("P0 m0 mu Sigma S a", n)
    lam = symbol("lam")
    at = hypergradient(n)
    derived = replace(replace(at.derived, S, P0), a, inverse(P0) * (m0 - mu))
    conditions = ()
    if n == 1:
        x, p, s = a[0], P0[0], S[0]
        data = s + (s * x) ** 2  # Σ, where S is stationary
        slope = derived[0].xreplace({m0[0]: mu[0] + p * x, Sigma[0]: data})
        conditions = (
            zero("λ ∇F = (P₀ - S)(1 + a²(P₀ + S))", lam * slope - (p - s) * (1 + x**2 * (p + s))),
        )
    return Derivation(
        symbol="∇_U F",
        arguments={"P0": P0, "m0": m0, "mu": mu, "Sigma": Sigma, "lam": lam},
        stated=stated.slope_at_reference(P0, m0, mu, Sigma, lam),
        derived=normal(derived) if n is None else lowest_terms(derived),
        assumptions=(*DOMAIN[:3], SYMMETRIC, "U = 0"),
        steps=(Step("∇_U F", at.derived), Step("at S = P₀", derived)),
        conditions=conditions,
    )


@result((1, 2, None))
def of_error(n: int | None) -> Derivation:
    """∇_U F = (S + (m-μ)(m-μ)ᵀ - Σ)/λ: the error of the mean counts as variance that S lacks.

    So the best U ⪰ 0 is that of data of covariance Σ - (m-μ)(m-μ)ᵀ beside a reference without a
    pull, m = μ + Sa: where U has no maximum inside the cone, S is P₀ in the directions in which
    that is the smaller one. F is concave in U: U is the best one iff ∇_U F ⪯ 0 and Tr(U ∇_U F) = 0.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in S, Sigma, m, mu, lam, the mean and covariance of the inner solution; shape
        (n, n), symmetric gradient.
    Source: new.
    """
    S, Sigma, m, mu, a = symbols("S Sigma m mu a", n)
    at = hypergradient(n)
    derived = replace(at.derived, a, inverse(S) * (m - mu))  # m - μ = Sa
    return Derivation(
        symbol="∇_U F",
        arguments={"S": S, "Sigma": Sigma, "m": m, "mu": mu, "lam": symbol("lam")},
        stated=stated.of_error(S, Sigma, m, mu, symbol("lam")),
        derived=normal(derived) if n is None else lowest_terms(derived),
        assumptions=(*DOMAIN, SYMMETRIC, "m = μ + Sa, the mean of the inner solution"),
        steps=(Step("∇_U F", at.derived), Step("at a = S⁻¹(m - μ)", derived)),
    )


@cache
def _precision(n: int | None) -> tuple[Any, Any, tuple[Condition, ...]]:
    """S⁻¹ = Σ⁻¹ + aaᵀ/κ of the stationary point, its κ, and the proofs.

    There 2H(∂F/∂H)H = (1 - 1/κ - w/κ²) aaᵀ, w = aᵀΣa, so that κ² = κ + w.
    """
    Sigma, a, H = symbols("Sigma a H", n)
    w, kappa = sp.Dummy("w", positive=True), _BEST
    ansatz = inverse(Sigma) + outer(a, a) / kappa
    first, second = _slopes(n)
    left = replace(first + H * second * H, H, ansatz)
    excess = 1 - 1 / kappa - quadratic(Sigma, a) / kappa**2
    (best,) = (x for x in sp.solve(kappa**2 - kappa - w, kappa) if x.subs(w, 2) > 0)
    proofs = (
        zero("2H(∂F/∂H)H = (1 - 1/κ - w/κ²) aaᵀ at H = Σ⁻¹ + aaᵀ/κ", left - excess * outer(a, a)),
        zero("κ² = κ + w", sp.expand(best**2 - best - w)),
    )
    return ansatz, best.xreplace({w: quadratic(Sigma, a)}), proofs


@cache
def _covariance(n: int | None) -> tuple[Any, Condition]:
    """S = Σ - Σaaᵀ Σ/(κ + w), the inverse of Σ⁻¹ + aaᵀ/κ, where κ + w = κ²; and the proof."""
    Sigma, a = symbols("Sigma a", n)
    w, at = quadratic(Sigma, a), sp.Dummy("w", positive=True)
    pull, missing = outer(Sigma * a, Sigma * a), _BEST + at  # Sherman and Morrison
    scale = missing.xreplace({at: w})
    rest = (scale * Sigma - pull) * _precision(n)[0] - scale * identity(Sigma)
    best = sp.expand(missing.xreplace({at: _BEST**2 - _BEST}))
    return Sigma - pull / best, zero("(κ + w) S S⁻¹ = (κ + w) I for every κ", rest)


@result(ANY)
def covariance(n: int | None) -> Derivation:
    """S = Σ - bbᵀ, b = Σa/(1+t), t = (-1 + √(1 + 4aᵀΣa))/2: below Σ, as the mean is not reached.

    It is the only stationary point: F is strictly concave in S⁻¹ (see `hypergradient`).

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in Sigma, a; shape (n, n). Conditions: its inverse is a stationary precision.
    Source: new.
    """
    Sigma, a = symbols("Sigma a", n)
    precision, best, proofs = _precision(n)
    S, inverted = _covariance(n)
    derived = S.xreplace({_BEST: best})
    return Derivation(
        symbol="S",
        arguments={"Sigma": Sigma, "a": a},
        stated=stated.covariance(Sigma, a),
        derived=derived,
        assumptions=DOMAIN,
        steps=(Step("S⁻¹", precision), Step("κ", best), Step("S", derived)),
        conditions=(*proofs, inverted),
    )


@result(ANY)
def optimal_reward(n: int | None) -> Derivation:
    """U* = (λ/2)(S⁻¹ - P₀⁻¹), S⁻¹ = Σ⁻¹ + aaᵀ/(1+t): positive definite iff S ≺ P₀.

    Elsewhere the likelihood has no maximum over SPD rewards: the optimum lies on the boundary of
    the cone. In a common eigenbasis of Σ and P₀ that holds a, weights of 0 take the place of
    negative ones.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in Sigma, P0, a, lam; shape (n, n).
    Source: new.
    """
    Sigma, P0, a, U = symbols("Sigma P0 a U", n)
    lam = symbol("lam")
    ansatz, best, proofs = _precision(n)
    learned = inner.precision(n).derived
    derived = lam / 2 * (ansatz.xreplace({_BEST: best}) - inverse(P0))
    back = replace(learned, U, lam / 2 * (ansatz - inverse(P0)))
    return Derivation(
        symbol="U*",
        arguments={"Sigma": Sigma, "P0": P0, "a": a, "lam": lam},
        stated=stated.optimal_reward(Sigma, P0, a, lam),
        derived=derived,
        assumptions=(*DOMAIN, "S ≺ P₀, else it is not positive definite"),
        steps=(Step("S⁻¹", ansatz), Step("κ", best)),
        conditions=(*proofs, zero("P*(U*)⁻¹ = S⁻¹", back - ansatz)),
    )


@result(SIZES, only="it depends on aᵀΣa alone, whatever n")
def learned_cost(n: int) -> Derivation:
    """F_ML - F(U*) = t - ½ log(1+t) nats: what no U gets back, t = (-1 + √(1 + 4aᵀΣa))/2.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in Sigma, a.
    Source: new.
    """
    Sigma, a = symbols("Sigma a", n)
    precision, best, proofs = _precision(n)
    S, inverted = _covariance(n)
    w, size = quadratic(Sigma, a), sp.Integer(n)
    at, k = sp.Dummy("w", positive=True), _BEST
    moved, fit, volume = at - (at / k) ** 2, size + at / k, 1 + at / k
    lost = (moved + fit - size - sp.log(volume)) / 2
    lost = sp.expand(sp.expand(lost.xreplace({at: k**2 - k}), log=False))
    return Derivation(
        symbol="F_ML - F(U*)",
        arguments={"Sigma": Sigma, "a": a},
        stated=stated.learned_cost(Sigma, a),
        derived=lost.xreplace({k: best}),
        assumptions=DOMAIN,
        steps=(*_lost(n)[1], Step("where κ² = κ + w", lost), Step("κ", best)),
        conditions=(
            *proofs,
            inverted,
            zero("aᵀSa = w - (w/κ)²", quadratic(S, a) - moved.xreplace({at: w})),
            zero("Tr S⁻¹Σ = n + w/κ", trace(precision * Sigma) - fit.xreplace({at: w})),
            zero("det S⁻¹Σ = 1 + w/κ", det(precision) * det(Sigma) - volume.xreplace({at: w})),
            *_lost(n)[2],
        ),
    )


@result((1, 2), only="it inverts the sum P₀⁻¹ + Σ⁻¹, whose entries explode")
def cost_of_entropy_reward(n: int) -> Derivation:
    """F_ML - F = ½[aᵀSa + Tr(P₀⁻¹Σ) - log det(I + P₀⁻¹Σ)] of U = (λ/2)Σ⁻¹, S⁻¹ = P₀⁻¹ + Σ⁻¹.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in Sigma, P0, a: the nats that the best reward of the problem with
        entropy loses beside a reference.
    Source: new.
    """
    Sigma, P0, a, U, H = symbols("Sigma P0 a U H", n)
    reward = gaussian.outer.optimal_reward("full", n).derived
    learned = lowest_terms(replace(inner.precision(n).derived, U, reward))
    lost, steps, proof = _lost(n)
    return Derivation(
        symbol="F_ML - F((λ/2)Σ⁻¹)",
        arguments={"Sigma": Sigma, "P0": P0, "a": a},
        stated=stated.cost_of_entropy_reward(Sigma, P0, a),
        derived=tidy(replace(lost, H, learned)),
        assumptions=DOMAIN,
        steps=(*steps, Step("P*⁻¹ at U = (λ/2)Σ⁻¹", learned)),
        conditions=proof,
    )


@result(ANY)
def cost_at_reference(n: int | None) -> Derivation:
    """(n/2)(1 - log 2) = 0.153 n nats: what U = (λ/2)Σ⁻¹ loses where p₀ has the data's moments.

    Args:
        n: dimension, or None for a symbol.
    Returns:
        Scalar derivation without arguments, in n if it is a symbol.
    Source: new.
    """
    Sigma, P0, U, a, H = symbols("Sigma P0 U a H", n)
    reward = gaussian.outer.optimal_reward("full", n).derived
    learned = replace(replace(inner.precision(n).derived, U, reward), P0, Sigma)
    learned = normal(learned) if n is None else lowest_terms(learned)
    lost, steps, proof = _lost(n)
    no_pull = sp.ZeroMatrix(*a.shape) if n is None else sp.zeros(*a.shape)
    derived = replace(replace(lost, a, no_pull), H, learned)
    return Derivation(
        symbol="F_ML - F((λ/2)Σ⁻¹)",
        arguments={"n": dimension(n)} if n is None else {},
        stated=stated.cost_at_reference(dimension(n)),
        derived=normal(derived),
        assumptions=(*DOMAIN[1:3], "P₀ = Σ, m₀ = μ"),
        steps=(*steps, Step("P*⁻¹ at U = (λ/2)Σ⁻¹, P₀ = Σ", learned)),
        conditions=proof,
    )


@cache
def _lost(n: int | None) -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    """F_ML - F in H = S⁻¹, with its step and the proof that it is that."""
    mu, Sigma, a, H = symbols("mu Sigma a H", n)
    lost = quadratic(inverse(H), a) + trace(H * Sigma) - dimension(n)
    lost = (lost - logdet(H) - logdet(Sigma)) / 2
    text = "F_ML - F = ½[aᵀSa + Tr HΣ - n - log det HΣ], H = S⁻¹"
    best = entropic.log_likelihood(mu, Sigma, mu, Sigma)
    return lost, (Step(text, lost),), (zero(text, best - likelihood(n) - lost),)
