"""Hypergradients as stated: unrolled, truncated, penalised, and in the outputs of a policy.

This module imports no definition and no derivation. Scalar quadratics: inner objective
J = -½κθ² + γφθ, outer F = -½ν(θ-τ)² + dφ, inner solution θ* = γφ/κ.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import diagonal_part, identity, inverse, outer, trace
from ..gaussian import stated as outer_problem


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
    """∇_U F (1 - ρ^K), ρ = 1 - 2ηλ (diagonal), 1 - 2ηλn (isotropic)."""
    rate = 2 * eta * lam * (1 if structure == "diagonal" else U.shape[0])
    return outer_problem.hypergradient(structure, U, Sigma, lam) * (1 - (1 - rate) ** K)


def penalty(kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any, d: Any, weight: Any) -> Any:
    """∇F_ς = d + ςνγ(τ - θ*)/(ν + ςκ)."""
    return d + weight * nu * gamma * (tau - gamma * phi / kappa) / (nu + weight * kappa)


def penalty_bias(kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any, weight: Any) -> Any:
    """∇F_ς - ∇F = -ν²γ(τ - θ*)/(κ(ν + ςκ))."""
    return -(nu**2) * gamma * (tau - gamma * phi / kappa) / (kappa * (nu + weight * kappa))


def penalty_limit(kappa: Any, gamma: Any, nu: Any, phi: Any, tau: Any) -> Any:
    """lim ς(∇F_ς - ∇F) = -ν²γ(τ - θ*)/κ²."""
    return -(nu**2) * gamma * (tau - gamma * phi / kappa) / kappa**2


# --- in the outputs of a policy, P(x) and m(x) free at every input; e = m - μ is the error ---


def mean_adjoint(e: Any, P: Any, U: Any) -> Any:
    """a = (2U)⁻¹ ∂_mF = -½ U⁻¹P⁻¹e."""
    return -inverse(U) * inverse(P) * e / 2


def covariance_adjoint(structure: str, e: Any, P: Any, Sigma: Any, lam: Any) -> Any:
    """A = (Σ + eeᵀ - P)/λ (full), its diagonal (diagonal), its mean diagonal entry (isotropic)."""
    return restrict(structure, Sigma + outer(e, e) - P) / lam


def functional(structure: str, e: Any, P: Any, U: Any, Sigma: Any, lam: Any) -> Any:
    """∇_U F = ½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹) + (P - Σ - eeᵀ)/λ, the second term restricted."""
    return mean_part(e, P, U) + restrict(structure, P - Sigma - outer(e, e)) / lam


def restricted_mean_gap(w: Any, e_a: Any, e_b: Any, lam: Any) -> Any:
    """(2/λ) E eeᵀ."""
    return 2 / lam * (w * outer(e_a, e_a) + (1 - w) * outer(e_b, e_b))


def mean_part(e: Any, P: Any, U: Any) -> Any:
    """½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹)."""
    return _symmetric(inverse(U) * inverse(P) * outer(e, e))


def restrict(structure: str, X: Any) -> Any:
    """The matrix itself (full), its diagonal (diagonal), its mean diagonal entry (isotropic)."""
    if structure == "full":
        return X
    return diagonal_part(X) if structure == "diagonal" else trace(X) / X.rows * identity(X)


def _symmetric(X: Any) -> Any:
    return (X + X.T) / 2


# --- through score-function surrogates with held samples ---


def surrogate_hessian(u: Any, delta: Any, s: Any, sigma: Any, b: Any) -> Any:
    """[[(ud + us² + b)/s², 4uδ], [4uδ, 2u(d + 3s²) + 2b]], d = δ² + σ²."""
    d = delta**2 + sigma**2
    return sp.ImmutableMatrix(
        [
            [(u * (d + s**2) + b) / s**2, 4 * u * delta],
            [4 * u * delta, 2 * u * (d + 3 * s**2) + 2 * b],
        ]
    )


def reward_hessian(u: Any, s: Any) -> Any:
    """diag(-2u, -4us²)."""
    return sp.ImmutableMatrix([[-2 * u, 0], [0, -4 * u * s**2]])


def surrogate_curvature(structure: str, U: Any, Sigma: Any, scale: Any) -> Any:
    """2 Tr U(P + Σ) + 4U_ii P_ii for each i (diagonal); 2(n+2) Tr(U) s + 2n Tr(UΣ) (isotropic)."""
    n = U.rows
    if structure == "isotropic":
        return 2 * (n + 2) * trace(U) * scale + 2 * n * trace(U * Sigma)
    P = [scale[i, i] ** 2 for i in range(n)]
    whole = 2 * sum(U[i, i] * P[i] for i in range(n)) + 2 * trace(U * Sigma)
    return sp.ImmutableMatrix.diag(*(whole + 4 * U[i, i] * P[i] for i in range(n)))


def surrogate_factor(u: Any, lam: Any, sigma: Any) -> Any:
    """-2λ/(3λ + 2uσ²)."""
    return -2 * lam / (3 * lam + 2 * u * sigma**2)


def surrogate_hypergradient(u: Any, lam: Any, sigma: Any) -> Any:
    """-2λ/(3λ + 2uσ²) (1/(2u) - σ²/λ)."""
    return surrogate_factor(u, lam, sigma) * (1 / (2 * u) - sigma**2 / lam)
