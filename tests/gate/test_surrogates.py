"""The gate, continued: hypergradients through sampled inner objectives."""

import pytest
from hypothesis import given

from paper_checks.conformance.strategies import Problem, one_in, problems
from solvers.families.gaussian import Structure
from tests.gate.identities import surrogates

pytestmark = pytest.mark.gate


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@one_in(10)
@given(problem=problems(3))
def test_moving_samples(structure: Structure, problem: Problem) -> None:
    surrogates.moving_samples(problem, structure)


@one_in(10)
@given(problem=problems(1))
def test_held_samples(problem: Problem) -> None:
    surrogates.held_samples(problem)
