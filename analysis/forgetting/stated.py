"""Forgetting as stated: this module imports no definition and no derivation."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import inverse, outer, trace


def straight(base: Any, data: Any, zeta: Any) -> Any:
    """(1-ζ) x₀ + ζ x."""
    return (1 - zeta) * base + zeta * data


def mixed_covariance(m0: Any, P0: Any, mu: Any, Sigma: Any, zeta: Any) -> Any:
    """(1-ζ)P₀ + ζΣ + ζ(1-ζ)(μ-m₀)(μ-m₀)ᵀ."""
    return straight(P0, Sigma, zeta) + zeta * (1 - zeta) * outer(mu - m0, mu - m0)


def mixed_precision(P0: Any, Sigma: Any, zeta: Any) -> Any:
    """(1-ζ)P₀⁻¹ + ζΣ⁻¹."""
    return straight(inverse(P0), inverse(Sigma), zeta)


def mixed_pull(m0: Any, P0: Any, mu: Any, Sigma: Any, zeta: Any) -> Any:
    """(1-ζ)P₀⁻¹m₀ + ζΣ⁻¹μ."""
    return straight(inverse(P0) * m0, inverse(Sigma) * mu, zeta)


def fisher(K: Any, H: Any) -> Any:
    """½ Tr(K⁻¹HK⁻¹H)."""
    return trace(inverse(K) * H * inverse(K) * H) / 2


def rate_of_inverse_odds(p: Any, r: Any) -> Any:
    """Σ_k p_k r_k - r_c."""
    return r.applyfunc(lambda x: p.dot(r) - x)


def decay(gap: Any, n: Any) -> Any:
    """-n k^{1+2/n}: ȯ = -n k^{1+2/n} o^{2+1/n} for the odds o of the runner-up, as o → 0."""
    return -n * gap ** (1 + 2 / n)


def log_ratios(levels: Any) -> Any:
    """x_c - x_n, against the last class."""
    return sp.ImmutableMatrix([x - levels[-1] for x in levels[:-1]])


def projection(p0: Any, r: Any, lam: Any) -> Any:
    """log p₀(c)/p₀(n) + (r_c - r_n)/λ."""
    return log_ratios(p0.applyfunc(sp.log) + r / lam)


def conditional_kl(m0: Any, P0: Any, mu: Any, Sigma: Any) -> Any:
    """E KL(q(y_2|y_1) ‖ p₀(y_2|y_1)) of planar normal laws, by regression on y_1."""
    slope, base_slope = Sigma[0, 1] / Sigma[0, 0], P0[0, 1] / P0[0, 0]
    rest, base_rest = Sigma[1, 1] - slope * Sigma[0, 1], P0[1, 1] - base_slope * P0[0, 1]
    shift = mu[1] - m0[1] - base_slope * (mu[0] - m0[0])
    squares = rest + shift**2 + (slope - base_slope) ** 2 * Sigma[0, 0]
    return (squares / base_rest - 1 + sp.log(base_rest) - sp.log(rest)) / 2


def regression(P0: Any) -> Any:
    """The slope P₁₂/P₁₁ of y_2 on y_1, and the variance around it."""
    return sp.ImmutableMatrix([P0[0, 1] / P0[0, 0], P0[1, 1] - P0[0, 1] ** 2 / P0[0, 0]])


def class_kl(q: Any, p0: Any) -> Any:
    """-log p₀(C) + Σ_C q_c log(q_c p₀(C)/p₀(c)), C all classes but the last."""
    inside = sum(p0[:-1])
    pairs = zip(q, p0, strict=False)
    return -sp.log(inside) + sum(x * (sp.log(x) - sp.log(y / inside)) for x, y in pairs)


def likelihood_drift(old: Any) -> Any:
    """-w."""
    return -old


def reward_drift(old: Any, lam: Any, delta: Any) -> Any:
    """-λ w(1-w)(δ²/2 + log w/(1-w))."""
    return -lam * old * (1 - old) * (delta**2 / 2 + sp.log(old) - sp.log(1 - old))
