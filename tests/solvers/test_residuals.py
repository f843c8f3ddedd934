"""Residuals however correlated are found in few steps; without any, it is said that none is."""

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers.errors import InputError
from solvers.families.gaussian import Structure
from solvers.training.residuals import Residuals
from tests.draws import F64, normal

EPS = torch.finfo(F64).eps


def problem(
    x: Tensor, y: Tensor, structure: Structure = "full", kind: Any = "full", **more: Any
) -> Any:
    policy = so.GaussianPolicy(x.shape[-1], y.shape[-1], structure)
    reward, data = so.ConstantReward(y.shape[-1], kind), so.Dataset.pairs(x, y)
    return so.maximum_likelihood(policy, reward, data, lam=0.5, **more)


@settings(max_examples=4)
@given(seed=st.integers(0, 99), power=st.floats(-3, 0), sign=st.sampled_from([-1, 1]))
def test_residuals_however_correlated(seed: int, power: float, sign: int) -> None:
    """Correlations up to 0.999999, among outcomes or in their residuals alone."""
    x, noise = normal(seed, 30, 2), normal(seed + 1, 30, 2)
    e = torch.stack([noise[:, 0], sign * noise[:, 0] + 10.0**power * noise[:, 1]], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = so.solve(problem(x, x @ normal(seed + 2, 2, 2) + e), steps=15)
    X = torch.cat([x, torch.ones(30, 1, dtype=F64)], 1)
    left = e - X @ torch.linalg.lstsq(X, e).solution
    Sigma = left.T @ left / 30
    d = Sigma.diagonal().rsqrt()
    # U Σ = (λ/2) I, in units of the outcomes
    product = (found.reward.U @ Sigma * 4) / d[:, None] * d
    assert found.converged
    torch.testing.assert_close(
        product, torch.eye(2, dtype=F64), rtol=0, atol=1e-5 * 10 ** -(2 * power)
    )


@pytest.mark.parametrize("optimiser", [None, lambda leaves: torch.optim.Adam(leaves, lr=0.05)])
def test_a_frozen_part_of_the_factor_stays(optimiser: Any) -> None:
    """With the default optimiser too, which moves relative to the residuals where nothing is."""
    x = normal(0, 30, 2)
    asked = problem(x, x + normal(1, 30, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.5]], dtype=F64))
    phi = {name: leaf.clone() for name, leaf in asked.start_reward(0).items()}
    phi["lower"].requires_grad_()
    found = so.solve(asked, phi=phi, optimiser=optimiser, steps=20)
    torch.testing.assert_close(found.phi["log_diagonal"], phi["log_diagonal"], rtol=0, atol=0)
    assert not torch.equal(found.phi["lower"], phi["lower"])


def test_a_factor_without_a_part_is_named() -> None:
    x = normal(0, 30, 2)
    asked = problem(x, x + normal(1, 30, 2))
    phi = {"log_diagonal": asked.start_reward(0)["log_diagonal"]}
    with pytest.raises(InputError, match="there is no parameter 'lower'"):
        so.solve(asked, phi=phi)


@given(seed=st.integers(0, 99), inputs=st.booleans())
def test_where_outcomes_are_costs_no_more_digits_than_they_have(seed: int, inputs: bool) -> None:
    """However many rows there are."""
    x, noise, far = normal(seed, 500, 2), normal(seed + 1, 500, 2), 1e8
    y = far + noise
    near, there = (
        Residuals.of(data, data, inputs=inputs)
        for data in (so.Dataset.pairs(x, y - far), so.Dataset.pairs(x, y))
    )
    torch.testing.assert_close(
        there.left * there.size, near.left * near.size, rtol=0, atol=16 * EPS * far
    )


@given(seed=st.integers(0, 99), of=st.lists(st.integers(-6, 6), min_size=3, max_size=3))
def test_the_factor_of_the_precision(seed: int, of: list[int]) -> None:
    y = normal(seed, 9, 3) * 10.0 ** torch.tensor(of, dtype=F64)
    data = so.Dataset.pairs(normal(seed + 1, 9, 2), y)
    left = Residuals.of(data, data)
    R, e = left.precision_factor(), left.left * left.size
    assert not bool(R.triu(1).any())
    assert bool((R.diagonal() > 0).all())
    torch.testing.assert_close(R.T @ (e.T @ e / 9) @ R, torch.eye(3, dtype=F64), rtol=0, atol=1e-9)


X, NOISE = normal(0, 12, 2), normal(1, 12, 2)
PAIR = torch.stack([NOISE[:, 0], 2 * NOISE[:, 0]], 1)
LINE = torch.stack([NOISE[:, 0], 3 * X[:, 0] - X[:, 1] + 1e3], 1)
STILL = torch.stack([NOISE[:, 0], torch.full((12,), 0.1, dtype=F64)], 1)
SUM = torch.stack([NOISE[:, 0], NOISE[:, 1], NOISE @ torch.tensor([0.3, 0.7], dtype=F64)], 1)
KNOWN: dict[str, tuple[Tensor, Tensor, Structure, str, str]] = {
    "twice another": (X, PAIR, "full", "full", r"y\[..., 0\] - 0.5 y\[..., 1\] exactly"),
    "a sum of others": (X, SUM, "full", "full", r"y\[..., 0\] \+ 2.33333 y\[..., 1\] - 3.33333 y"),
    "in units": (X, PAIR * 1e6, "full", "full", r"y\[..., 0\] - 0.5 y\[..., 1\] exactly"),
    "a line": (X, LINE, "full", "full", r"says y\[..., 1\] exactly"),
    "a line, diagonal policy": (X, LINE, "diagonal", "full", r"says y\[..., 1\] exactly"),
    "a line, diagonal reward": (X, LINE, "full", "diagonal", r"says y\[..., 1\] exactly"),
    "a line of far inputs": (X + 1e6, LINE, "full", "full", r"says y\[..., 1\] exactly"),
    "a constant": (X, STILL, "full", "full", r"says y\[..., 1\] exactly"),
    "few rows": (X[:3], NOISE[:3], "full", "full", r"through 3 outcomes says y\[..., 0\]"),
    "one row": (X[:1], NOISE[:1], "isotropic", "scalar", r"through 1 outcomes says y\[..., 0\]"),
    "a row more": (X[:4], NOISE[:4], "full", "full", "through 4 outcomes says"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_likelihood_without_bound(name: str) -> None:
    x, y, structure, kind, said = KNOWN[name]
    with pytest.raises(InputError, match=f"the likelihood has no maximum: .*{said}.*weight_decay"):
        so.solve(problem(x, y, structure, kind))


@pytest.mark.parametrize(
    ("y", "structure", "kind"),
    [(PAIR, "diagonal", "full"), (PAIR, "full", "diagonal"), (LINE, "isotropic", "full"),
     (LINE - 1e3, "full", "scalar")],
)  # fmt: skip
def test_what_a_structure_does_not_see(y: Tensor, structure: Structure, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert so.solve(problem(X, y, structure, kind)).converged


def test_a_weight_decay_bounds_it() -> None:
    so.solve(problem(X, PAIR, weight_decay=0.1), steps=1)


def test_an_outcome_that_is_always_0_has_residuals_of_0() -> None:
    y = torch.stack([NOISE[:, 0], torch.zeros(12, dtype=F64)], 1)
    found = Residuals.of(so.Dataset.pairs(X, y), so.Dataset.pairs(X, y))
    assert found.size[1] == 0
    assert not bool(found.left[:, 1].any())
    torch.testing.assert_close(found.left[:, 0].square().mean(), torch.ones((), dtype=F64))
