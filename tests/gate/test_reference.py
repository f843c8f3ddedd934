"""The gate, continued: a reference policy in place of the entropy, and faults planted in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis import definitions
from paper_checks.conformance.strategies import Problem, make_problem, one_in, problems
from solvers.families.bernoulli import Bernoulli
from solvers.families.categorical import Categorical
from solvers.families.gaussian import Gaussian
from solvers.hypergradients import functional
from solvers.hypergradients import penalty as penalties
from solvers.rewards import with_reference
from solvers.training.objectives import PolicyGradient
from tests import planting
from tests.faults import check_noticed
from tests.gate.identities import reference as identities


@pytest.mark.gate
@one_in(4)
@given(problem=problems(4))
def test_objective(problem: Problem) -> None:
    identities.objective(problem)


@pytest.mark.gate
@one_in(4)
@given(problem=problems(4))
def test_inner_solution(problem: Problem) -> None:
    identities.inner_solution(problem)


@pytest.mark.gate
@one_in(10)
@given(problem=problems(4))
def test_hypergradient(problem: Problem) -> None:
    identities.hypergradient(problem)


@pytest.mark.gate
@one_in(20)
@given(problem=problems(3), rate=st.floats(0.3, 0.7), steps=st.integers(1, 5))
def test_unrolled_hypergradient(problem: Problem, rate: float, steps: int) -> None:
    identities.unrolled_hypergradient(problem, rate, steps)


@pytest.mark.gate
@one_in(10)
@given(problem=problems(3), weight=st.floats(1e2, 1e3))
def test_penalised_hypergradient(problem: Problem, weight: float) -> None:
    identities.penalised_hypergradient(problem, weight)


@pytest.mark.gate
@one_in(4)
@given(problem=problems(4))
def test_optimal_reward(problem: Problem) -> None:
    identities.optimal_reward(problem)


@pytest.mark.gate
@one_in(4)
@given(problem=problems(4), width=st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_projection(problem: Problem, width: float) -> None:
    identities.projection(problem, width)


@pytest.mark.gate
@one_in(4)
@given(problem=problems(4))
def test_divergences(problem: Problem) -> None:
    identities.divergences(problem)


PLANE = make_problem(2, 7)
Plant = Callable[[Any], Any]


def negated(right: Any) -> Any:
    return lambda *of: -right(*of)


def doubled(right: Any) -> Any:
    return lambda *of: 2 * right(*of)


def halved(right: Any) -> Any:
    return lambda *of: right(*of) / 2


def without_mean(right: Any) -> Any:
    """KL of the covariances alone."""
    return lambda self, p0: right(Gaussian(0 * self.mean + p0.mean, self.scale), p0)


def turned(right: Any) -> Any:
    """`KL(p₀ ‖ p)`."""
    return lambda self, p0: right(p0, self)


def flat(right: Any) -> Any:
    """The Hessian of the entropy's problem."""
    return lambda self: 1e-9 * right(self)


def entropy_alone(right: Any) -> Any:
    return lambda self, law, data, noise: law.entropy()


def one_less(right: Any) -> Any:
    return lambda *of, steps, **more: right(*of, steps=steps - 1, **more)


def nearest(_: Any) -> Any:
    """The projection in the Frobenius norm of `U*`."""

    def cut(Sigma: Any, lam: Any, mu: Any, reference: Gaussian) -> with_reference.Projection:
        x, Q = torch.linalg.eigh(with_reference.stationary_weight(Sigma, lam, mu, reference))
        U = (Q * x.clamp_min(0)) @ Q.mT
        return with_reference.Projection(U, with_reference._solved(U, lam, mu, reference))

    return cut


def projection(_: Problem) -> None:
    identities.projection(make_problem(2, 9), 0.5)  # one weight of the two is 0


def unrolled_hypergradient(problem: Problem) -> None:
    identities.unrolled_hypergradient(problem, 0.4, 3)


def penalised_hypergradient(problem: Problem) -> None:
    identities.penalised_hypergradient(problem, 1e3)


NOTICES: dict[str, tuple[Any, str, Plant, Callable[[Problem], None]]] = {
    "KL negated": (Gaussian, "kl", negated, identities.objective),
    "KL doubled, by the solution": (Gaussian, "kl", doubled, identities.inner_solution),
    "KL without the mean": (Gaussian, "kl", without_mean, identities.divergences),
    "KL turned round": (Gaussian, "kl", turned, identities.objective),
    "KL of classes turned round": (Categorical, "kl", turned, identities.divergences),
    "KL of bits turned round": (Bernoulli, "kl", turned, identities.divergences),
    "entropy for KL": (
        PolicyGradient, "_relative_entropy", entropy_alone, identities.inner_solution,
    ),
    "entropy for KL, by the hypergradient": (
        PolicyGradient, "_relative_entropy", entropy_alone, identities.hypergradient,
    ),
    "entropy for KL, unrolled": (
        PolicyGradient, "_relative_entropy", entropy_alone, unrolled_hypergradient,
    ),
    "entropy for KL, by a penalty": (
        PolicyGradient, "_relative_entropy", entropy_alone, penalised_hypergradient,
    ),
    "KL of half the weight, unrolled": (Gaussian, "kl", halved, unrolled_hypergradient),
    "KL of half the weight, by a penalty": (Gaussian, "kl", halved, penalised_hypergradient),
    "a step too few": (identities, "unrolled", one_less, unrolled_hypergradient),
    "a penalty of half the weight": (
        penalties, "difference", lambda right: lambda a, b, weight: right(a, b, weight / 2),
        penalised_hypergradient,
    ),
    "projected without a pull": (
        with_reference, "_pull", lambda right: lambda *of: 0 * right(*of), projection,
    ),
    "eigenvalues cut at 0, as the nearest matrix has them": (
        with_reference, "projected_reward", nearest, projection,
    ),
    "pushed away": (with_reference, "_pull", negated, identities.inner_solution),
    "pulled twice": (with_reference, "_pull", doubled, identities.optimal_reward),
    "no pull": (with_reference, "_pull", lambda right: lambda *of: 0 * right(*of),
                identities.optimal_reward),
    "reference narrower": (Gaussian, "precision", doubled, identities.optimal_reward),
    "reference without a bend": (Gaussian, "precision", flat, identities.inner_solution),
    "adjoint of the mean": (functional, "mean_adjoint", doubled, identities.hypergradient),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTICES)
def test_a_planted_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, plant, notices = NOTICES[name]
    check_noticed(monkeypatch, owner, attribute, plant, partial(notices, PLANE))


def test_a_functional_hypergradient_without_the_reference_s_bend_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right, plain = functional.mean_adjoint, PLANE.tensors()["U"]
    monkeypatch.setattr(functional, "mean_adjoint", lambda U, pull: right(plain[None], pull))
    with pytest.raises(AssertionError, match="functional fails"):
        identities.hypergradient(PLANE)


@pytest.mark.parametrize("notices", [identities.objective, identities.inner_solution])
def test_a_wrong_derivation_is_noticed(
    notices: Callable[[Problem], None], monkeypatch: pytest.MonkeyPatch
) -> None:

    def plant(right: Any) -> Any:
        return lambda *of: 2 * right(*of)

    check = partial(notices, make_problem(1, 7))
    planting.check_noticed(monkeypatch, definitions, "log_likelihood", plant, check)
