"""The gate, continued: the implicit hypergradient."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_checks.conformance.strategies import Problem, one_in, problems
from solvers.families.gaussian import Structure
from solvers.hypergradients.implicit import Method
from tests.gate.identities import hypergradients
from tests.gate.identities.hypergradients import Quadratic, make_quadratic

pytestmark = pytest.mark.gate

EXACT: tuple[Method, ...] = ("dense", "cg", "nystrom-cg")
quadratics = st.builds(
    make_quadratic, st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1)
)


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("method", EXACT)
@one_in(2)
@given(problem=problems(5))
def test_gaussian_hypergradient(method: Method, structure: Structure, problem: Problem) -> None:
    hypergradients.gaussian_hypergradient(problem, structure, method)


@one_in(8)
@given(problem=quadratics)
def test_neumann_series(problem: Quadratic) -> None:
    hypergradients.coupled_tensors(problem, "neumann")


@pytest.mark.parametrize("method", EXACT)
@one_in(2)
@given(problem=quadratics)
def test_coupled_tensors(method: Method, problem: Quadratic) -> None:
    hypergradients.coupled_tensors(problem, method)


@given(problem=quadratics)
def test_cg_is_exact(problem: Quadratic) -> None:
    hypergradients.cg_is_exact(problem)


@pytest.mark.parametrize("method", EXACT)
@one_in(2)
@given(problem=quadratics, power=st.integers(-13, 13))
def test_scale_free(method: Method, problem: Quadratic, power: int) -> None:
    hypergradients.scale_free(problem, method, 10.0**power)


@one_in(3)
@given(problem=quadratics, power=st.integers(-3, 1))
def test_damping_is_exact(problem: Quadratic, power: int) -> None:
    hypergradients.damping_is_exact(problem, 10.0**power)
