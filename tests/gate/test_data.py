"""The gate, first of all: the data that other identities are checked on have their moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from torch import Tensor

from paper_checks.conformance.strategies import Problem, make_problem, problems
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.data import Dataset
from tests.gate.identities.common import data_with_moments


def moments(problem: Problem) -> None:
    """The mean of the outcomes is `μ`, and their covariance `Σ`, as they were drawn."""
    data = data_with_moments(problem)
    rtol, scale = closed_form(), float(abs(problem.mu).max() ** 2)  # which cancels in Σ
    agree("mean of the data", data.mean[0], problem.mu, rtol=rtol, scale=1, inputs=problem)
    got = data.covariance[0]
    agree("covariance of the data", got, problem.Sigma, rtol=rtol, scale=scale, inputs=problem)


@pytest.mark.gate
@given(problem=problems(5))
def test_moments(problem: Problem) -> None:
    moments(problem)


def halved(right: Any) -> Any:
    """The mean halved."""
    return lambda self, dim: right(self, dim) / 2


def turned(right: Any) -> Any:
    """The sign of the mean turned, as in a deviation y + mean."""
    return lambda self, dim: -right(self, dim)


@pytest.mark.parametrize("plant", [halved, turned])
def test_a_planted_fault_is_noticed(
    plant: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, right = make_problem(n=2, seed=7), Dataset.of

    def faulty(x: Tensor, y: Tensor) -> Dataset:
        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "mean", plant(Tensor.mean))
            return right(x, y)

    moments(problem)
    monkeypatch.setattr(Dataset, "of", faulty)
    with pytest.raises(AssertionError, match="mean of the data fails"):
        moments(problem)
