"""What is refused says what is at fault by name, with its value, and what to pass."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers import bilevel
from solvers.errors import InputError, NonFiniteError
from solvers.hypergradients.implicit import HypergradientError, HypergradientWarning, implicit
from solvers.hypergradients.methods import CG, Implicit, Neumann, Penalty, Unrolled
from solvers.rewards.learnable import ConstantReward
from tests.draws import F64

ONE = torch.ones(2, dtype=F64)


class Once(torch.autograd.Function):
    """`-‖x‖²`, whose backward keeps no graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        return -x.square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -2 * ctx.saved_tensors[0] * g


def once(theta: Tensor, phi: Tensor) -> Tensor:
    return Once.apply(theta - phi)  # pyright: ignore[reportReturnType]


def half_once(theta: Tensor, phi: Tensor) -> Tensor:
    """A factor has a graph of its own, past which torch would take second derivatives."""
    return once(theta, phi) * theta.sum().exp()


def kinks(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - phi).abs().sum() - torch.relu(theta - 2 * phi).sum()


def line(theta: Tensor, phi: Tensor) -> Tensor:
    return theta @ phi


def bowl(theta: Tensor, phi: Tensor) -> Tensor:
    return -5 * (theta - phi).square().sum()


def F(theta: Tensor, phi: Tensor) -> Tensor:
    return -theta.square().sum()


@pytest.mark.parametrize("method", ["dense", "cg", "neumann"])
@pytest.mark.parametrize("J", [once, kinks, line], ids=lambda J: J.__name__)
def test_no_second_derivative(method: Any, J: Any) -> None:
    damping: Any = 0.0 if method == "neumann" else "auto"
    with pytest.warns(HypergradientWarning, match="J has no second derivative in theta") as caught:
        implicit(J, F, 1.5 * ONE, ONE, method=method, damping=damping, max_iterations=20)
    assert "singular" not in str(caught[0].message)
    with pytest.raises(HypergradientError, match="J has no second derivative in theta"):
        implicit(half_once, F, 1.5 * ONE, ONE, method=method, damping=damping)


@pytest.mark.parametrize("step", [0.21, 10.0])
def test_a_step_too_long(step: float) -> None:
    with pytest.raises(HypergradientError, match=rf"step is {step:.3g}, .*pass a step below 2/"):
        Implicit(Neumann(step=step))(bowl, F, ONE, ONE)
    Implicit(Neumann(step=0.19))(bowl, F, ONE, ONE)


def falls(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - phi.exp()).square().sum()


def steep(theta: Tensor, phi: Tensor) -> Tensor:
    """Finite where phi is 800, with a mixed derivative that is not."""
    return -(theta - (phi - 800).abs().sqrt()).square().sum()


FAR = {"u": torch.tensor([1.0, 800.0], dtype=F64)}


def of_u(J: Callable[[Tensor, Tensor], Tensor]) -> Any:
    return lambda theta, phi: J(theta, phi["u"])


@pytest.mark.parametrize("J", [falls, steep], ids=lambda J: J.__name__)
def test_an_extreme_phi_is_named(J: Any) -> None:
    for method in (Implicit(), Unrolled(so.SGD(0.1), 3), Penalty(1e3)):
        with pytest.raises((NonFiniteError, HypergradientError), match=r"phi\['u'\]\[1\] = 800"):
            method(of_u(J), lambda t, p: F(t, p["u"]), ONE, FAR)
    if J is falls:
        problem = bilevel.Bilevel(of_u(J), of_u(F))
        with pytest.raises(NonFiniteError, match=r"phi\['u'\]\[1\] = 800"):
            bilevel.solve(problem, ONE, FAR, optimiser=torch.optim.Adam, steps=2)


def data() -> so.Dataset:
    x = torch.arange(6, dtype=F64).reshape(6, 1)
    return so.Dataset.pairs(x, x.cos())


PROBLEM = so.maximum_likelihood(so.GaussianPolicy(1, 1), ConstantReward(1), data(), lam=0.5)
POLICY = so.GaussianPolicy(1, 1)
CLASSES: dict[str, tuple[str, Callable[[], Any]]] = {
    "so.solve, hypergradient": (
        "hypergradient is the class Implicit: pass an object of it, Implicit()",
        lambda: so.solve(PROBLEM, hypergradient=cast(Any, Implicit)),
    ),
    "so.solve, unrolled": (
        "hypergradient is the class Unrolled: pass an object of it, Unrolled(optimiser, steps)",
        lambda: so.solve(PROBLEM, hypergradient=Unrolled),  # pyright: ignore[reportArgumentType]
    ),
    "so.solve, inner": (
        "inner is the class Inexact: pass an object of it, Inexact()",
        lambda: so.solve(PROBLEM, inner=bilevel.Inexact),  # pyright: ignore[reportArgumentType]
    ),
    "bilevel.solve, hypergradient": (
        "hypergradient is the class Penalty: pass an object of it, Penalty(weight)",
        lambda: bilevel.solve(
            bilevel.Bilevel(bowl, F), ONE, ONE, optimiser=torch.optim.Adam, steps=1,
            hypergradient=Penalty,  # pyright: ignore[reportArgumentType]
        ),
    ),
    "Implicit, solver": (
        "solver is the class CG: pass an object of it, CG()",
        lambda: Implicit(CG),  # pyright: ignore[reportArgumentType]
    ),
    "Unrolled, optimiser": ("SGD", lambda: Unrolled(so.SGD, 3)),  # pyright: ignore[reportArgumentType]
    "maximum_likelihood, policy": (
        "policy is the class GaussianPolicy: pass an object of it, GaussianPolicy(inputs, n)",
        lambda: so.maximum_likelihood(so.GaussianPolicy, ConstantReward(1), data(), lam=1.0),  # pyright: ignore[reportArgumentType]
    ),
    "maximum_likelihood, reward": (
        "reward is the class ConstantReward: pass an object of it, ConstantReward(n)",
        lambda: so.maximum_likelihood(POLICY, ConstantReward, data(), lam=1.0),  # pyright: ignore[reportArgumentType]
    ),
    "fit, objective": (
        "objective is the class NLL: pass an object of it, NLL()",
        lambda: so.fit(POLICY, data(), so.NLL),  # pyright: ignore[reportArgumentType]
    ),
    "train, objective": (
        "objective is the class NLL: pass an object of it, NLL()",
        lambda: so.train(
            POLICY, POLICY.zeros(), so.NLL, data(), epochs=1, learning_rate=0.1, batch_ndim=0  # pyright: ignore[reportArgumentType]
        ),
    ),
    "PolicyGradient, estimator": (
        "estimator is the class ScoreFunction: pass an object of it, ScoreFunction()",
        lambda: so.PolicyGradient(so.MahalanobisReward.scalar(1.0, 1), 0.5, so.ScoreFunction),  # pyright: ignore[reportArgumentType]
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", CLASSES)
def test_a_class_where_an_object_is_meant(place: str) -> None:
    said, call = CLASSES[place]
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value)
