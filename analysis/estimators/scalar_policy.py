"""The scalar policy N(m, s²) in coordinates (m, log s): its reward, its score, a gradient.

Reward -u(ŷ - y)², δ = m - μ, data variance σ². All is written in independent standard normals:
ŷ = m + sε, y = μ + ση.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from .. import definitions
from ..calculus.symbols import symbol, symbols

POLICY = "policy N(m, s²) in coordinates (m, log s), u > 0, δ = m - μ"
ABOUT = {
    "averaged": "reward averaged over data of variance σ²",
    "sampled": "one data point y ~ N(μ, σ²) per estimate",
    "conditional": "one data point y ~ N(μ, σ²) per estimate, known to the baseline",
}
EPS, ETA = sp.symbols("epsilon eta", real=True)


def reward(data: str, noise: Any = EPS) -> Any:
    """r(m + sε) with m = μ + δ, a polynomial in the noise; m and y stay if y is conditioned on."""
    u, delta, s, sigma = symbols("u delta s sigma")
    if data == "conditional":
        m, y = symbols("m y", 1)
        return definitions.reward(m + sp.ImmutableMatrix([s * noise]), y, sp.ImmutableMatrix([u]))
    mu, weight = symbol("mu", 1), sp.ImmutableMatrix([u])
    y_hat = mu + sp.ImmutableMatrix([delta + s * noise])
    if data == "sampled":
        return definitions.reward(y_hat, mu + sp.ImmutableMatrix([sigma * ETA]), weight)
    return definitions.mean_reward(y_hat, mu, sp.ImmutableMatrix([sigma**2]), weight)


@cache
def score(noise: Any = EPS) -> Any:
    """(∂/∂m, ∂/∂log s) log p at ŷ = m + sε."""
    nothing, one, L = (sp.ImmutableMatrix([x]) for x in (0, 1, symbol("s")))
    m, at = symbol("m", 1), sp.ImmutableMatrix([noise])
    moves = ((one, nothing), (nothing, L))
    return sp.ImmutableMatrix([definitions.score(m, L, at, *move) for move in moves])


def gradient(f: Any) -> Any:
    """(∂f/∂m, ∂f/∂log s)."""
    delta, s = symbols("delta s")
    return sp.ImmutableMatrix([sp.diff(f, delta), s * sp.diff(f, s)])
