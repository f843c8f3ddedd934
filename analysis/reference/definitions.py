"""The inner objective with a reference policy N(m₀, P₀), from reward, entropy and density."""

from __future__ import annotations

from typing import Any

from .. import definitions as entropic


def divergence(m: Any, P: Any, m0: Any, P0: Any) -> Any:
    """KL(N(m, P) ‖ N(m₀, P₀)) = -H(N(m, P)) - E log N(ŷ; m₀, P₀)."""
    return -entropic.entropy(P) - entropic.log_likelihood(m0, P0, m, P)


def objective(m: Any, P: Any, mu: Any, Sigma: Any, U: Any, m0: Any, P0: Any, lam: Any) -> Any:
    """J(m, P; U) = E_y E_ŷ r_U(ŷ, y) - λ KL(N(m, P) ‖ N(m₀, P₀))."""
    reward = entropic.expected_reward(m, P, mu, Sigma, U)
    return reward - lam * divergence(m, P, m0, P0)
