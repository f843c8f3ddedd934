"""A diagonal policy trained with the reward of a full one: shrunk variances, and their cost."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..assumptions import MOMENTS
from ..calculus.conditions import Condition, positive, zero
from ..calculus.ldl import ldl_factors, to_coordinates
from ..calculus.matrices import inverse, replace
from ..calculus.normal_form import reduced, tidy
from ..calculus.symbols import dimension, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, BETWEEN, result
from . import inner, stated
from .outer import objective, optimal_reward
from .rays import relative_cost_is_positive

DOMAIN = ("Σ symmetric positive definite, λ > 0", "P diagonal, U full", MOMENTS)


@result(ANY)
def shrinkage(n: int | None) -> Derivation:
    """P_ii = 1/(Σ⁻¹)_ii <= Σ_ii for a diagonal policy trained with U = (λ/2)Σ⁻¹.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in Sigma; diagonal matrix of shape (n, n). Conditions: Σ_ii (Σ⁻¹)_ii - 1 is a sum
        of squares with positive weights (Lagrange's identity), so that no variance grows.
    Source: new.
    """
    Sigma, U = symbols("Sigma U", n)
    policy = inner.solution("diagonal", n).derived
    reward = optimal_reward("full", n).derived
    derived = replace(policy, U, reward)
    return Derivation(
        symbol="P*",
        arguments={"Sigma": Sigma},
        stated=stated.mean_field_covariance(Sigma),
        derived=reduced(derived),
        assumptions=DOMAIN,
        steps=(Step("diagonal P*(U)", policy), Step("U* of a full policy", reward)),
        conditions=_no_variance_grows(n),
    )


@result(ANY, zero=BETWEEN)
def cost(n: int | None) -> Derivation:
    """½ Σ_i (ρ_i - 1 - log ρ_i), ρ_i = Σ_ii (Σ⁻¹)_ii: nats lost against the best diagonal policy.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in Sigma. Conditions: it is >= 0, zero iff every ρ_i = 1 (Σ diagonal).
    Source: new.
    """
    Sigma = symbol("Sigma", n)
    F = objective("diagonal", n)
    U = F.arguments["U"]
    best = replace(F.derived, U, optimal_reward("diagonal", n).derived)
    here = replace(F.derived, U, optimal_reward("full", n).derived)
    return Derivation(
        symbol="ΔF",
        arguments={"Sigma": Sigma},
        stated=stated.mean_field_cost(Sigma, dimension(n)),
        derived=tidy(best - here),
        assumptions=DOMAIN,
        steps=(Step("F at the best diagonal reward", best), Step("F at (λ/2)Σ⁻¹", here)),
        conditions=relative_cost_is_positive(),
    )


def _no_variance_grows(n: int | None) -> tuple[Condition, ...]:
    """ρ_i - 1 = |a|²|b|² - (a·b)² = Σ_{k<l} (a_k b_l - a_l b_k)², a = C_i √D, b = √D⁻¹ C⁻¹_i.

    General n: ½‖abᵀ - baᵀ‖² with a = Kh, b = K⁻¹h, Σ = K² (K symmetric, invertible), h = e_i.
    """
    Sigma = symbol("Sigma", n)
    if n is None:
        h, K = symbol("h", n), sp.MatrixSymbol("K", *Sigma.shape)
        a, b = K * h, sp.Inverse(K) * h
        turned = a * b.T - b * a.T
        excess = sp.Trace(Sigma * h * h.T * sp.Inverse(Sigma) * h * h.T) - sp.Trace(
            h * h.T * h * h.T
        )
        excess = excess.xreplace({sp.Inverse(Sigma): sp.Inverse(K) * sp.Inverse(K)})
        square = sp.Trace(turned * turned.T) / 2
        text = "(hᵀΣh)(hᵀΣ⁻¹h) - (hᵀh)² = ½‖abᵀ - baᵀ‖², a = Kh, b = K⁻¹h, Σ = K²; h = e_i"
        return (zero(text, excess.xreplace({Sigma: K * K}) - square),)
    C, D = ldl_factors("Sigma", n)
    precision, unit = inverse(Sigma), inverse(C)
    found: list[Any] = []
    weights: list[Any] = []
    for i in range(n):
        squares = sp.S.Zero
        for k in range(n):
            for j in range(k + 1, n):
                ratio = D[j, j] / D[k, k]
                form = C[i, k] * unit[j, i] - C[i, j] * unit[k, i] * ratio
                squares += form**2 / ratio
                weights.append(1 / ratio)
        excess = to_coordinates(Sigma[i, i] * precision[i, i] - 1)
        found.append(excess - squares)
    return (
        zero("Σ_ii (Σ⁻¹)_ii - 1 is a weighted sum of squares", sp.Matrix(found)),
        positive("the weights are positive", sp.Matrix([1, *weights])),
    )
