"""Categorical policies in one namespace: Gibbs law, hypergradients, scalar and diagonal rewards.

>>> from analysis import categorical
>>> categorical.heuristic_scale(2).at(pi=[0.5, 0.5], lam=1.0)
2.0
"""

from __future__ import annotations

from .categorical_costs import (
    binary_gap,
    diagonal_reward,
    diagonal_reward_at_half,
    heuristic_gap,
    scalar_gap,
)
from .categorical_law import (
    argmax_preserved,
    binary_logit,
    gibbs_gap,
    inner_solution,
    scalar_solution,
)
from .categorical_limits import near_uniform_ratio, near_uniform_scale
from .categorical_outer import (
    concavity,
    hypergradient,
    implicit_hypergradient,
    outer_objective,
)
from .categorical_scalar import (
    binary_scalar,
    binary_scalar_limit,
    heuristic_ratio,
    heuristic_scale,
    scalar_stationarity,
)
from .categorical_scores import minimal_variance, optimal_baseline, score_gradient

__all__ = [
    "argmax_preserved",
    "binary_gap",
    "binary_logit",
    "binary_scalar",
    "binary_scalar_limit",
    "concavity",
    "diagonal_reward",
    "diagonal_reward_at_half",
    "gibbs_gap",
    "heuristic_gap",
    "heuristic_ratio",
    "heuristic_scale",
    "hypergradient",
    "implicit_hypergradient",
    "inner_solution",
    "minimal_variance",
    "near_uniform_ratio",
    "near_uniform_scale",
    "optimal_baseline",
    "outer_objective",
    "scalar_gap",
    "scalar_solution",
    "scalar_stationarity",
    "score_gradient",
]
