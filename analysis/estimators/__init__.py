"""Estimators of the policy gradient: means, baselines, variances, groups."""

from ..result import results_in
from . import baselines, groups, scalar_policy, score_function, stated

DERIVATIONS = results_in(score_function, baselines, groups)

__all__ = ["DERIVATIONS", "baselines", "groups", "scalar_policy", "score_function", "stated"]
