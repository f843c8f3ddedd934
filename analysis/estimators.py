"""Estimators of the policy gradient in one namespace: means, baselines, variances, groups."""

from __future__ import annotations

from .baselines import matrix_baseline
from .group_statistics import group_mean, group_minimum, group_minimum_planar
from .score_function import (
    leave_one_out_variance,
    minimal_variance,
    optimal_baseline,
    pathwise_variance,
    score_gradient,
)

__all__ = [
    "group_mean",
    "group_minimum",
    "group_minimum_planar",
    "leave_one_out_variance",
    "matrix_baseline",
    "minimal_variance",
    "optimal_baseline",
    "pathwise_variance",
    "score_gradient",
]
