"""A fit takes as many steps whatever the units of the outcomes, and finds the same law in them."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers.families import gaussian
from solvers.families.networks import MLP
from tests.draws import F64, normal

STRUCTURES: Any = ("isotropic", "diagonal", "full")


def table(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, outcomes, and the covariance of their residuals."""
    x = normal(seed, 20, 2)
    y = x @ normal(seed + 1, 2, 2) + normal(seed + 2, 20, 2) @ normal(seed + 3, 2, 2)
    X = torch.cat([x, torch.ones(20, 1, dtype=F64)], 1)
    left = y - X @ torch.linalg.lstsq(X, y).solution
    return x, y, left.T @ left / 20


def best(S: Tensor, structure: str) -> Tensor:
    """The covariance of maximum likelihood."""
    if structure == "isotropic":
        return S.trace() / 2 * torch.eye(2, dtype=F64)
    return S if structure == "full" else torch.diag(S.diagonal())


@pytest.mark.parametrize("structure", STRUCTURES)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**20), power=st.floats(-150, 150))
def test_outcomes_of_any_size(structure: Any, seed: int, power: float) -> None:
    x, y, S = table(seed)
    unit = 10.0**power
    policy = so.GaussianPolicy(2, 2, structure)
    found = so.fit(policy, so.Dataset.pairs(x, unit * y))
    law = policy(found.value, x)
    assert found.converged, found.reason
    d = S.diagonal().sqrt()
    got = law.covariance[0] / unit / unit / d / d[:, None]
    torch.testing.assert_close(got, best(S, structure) / d / d[:, None], rtol=1e-6, atol=1e-6)
    assert found.iterations < 200


@pytest.mark.parametrize("structure", STRUCTURES)
@settings(max_examples=8)
@given(powers=st.tuples(st.floats(-140, 140), st.floats(-9, 9)), origin=st.floats(-1e3, 1e3))
def test_columns_in_units_of_their_own(
    structure: Any, powers: tuple[float, float], origin: float
) -> None:
    """With one variance for all, columns of other units are another problem."""
    x, y, S = table(7)
    second = 0.0 if structure == "isotropic" else powers[1]
    unit = 10.0 ** torch.tensor([powers[0], powers[0] + second], dtype=F64)
    policy = so.GaussianPolicy(2, 2, structure)
    found = so.fit(policy, so.Dataset.pairs(x, unit * (origin + y)))
    assert found.converged, found.reason
    got = policy(found.value, x).covariance[0] / unit / unit[:, None]
    torch.testing.assert_close(got, best(S, structure), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("scale", ["constant", "shared", MLP((3,), "tanh")])
@pytest.mark.parametrize("positive", ["exp", "softplus"])
def test_units_are_those_of_the_parameters(structure: Any, scale: Any, positive: Any) -> None:
    """Powers of two, one for each parameter of a last layer, that broadcast to it."""
    x, y, _ = table(3)
    policy = so.GaussianPolicy(
        2, 2, structure, mean=MLP((3,), "tanh"), scale=scale, positive=positive
    )
    theta = policy.init([so.generator(0)], dtype=F64)
    sizes = gaussian.units(policy, so.Dataset.pairs(x, 1e-5 * y))
    assert set(sizes) == {
        name for name in theta if name.split(".")[1] in ("weight1", "bias1", "raw")
    }
    for name, size in sizes.items():
        assert (theta[name] * size).shape == theta[name].shape
        assert bool((size.log2() == size.log2().round()).all())


def test_the_gradient_is_told_in_units_of_the_parameters() -> None:
    x, y, _ = table(5)
    policy, data = so.GaussianPolicy(2, 2), so.Dataset.pairs(x, 1e-6 * y)
    found = so.fit(policy, data, tolerance=0.5)
    theta = {name: p.clone().requires_grad_() for name, p in found.value.items()}
    slopes = torch.autograd.grad(so.NLL()(policy(theta, x), data), list(theta.values()))
    want = max(float(slope.abs().max()) for slope in slopes)
    assert found.stationarity == pytest.approx(want, rel=1e-6, abs=1e-6)
