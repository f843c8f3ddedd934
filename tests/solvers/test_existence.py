"""Where a likelihood has no maximum `fit` says so: before work, or of networks at the end."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers.data import Dataset, LabelledData
from solvers.errors import InputError
from solvers.families.networks import MLP
from solvers.numerics import separation
from solvers.training import inner
from tests.draws import F64, normal

STRUCTURES: Any = ("isotropic", "diagonal", "full")


def of_classes(x: Tensor, labels: Tensor, C: int) -> tuple[Any, Any]:
    return so.CategoricalPolicy(x.shape[1], C), LabelledData.of(x, labels, C)


def of_bits(x: Tensor, labels: Tensor, C: int) -> tuple[Any, Any]:
    """The same labels as `C` bits."""
    return so.BernoulliPolicy(x.shape[1], C), Dataset.pairs(
        x, torch.nn.functional.one_hot(labels, C).to(x)
    )


@given(
    seed=st.integers(0, 2**20),
    d=st.integers(1, 3),
    C=st.integers(2, 4),
    unit=st.sampled_from([1e-9, 1.0, 1e9]),
)
def test_classes_that_a_line_tells_apart(seed: int, d: int, C: int, unit: float) -> None:
    x = unit * (normal(seed, 40, d) + 3)
    labels = (x @ normal(seed + 1, d, C) + unit * normal(seed + 2, C)).argmax(-1)
    policy, data = of_classes(x, labels, C)
    with pytest.raises(InputError, match=r"the likelihood has no maximum: .*weight_decay > 0"):
        so.fit(policy, data)


@given(seed=st.integers(0, 2**20), shift=st.integers(-9, 9), apart=st.sampled_from([1, 0, -1]))
def test_a_threshold_to_the_row(seed: int, shift: int, apart: int) -> None:
    """Two classes on a line: told apart, with a row of both at the border, and with an overlap."""
    low, high = normal(seed, 5).abs(), normal(seed + 1, 5).abs()
    x = torch.cat([-low - 1e-3 * apart, high + 1e-3 * apart])
    labels = (x > 0).long()
    if apart == 0:  # the border has a row of either class
        x, labels = torch.cat([x, x.new_zeros(2)]), torch.cat([labels, torch.tensor([0, 1])])
    if apart < 0:
        x, labels = (
            torch.cat([x, x.new_tensor([-1e-3, 1e-3])]),
            torch.cat([labels, torch.tensor([1, 0])]),
        )
    x = (x + shift)[:, None]
    for make in (of_classes, of_bits):
        policy, data = make(x, labels, 2)
        if apart < 0:
            assert so.fit(policy, data).converged
            continue
        for fit in (inner.gradient, inner.second_order):
            with pytest.raises(InputError, match=r"a line in the inputs tells .* of 1[02] inputs"):
                fit(policy, policy.zeros(), so.NLL(), data)
    assert so.fit(policy, data, weight_decay=1e-3).converged


def test_the_words_name_the_classes() -> None:
    x, labels = torch.arange(6.0, dtype=F64)[:, None], torch.tensor([0, 0, 0, 0, 2, 2])
    with pytest.raises(InputError, match=r"no maximum: class 1 never comes.*leave it out"):
        so.fit(*of_classes(x, labels, 3))
    with pytest.raises(InputError, match=r"no maximum: y\[..., 1\] = 1 never comes"):
        so.fit(*of_bits(torch.cat([x, x]), torch.cat([labels, 2 - labels]), 3))
    with pytest.raises(InputError, match="tells class 0 from class 1 at 4 of 6 inputs, without"):
        so.fit(*of_classes(x, labels // 2, 2))
    with pytest.raises(InputError, match=r"tells y\[..., 0\] = 1 from y\[..., 0\] = 0 at 4 of 6"):
        so.fit(*of_bits(x, labels // 2, 2))


@given(N=st.integers(4, 9), d=st.integers(0, 3), C=st.integers(2, 4))
def test_what_a_linear_program_costs_is_known_before(N: int, d: int, C: int) -> None:
    """Exactly, where every input has one class."""
    x, pi = normal(N, N, d), torch.eye(C, dtype=F64)[torch.arange(N) % C]
    stop = InputError("stop")
    with (
        patch.object(separation.optimize, "linprog", side_effect=stop) as program,
        pytest.raises(InputError, match="stop"),
    ):
        separation.separated(x, pi)
    assert program.call_args.kwargs["A_ub"].data.size == separation.entries(x, pi)


@given(seed=st.integers(0, 2**20), C=st.integers(2, 4))
def test_there_is_a_maximum_where_every_input_has_every_class(seed: int, C: int) -> None:
    pi = normal(seed, 9, C).softmax(-1)
    policy, x = so.CategoricalPolicy(2, C), normal(seed + 1, 9, 2)
    assert so.fit(policy, LabelledData.soft(x, pi)).converged


def test_a_frozen_layer_is_not_judged() -> None:
    x = torch.linspace(-1, 1, 6, dtype=F64)[:, None]
    policy, data = of_classes(x, (x[:, 0] > 0).long(), 2)
    theta: dict[str, Tensor] = policy.zeros()
    still = {"weight0": torch.nn.Parameter(theta["weight0"], requires_grad=False)}
    assert so.fit(policy, data, params=theta | still).converged
    line, exact = so.GaussianPolicy(1, 1), Dataset.pairs(x, x)
    scale = {"scale.raw": torch.nn.Parameter(torch.zeros(1, dtype=F64), requires_grad=False)}
    found = so.fit(line, exact, params=line.zeros() | scale)
    assert found.converged
    torch.testing.assert_close(line(found.value, x).mean, x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("make", [of_classes, of_bits])
def test_a_network_that_tells_classes_apart(make: Any, activation: Any) -> None:
    x = torch.linspace(-1, 1, 12, dtype=F64)[:, None]
    linear, data = make(x, (x[:, 0].abs() > 0.5).long(), 2)
    policy = type(linear)(1, 2, MLP((4,), activation))
    theta = policy.init([so.generator(1)], dtype=F64)
    found = so.fit(policy, data, params=theta)
    assert not found.converged
    assert "no maximum: the last hidden layer tells" in found.reason
    assert "weight_decay > 0" in found.reason
    assert so.fit(policy, data, params=theta, weight_decay=1e-2).converged


@pytest.mark.parametrize("certain", [0, 1])
def test_a_network_that_is_certain_of_one_value_of_a_bit(certain: int) -> None:
    """At the other inputs both come, so that none of their probabilities is on its way to 0."""
    x, bit = (torch.tensor([v], dtype=F64).mT for v in ([-1, -1, 0.5, 1], [0, 1] + 2 * [certain]))
    policy, data = so.BernoulliPolicy(1, 1, MLP((4,), "tanh")), Dataset.pairs(x, bit)
    found = so.fit(policy, data, params=policy.init([so.generator(1)], dtype=F64))
    assert not found.converged
    assert "no maximum: the last hidden layer tells" in found.reason


X = normal(0, 12, 2)
SAID = {
    "y = x": (X, X),
    "one row": (X[:1], X[:1]),
    "constant": (X, torch.full((12, 2), 0.1, dtype=F64)),
    "far": (X, 1e6 + X @ normal(1, 2, 2)),
    "small": (X, 1e-140 * X),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", SAID)
def test_outcomes_that_a_line_says(name: str, structure: Any) -> None:
    x, y = SAID[name]
    policy = so.GaussianPolicy(2, 2, structure)
    with pytest.raises(InputError, match=r"no maximum: a line through .* says y\[..., 0\].*decay"):
        so.fit(policy, Dataset.pairs(x, y))
    assert so.fit(policy, Dataset.pairs(x, y), so.MSE()).stationarity < 1e-6


def test_what_a_structure_sees_of_one_exact_outcome() -> None:
    y = torch.stack([X[:, 0], normal(3, 12)], 1)
    for structure in STRUCTURES:
        policy, data = so.GaussianPolicy(2, 2, structure), Dataset.pairs(X, y)
        if structure == "isotropic":
            assert so.fit(policy, data).converged
            continue
        with pytest.raises(InputError, match=r"says y\[..., 0\] exactly"):
            so.fit(policy, data)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("scale", ["constant", "shared"])
def test_a_network_on_its_way_to_no_variance(structure: Any, scale: Any) -> None:
    x = torch.linspace(-1, 1, 6, dtype=F64)[:, None]
    policy = so.GaussianPolicy(1, 1, structure, mean=MLP((8,), "tanh"), scale=scale)
    theta = policy.init([so.generator(0)], dtype=F64)
    found = so.fit(policy, Dataset.pairs(x, (3 * x).sin()), params=theta)
    assert not found.converged
    assert "a deviation of y[..., 0] fell to" in found.reason
    assert "weight_decay > 0" in found.reason


def test_a_network_refuses_what_its_constants_say() -> None:
    policy = so.GaussianPolicy(1, 1, mean=MLP((4,), "tanh"))
    theta = policy.init([so.generator(0)], dtype=F64)
    with pytest.raises(InputError, match="no maximum"):
        so.fit(policy, Dataset.pairs(X[:, :1], torch.ones(12, 1, dtype=F64)), params=theta)


def test_single_precision_holds_no_squares_of_small_outcomes() -> None:
    """Their residuals are no rounding for it."""
    y = (1e-18 * (X + normal(5, 12, 2))).float()
    with pytest.raises(InputError, match="no maximum"):
        so.fit(so.GaussianPolicy(2, 2), Dataset.pairs(X.float(), 1e-18 * X.float()))
    so.fit(so.GaussianPolicy(2, 2), Dataset.pairs(X.float(), y))
