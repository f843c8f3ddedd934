"""The gate: torch solvers against SymPy derivations, over random problems."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_checks.conformance.strategies import Problem, Sizes, one_in, problems, sizes
from solvers.families.baselines import Baseline
from solvers.families.gaussian import Structure
from tests.gate.identities import inner, outer, policy_gradients

pytestmark = pytest.mark.gate

structures = pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
every_n = given(problem=problems(5))
explicit_n = given(problem=problems(3))


@structures
@every_n
def test_inner_solution(structure: Structure, problem: Problem) -> None:
    inner.inner_solution(problem, structure)


@structures
@one_in(5)
@explicit_n
def test_inner_solution_by_search(structure: Structure, problem: Problem) -> None:
    inner.inner_solution_by_search(problem, structure)


@every_n
def test_inner_objective(problem: Problem) -> None:
    inner.inner_objective(problem)


@every_n
def test_analytic_gradient(problem: Problem) -> None:
    policy_gradients.analytic_gradient(problem)


@pytest.mark.parametrize("baseline", ["none", "mean", "leave-one-out"])
@pytest.mark.parametrize(("max_n", "generations"), [(3, 2), (2, 3)])
@given(data=st.data())
def test_expected_score_gradient(
    baseline: Baseline, max_n: int, generations: int, data: st.DataObject
) -> None:
    policy_gradients.expected_score_gradient(data.draw(problems(max_n)), generations, baseline)


@pytest.mark.parametrize("baseline", ["none", "mean", "leave-one-out"])
@one_in(5)
@given(problem=problems(5), generations=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_sampled_score_gradient(
    baseline: Baseline, problem: Problem, generations: int, seed: int
) -> None:
    policy_gradients.sampled_score_gradient(problem, generations, baseline, seed)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("baseline", ["none", "minimum", "mean", "leave-one-out", "standardised"])
@one_in(3)
@given(sizes=sizes(), seed=st.integers(0, 2**32 - 1))
def test_score_gradient_by_definition(
    baseline: Baseline, full: bool, sizes: Sizes, seed: int
) -> None:
    policy_gradients.score_gradient_by_definition(sizes, baseline, full, seed)


@pytest.mark.parametrize(("n", "u"), [(1, 0.1), (1, 10.0), (2, 1.0)])
def test_standardised_slope(n: int, u: float) -> None:
    policy_gradients.standardised_slope(n, u, seed=0)


@pytest.mark.parametrize(("n", "M"), [(1, 2), (1, 5), (2, 2), (2, 5)])
def test_minimum_shift_is_biased_as_predicted(n: int, M: int) -> None:
    policy_gradients.minimum_shift_gradient(n, M, seed=0)


@structures
@every_n
def test_outer_objective(structure: Structure, problem: Problem) -> None:
    outer.outer_objective(problem, structure)


@structures
@every_n
def test_hypergradient(structure: Structure, problem: Problem) -> None:
    outer.hypergradient(problem, structure)


@structures
@one_in(12)
@explicit_n
def test_hypergradient_by_search(structure: Structure, problem: Problem) -> None:
    outer.hypergradient_by_search(problem, structure)


@structures
@every_n
def test_optimal_reward(structure: Structure, problem: Problem) -> None:
    outer.optimal_reward(problem, structure)


@every_n
def test_bilevel_is_maximum_likelihood(problem: Problem) -> None:
    outer.bilevel_is_maximum_likelihood(problem)


@every_n
def test_ray(problem: Problem) -> None:
    outer.ray(problem)


@every_n
def test_wrong_covariance(problem: Problem) -> None:
    outer.wrong_covariance(problem)


@explicit_n
def test_mean_field(problem: Problem) -> None:
    outer.mean_field(problem)


@every_n
def test_reverse_kl(problem: Problem) -> None:
    inner.reverse_kl(problem)
