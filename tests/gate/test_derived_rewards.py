"""The gate, continued: policies trained on a user's reward, and faults planted on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import KL
from analysis.derive import expectation, gaussian
from paper_checks.conformance.strategies import Problem, make_problem
from solvers.training.objectives import PolicyGradient
from tests.gate.identities import derived_rewards

pytestmark = pytest.mark.gate
QUARTIC = derived_rewards.quartic()
BESIDE = derived_rewards.quartic(KL())


@given(problem=st.builds(make_problem, n=st.just(1), seed=st.integers(0, 2**32 - 1)))
def test_trained_policy(problem: Problem) -> None:
    derived_rewards.trained_policy(problem, QUARTIC)


@given(problem=st.builds(make_problem, n=st.just(1), seed=st.integers(0, 2**32 - 1)))
def test_trained_policy_beside_a_reference(problem: Problem) -> None:
    derived_rewards.trained_policy(problem, BESIDE)


def doubled(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: 2 * right(*given)


def wider(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda C: right(2 * C)


FAULTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "entropy doubled, in training": (PolicyGradient, "_entropy", doubled),
    "Gaussian moments of 2P, in the derivation": (expectation, "isserlis", wider),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, plant = FAULTS[name]
    problem = make_problem(1, 7)
    derived_rewards.trained_policy(problem, derived_rewards.quartic())
    monkeypatch.setattr(owner, attribute, plant(vars(owner)[attribute]))
    if owner is expectation:
        monkeypatch.setattr(gaussian, "isserlis", expectation.isserlis)
    with pytest.raises(AssertionError, match="fails"):
        derived_rewards.trained_policy(problem, derived_rewards.quartic())
