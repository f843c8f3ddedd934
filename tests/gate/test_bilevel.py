"""The gate, continued: the outer loop reaches the reward of the theory."""

import pytest
from hypothesis import given

from paper_checks.conformance.strategies import Problem, one_in, problems
from solvers.families.gaussian import Structure
from tests.gate.identities import bilevel

pytestmark = pytest.mark.gate


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@one_in(8)
@given(problem=problems(3))
def test_reaches_the_optimal_reward(structure: Structure, problem: Problem) -> None:
    bilevel.reaches_the_optimal_reward(problem, structure)
