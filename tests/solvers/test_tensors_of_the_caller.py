"""Tensors of the caller that require gradients: constants, and nothing of theirs is changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from types import MethodType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers import bilevel
from solvers.families.networks import MLP
from solvers.numerics import minimise
from solvers.training import ensemble, inner
from tests.draws import F64, normal
from tests.fuzz import calls, oracle, spoiling

POLICY = so.GaussianPolicy(3, 2, "full", MLP((4,), "tanh"))


@dataclass(frozen=True)
class Own:
    """Numbers of the caller, from which data, rewards and weights are computed."""

    x: Tensor
    y: Tensor
    L: Tensor
    lam: Tensor

    @classmethod
    def of(cls, asked: set[str]) -> "Own":
        made = cls(normal(0, 7, 3), normal(1, 7, 2, 2), torch.eye(2, dtype=F64) / 2,
                   torch.tensor(0.3, dtype=F64))  # fmt: skip
        for name in asked:
            getattr(made, name).requires_grad_()
        return made

    @property
    def data(self) -> so.Dataset:
        return so.Dataset.of(self.x, 2 * self.y)

    @property
    def objective(self) -> so.PolicyGradient:
        return so.PolicyGradient(so.MahalanobisReward.full(self.L @ self.L.mT), self.lam)

    def J(self, theta: Tensor, phi: Tensor) -> Tensor:
        weights = (self.x @ self.x.mT).diagonal() @ self.y.square().sum((-2, -1)) / 100
        pulled = (theta - phi - self.lam) @ self.L
        return -weights * pulled.square().sum() - theta.square().sum()

    def F(self, theta: Tensor, phi: Tensor) -> Tensor:
        return -(self.L @ theta - self.lam).square().sum() - phi.square().sum()


def start() -> dict[str, Tensor]:
    drawn = POLICY.init([so.generator(0)], dtype=F64)
    return {name: p.detach() for name, p in drawn.items()}


POINT = torch.ones(2, dtype=F64)


def sgd(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(tensors, lr=0.05)


def by_training(own: Own) -> Any:
    return so.train(
        POLICY, start(), own.objective, own.data,
        epochs=4, learning_rate=0.1, batch_ndim=0, max_norm=0.5,
    )  # fmt: skip


def by_batches(own: Own) -> Any:
    sampled = so.PolicyGradient(own.objective.reward, own.lam, so.Pathwise(3))
    return so.train(
        POLICY, start(), sampled, own.data, epochs=2, learning_rate=0.1, batch_ndim=0,
        batch_size=3, shuffle=so.MemberNoise([so.generator(1)]),
        noise=so.MemberNoise([so.generator(2)]),
    )  # fmt: skip


def by_descent(own: Own) -> Any:
    objective, data = own.objective, own.data
    return ensemble.gradient_descent(
        start(), lambda theta, _: objective(POLICY(theta, data.x), data),
        steps=3, learning_rate=0.1, batch_ndim=0,
    )  # fmt: skip


def by_lbfgs(own: Own) -> Any:
    loss = lambda theta: -own.J(theta["t"], POINT)  # noqa: E731
    return inner.minimum({"t": POINT}, loss, [minimise.lbfgs]).value


def climbed(own: Own, **options: Any) -> Any:
    problem = bilevel.Bilevel(own.J, own.F, sampled=lambda t, p, _: own.J(t, p))
    found = bilevel.solve(
        problem, POINT, POINT + 1, optimiser=sgd, steps=2, generator=so.generator(0), **options
    )
    return found.theta, found.phi


def of_a_likelihood(own: Own) -> Any:
    problem = so.maximum_likelihood(
        so.GaussianPolicy(3, 2), so.ConstantReward(2), own.data, lam=own.lam
    )
    return so.solve(problem, steps=1).phi


RUNS: dict[str, Callable[[Own], Any]] = {
    "train": by_training,
    "train on batches": by_batches,
    "gradient_descent": by_descent,
    "fit": lambda own: so.fit(POLICY, own.data, params=start(), tolerance=1e-4).value,
    "fit on a reward": lambda own: so.fit(so.GaussianPolicy(3, 2), own.data, own.objective).value,
    "gradient": lambda own: inner.gradient(
        POLICY, start(), so.NLL(), own.data, max_iterations=50).value,
    "second_order": lambda own: inner.second_order(
        POLICY, start(), own.objective, own.data, max_iterations=50).value,
    "minimum": by_lbfgs,
    "plug_in": lambda own: so.plug_in(so.GaussianPolicy(3, 2), start_of_lines(), own.lam,
                                      own.data).value,
    "solve": climbed,
    "solve, exactly": lambda own: climbed(own, inner=so.Exact()),
    "solve by steps of Adam": lambda own: climbed(own, inner=so.AdamSteps(3, 0.1)),
    "solve, unrolled": lambda own: climbed(own, hypergradient=so.Unrolled(so.SGD(0.1), 3)),
    "solve by penalty": lambda own: climbed(own, hypergradient=so.Penalty(1e3)),
    "maximum_likelihood": of_a_likelihood,
    "single_loop": lambda own: so.single_loop(
        bilevel.Bilevel(own.J, own.F), POINT, POINT, steps=3,
        inner_rate=lambda _: 0.01, outer_rate=lambda _: 0.01).phi,
}  # fmt: skip


def start_of_lines() -> dict[str, Tensor]:
    return so.GaussianPolicy(3, 2).zeros(F64)


@pytest.mark.parametrize("run", RUNS)
@settings(max_examples=4, deadline=None)
@given(st.sets(st.sampled_from(["x", "y", "L", "lam"]), min_size=1))
@pytest.mark.filterwarnings("ignore:the hypergradient")
def test_what_everything_is_computed_from(run: str, asked: set[str]) -> None:
    """The same result as of plain numbers, and no gradient is left in them."""
    want = list(oracle.numbers(RUNS[run](Own.of(set()))))
    own = Own.of(asked)
    before = Own.of(set())
    for name in asked:
        getattr(own, name).grad = torch.full_like(getattr(own, name), 7.0)
    got = list(oracle.numbers(RUNS[run](own)))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-5, atol=1e-7)
    for name in ("x", "y", "L", "lam"):
        tensor = getattr(own, name)
        assert torch.equal(tensor, getattr(before, name)), name
        assert (tensor.grad == 7).all() if name in asked else tensor.grad is None, name


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors inside a value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, MethodType):
        yield from tensors(value.__self__)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors(vars(value))


@pytest.mark.parametrize("key", calls.all_calls())
@pytest.mark.filterwarnings("ignore")  # what is doubted is not the question
def test_arguments_of_every_public_callable(key: str) -> None:
    function, arguments = calls.all_calls()[key]
    want = function(**spoiling.own(arguments))
    own = spoiling.own(arguments)
    held = [t for t in tensors(own) if t.is_floating_point()]
    for t in held:
        if t.is_leaf:
            t.requires_grad_()
    before = [t.detach().clone() for t in held]
    assert oracle.agree(function(**own), want)
    for t, old in zip(held, before, strict=True):
        assert torch.equal(t, old)
        assert not t.is_leaf or t.grad is None
