"""The penalty hypergradient: a value by hand, its residual, errors, warnings, trees, dtypes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.errors import InputError, NonFiniteError
from solvers.hypergradients.implicit import HypergradientError, HypergradientWarning, implicit
from solvers.hypergradients.penalty import penalty
from solvers.numerics import minimise
from tests.levels import F, F_of_trees, J, J_of_trees

ZERO, ONE = torch.zeros(2).double(), torch.ones(2).double()


def run(**kwargs: Any):
    arguments: dict[str, Any] = {"J": J, "F": F, "theta": ONE, "phi": ONE, "weight": 1e4}
    return penalty(**(arguments | kwargs))


def test_a_value_by_hand() -> None:
    """θ_ς = (3 + ς)/(1 + ς), so that the value is 1 + 2ς/(1 + ς)."""
    found = run(weight=199.0)
    torch.testing.assert_close(found.value, 2.99 * ONE, rtol=1e-12, atol=0)
    assert found.residual == pytest.approx(1 / 200)
    assert found.stationarity < 1e-12
    assert found.iterations > 0
    assert (found.curvature, found.damping) == (None, 0.0)


def test_it_tends_to_the_implicit_one() -> None:
    """Not quadratic: the bias falls tenfold with each tenfold weight."""

    def inner(theta: Tensor, phi: Tensor) -> Tensor:
        return J(theta, phi) - theta.pow(4).sum() / 4

    best = torch.full((2,), 0.6823278038280193, dtype=torch.float64)  # θ³ + θ = 1
    exact = implicit(inner, F, best, ONE, strict=True).value
    errors = [
        float((run(J=inner, theta=best, weight=w, strict=True).value - exact).norm())
        for w in (1e2, 1e3, 1e4)
    ]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.02)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.02)


def test_a_small_weight_is_doubted_and_a_large_one() -> None:
    with pytest.warns(HypergradientWarning, match=r"residual is 0\.5, .* 0\.5 is bias, .* larger"):
        run(weight=1.0)
    with pytest.raises(HypergradientError, match="which a larger weight"):
        run(weight=1.0, strict=True)
    with pytest.raises(HypergradientError, match=r"pass a smaller weight|the residual is"):
        run(weight=1e16, strict=True)

    def offset(theta: Tensor, phi: Tensor) -> Tensor:  # ∂_φJ is large, its change small
        return J(theta, phi) + 1e9 * phi.sum()

    with pytest.raises(HypergradientError, match=r"rounding of dJ/dphi .* smaller weight"):
        run(J=offset, weight=1e7, strict=True)


def test_a_small_outer_objective_is_not_lost_in_silence() -> None:
    """The weight is in units of F over J: with it unchanged, nothing is left of F * 1e-15."""
    with pytest.raises(HypergradientError, match="may be wrong"):
        run(F=lambda t, p: 1e-15 * F(t, p) - 1e-15 * p.sum(), strict=True)


def test_an_error_of_theta_counts_by_the_weight() -> None:
    off = ONE + 1e-5
    with pytest.raises(HypergradientError, match="come from the gradients left at theta"):
        run(theta=off, strict=True)
    with pytest.warns(HypergradientWarning, match="the residual is 0.05"):
        found = run(theta=off)
    assert found.stationarity == pytest.approx(1e-5 * math.sqrt(2))
    assert run(theta=off, weight=200.0, strict=True).residual == pytest.approx(0.006, rel=0.01)


def test_a_search_that_ends_early_is_doubted() -> None:
    def inner(theta: Tensor, phi: Tensor) -> Tensor:
        return J(theta, phi) - theta.pow(4).sum() / 4

    best = torch.full((2,), 0.6823278038280193, dtype=torch.float64)
    with pytest.raises(HypergradientError, match="more max_iterations"):
        run(J=inner, theta=best, weight=200.0, max_iterations=1, tolerance=1e-2, strict=True)


def test_evaluations_are_those_of_both_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """L-BFGS comes close, Newton steps arrive."""
    lbfgs, newton, spent = minimise.lbfgs, minimise.newton, dict[str, int]()

    def watched_lbfgs(*args: Any) -> int:
        spent["lbfgs"] = lbfgs(*args)
        return spent["lbfgs"]

    def watched_newton(*args: Any, **kwargs: Any) -> minimise.Stop:
        stop = newton(*args, **kwargs)
        spent["newton"] = stop.evaluations
        return stop

    monkeypatch.setattr(minimise, "lbfgs", watched_lbfgs)
    monkeypatch.setattr(minimise, "newton", watched_newton)
    found = run(J=lambda t, p: J(t, p) - (t - 1).pow(4).sum() / 4, weight=200.0)
    assert found.iterations == spent["lbfgs"] + spent["newton"]
    assert min(spent.values()) > 1


def test_no_maximum_is_an_error() -> None:
    with pytest.raises((HypergradientError, NonFiniteError)):
        run(F=lambda t, p: t.pow(4).sum(), weight=1.0, strict=True)


def test_constant_objectives() -> None:
    found = run(F=lambda t, p: 0 * t.sum(), strict=True)
    torch.testing.assert_close(found.value, ZERO, rtol=0, atol=0)
    found = run(F=lambda t, p: p.square().sum(), strict=True)
    torch.testing.assert_close(found.value, 2 * ONE, rtol=0, atol=0)
    assert found.residual == 0
    with pytest.raises(HypergradientError, match="residual is inf"):
        run(F=lambda t, p: p.square().sum(), theta=ZERO, strict=True)


def test_trees_keep_their_structure_and_arguments_their_values() -> None:
    theta: Any = {"a": torch.tensor(2.0), "b": [torch.ones(2, 3), torch.zeros(1)]}
    phi = (torch.tensor(2.0), {"c": torch.ones(3)})

    found = penalty(J_of_trees, F_of_trees, theta, phi, weight=300.0)
    first, second = found.value
    assert isinstance(found.value, tuple)
    torch.testing.assert_close(first, torch.tensor(4.0), rtol=0.01, atol=0)
    torch.testing.assert_close(second, {"c": torch.full((3,), 2.0)}, rtol=0.01, atol=0)
    assert first.dtype == torch.float32
    assert not first.requires_grad
    assert bool((theta["b"][0] == 1).all())
    assert not theta["a"].requires_grad


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"weight": 0.0}, InputError, "weight is 0.0: pass a number > 0"),
        ({"weight": -1.0}, InputError, "weight is -1"),
        ({"weight": math.nan}, InputError, "weight is nan"),
        ({"weight": math.inf}, InputError, "weight is inf"),
        ({"J": lambda t, p: t.sum() * math.nan}, NonFiniteError, "J is nan"),
    ],
)
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(**change)
