"""The gate, continued: independent bits, and faults planted in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_checks.conformance.strategies import Problem, make_problem
from solvers.families.bernoulli import Bernoulli
from solvers.hypergradients.implicit import HypergradientError
from tests.gate.identities import bernoulli

pytestmark = pytest.mark.gate
problems = st.builds(make_problem, n=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))


@given(problem=problems)
def test_objective(problem: Problem) -> None:
    bernoulli.objective(problem)


@given(problem=problems)
def test_inner_solution(problem: Problem) -> None:
    bernoulli.inner_solution(problem)


@given(problem=problems)
def test_hypergradient(problem: Problem) -> None:
    bernoulli.hypergradient(problem)


@given(problem=problems)
def test_optimal_reward(problem: Problem) -> None:
    bernoulli.optimal_reward(problem)


PROBLEM = make_problem(n=2, seed=7)
FAULTS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Problem], None]]] = {
    "entropy doubled": ("entropy", lambda right: lambda self: 2 * right(self), bernoulli.objective),
    "Tr(UP) dropped": (
        "trace", lambda right: lambda self, U: 0 * right(self, U), bernoulli.objective,
    ),
    "Tr(UP) dropped, by the solution": (
        "trace", lambda right: lambda self, U: 0 * right(self, U), bernoulli.inner_solution,
    ),
    "sign of the likelihood": (
        "cross_entropy", lambda right: lambda self, q: -right(self, q), bernoulli.hypergradient,
    ),
    "variance m for m(1-m)": (
        "_variances", lambda right: lambda self: torch.sigmoid(self.logits), bernoulli.objective,
    ),
}  # fmt: skip


def test_the_best_weights_without_their_factor_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bernoulli.optimal_weights
    monkeypatch.setattr(bernoulli, "optimal_weights", lambda rho, lam: right(rho, lam) / 2)
    for problem in (PROBLEM, make_problem(n=5, seed=7)):  # by the derivation, and by the law
        with pytest.raises(AssertionError, match="fails"):
            bernoulli.optimal_reward(problem)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attribute, plant, notices = FAULTS[name]
    notices(PROBLEM)
    monkeypatch.setattr(Bernoulli, attribute, plant(vars(Bernoulli)[attribute]))
    with pytest.raises((AssertionError, HypergradientError), match=r"fails|stationary|concave"):
        notices(PROBLEM)
