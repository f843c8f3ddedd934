"""The gate, continued: unrolled, truncated and penalised hypergradients; and it bites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from analysis import DerivationError, StructureError, catalogue, definitions, hypergradients
from paper_checks.conformance.strategies import Problem, make_problem, one_in, problems, seeds
from solvers.errors import NonFiniteError
from solvers.hypergradients import penalty, unrolled
from solvers.numerics.optimisers import SGD, Adam
from tests.gate.identities import unrolled as identities
from tests.gate.identities.quadratics import make_quadratic
from tests.planting import derived_anew

sizes = st.integers(1, 5)
shares = st.floats(0.05, 0.95)  # of the largest stable step size


@pytest.mark.gate
@given(n=sizes, seed=seeds(), share=shares, steps=st.integers(1, 8), cut=st.integers(0, 7))
def test_steps_of_gradient_ascent(n: int, seed: int, share: float, steps: int, cut: int) -> None:
    last = None if cut == 0 else max(1, steps - cut)
    identities.steps_of_gradient_ascent(make_quadratic(n, seed), share, steps, last)


@pytest.mark.gate
@given(n=sizes, seed=seeds(), share=shares)
def test_one_step(n: int, seed: int, share: float) -> None:
    identities.one_step_from_the_solution(make_quadratic(n, seed), share)


@pytest.mark.gate
@one_in(3)
@given(n=sizes, seed=seeds(), share=st.floats(0.4, 0.6))
def test_converged_gradient_ascent(n: int, seed: int, share: float) -> None:
    q = make_quadratic(n, seed, condition=5, round_outer=False)
    rate = 2 * share / np.linalg.eigvalsh(q.A)[-1]
    identities.converged(q, SGD(rate), steps=200, rtol=1e-9)


@pytest.mark.gate
@one_in(8)
@given(n=sizes, seed=seeds())
def test_converged_adam_whatever_its_step(n: int, seed: int) -> None:
    q = make_quadratic(n, seed, condition=5, round_outer=False)
    for share in (0.3, 0.6):
        rate = share / np.linalg.eigvalsh(q.A)[-1]
        optimiser = Adam(2 * rate, betas=(0.5, 0.8), eps=1.0)
        identities.converged(q, optimiser, steps=300, rtol=1e-6)


@pytest.mark.gate
@one_in(2)
@given(
    seed=seeds(), rho=st.floats(0.3, 0.95), sign=st.sampled_from((1, -1)), steps=st.integers(1, 4)
)
def test_decay(seed: int, rho: float, sign: int, steps: int) -> None:
    identities.decay(make_quadratic(1, seed), sign * rho, steps)


@pytest.mark.gate
@pytest.mark.parametrize("structure", ["diagonal", "isotropic"])
@given(problem=problems(3), share=shares, steps=st.integers(1, 4), extra=st.integers(0, 2))
def test_gaussian(structure: str, problem: Problem, share: float, steps: int, extra: int) -> None:
    identities.gaussian(problem, structure, share, steps, extra)


@pytest.mark.gate
@one_in(2)
@given(n=sizes, seed=seeds(), exponent=st.floats(0.5, 4))
def test_penalty(n: int, seed: int, exponent: float) -> None:
    q = make_quadratic(n, seed, condition=30, round_outer=False)
    identities.penalised(q, 10**exponent)


@pytest.mark.gate
@one_in(2)
@given(n=sizes, seed=seeds(), steps=st.integers(1, 5), eps=st.sampled_from((1e-8, 1e-2, 1.0)))
def test_adam_by_differences(n: int, seed: int, steps: int, eps: float) -> None:
    identities.adam_by_differences(make_quadratic(n, seed), Adam(0.1, eps=eps), steps)


@pytest.mark.gate
@one_in(5)
@given(n=sizes, seed=seeds(), factor=st.sampled_from((1e-13, 1e13)))
def test_scales_with_the_outer_objective(n: int, seed: int, factor: float) -> None:
    identities.scales_with_the_outer_objective(make_quadratic(n, seed, condition=30), factor)


@pytest.mark.gate
@pytest.mark.parametrize("place", ["theta", "phi"])
@given(n=sizes, seed=seeds())
@one_in(8)
def test_nan_is_refused(place: str, n: int, seed: int) -> None:
    q = make_quadratic(n, seed)
    theta, phi = q.trees(q.start)
    theta = theta | {"scalar": theta["scalar"] * float("nan" if place == "theta" else 1)}
    phi = (phi[0] * float("nan" if place == "phi" else 1), phi[1])
    with pytest.raises(NonFiniteError, match=rf"{place}.* is nan"):
        unrolled.unrolled(q.J, q.F, theta, phi, optimiser=SGD(0.1), steps=2)
    with pytest.raises(NonFiniteError, match=rf"{place}.* is nan"):
        penalty.penalty(q.J, q.F, theta, phi, weight=10.0)


# --- planted faults ---

ROUND, FULL = make_quadratic(3, 1), make_quadratic(3, 1, condition=5, round_outer=False)
SCALAR = make_quadratic(1, 7)
ASCENT = partial(identities.steps_of_gradient_ascent, ROUND, 0.4, 3, None)
CUT = partial(identities.steps_of_gradient_ascent, ROUND, 0.4, 4, 2)
GAUSSIAN = partial(identities.gaussian, make_problem(2, 7), "diagonal", 0.3, 3, 1)
ADAM = partial(identities.adam_by_differences, make_quadratic(2, 3), Adam(0.1, eps=1e-2), 3)
PENALTY = partial(identities.penalised, FULL, 1e3)
Plant = Callable[[Any], Any]


def with_steps(more: int) -> Plant:
    """One step more or fewer than asked for, differentiated like the others."""

    def plant(right: Any) -> Any:
        def faulty(*args: Any, steps: int, last: int | None = None, **kwargs: Any) -> Any:
            return right(*args, steps=steps + more, last=last, **kwargs)

        return faulty

    return plant


def with_last(more: int) -> Plant:
    """One step more or fewer differentiated than asked for."""

    def plant(right: Any) -> Any:
        def faulty(*args: Any, steps: int, last: int | None = None, **kwargs: Any) -> Any:
            last = (steps if last is None else last) + more
            return right(*args, steps=steps, last=min(last, steps), **kwargs)

        return faulty

    return plant


def downhill(right: Any) -> Any:
    """Descent for ascent."""
    return lambda self, theta, slope, moments: right(self, theta, -slope, moments)


def without_memory(right: Any) -> Any:
    """The moments count as constants."""

    def faulty(self: Any, theta: Any, slope: Any, moments: Any) -> Any:
        fixed = type(moments)(moments.first.detach(), moments.second.detach(), moments.count)
        return right(self, theta, slope, fixed)

    return faulty


def frozen_slope(right: Any) -> Any:
    """The gradient counts as a constant, as if the Hessian were 0."""
    return lambda self, theta, slope, moments: right(self, theta, slope.detach(), moments)


FAULTS: dict[str, tuple[Any, str, Plant, partial[None]]] = {
    "a dropped last step": (unrolled, "unrolled", with_steps(-1), ASCENT),
    "one step too many": (unrolled, "unrolled", with_steps(1), ASCENT),
    "one step too few differentiated": (unrolled, "unrolled", with_last(-1), CUT),
    "one step too many differentiated": (unrolled, "unrolled", with_last(1), CUT),
    "one step too few differentiated, Gaussian": (unrolled, "unrolled", with_last(-1), GAUSSIAN),
    "the wrong sign of the step": (SGD, "step", downhill, ASCENT),
    "the wrong sign of Adam's step": (Adam, "step", downhill, ADAM),
    "the graph cut at each step": (SGD, "step", frozen_slope, ASCENT),
    "the bias measured one step late": (
        unrolled,
        "unrolled",
        with_steps(1),
        partial(identities.decay, SCALAR, 0.6, 2),
    ),
    "Adam's memory not differentiated": (Adam, "step", without_memory, ADAM),
    "σ missing": (
        penalty,
        "difference",
        lambda right: lambda moved, still, weight: right(moved, still, 1.0),
        PENALTY,
    ),
    "the wrong sign of the indirect part": (
        penalty,
        "difference",
        lambda right: lambda moved, still, weight: right(still, moved, weight),
        PENALTY,
    ),
    "θ* not subtracted": (
        penalty,
        "difference",
        lambda right: lambda moved, still, weight: right(moved, 0 * still, weight),
        PENALTY,
    ),
    "σ off by a tenth of a per cent": (
        penalty,
        "difference",
        lambda right: lambda moved, still, weight: right(moved, still, 1.001 * weight),
        PENALTY,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, plant, notices = FAULTS[name]
    notices()
    monkeypatch.setattr(owner, attribute, plant(vars(owner)[attribute]))
    with pytest.raises((AssertionError, unrolled.HypergradientError), match=r"fails|may be wrong"):
        notices()


def test_the_conditions_of_the_derivations_bite() -> None:
    """Every sign turned round, and every zero moved, is noticed."""
    derivations = [entry.build() for entry in catalogue() if entry.name in CONDITIONED]
    assert len(derivations) == len(CONDITIONED)
    for derivation in derivations:
        assert derivation.conditions
        for condition in derivation.conditions:
            assert condition.holds()
            right = condition.expression
            one = sp.ones(*right.shape) if isinstance(right, sp.MatrixBase) else 1
            wrong = -right if condition.kind == "positive" else right + one
            assert not replace(condition, expression=wrong).holds()


CONDITIONED = (
    "hypergradients.unrolled.hypergradient",
    "hypergradients.unrolled.bias",
    "hypergradients.unrolled.truncated",
    "hypergradients.unrolled.one_step",
    "hypergradients.unrolled_gaussian.hypergradient[diagonal, n=1]",
    "hypergradients.unrolled_gaussian.hypergradient[isotropic, n=2]",
    "hypergradients.penalty.hypergradient",
    "hypergradients.penalty.bias",
)


@pytest.mark.parametrize("name", ["objective", "log_likelihood"])
@pytest.mark.parametrize("structure", ["diagonal", "isotropic"])
def test_a_wrong_gaussian_definition_fails(
    name: str, structure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(definitions, name)
    with derived_anew():
        monkeypatch.setattr(definitions, name, lambda *args: 2 * right(*args))
        with pytest.raises(DerivationError):
            hypergradients.unrolled_gaussian.hypergradient(structure, 2).verify()
        monkeypatch.undo()


def test_a_full_covariance_has_no_one_factor() -> None:
    with pytest.raises(StructureError, match="unknown structure 'full'; pass one of"):
        hypergradients.unrolled_gaussian.hypergradient("full", 2)
