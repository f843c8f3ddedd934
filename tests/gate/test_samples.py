"""The gate, continued: what is learned from finitely many rows, and what it loses."""

import pytest
from hypothesis import given

from paper_checks.conformance.strategies import Problem, one_in, problems
from solvers.families.gaussian import Structure
from tests.gate.identities import samples

pytestmark = pytest.mark.gate

structures = pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])


@pytest.mark.parametrize(
    ("structure", "held_out"), [("isotropic", True), ("diagonal", False), ("full", True)]
)
def test_learned_reward(structure: Structure, held_out: bool) -> None:
    samples.learned_reward(samples.PLANE, structure, held_out)


@structures
@one_in(4)
@given(problem=problems(5))
def test_optimal_reward_of_a_sample(structure: Structure, problem: Problem) -> None:
    samples.optimal_reward_of_a_sample(problem, structure)


@structures
@one_in(16)
@given(problem=problems(3))
def test_excess(structure: Structure, problem: Problem) -> None:
    samples.excess(problem, structure)


@one_in(16)
@given(problem=problems(3))
def test_plug_in(problem: Problem) -> None:
    samples.plug_in(problem)


@one_in(16)
@given(problem=problems(3))
def test_scaled(problem: Problem) -> None:
    samples.scaled(problem)
