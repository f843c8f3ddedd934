"""The outer problem in one namespace: objective, hypergradients, optimum, rays, flow, shrinkage."""

from __future__ import annotations

from .bilevel import (
    bilevel_solution,
    concavity,
    hypergradient,
    implicit_hypergradient,
    objective,
    optimal_reward,
)
from .flow import flow
from .mean_field import mean_field_cost, mean_field_shrinkage
from .rays import optimal_scale, ray_loss, rescaling_regret

__all__ = [
    "bilevel_solution",
    "concavity",
    "flow",
    "hypergradient",
    "implicit_hypergradient",
    "mean_field_cost",
    "mean_field_shrinkage",
    "objective",
    "optimal_reward",
    "optimal_scale",
    "ray_loss",
    "rescaling_regret",
]
