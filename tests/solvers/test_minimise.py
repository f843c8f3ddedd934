"""Newton steps one by one: which are kept, when they end, and what they are said to have taken."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.numerics import minimise
from tests.draws import F64

EPS = torch.finfo(F64).eps
NEWTON = minimise.newton


def watched(
    f: Callable[[Tensor], Tensor], theta: Tensor
) -> tuple[Callable[[], Tensor], list[float]]:
    """Return a loss, and the list of the first entries at which it is taken."""
    seen: list[float] = []

    def loss() -> Tensor:
        seen.append(float(theta.detach()[0]))
        return f(theta)

    return loss, seen


def at(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64, requires_grad=True)


def test_it_ends_when_the_error_is_a_share_of_the_way() -> None:
    """On θ⁴/4 from 1, `s = -θ/3`: the first θ = (2/3)ᵏ with θ/3 <= 0.1 (1 - θ) is at k = 4."""
    theta = at(1.0)
    loss, _ = watched(lambda t: t.pow(4).sum() / 4, theta)
    stop = minimise.newton([theta], loss, torch.ones(1, dtype=F64), 0.0, 100, share=0.1)
    assert stop.close
    assert float(theta.detach()) == pytest.approx((2 / 3) ** 4)


def test_a_step_is_kept_that_lowers_the_loss_by_a_quarter_of_what_it_predicts() -> None:
    """On √(1 + θ²) `θ + s = -θ³`; from 0.8 the loss falls by 0.38 of the gain, not by half."""
    theta = at(0.8)
    loss, seen = watched(lambda t: (1 + t.square()).sqrt().sum(), theta)
    minimise.newton([theta], loss, torch.zeros(1, dtype=F64), 1e-12, 100)
    assert seen[:3] == pytest.approx([0.8, -(0.8**3), 0.8**9])


def test_a_rise_within_rounding_does_not_reject_a_step() -> None:
    """The gradient of ½θ² is exact; the value, 1, is shown 12 eps higher after the first step."""
    theta, values = at(1.0), [1.0]

    def loss() -> Tensor:
        value = theta.square().sum() / 2
        shown = values.pop() if values else 1 + 12 * EPS  # below 8 eps (1 + θ²) = 16 eps
        return value - value.detach() + shown

    stop = minimise.newton([theta], loss, torch.zeros(1, dtype=F64), 0.0, 100)
    assert float(theta.detach()) == 0
    assert stop.stationarity == 0


def test_a_loss_a_hessian_and_a_distance_are_an_evaluation_each() -> None:
    theta = at(2.0)
    loss, seen = watched(lambda t: ((t - 1).pow(4) / 4 + (t - 1).square() / 2).sum(), theta)
    stop = minimise.newton([theta], loss, torch.zeros(1, dtype=F64), 1e-6, 100)
    assert "at most 1e-06" in stop.reason
    assert stop.evaluations == len(seen) + 2 * (len(seen) - 1)


def test_newton_steps_by_cg_keep_to_what_is_left_of_the_budget() -> None:
    """Well conditioned while θ⁴ leads, and towards the end with a condition of 10⁸."""
    d = torch.logspace(-8, 0, minimise.DENSE + 1, dtype=F64)

    def spent(limit: int) -> int:
        theta = torch.full_like(d, 3.0).requires_grad_()
        loss, _ = watched(lambda t: (t.pow(4) / 4 + d * t.square() / 2).sum(), theta)
        return minimise.newton([theta], loss, torch.full_like(d, 3.0), 0.0, limit).evaluations

    over = [spent(limit) - limit for limit in range(20, 140, 3)]
    assert max(over) <= len(minimise.LENGTHS) + 1  # a step that is begun is tried out


def test_newton_steps_by_cg_arrive() -> None:
    d = torch.logspace(-1, 0, minimise.DENSE + 1, dtype=F64)
    theta = torch.zeros_like(d, requires_grad=True)
    loss, _ = watched(lambda t: (d * (t - 1).square()).sum() / 2, theta)
    stop = minimise.newton([theta], loss, torch.zeros_like(d), 1e-8, 500)
    assert stop.converged
    torch.testing.assert_close(theta.detach(), torch.ones_like(d), rtol=1e-7, atol=0)


def test_lbfgs_ends_where_a_round_gains_a_share_of_the_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On `θ⁸`, whose descent slows down: the first round below `share²` of all is the last."""
    monkeypatch.setattr(minimise, "ROUND", 1)
    step, values = torch.optim.LBFGS.step, list[float]()

    def noted(self: torch.optim.LBFGS, closure: Callable[[], float]) -> Tensor:
        value = step(self, closure)
        values.append(float(value.detach()))
        return torch.as_tensor(value)

    monkeypatch.setattr(torch.optim.LBFGS, "step", noted)
    theta = at(1.0, 2.0)
    weight = torch.tensor([1.0, 1e-3], dtype=F64)
    share = 0.1
    loss, _ = watched(lambda t: (weight * t.pow(8)).sum(), theta)
    minimise.lbfgs([theta], loss, 0.0, 1000, share=share)
    gains = [before - after for before, after in pairwise(values)]
    progress = list(accumulate(gains))
    low = [gain <= share**2 * total for gain, total in zip(gains, progress, strict=True)]
    assert low == [False] * (len(low) - 1) + [True]
    assert any(gain < share * total for gain, total in zip(gains, progress, strict=True))
    assert sum(gain < share * total for gain, total in zip(gains, progress, strict=True)) > 1


def test_every_loss_of_a_search_is_counted() -> None:
    """Newton steps that do not converge, L-BFGS, and what it gained: on √(1 + θ²) from afar."""
    theta = at(30.0, -20.0)
    loss, seen = watched(lambda t: (1 + t.square()).sqrt().sum(), theta)
    curved = 0

    def newton(*args: Any, **kwargs: Any) -> minimise.Stop:
        nonlocal curved
        before = len(seen)
        stop = NEWTON(*args, **kwargs)
        curved += stop.evaluations - (len(seen) - before)
        return stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minimise, "newton", newton)
        stop = minimise.search([theta], loss, 1e-9, 1000, methods=[minimise.lbfgs])
    assert stop.converged
    assert stop.evaluations == len(seen) + curved
