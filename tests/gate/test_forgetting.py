"""The gate, continued: what training forgets, and faults planted in the solvers."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given

from analysis.forgetting.paths import METHODS, Method
from paper_checks.conformance.class_problems import ClassProblem, class_problems, make_class_problem
from paper_checks.conformance.strategies import Problem, make_problem, one_in, problems
from solvers.families.gaussian import Gaussian
from solvers.families.law import Sampled
from solvers.rewards.between_classes import ClassReward
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import forgetting

pytestmark = pytest.mark.gate


@pytest.mark.parametrize("method", METHODS)
@one_in(5)
@given(problem=problems(3))
def test_natural_gradient(method: Method, problem: Problem) -> None:
    forgetting.natural_gradient(problem, method)


@given(problem=class_problems(4))
def test_ties(problem: ClassProblem) -> None:
    forgetting.ties(problem)


@given(problem=problems(1))
def test_old_mode(problem: Problem) -> None:
    forgetting.old_mode(problem)


PLANE = make_problem(2, 7)
FAULTS: dict[str, Fault] = {
    "entropy doubled": (
        Gaussian, "entropy", lambda right: lambda self: 2 * right(self),
        partial(forgetting.natural_gradient, PLANE, "PG"),
    ),
    "likelihood of another scale": (
        Gaussian, "cross_entropy",
        lambda right: lambda self, data: right(Gaussian(self.mean, 2 * self.scale), data),
        partial(forgetting.natural_gradient, PLANE, "NLL"),
    ),
    "rewards of the wrong sign": (
        ClassReward, "expected", lambda right: lambda self, law, data: -right(self, law, data),
        partial(forgetting.ties, make_class_problem(3, 7)),
    ),
    "sign of the likelihood": (
        Sampled, "cross_entropy", lambda right: lambda self, data: -right(self, data),
        partial(forgetting.old_mode, make_problem(1, 7)),
    ),
}  # fmt: skip

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS)
