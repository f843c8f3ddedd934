"""The gate, first of all: the data that other identities are checked on have their moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from paper_checks.conformance import witnesses
from paper_checks.conformance.strategies import Problem, make_problem, problems
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.data import Dataset
from solvers.errors import InputError
from tests.gate.identities.common import data_with_moments


def accepted(problem: Problem, make: Callable[[], Dataset]) -> Dataset:
    """Return data that are not refused: variances that come out negative look like lost ones."""
    try:
        return make()
    except InputError as error:
        claim = f"covariance of the data fails: data of ordinary size are refused: {error}"
        raise AssertionError(f"{claim}\n  inputs   {problem}") from error


def moments(problem: Problem) -> None:
    """The mean of the outcomes is `μ`, and their covariance `Σ`, as they were drawn."""
    data = accepted(problem, lambda: data_with_moments(problem))
    rtol, scale = closed_form(), float(abs(problem.mu).max() ** 2)  # which cancels in Σ
    agree("mean of the data", data.mean[0], problem.mu, rtol=rtol, scale=1, inputs=problem)
    got = data.covariance[0]
    agree("covariance of the data", got, problem.Sigma, rtol=rtol, scale=scale, inputs=problem)


def moments_of_rows(problem: Problem) -> None:
    """Mean and covariance of the outcomes at every input are those of NumPy, by definition."""
    t, n = problem.tensors(), problem.n
    y = torch.stack(
        [
            witnesses.cubature(t["mu"], torch.linalg.cholesky(t["Sigma"])),
            witnesses.cubature(t["m"], torch.linalg.cholesky(t["P"])),
        ]
    )
    x = torch.tensor([[0.0], [1.0]], dtype=y.dtype)
    data = accepted(problem, lambda: Dataset.of(x, y))
    for i, rows in enumerate(y.numpy()):
        mean, Sigma = rows.mean(0), np.cov(rows, rowvar=False, bias=True).reshape(n, n)
        rtol, scale, at = closed_form(), float(np.abs(rows).max()), f"at input {i}, by NumPy"
        agree(f"mean of the data {at}", data.mean[i], mean, rtol=rtol, scale=scale, inputs=problem)
        name, got, size = f"covariance of the data {at}", data.covariance[i], scale**2
        agree(name, got, Sigma, rtol=rtol, scale=size, inputs=problem)


@pytest.mark.gate
@pytest.mark.parametrize("check", [moments, moments_of_rows])
@given(problem=problems(5))
def test_moments(check: Callable[[Problem], None], problem: Problem) -> None:
    check(problem)


def halved(right: Any) -> Any:
    """The mean halved."""
    return lambda self, dim: right(self, dim) / 2


def turned(right: Any) -> Any:
    """The sign of the mean turned, as in a deviation y + mean."""
    return lambda self, dim: -right(self, dim)


def negative(right: Any) -> Any:
    """The sign of the covariance turned."""
    return lambda self, other: -right(self, other)


def transposed(right: Any) -> Any:
    """Deviations multiplied the wrong way round: rows by rows, cut to n x n."""
    return lambda self, other: right(other, self)[..., : self.shape[-2], : self.shape[-2]]


def unbiased(right: Any) -> Any:
    """Divided by S - 1."""
    return lambda self, S: right(self, S - 1)


@pytest.mark.parametrize("check", [moments, moments_of_rows])
@pytest.mark.parametrize(
    ("operation", "plant", "fails"),
    [
        ("mean", halved, "mean"),
        ("mean", turned, "mean"),
        ("__matmul__", negative, "covariance"),
        ("__matmul__", transposed, "covariance"),
        ("__truediv__", unbiased, "covariance"),
    ],
)
def test_a_planted_fault_is_noticed(
    check: Callable[[Problem], None],
    operation: str,
    plant: Callable[[Any], Any],
    fails: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, right = make_problem(n=2, seed=7), Dataset.of

    def faulty(x: Tensor, y: Tensor) -> Dataset:
        with monkeypatch.context() as patch:
            patch.setattr(Tensor, operation, plant(getattr(Tensor, operation)))
            return right(x, y)

    check(problem)
    monkeypatch.setattr(Dataset, "of", faulty)
    with pytest.raises(AssertionError, match=f"{fails} of the data.* fails"):
        check(problem)
