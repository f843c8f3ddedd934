"""The gate, continued: a temperature per input, and β-NLL as one of its family."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_checks.conformance.strategies import Problem, one_in, problems
from tests.gate.identities import temperature

pytestmark = pytest.mark.gate
powers = st.floats(0.05, 1.0)


@one_in(10)
@given(problem=problems(4))
def test_inner_solution(problem: Problem) -> None:
    temperature.inner_solution(problem)


@one_in(10)
@given(problem=problems(3), power=powers)
def test_family(problem: Problem, power: float) -> None:
    temperature.family(problem, power)


@one_in(10)
@given(problem=problems(1), power=powers)
def test_power_slope(problem: Problem, power: float) -> None:
    temperature.power_slope(problem, power)


@one_in(20)
@given(problem=problems(1), power=powers)
def test_learned_power(problem: Problem, power: float) -> None:
    temperature.learned_power(problem, power)
