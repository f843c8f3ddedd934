"""The gate, continued: estimators with optimal baselines, pathwise, and the bounded reward."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_checks.conformance.strategies import Problem, one_in, problems
from solvers.training.estimators import Estimator, Pathwise, ScoreFunction
from tests.gate.identities import estimators

pytestmark = pytest.mark.gate

UNBIASED = [
    ScoreFunction(1, "optimal"),
    ScoreFunction(2, "optimal"),
    ScoreFunction(2, "optimal-per-outcome"),
    Pathwise(1),
    Pathwise(2),
]


@pytest.mark.parametrize("estimator", UNBIASED, ids=str)
@given(problem=problems(3))
def test_expected_gradient(estimator: Estimator, problem: Problem) -> None:
    estimators.expected_gradient(problem, estimator, estimator.M)  # pyright: ignore[reportAttributeAccessIssue]


@given(problem=problems(3))
def test_optimal_baseline(problem: Problem) -> None:
    estimators.optimal_baseline(problem)


@one_in(3)
@given(problem=problems(3))
def test_per_outcome_is_optimal_for_each(problem: Problem) -> None:
    estimators.per_outcome_is_optimal_for_each(problem)


@given(problem=problems(1), M=st.integers(2, 3))
def test_variances(problem: Problem, M: int) -> None:
    estimators.variances(problem, M)


@given(
    n=st.integers(1, 5),
    omega=st.floats(0.05, 20.0),
    beta=st.floats(0.1, 5.0),
    share=st.floats(0.01, 0.99),
)
def test_bounded_inner_solution(n: int, omega: float, beta: float, share: float) -> None:
    estimators.bounded_inner_solution(n, omega, beta, share)


@given(problem=problems(2))
def test_bounded_expected_reward(problem: Problem) -> None:
    estimators.bounded_expected_reward(problem)
