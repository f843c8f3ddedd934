"""The stated side, continued: unrolled, truncated and penalised hypergradients.

This module imports no definition and no derivation. Scalar quadratics: inner objective
J = -½κθ² + γφθ, outer F = -½ν(θ-τ)² + dφ, inner solution θ* = γφ/κ.
"""

from __future__ import annotations

from typing import Any

from .matrix_calculus import diagonal_part, identity, inverse, trace


def contraction(kappa: Any, eta: Any) -> Any:
    """ρ = 1 - ηκ."""
    return 1 - eta * kappa


def point(kappa: Any, gamma: Any, phi: Any, theta_0: Any, eta: Any, K: Any) -> Any:
    """θ_K = θ* + ρ^K (θ₀ - θ*)."""
    best = gamma * phi / kappa
    return best + contraction(kappa, eta) ** K * (theta_0 - best)


def implicit(kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any, d: Any) -> Any:
    """∇F = d + (νγ/κ)(τ - θ*)."""
    return d + nu * gamma / kappa * (tau - gamma * phi / kappa)


def hypergradient(
    kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any, theta_0: Any, d: Any, eta: Any, K: Any
) -> Any:
    """∇F_K = d + (νγ/κ)(τ - θ_K)(1 - ρ^K)."""
    reached = point(kappa, gamma, phi, theta_0, eta, K)
    return d + nu * gamma / kappa * (tau - reached) * (1 - contraction(kappa, eta) ** K)


def bias(
    kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any, theta_0: Any, eta: Any, K: Any
) -> Any:
    """∇F_K - ∇F = -(νγ/κ) ρ^K [(τ - θ*) + (θ₀ - θ*)(1 - ρ^K)]."""
    rho, best = contraction(kappa, eta), gamma * phi / kappa
    return -nu * gamma / kappa * rho**K * (tau - best + (theta_0 - best) * (1 - rho**K))


def truncated(
    kappa: Any,
    gamma: Any,
    nu: Any,
    phi: Any,
    tau: Any,
    theta_0: Any,
    d: Any,
    eta: Any,
    j: Any,
    k: Any,
) -> Any:
    """∇F_T = d + (νγ/κ)(τ - θ_{K₀+K₁})(1 - ρ^K₁)."""
    reached = point(kappa, gamma, phi, theta_0, eta, j + k)
    return d + nu * gamma / kappa * (tau - reached) * (1 - contraction(kappa, eta) ** k)


def one_step(
    kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any, theta_0: Any, d: Any, eta: Any
) -> Any:
    """∇F_1 = d + ηνγ(τ - θ₁), θ₁ = θ₀ + η(γφ - κθ₀)."""
    return d + eta * nu * gamma * (tau - theta_0 - eta * (gamma * phi - kappa * theta_0))


def gaussian(structure: str, U: Any, Sigma: Any, lam: Any, eta: Any, K: Any) -> Any:
    """∇_U F (1 - (1 - 2ηλ)^K) (diagonal), ∇_U F (1 - (1 - 2ηλn)^K) (isotropic)."""
    n = U.rows
    if structure == "diagonal":
        exact = inverse(diagonal_part(U)) / 2 - diagonal_part(Sigma) / lam
        return exact * (1 - (1 - 2 * eta * lam) ** K)
    exact = n / (2 * trace(U)) - trace(Sigma) / (lam * n)
    return exact * (1 - (1 - 2 * eta * lam * n) ** K) * identity(U)


def penalty(kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any, d: Any, weight: Any) -> Any:
    """∇F_ς = d + ςνγ(τ - θ*)/(ν + ςκ)."""
    return d + weight * nu * gamma * (tau - gamma * phi / kappa) / (nu + weight * kappa)


def penalty_bias(kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any, weight: Any) -> Any:
    """∇F_ς - ∇F = -ν²γ(τ - θ*)/(κ(ν + ςκ))."""
    return -(nu**2) * gamma * (tau - gamma * phi / kappa) / (kappa * (nu + weight * kappa))


def penalty_limit(kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any) -> Any:
    """lim ς(∇F_ς - ∇F) = -ν²γ(τ - θ*)/κ²."""
    return -(nu**2) * gamma * (tau - gamma * phi / kappa) / kappa**2
