"""An objective that changes from call to call has no minimum: that is said before work."""

from typing import Any

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers import bilevel
from solvers.errors import InputError
from solvers.hypergradients.differentiable import inner_solution
from solvers.training import inner
from tests.draws import F64

X = torch.linspace(-1, 1, 12, dtype=F64)[:, None]
DATA = so.Dataset.pairs(X, X + (5 * X).sin() + 0.3 * (17 * X).cos())


class Model(torch.nn.Module):
    """A normal law whose mean goes through a layer that may be another in each call."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer, self.mean = layer, torch.nn.Linear(4, 1, dtype=F64)
        self.wide = torch.nn.Linear(1, 4, dtype=F64)

    def forward(self, x: Tensor) -> torch.distributions.Normal:
        mean = self.mean(self.layer(self.wide(x)))
        return torch.distributions.Normal(mean, torch.ones_like(mean))


def model(layer: torch.nn.Module) -> Any:
    torch.manual_seed(0)
    return so.policy(Model(layer))


SEARCHES: dict[str, Any] = {
    "fit": lambda net: so.fit(net, DATA, params=net.start(), weight_decay=0.1),
    "gradient": lambda net: inner.gradient(net, net.start(), so.NLL(), DATA, weight_decay=0.1),
    "second_order": lambda net: inner.second_order(
        net, net.start(), so.NLL(), DATA, weight_decay=0.1
    ),
    "minimum": lambda net: inner.minimum(
        net.start(), lambda theta: so.NLL()(net(theta, X), DATA) + inner.decay(theta, 0.1)
    ),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_dropout_in_training_mode(name: str) -> None:
    net = model(torch.nn.Dropout(0.5))
    with pytest.raises(InputError, match=r"at the starting point.*asked again.*module\.eval\(\)"):
        SEARCHES[name](net)
    net.module.eval()
    SEARCHES[name](net)


@pytest.mark.parametrize("mode", [True, False])
def test_batch_normalisation_is_the_same_in_every_call(mode: bool) -> None:
    """It takes the statistics of the inputs, or those of the module, and keeps nothing."""
    net = model(torch.nn.BatchNorm1d(4, dtype=F64))
    net.module.train(mode)
    assert so.fit(net, DATA, params=net.start(), weight_decay=0.1).converged


@pytest.mark.parametrize("steps", [so.Exact(), so.Inexact(), so.AdamSteps(3, 0.1)])
def test_a_bilevel_problem_with_dropout(steps: Any) -> None:
    net = model(torch.nn.Dropout(0.5))

    def J(theta: Any, phi: Tensor) -> Tensor:
        return -so.NLL()(net(theta, X), DATA) - phi.exp() * inner.decay(theta, 1.0)

    def solve(more: Any = None) -> Any:
        problem = so.Bilevel(J, lambda t, p: J(t, p.detach()), at=more)
        return bilevel.solve(
            problem, net.start(), torch.zeros((), dtype=F64),
            optimiser=bilevel.lbfgs, inner=steps, steps=1, generator=so.generator(0),
        )  # fmt: skip

    if isinstance(steps, so.AdamSteps):  # which go on from gradients that change, without `at`
        with pytest.warns(so.HypergradientWarning, match="the inner gradient is"):
            solve()
        with pytest.raises(InputError, match=r"J is .* when asked again"):
            solve(lambda phi: lambda theta: J(theta, phi))
        return
    with pytest.raises(InputError, match=r"J is .* at the start.*when asked again.*dropout"):
        solve()
    net.module.eval()
    solve()


def test_an_inner_solution_of_what_is_drawn() -> None:
    drawn = so.generator(0)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -(theta - phi - torch.randn((), generator=drawn, dtype=F64)).square()

    with pytest.raises(InputError, match=r"J is .* when asked again"):
        inner_solution(J, torch.zeros((), dtype=F64), torch.ones((), dtype=F64))
