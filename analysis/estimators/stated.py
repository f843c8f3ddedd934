"""Gradient estimators as stated.

This module imports no definition and no derivation. Coordinates of a scalar policy N(m, s²) are
(m, log s), in this order.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import quadratic, trace

half = sp.Rational(1, 2)


def score_gradient(u: Any, delta: Any, s: Any) -> Any:
    """∇ E r = (-2uδ, -2us²)."""
    return sp.ImmutableMatrix([-2 * u * delta, -2 * u * s**2])


def optimal_baseline(u: Any, square: Any, s: Any) -> Any:
    """b* = (-u(d + 3s²), -u(d + 5s²)): d = δ² + σ², or (m - y)² for a baseline that knows y."""
    return sp.ImmutableMatrix([-u * (square + 3 * s**2), -u * (square + 5 * s**2)])


def minimal_variance(u: Any, delta: Any, s: Any) -> Any:
    """u²(8δ² + 6s²), u²(40δ²s² + 24s⁴): the reward averaged over the data."""
    return sp.ImmutableMatrix(
        [u**2 * (8 * delta**2 + 6 * s**2), u**2 * (40 * delta**2 * s**2 + 24 * s**4)]
    )


def conditional_variance(u: Any, delta: Any, s: Any, sigma: Any) -> Any:
    """Add u²·12σ², u²·40σ²s²: the data point sampled, the baseline knows it."""
    extra = sp.ImmutableMatrix([12 * u**2 * sigma**2, 40 * u**2 * sigma**2 * s**2])
    return minimal_variance(u, delta, s) + extra


def sampled_variance(u: Any, delta: Any, s: Any, sigma: Any) -> Any:
    """Add Var (m - y)² = 2σ⁴ + 4δ²σ² times u²/s², 2u²: a constant baseline."""
    spread = 2 * sigma**4 + 4 * delta**2 * sigma**2
    extra = sp.ImmutableMatrix([u**2 * spread / s**2, 2 * u**2 * spread])
    return conditional_variance(u, delta, s, sigma) + extra


def price_of_baseline(u: Any, delta: Any, s: Any, sigma: Any, b: Any) -> Any:
    """(b - b*_m)²/s², 2(b - b*_log s)²: what a constant b costs beside the best one."""
    gap = sp.ImmutableMatrix([b, b]) - optimal_baseline(u, delta**2 + sigma**2, s)
    return sp.ImmutableMatrix([gap[0] ** 2 / s**2, 2 * gap[1] ** 2])


def pathwise_variance(u: Any, delta: Any, s: Any, sigma: Any) -> Any:
    """4u²(s² + σ²), u²(4δ²s² + 8s⁴) + 4u²s²σ²; σ = 0 for the reward averaged over the data."""
    scale = u**2 * (4 * delta**2 * s**2 + 8 * s**4) + 4 * u**2 * s**2 * sigma**2
    return sp.ImmutableMatrix([4 * u**2 * s**2 + 4 * u**2 * sigma**2, scale])


def leave_one_out_variance(u: Any, delta: Any, s: Any, M: Any) -> Any:
    """2u²(4Mδ² + (5M-4)s²)/(M(M-1)), 8u²s²((5M-4)δ² + (7M-6)s²)/(M(M-1))."""
    mean = 2 * u**2 * (4 * M * delta**2 + (5 * M - 4) * s**2)
    scale = 8 * u**2 * s**2 * ((5 * M - 4) * delta**2 + (7 * M - 6) * s**2)
    return sp.ImmutableMatrix([mean, scale]) / (M * (M - 1))


def leave_one_out_limit(u: Any, s: Any) -> Any:
    """M Var -> 10u²s², 56u²s⁴ at δ = 0."""
    return sp.ImmutableMatrix([10 * u**2 * s**2, 56 * u**2 * s**4])


def mean_baseline(m: Any, mu: Any, L: Any, U: Any, Sigma: Any) -> Any:
    """b_j = E r - 2A_jj, A = LᵀUL."""
    A = L.T * U * L
    level = _expected_reward(m, mu, A, U, Sigma)
    return sp.ImmutableMatrix([level - 2 * A[j, j] for j in range(A.rows)])


def scale_baseline(m: Any, mu: Any, L: Any, U: Any, Sigma: Any) -> Any:
    """B_ij = E r - 2A_ii - 2A_jj, A = LᵀUL."""
    A = L.T * U * L
    level = _expected_reward(m, mu, A, U, Sigma)
    return sp.ImmutableMatrix(
        A.rows, A.rows, lambda i, j: level - 2 * A[int(i), int(i)] - 2 * A[int(j), int(j)]
    )


def _expected_reward(m: Any, mu: Any, A: Any, U: Any, Sigma: Any) -> Any:
    """E r = -(δᵀUδ + Tr UΣ + Tr A)."""
    return -(quadratic(U, m - mu) + trace(U * Sigma) + trace(A))


def group_mean(u: Any, lam: Any, M: Any) -> Any:
    """v = v∞ M/(M-1), v∞ = λ/(2u)."""
    return lam / (2 * u) * M / (M - 1)


def group_minimum(u: Any, lam: Any, M: Any, n: Any, maximum: Any) -> Any:
    """v = v∞ / (1 - E[max of M χ²_n]/(nM)), v∞ = λ/(2u)."""
    return lam / (2 * u) / (1 - maximum / (n * M))


def group_minimum_planar(u: Any, lam: Any, M: int) -> Any:
    """v = v∞ / (1 - H_M/M), H_M = 1 + 1/2 + ... + 1/M."""
    harmonic = sum(sp.Rational(1, k) for k in range(1, M + 1))
    return lam / (2 * u) / (1 - harmonic / M)
