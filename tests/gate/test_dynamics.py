"""The gate, continued: training follows the derived flows as its step goes to 0."""

import pytest
from hypothesis import given

from paper_checks.conformance.strategies import Problem, one_in, problems
from tests.gate.identities import dynamics

pytestmark = pytest.mark.gate


@one_in(25)
@given(problem=problems(1))
def test_training_follows_the_flow(problem: Problem) -> None:
    dynamics.follows(problem)


@one_in(25)
@given(problem=problems(1))
def test_large_steps(problem: Problem) -> None:
    dynamics.large_steps(problem)
