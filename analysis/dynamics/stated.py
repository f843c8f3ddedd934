"""Paths in time as stated: this module imports no definition and no derivation."""

from __future__ import annotations

from typing import Any

import sympy as sp


def flow(P0: Any, Sigma: Any, t: Any) -> Any:
    """P(t) = Σ + e^{-t/2} (P₀ - Σ)."""
    return Sigma + sp.exp(-t / 2) * (P0 - Sigma)


def policy_gradient_velocity(u: Any, lam: Any, delta: Any, s: Any) -> Any:
    """(ṁ, d log s/dt) = (-2uδ, λ - 2us²)."""
    return sp.ImmutableMatrix([-2 * u * delta, lam - 2 * u * s**2])


def likelihood_velocity(sigma: Any, delta: Any, s: Any) -> Any:
    """(ṁ, d log s/dt) = (-δ/s², -1 + (σ² + δ²)/s²)."""
    return sp.ImmutableMatrix([-delta / s**2, -1 + (sigma**2 + delta**2) / s**2])


def mean_error(u: Any, delta_0: Any, t: Any) -> Any:
    """δ₀ e^{-2ut}."""
    return delta_0 * sp.exp(-2 * u * t)


def precision(u: Any, lam: Any, v_0: Any, t: Any) -> Any:
    """2u/λ + (1/v₀ - 2u/λ) e^{-2λt}."""
    return 2 * u / lam + (1 / v_0 - 2 * u / lam) * sp.exp(-2 * lam * t)


def orbit(sigma: Any, delta_0: Any, v_0: Any, delta_t: Any) -> Any:
    """e^D D^{σ²} [C + Γ(-σ², D)], D = δ²; C is e^{-D} D^{-σ²}/v - Γ(-σ², D) at the start."""
    D, start = delta_t**2, delta_0**2
    C = sp.exp(-start) * start ** (-(sigma**2)) / v_0 - sp.uppergamma(-(sigma**2), start)
    return sp.exp(D) * D ** (sigma**2) * (C + sp.uppergamma(-(sigma**2), D))


def clock(sigma: Any, delta_0: Any, v_0: Any, delta_t: Any, v_t: Any) -> Any:
    """σ² log(δ₀/δ_t) + (δ₀² - δ_t²)/2 + ½ log(v₀/v_t)."""
    bend = (delta_0**2 - delta_t**2) / 2 + sp.log(v_0 / v_t) / 2
    return sigma**2 * sp.log(delta_0 / delta_t) + bend


def lead(sigma: Any, delta_0: Any, v_0: Any) -> Any:
    """½ [δ₀² - log(σ²/v₀)]."""
    return (delta_0**2 - sp.log(sigma**2 / v_0)) / 2


def policy_gradient_rates(u: Any, lam: Any) -> Any:
    """diag(-2u, -2λ)."""
    return sp.diag(-2 * u, -2 * lam).as_immutable()


def likelihood_rates(sigma: Any) -> Any:
    """diag(-1/σ², -2)."""
    return sp.diag(-1 / sigma**2, -2).as_immutable()


def policy_gradient_steps(u: Any, lam: Any) -> Any:
    """(1/u, 1/λ)."""
    return sp.ImmutableMatrix([1 / u, 1 / lam])


def likelihood_steps(sigma: Any) -> Any:
    """(2σ², 1)."""
    return sp.ImmutableMatrix([2 * sigma**2, 1])


def mean_error_after(u: Any, eta: Any, steps: Any, delta_0: Any) -> Any:
    """(1 - 2ηu)^K δ₀."""
    return (1 - 2 * eta * u) ** steps * delta_0
