"""Searches do not depend on the units of the inputs, and begin where they can move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers.bilevel.loop import solve
from solvers.families.networks import InputUnits
from tests.draws import F64, normal


@given(
    seed=st.integers(0, 99),
    centre=st.floats(-1e6, 1e6),
    scale=st.floats(-6, 6).map(lambda power: 10.0**power),
    hidden=st.sampled_from([(), (3,)]),
)
def test_a_network_at_raw_inputs_is_that_at_inputs_in_units(
    seed: int, centre: float, scale: float, hidden: tuple[int, ...]
) -> None:
    network = so.MLP(hidden, "tanh")
    x = centre + scale * normal(seed, 9, 2)
    units = InputUnits.of(x)
    drawn = {f"a.{k}": v for k, v in network.init(so.generator(seed), 2, 2).items()}
    z = (x - units.centre) / units.scale
    digits = 1e-12 * (1 + abs(centre) / scale)
    raw = units.raw(drawn, ["a."])
    torch.testing.assert_close(
        network(raw, "a.", x), network(drawn, "a.", z), rtol=digits, atol=digits
    )
    again = units.relative(raw, ["a."])
    for name, leaf in drawn.items():
        torch.testing.assert_close(again[name], leaf, rtol=digits, atol=digits)


@pytest.mark.parametrize("x", [normal(0, 50, 2), torch.zeros(4, 2, dtype=F64)])
def test_what_is_about_standard_stays_as_it_is(x: Tensor) -> None:
    units = InputUnits.of(x)
    assert bool((units.centre == 0).all())
    assert bool((units.scale == 1).all())


def test_inputs_whose_squares_are_beyond_a_double() -> None:
    units = InputUnits.of(1e300 * normal(0, 50, 1))
    assert units.scale.item() == pytest.approx(1e300, rel=0.5)


def gaussian(x: Tensor) -> tuple[Any, float]:
    """A reward of the inputs, learned by a policy whose scale depends on them."""
    z = normal(0, 60, 2)
    data = so.Dataset.pairs(x, z[:, :1] + (0.7 * z[:, 1:]).exp() * normal(1, 60, 1))
    policy = so.GaussianPolicy(2, 1, "diagonal", scale=so.MLP())
    reward = so.InputReward(2, 1, so.MLP(), "diagonal")
    best = policy(so.fit(policy, data).value, x)
    return so.maximum_likelihood(policy, reward, data, lam=0.5), -float(so.NLL()(best, data))


def classes(x: Tensor) -> tuple[Any, float]:
    """Any reward of classes."""
    score = normal(0, 60, 2)[:, 0] + normal(1, 60)
    data = so.LabelledData.of(x, (score > 0).long() + (score > 1).long(), C=3)
    policy = so.CategoricalPolicy(2, 3)
    problem = so.maximum_likelihood(policy, so.FreeReward(2, 3), data, lam=0.5, weight_decay=1e-3)
    best = so.fit(policy, data, weight_decay=1e-3)
    return problem, float(problem.levels.F(best.value, {}))


@settings(max_examples=3)
@pytest.mark.parametrize("of", [gaussian, classes])
@given(
    seed=st.integers(0, 9),
    centre=st.floats(-100, 100),
    scale=st.floats(-1, 2).map(lambda power: 10.0**power),
)
def test_a_converged_run_has_the_best_likelihood_in_any_units(
    of: Any, seed: int, centre: float, scale: float
) -> None:
    problem, best = of(centre + scale * normal(0, 60, 2))
    found = so.solve(problem, seed=seed)
    assert found.converged, found.reason
    assert pytest.approx(best, abs=1e-5) == found.result.history[-1].F


class Jump(torch.optim.Optimizer):
    """To one point."""

    def __init__(self, leaves: list[Tensor], to: Tensor) -> None:
        super().__init__(leaves, {})
        self.to = to

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        closure()
        with torch.no_grad():
            self.param_groups[0]["params"][0].copy_(self.to)


def test_a_slope_that_is_small_beside_a_first_one_is_no_end() -> None:
    """A steep and a flat direction, both of two entries: what F gains is nearer than any look."""
    K, off = 1e12, 1e-8

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return -(K * (theta.sum() - 2) ** 2 + (theta[0] - theta[1] - 4) ** 2) / 2

    problem = so.Bilevel(lambda theta, phi: -(theta - phi).square().sum(), F)
    start, ridge = torch.full((2,), 10.0, dtype=F64), torch.full((2,), 1 + off, dtype=F64)
    found = solve(problem, start, start, optimiser=lambda leaves: Jump(leaves, ridge), steps=1)
    assert found.history[-1].hypergradient < 1e-8 * found.history[0].hypergradient
    assert not found.converged
    assert "a little further along it" in found.reason


NETWORKS = {
    "Gaussian": lambda: so.GaussianPolicy(1, 1, mean=so.MLP((8,))),
    "its scale": lambda: so.GaussianPolicy(1, 1, scale=so.MLP((4, 4), "tanh")),
    "classes": lambda: so.CategoricalPolicy(1, 2, so.MLP((8,))),
    "bits": lambda: so.BernoulliPolicy(1, 1, so.MLP((8,))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_cannot_move_are_refused(name: str) -> None:
    """At 0 every derivative but that of the last bias vanishes: the constant law looks best."""
    policy: Any = NETWORKS[name]()
    x = normal(0, 30, 1)
    y = 3 * x + normal(1, 30, 1)
    data: Any = so.Dataset.pairs(x, (y > 0).double() if name == "bits" else y)
    if name == "classes":
        data = so.LabelledData.of(x, (y[:, 0] > 0).long(), C=2)
    with pytest.raises(so.InputError, match=r"does not move: .* policy\.init"):
        so.fit(policy, data, weight_decay=0.1)
    start = policy.init([so.generator(0)], dtype=F64)
    moved = so.fit(policy, data, params=start, weight_decay=1e-3).value
    nll = so.NLL()
    assert nll(policy(moved, x), data) < nll(policy(start, x), data) - 0.05
