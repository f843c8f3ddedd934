"""The gate bites, continued: faults in training, and in the flow that it follows."""

from functools import partial
from typing import Any

import pytest
import torch

from analysis import definitions
from paper_checks.conformance.strategies import make_problem
from solvers.data import TwoMoments
from solvers.families.gaussian import Gaussian
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import ensemble
from tests import planting
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import dynamics as identities

follows = partial(identities.follows, make_problem(1, 7))
large_steps = partial(identities.large_steps, make_problem(1, 7))


def doubled(right: Any) -> Any:
    return lambda *given: 2 * right(*given)


def twice_the_rate(right: Any) -> Any:
    return lambda *given, learning_rate, **more: right(
        *given, learning_rate=2 * learning_rate, **more
    )


def heavy(right: Any) -> Any:
    """Momentum, which plain gradient descent has none of."""
    return lambda leaves, lr: right(leaves, lr=lr, momentum=0.5)


def without_spread(right: Any) -> Any:
    return lambda law, q: right(law, TwoMoments(q.mean, 0 * q.covariance))


def falling_mean(right: Any) -> Any:
    """A likelihood that is not told of the mean error where it scales the variance."""
    return lambda law, q: right(
        law,
        TwoMoments(q.mean, q.covariance + (law.mean - q.mean).square().detach()[..., None]),
    )


FAULTS: dict[str, Fault] = {
    "twice the rate": (ensemble, "gradient_descent", twice_the_rate, follows),
    "twice the rate, large steps": (ensemble, "gradient_descent", twice_the_rate, large_steps),
    "momentum": (torch.optim, "SGD", heavy, follows),
    "momentum, large steps": (torch.optim, "SGD", heavy, large_steps),
    "2λ for λ": (Gaussian, "entropy", doubled, follows),
    "2u for u": (MahalanobisReward, "quadratic", doubled, large_steps),
    "NLL without the spread of the data": (Gaussian, "cross_entropy", without_spread, follows),
    "NLL with the mean error counted twice": (Gaussian, "cross_entropy", falling_mean, follows),
}

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS)


@pytest.mark.parametrize("definition", ["entropy", "reward", "log_density"])
def test_a_wrong_derivation_is_noticed(definition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planting.check_noticed(monkeypatch, definitions, definition, doubled, follows)
