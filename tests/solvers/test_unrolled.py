"""Unrolled hypergradients: Adam as in torch, zero gradients, errors, warnings, trees, dtypes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.errors import InputError, NonFiniteError
from solvers.hypergradients.implicit import HypergradientError, HypergradientWarning, implicit
from solvers.hypergradients.unrolled import one_step, unrolled
from solvers.numerics.optimisers import SGD, Adam, Moments, Optimiser
from tests.levels import F, F_of_trees, J, J_of_trees

FREE: dict[str, Any] = {"tolerance": math.inf, "distance": math.inf}
ZERO, ONE = torch.zeros(2).double(), torch.ones(2).double()


def run(optimiser: Optimiser | None = None, **kwargs: Any):
    arguments: dict[str, Any] = {"J": J, "F": F, "theta": ZERO, "phi": ONE, "steps": 3}
    arguments |= {"optimiser": optimiser or SGD(0.5)} | kwargs
    return unrolled(**arguments)


def test_a_value_by_hand() -> None:
    """θ_3 = 7/8 and dθ_3/dφ = 7/8."""
    found = run(**FREE)
    torch.testing.assert_close(found.value, 1 + 0.875 * (3 - 0.875) * ONE, rtol=1e-14, atol=0)
    assert found.stationarity == pytest.approx(0.125 * math.sqrt(2))
    assert found.residual == pytest.approx(0.125)
    assert (found.iterations, found.curvature, found.damping) == (3, pytest.approx(1.0), 0.0)
    assert run(last=2, **FREE).iterations == 2
    assert run(last=2, **FREE).residual == pytest.approx(0.25)
    torch.testing.assert_close(
        run(last=2, **FREE).value, 1 + 0.75 * (3 - 0.875) * ONE, rtol=1e-14, atol=0
    )


def test_one_step_is_unrolled_once() -> None:
    found = one_step(J, F, ZERO, ONE, optimiser=SGD(0.5), **FREE)
    torch.testing.assert_close(found.value, run(steps=1, **FREE).value, rtol=0, atol=0)
    assert found.iterations == 1
    with pytest.warns(HypergradientWarning, match="problem of 1 steps"):
        one_step(J, F, ZERO, ONE, optimiser=SGD(0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_adam_is_that_of_torch_bit_for_bit(dtype: torch.dtype, eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=generator, dtype=dtype)
    theirs = start.clone().requires_grad_()
    adam = torch.optim.Adam([theirs], lr=0.03, betas=(0.8, 0.95), eps=eps, maximize=True)
    ours, moments = start, Moments(torch.zeros_like(start), torch.zeros_like(start))
    for _ in range(50):
        slope = torch.randn(7, generator=generator, dtype=dtype)
        slope[0] = 0
        theirs.grad = slope.clone()
        adam.step()
        ours, moments = Adam(0.03, (0.8, 0.95), eps).step(ours, slope, moments)
        assert torch.equal(ours, theirs.detach())


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_adam_has_the_right_derivative_at_a_zero_gradient(steps: int) -> None:
    """The first entry starts at its optimum; central differences of the same steps agree."""
    phi, eps, h = ONE.clone(), 0.5, 1e-6

    def reached(moved: Tensor) -> float:
        theta, moments = torch.tensor([1.0, 0.0]).double(), Moments(ZERO, ZERO)
        for _ in range(steps):
            theta, moments = Adam(0.1, eps=eps).step(theta, moved - theta, moments)
        return float(F(theta, moved))

    found = run(Adam(0.1, eps=eps), theta=torch.tensor([1.0, 0.0]).double(), steps=steps, **FREE)
    want = [(reached(phi + h * e) - reached(phi - h * e)) / (2 * h) for e in torch.eye(2).double()]
    assert bool(torch.isfinite(found.value).all())
    torch.testing.assert_close(found.value, torch.tensor(want).double(), rtol=1e-5, atol=0)


def test_adam_from_the_optimum_is_finite_and_doubted() -> None:
    """Its derivative there is η/ε: the steps expand distances, which the residual shows."""
    with pytest.raises(HypergradientError, match="of the pull is left"):
        run(Adam(0.1), theta=ONE, strict=True)
    found = run(Adam(0.1), theta=ONE, steps=1, **FREE)
    torch.testing.assert_close(found.value, 1 + 2 * ONE * 0.1 / 1e-8, rtol=1e-6, atol=0)
    with pytest.raises(HypergradientError, match="overflows"):
        run(Adam(0.1), theta=ONE, steps=100)


def test_a_converged_value_is_not_doubted_and_is_the_implicit_one() -> None:
    found = run(steps=60, strict=True)
    exact = implicit(J, F, ONE, ONE, strict=True)
    torch.testing.assert_close(found.value, exact.value, rtol=1e-12, atol=0)
    assert found.residual is not None
    assert found.residual < 1e-15


def test_a_value_that_has_not_converged_is_doubted() -> None:
    with pytest.warns(HypergradientWarning, match=r"after 3 steps.* problem of 3 steps"):
        run()
    with pytest.raises(HypergradientError, match=r"0\.125 of the pull is left after the 3 steps"):
        run(strict=True, distance=math.inf)
    with pytest.raises(HypergradientError, match=r"theta is about 0\.177 from the inner solution"):
        run(strict=True, tolerance=math.inf)
    with pytest.raises(HypergradientError, match="left after the 2 steps differentiated"):
        run(steps=80, last=2, strict=True)


def test_an_inner_problem_that_is_not_concave_is_doubted() -> None:
    with pytest.raises(HypergradientError, match="curvature along it -1"):
        run(J=lambda t, p: (t - p).square().sum() / 2, strict=True)


def test_linear_and_constant_objectives() -> None:
    found = run(J=lambda t, p: t.sum() + p.sum(), **FREE)
    torch.testing.assert_close(found.value, ONE, rtol=0, atol=0)
    assert found.curvature == 0
    found = run(J=lambda t, p: p.sum(), **FREE)
    assert (found.stationarity, found.curvature, found.residual) == (0.0, None, 1.0)
    found = run(F=lambda t, p: 0 * t.sum(), **FREE)
    torch.testing.assert_close(found.value, ZERO, rtol=0, atol=0)
    assert found.residual == 0
    found = run(F=lambda t, p: p.square().sum(), **FREE)
    torch.testing.assert_close(found.value, 2 * ONE, rtol=0, atol=0)


def test_trees_keep_their_structure_and_arguments_their_values() -> None:
    theta: Any = {"a": torch.tensor(0.5), "b": [torch.zeros(2, 3), torch.ones(1)]}
    phi = (torch.tensor(2.0), {"c": torch.ones(3)})

    found = unrolled(J_of_trees, F_of_trees, theta, phi, optimiser=SGD(0.25), steps=30, last=25)
    first, second = found.value
    assert isinstance(found.value, tuple)
    torch.testing.assert_close(first, torch.tensor(4.0))
    torch.testing.assert_close(second, {"c": torch.full((3,), 2.0)})
    assert first.dtype == torch.float32
    assert not first.requires_grad
    assert bool((theta["b"][0] == 0).all())
    assert not theta["a"].requires_grad


def test_learning_rates_may_not_be_too_large() -> None:
    with pytest.raises(NonFiniteError, match=r"after \d+ steps: .*smaller learning rate"):
        run(SGD(1e3), steps=400)
    with pytest.raises(NonFiniteError, match=r"after \d+ steps: .*smaller learning rate"):
        run(SGD(1e3), steps=400, last=1)


def test_a_domain_that_is_left_is_named() -> None:
    def logarithm(theta: Tensor, phi: Tensor) -> Tensor:
        return (theta.log() - 9 * phi * theta).sum()

    with pytest.raises(NonFiniteError, match="not finite at theta after 1 steps"):
        run(J=logarithm, theta=ONE)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"steps": 0}, InputError, "steps is 0: pass at least 1"),
        ({"steps": -2}, InputError, "steps is -2"),
        ({"steps": True}, InputError, "steps is True"),
        ({"last": 0}, InputError, "last is 0: pass at least 1"),
        ({"last": 4}, InputError, "last is 4, steps 3: pass last <= steps"),
        ({"distance": math.nan}, InputError, "distance is nan"),
        ({"J": lambda t, p: t.sum() * math.nan}, NonFiniteError, "after 0 steps"),
    ],
)
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(**change)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_bad_learning_rates_are_named(rate: float) -> None:
    for optimiser in (SGD, Adam):
        with pytest.raises(InputError, match="learning_rate is"):
            optimiser(rate)


def test_bad_constants_of_adam_are_named() -> None:
    for eps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match=r"eps is .*: pass a number > 0"):
            Adam(0.1, eps=eps)
    for betas in ((1.0, 0.9), (0.9, -0.1), (math.nan, 0.9)):
        with pytest.raises(InputError, match="betas are"):
            Adam(0.1, betas=betas)
