"""The problem with a reference policy as stated: no definition and no derivation is imported.

`a = P₀⁻¹(m₀ - μ)` throughout, and `w = aᵀΣa = t(1 + t)`.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import inverse, logdet, outer, quadratic, trace
from ..gaussian.stated import half, kl


def objective(
    m: Any, P: Any, mu: Any, Sigma: Any, U: Any, m0: Any, P0: Any, lam: Any, n: Any
) -> Any:
    """J = -(m-μ)ᵀU(m-μ) - Tr U(P+Σ) - (λ/2)[Tr P₀⁻¹P + (m-m₀)ᵀP₀⁻¹(m-m₀) - n + log det P₀/P]."""
    fit = -quadratic(U, m - mu) - trace(U * P) - trace(U * Sigma)
    return fit - lam / 2 * (2 * kl(m, P, m0, P0, n))  # ½ before the brackets, as they are shown


def precision(U: Any, P0: Any, lam: Any) -> Any:
    """P*⁻¹ = P₀⁻¹ + (2/λ)U."""
    return inverse(P0) + 2 / lam * U


def mean(P: Any, P0: Any, m0: Any, mu: Any) -> Any:
    """m* = μ + P* P₀⁻¹ (m₀ - μ)."""
    return mu + P * inverse(P0) * (m0 - mu)


def hypergradient(S: Any, Sigma: Any, a: Any, lam: Any) -> Any:
    """∇_U F = (S + S a aᵀ S - Σ)/λ."""
    return (S + outer(S * a, S * a) - Sigma) / lam


def of_error(S: Any, Sigma: Any, m: Any, mu: Any, lam: Any) -> Any:
    """∇_U F = (S + (m-μ)(m-μ)ᵀ - Σ)/λ."""
    return (S + outer(m - mu, m - mu) - Sigma) / lam


def slope_at_reference(P0: Any, m0: Any, mu: Any, Sigma: Any, lam: Any) -> Any:
    """∇_U F = (P₀ + (m₀-μ)(m₀-μ)ᵀ - Σ)/λ at U = 0."""
    return (P0 + outer(m0 - mu, m0 - mu) - Sigma) / lam


def excess(Sigma: Any, a: Any) -> Any:
    """t = (-1 + √(1 + 4aᵀΣa))/2."""
    return (sp.sqrt(1 + 4 * quadratic(Sigma, a)) - 1) / 2


def covariance(Sigma: Any, a: Any) -> Any:
    """S = Σ - bbᵀ, b = Σa/(1 + t)."""
    return Sigma - outer(Sigma * a, Sigma * a) / (1 + excess(Sigma, a)) ** 2


def optimal_reward(Sigma: Any, P0: Any, a: Any, lam: Any) -> Any:
    """U* = (λ/2)(S⁻¹ - P₀⁻¹), S⁻¹ = Σ⁻¹ + aaᵀ/(1 + t)."""
    return lam / 2 * (inverse(Sigma) + outer(a, a) / (1 + excess(Sigma, a)) - inverse(P0))


def learned_cost(Sigma: Any, a: Any) -> Any:
    """t - ½ log(1 + t)."""
    t = excess(Sigma, a)
    return t - sp.log(1 + t) / 2


def cost_of_entropy_reward(Sigma: Any, P0: Any, a: Any) -> Any:
    """½[aᵀSa + Tr(P₀⁻¹Σ) - log det(I + P₀⁻¹Σ)], S⁻¹ = P₀⁻¹ + Σ⁻¹."""
    both = inverse(P0) + inverse(Sigma)
    growth = trace(inverse(P0) * Sigma) - logdet(both) - logdet(Sigma)
    return (quadratic(inverse(both), a) + growth) / 2


def cost_at_reference(n: Any) -> Any:
    """(n/2)(1 - log 2)."""
    return n * half * (1 - sp.log(2))


def free_centre(m: Any, P: Any, mu: Any, Sigma: Any, lam: Any, n: Any) -> Any:
    """-λ KL(N(m,P) ‖ N(μ,Σ))."""
    return -lam / 2 * (2 * kl(m, P, mu, Sigma, n))


def group_variance(m: Any, y: Any, s: Any, u: Any) -> Any:
    """Var r = u²(2ns² + 4s‖m - y‖²)."""
    gap = (m - y).dot(m - y)
    return u**2 * (2 * m.rows * s**2 + 4 * s * gap)


def entropy_weight(m: Any, y: Any, s: Any) -> Any:
    """λ = 1/√(n/2 + ‖m - y‖²/s)."""
    return 1 / sp.sqrt(m.rows * half + sp.expand((m - y).dot(m - y) / s))


def planar_weight(s: Any, sigma: Any) -> Any:
    """λ = √(πs/2)/σ · exp(s/2σ²) erfc(√(s/2)/σ)."""
    root = sp.sqrt(s / 2) / sigma
    return sp.sqrt(sp.pi) * root * sp.exp(root**2) * sp.erfc(root)


def largest_weight(n: Any) -> Any:
    """√(2/n)."""
    return sp.sqrt(2 / n)


def embedded_ranking(y_hat: Any, y: Any, mu: Any, U: Any) -> Any:
    """r̄(a) - r̄(b) = (b - a)ᵀU(a + b - 2μ), in the embedding."""
    return trace(U * (y_hat + y - 2 * mu) * (y - y_hat).T)


def embedded_variance(sigma: Any) -> Any:
    """σ²/√3."""
    return sigma**2 / sp.sqrt(3)
