"""The bounded reward as stated: this module imports no definition and no derivation."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import inverse, logdet, quadratic
from ..estimators.stated import half


def log_expected_kernel(delta: Any, S: Any, W: Any) -> Any:
    """-½ log det(I + 2SW) - δᵀ(W⁻¹ + 2S)⁻¹δ."""
    one = sp.ImmutableMatrix.eye(S.rows)
    return -logdet(one + 2 * S * W) / 2 - quadratic(inverse(inverse(W) + 2 * S), delta)


def expected_bounded_reward(delta: Any, omega: Any, s: Any, beta: Any) -> Any:
    """(ω/A)^{n/2} exp(-‖δ‖²/A), A = ω + 2s + 2β²."""
    A = omega + 2 * s + 2 * beta**2
    return (omega / A) ** (half * delta.rows) * sp.exp(-(delta.T * delta)[0, 0] / A)


def reward_pull(omega: Any, s: Any, beta: Any, n: Any) -> Any:
    """h(s) = 2sω^{n/2}/A^{n/2+1}."""
    A = omega + 2 * s + 2 * beta**2
    return 2 * s * omega ** (half * n) / A ** (half * n + 1)


def bounded_slope(lam: Any, omega: Any, s: Any, beta: Any, n: Any) -> Any:
    """dJ/ds = (n/2s)(λ - h(s))."""
    return n / (2 * s) * (lam - reward_pull(omega, s, beta, n))


def peak_variance(omega: Any, beta: Any, n: Any) -> Any:
    """The s at which h is largest: (ω + 2β²)/n."""
    return (omega + 2 * beta**2) / n


def reachable_weight(n: Any) -> Any:
    """n^{n/2}/(n+2)^{n/2+1}."""
    return n ** (half * n) / (n + 2) ** (half * n + 1)


def critical_weight(omega: Any, beta: Any, n: Any) -> Any:
    """λ_c = 2 (ω/(ω+2β²))^{n/2} n^{n/2}/(n+2)^{n/2+1}."""
    return 2 * (omega / (omega + 2 * beta**2)) ** (half * n) * reachable_weight(n)


def inner_variance(omega: Any, beta: Any, q: Any) -> Any:
    """s = (ω + 2β²)(1 - √(1-q))² / (2q), n = 2, λ = qλ_c."""
    return (omega + 2 * beta**2) * (1 - sp.sqrt(1 - q)) ** 2 / (2 * q)


def entropy_growth(lam: Any, n: Any) -> Any:
    """J/log s -> λn/2 as s -> ∞."""
    return lam * n / 2
