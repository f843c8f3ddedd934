"""The gate, continued: categorical policies, their rewards, and how those are learned."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paper_checks.conformance.class_problems import ClassProblem, class_problems, make_class_problem
from paper_checks.conformance.strategies import one_in
from solvers.families.baselines import Baseline
from solvers.hypergradients.implicit import Method
from tests.gate.identities import categorical, categorical_scales, categorical_training
from tests.gate.identities.categorical import Form
from tests.gate.identities.categorical_training import Learnt

pytestmark = pytest.mark.gate

# SymPy derives some results anew for every number of classes, and takes a second for ten. They are
# sums over classes, so that 7, 8 and 9 classes show nothing that 2 to 6 and 10 do not.
MANY = make_class_problem(10, seed=0)
any_classes = given(problem=class_problems(categorical.LAWS))
forms = pytest.mark.parametrize("form", ["scalar", "diagonal", "full"])


@forms
@one_in(3)
@given(problem=class_problems())
def test_inner_solution(form: Form, problem: ClassProblem) -> None:
    categorical.inner_solution(problem, form)


@given(problem=class_problems())
def test_expected_reward(problem: ClassProblem) -> None:
    categorical.expected_reward(problem)


@forms
@example(problem=MANY)
@any_classes
def test_gibbs_gap(form: Form, problem: ClassProblem) -> None:
    categorical.gibbs_gap(problem, form)


@example(problem=MANY)
@any_classes
def test_outer_objective(problem: ClassProblem) -> None:
    categorical.outer_objective(problem)


@pytest.mark.parametrize("method", ["dense", "cg"])
@given(problem=class_problems())
def test_hypergradient(method: Method, problem: ClassProblem) -> None:
    categorical.hypergradient(problem, method)


@given(problem=class_problems())
def test_concavity(problem: ClassProblem) -> None:
    categorical.concavity(problem)


@one_in(2)
@given(problem=class_problems())
def test_rank_of_the_curvature(problem: ClassProblem) -> None:
    categorical.rank(problem)


@given(problem=class_problems())
def test_best_scale(problem: ClassProblem) -> None:
    categorical_scales.best_scale(problem)


@given(problem=class_problems(2))
def test_best_scale_of_two_classes(problem: ClassProblem) -> None:
    categorical_scales.best_scale(problem)
    categorical_scales.scalar_cost(problem)
    categorical_scales.heuristic_is_twice_too_sharp(problem)


@given(problem=class_problems())
def test_heuristic_scale(problem: ClassProblem) -> None:
    categorical_scales.heuristic(problem)


@example(problem=MANY)
@any_classes
def test_cost_of_a_scalar(problem: ClassProblem) -> None:
    categorical_scales.scalar_cost(problem)


@given(problem=class_problems())
def test_a_scalar_keeps_the_order(problem: ClassProblem) -> None:
    categorical_scales.keeps_the_order(problem)


@example(problem=MANY)
@any_classes
def test_a_diagonal_reaches_the_data(problem: ClassProblem) -> None:
    categorical_scales.diagonal_reaches_the_data(problem)


@one_in(3)
@given(problem=class_problems())
def test_training_with_the_diagonal(problem: ClassProblem) -> None:
    categorical_scales.training_with_the_diagonal(problem)


@example(problem=MANY)
@any_classes
def test_exact_gradient(problem: ClassProblem) -> None:
    categorical_training.exact_gradient(problem)


@pytest.mark.parametrize(
    "baseline", ["none", "mean", "minimum", "leave-one-out", "standardised", "optimal"]
)
@given(problem=class_problems(4), M=st.integers(2, 3))
def test_expected_estimate(baseline: Baseline, problem: ClassProblem, M: int) -> None:
    categorical_training.expected_estimate(problem, baseline, M)


@one_in(2)
@given(problem=class_problems(), M=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_sampled_estimate(problem: ClassProblem, M: int, seed: int) -> None:
    categorical_training.sampled_estimate(problem, M, seed)


@given(problem=class_problems())
def test_optimal_baseline(problem: ClassProblem) -> None:
    categorical_training.optimal_baseline(problem)


@pytest.mark.parametrize("learnt", ["scalar", "diagonal", "full"])
@one_in(12)
@given(problem=class_problems(3), start=st.integers(0, 2**32 - 1))
def test_learns_the_best_reward(learnt: Learnt, problem: ClassProblem, start: int) -> None:
    categorical_training.learns_the_best_reward(problem, learnt, start)


@pytest.mark.parametrize("learnt", ["nothing", "outcome"])
@one_in(25)
@given(problem=class_problems(3), start=st.integers(0, 2**32 - 1))
def test_learns_any_reward(learnt: Learnt, problem: ClassProblem, start: int) -> None:
    categorical_training.learns_the_best_reward(problem, learnt, start)
