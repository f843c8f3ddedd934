"""The gate, continued: sequences, and faults planted in them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_checks.conformance.class_problems import ClassProblem, make_class_problem
from solvers.families.sequences import Autoregressive
from solvers.rewards import windows
from tests.faults import check_noticed
from tests.gate.identities import sequences

pytestmark = pytest.mark.gate
problems = st.builds(make_class_problem, st.sampled_from((4, 8)), st.integers(0, 2**32 - 1))


@given(problem=problems)
def test_soft_value_iteration(problem: ClassProblem) -> None:
    sequences.soft_value_iteration(problem)


@given(problem=problems)
def test_inner_solution(problem: ClassProblem) -> None:
    sequences.inner_solution(problem)


@pytest.mark.parametrize(("classes", "seed"), [(4, 0), (8, 1)])
def test_policy_gradient(classes: int, seed: int) -> None:
    sequences.policy_gradient(make_class_problem(classes, seed))


@given(problem=problems)
def test_likelihood(problem: ClassProblem) -> None:
    sequences.likelihood(problem)


@pytest.mark.parametrize("seed", range(2))
def test_draws(seed: int) -> None:
    sequences.draws(make_class_problem(8, seed))


@given(problem=problems)
def test_optimal_reward(problem: ClassProblem) -> None:
    sequences.optimal_reward(problem)


@given(problem=problems)
def test_prefixes(problem: ClassProblem) -> None:
    sequences.prefixes(problem)


PROBLEM = make_class_problem(8, 7)
Plant = Callable[[Any], Any]
FAULTS: dict[str, tuple[Any, str, Plant, Callable[[ClassProblem], None]]] = {
    "no value of what follows": (
        windows, "soft_values",
        lambda right: lambda reward, lam: [
            (reward.table[max(t - 1, 0)] / lam).unflatten(-1, (-1, 2)).log_softmax(-1)
            if t else logs for t, logs in enumerate(right(reward, lam))
        ],
        sequences.soft_value_iteration,
    ),
    "λ doubled": (
        windows, "soft_values", lambda right: lambda reward, lam: right(reward, 2 * lam),
        sequences.inner_solution,
    ),
    "windows counted in reverse": (
        windows, "counts", lambda right: lambda data, V, k: right(data, V, k).flip(-1),
        sequences.optimal_reward,
    ),
    "mean over positions for the sum": (
        windows.WindowMatch, "expected",
        lambda right: lambda self, law, data: right(self, law, data) / law.T,
        sequences.policy_gradient,
    ),
    "entropy per symbol": (
        Autoregressive, "entropy", lambda right: lambda self: right(self) / self.T,
        sequences.likelihood,
    ),
    "entropy per symbol, by the gradient": (
        Autoregressive, "entropy", lambda right: lambda self: right(self) / self.T,
        sequences.inner_solution,
    ),
    "the first symbol left out": (
        Autoregressive, "log_prob",
        lambda right: lambda self, y: right(self, torch.cat([0 * y[..., :1], y[..., 1:]], -1)),
        sequences.likelihood,
    ),
    "symbols exchanged": (
        Autoregressive, "draw", lambda right: lambda self, M, noise: 1 - right(self, M, noise),
        sequences.draws,
    ),
    "scores of other sequences": (
        Autoregressive, "_draw",
        lambda right: lambda self, M, noise: right(self, M, noise).flip(-1),
        sequences.policy_gradient,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, plant, notices = FAULTS[name]
    check_noticed(monkeypatch, where, attribute, plant, partial(notices, PROBLEM))
