"""The gate bites, continued: faults planted in the estimators and in the bounded reward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from paper_checks.conformance.strategies import Sizes, make_problem
from solvers.families import gaussian
from solvers.rewards import bounded
from solvers.rewards.bounded import BoundedReward
from solvers.training.estimators import Pathwise, ScoreFunction
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import estimators as identities
from tests.gate.identities import policy_gradients

PROBLEM, SCALAR = make_problem(n=2, seed=7), make_problem(n=1, seed=7)
SIZES = Sizes(members=2, rows=3, samples=4, generations=5, inputs=1, n=2)
BOUNDED = partial(identities.bounded_inner_solution, 3, 2.0, 0.7, 0.5)
OPTIMAL = ScoreFunction(2, "optimal")
unbiased = partial(identities.expected_gradient, PROBLEM)
Plant = Callable[[Any], Any]


def without_identity(right: Any) -> Any:
    """The mean of `w εεᵀ` in place of `w (εεᵀ - I)`."""

    def faulty(epsilon: Any, weights: Any, full: bool) -> Any:
        first, second = right(epsilon, weights, full)
        return first, second + weights.mean((-3, -2))[..., None, None] * torch.eye(2)

    return faulty


def shifted(right: Any) -> Any:
    """Another constant than the optimal one: unbiased, of larger variance."""
    return lambda law, data, reward, baseline, epsilon, rewards: right(
        law, data, reward, baseline, epsilon, rewards + rewards.mean()
    )


def constant_for_each(right: Any) -> Any:
    """The constant baseline where one per outcome was asked for."""
    return lambda law, data, reward, baseline, *args: right(law, data, reward, "optimal", *args)


def transposed_scale(right: Any) -> Any:
    """`Sᵀε` for `Sε`."""

    def wrong(law: Any, *args: Any) -> Any:
        upper = copy.copy(law)
        object.__setattr__(upper, "scale", law.scale.mT)  # past the check of the law itself
        return right(upper, *args)

    return wrong


def larger_root(right: Any) -> Any:
    """A variance above `s̄`."""
    return lambda q, n: 2 * torch.ones_like(q)


def wider(right: Any) -> Any:
    """The reward of twice the width."""
    return lambda self, *args: right(BoundedReward(2 * self.omega), *args)


FAULTS: dict[str, Fault] = {
    "identity dropped from the whitened score": (
        gaussian,
        "_whitened",
        without_identity,
        partial(unbiased, OPTIMAL, 2),
    ),
    "baseline not optimal": (
        gaussian,
        "_least_variance",
        shifted,
        partial(identities.optimal_baseline, PROBLEM),
    ),
    "baseline not optimal, by its variance": (
        gaussian,
        "_least_variance",
        shifted,
        partial(identities.variances, SCALAR, 2),
    ),
    "constant baseline where the outcome is known": (
        gaussian,
        "_least_variance",
        constant_for_each,
        partial(identities.per_outcome_is_optimal_for_each, PROBLEM),
    ),
    "leave-one-out factor dropped, by its variance": (
        gaussian,
        "advantage",
        lambda right: lambda r, baseline: right(r, "mean"),
        partial(identities.variances, SCALAR, 2),
    ),
    "generations drawn with the transposed factor": (
        gaussian,
        "draw_deviations",
        transposed_scale,
        partial(policy_gradients.score_gradient_by_definition, SIZES, "none", True, 3),
    ),
    "reward averaged over dimensions, as published": (
        Pathwise,
        "__call__",
        lambda right: lambda *args: right(*args) / 2,
        partial(unbiased, Pathwise(2), 2),
    ),
    "critical weight doubled": (
        bounded,
        "critical_lam",
        lambda right: lambda *args: 2 * right(*args),
        BOUNDED,
    ),
    "a stationary point on the wrong side": (
        bounded,
        "_smaller_root",
        larger_root,
        BOUNDED,
    ),
    "width doubled in the expected reward": (
        BoundedReward,
        "expected",
        wider,
        partial(identities.bounded_expected_reward, PROBLEM),
    ),
}

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS)
