"""`torch_reward` is the reward that was derived from; `torch_reference` the law beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from scipy import stats

import solvers as so
from analysis import (
    KL,
    ArgumentError,
    ArgumentNameError,
    Bits,
    Classes,
    Derived,
    Gaussian,
    Moments,
    Normal,
    derive,
    outcome,
)
from analysis.calculus.symbols import symbol
from paper_checks.user_reward import torch_reference, torch_reward
from solvers.errors import InputError, ShapeError
from solvers.rewards.mahalanobis import MahalanobisReward

u, w = sp.symbols("u w", positive=True)
k = sp.Symbol("k", real=True)
y_hat, y = outcome(1)
Y_hat, Y = outcome(2)
z, Z = y_hat - y, Y_hat - Y
U = symbol("U", 2)
SPD = np.array([[1.3, 0.4], [0.4, 0.8]])
VALUES = {"u": 0.7, "w": 1.3, "k": -0.4, "U": SPD}
NUMBERS = {"u": 0.7, "w": 1.3, "k": -0.4, "U_11": 1.3, "U_12": 0.4, "U_22": 0.8}

REWARDS: dict[str, Derived] = {
    "square": derive(-u * z**2, Gaussian(1)),
    "quartic": derive(-u * z**4 + k * y_hat**3, Gaussian(1)),
    "cosh": derive(-u * sp.cosh(z), Gaussian(1), data=Normal()),
    "cosh and sinh": derive(-u * sp.cosh(2 * z) + sp.sinh(z), Gaussian(1), data=Normal()),
    "bump": derive(sp.exp(-(z**2) / w) - z**2, Gaussian(1), data=Normal()),
    "beside a reference": derive(-u * z**2, Gaussian(1), KL()),
    "functions of parameters": derive(
        -sp.log(2 + u) * z**2 + (sp.tanh(k) + sp.erf(k) + sp.gamma(w) + sp.sqrt(w)) * y_hat,
        Gaussian(1),
    ),
    "constants": derive(-sp.sqrt(2) * z**2 + sp.pi * y_hat, Gaussian(1)),
    "a matrix": derive(-(Z.T * U * Z)[0], Gaussian(2)),
    "bits": derive(u * Y_hat[0] * Y[0] + k * Y_hat[1], Bits(2)),
    "without generations": derive(u * y**2, Gaussian(1), KL()),
    "a number": derive(sp.Integer(3), Gaussian(1), KL()),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", REWARDS)
def test_the_reward_in_torch_is_the_expression(name: str, dtype: torch.dtype) -> None:
    """Against SymPy's own value of the expression, at every pair; its slope against SymPy's."""
    found = REWARDS[name]
    outcomes = [x for X in found.outcomes.values() for x in sp.Matrix([X])]
    n = len(outcomes) // 2
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=(2, 4, n))
    parameters = {name: VALUES[name] for name in found.parameters}
    generated = torch.tensor(first, dtype=dtype, requires_grad=True)
    got = torch_reward(found, **parameters)(generated, torch.tensor(second, dtype=dtype))
    assert got.shape == (4,)
    assert got.dtype == dtype
    at = {x: NUMBERS[str(x)] for x in found.reward.free_symbols - set(outcomes)}
    r = found.reward.subs(at)
    pairs = [dict(zip(outcomes, [*a, *b], strict=True)) for a, b in zip(first, second, strict=True)]
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    want = [float(r.subs(pair).evalf()) for pair in pairs]
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=rtol, atol=rtol)
    if got.requires_grad:
        (slope,) = torch.autograd.grad(got.sum(), generated)
        wanted = [[float(sp.diff(r, x).subs(pair).evalf()) for x in outcomes[:n]] for pair in pairs]
        np.testing.assert_allclose(slope.numpy(), wanted, rtol=10 * rtol, atol=10 * rtol)
    wide = torch_reward(found, **parameters)(generated[:, None], torch.zeros(1, 5, n, dtype=dtype))
    assert wide.shape == (4, 5)


@pytest.mark.parametrize("given", ["symbols", "numbers"])
@pytest.mark.parametrize("n", [1, 2])
def test_the_reference_is_the_law_that_was_given(n: int, given: str) -> None:
    mean, P0 = np.array([0.3, -0.2])[:n], np.array([[1.5, 0.3], [0.3, 0.8]])[:n, :n]
    first, second = (sp.Matrix([x]) for x in outcome(n))
    r = -u * ((first - second).T * (first - second))[0]
    numbers = KL(mean=mean.tolist(), covariance=P0.tolist())
    family = Gaussian(n, "isotropic")
    found = derive(r, family, KL() if given == "symbols" else numbers)
    constants: dict[str, Any] = {"m0": mean, "P0": P0} if given == "symbols" else {}
    x = torch.zeros(4, 3, dtype=torch.float64)
    ours = so.GaussianPolicy(inputs=3, n=n)
    torchs = so.policy(torch.nn.Linear(3, 1))
    at = np.random.default_rng(0).normal(size=(4, n))
    want = stats.multivariate_normal(mean, P0).logpdf(at)
    law = torch_reference(found, ours, **constants)(x)
    np.testing.assert_allclose(law.log_prob(torch.tensor(at)), want, rtol=1e-12)
    law = torch_reference(found, torchs, **constants)(x)
    np.testing.assert_allclose(law.log_prob(torch.tensor(at)[None])[0], want, rtol=1e-12)


def test_a_policy_of_ours_trains_to_the_derived_one_beside_the_reference() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(50, 2)) @ np.array([[1.0, 0.4], [0.0, 0.7]])
    values: dict[str, Any] = {"m0": [0.3, -0.2], "P0": [[1.5, 0.3], [0.3, 0.8]]}
    found = derive(-(Z.T * U * Z)[0], Gaussian(2), KL())
    moments = {"mu": y.mean(0), "Sigma": np.cov(y.T, bias=True), "lam": 0.6, "U": SPD}
    want = found.solve(**moments, **values).policy
    policy = so.GaussianPolicy(inputs=1, n=2, structure="full")
    data = so.Dataset.of(torch.zeros(1, 1, dtype=torch.float64), torch.tensor(y)[None])
    reward = MahalanobisReward(torch.linalg.cholesky(torch.tensor(SPD)))
    reference = torch_reference(found, policy, **values)
    objective = so.PolicyGradient(reward, 0.6, reference=reference)
    law = policy(so.fit(policy, data, objective).value, data.x)
    np.testing.assert_allclose(law.mean.detach().ravel(), want["m"], atol=1e-5)
    np.testing.assert_allclose(law.covariance.detach().reshape(2, 2), want["P"], atol=1e-5)


def test_what_is_refused() -> None:
    square, beside = REWARDS["square"], REWARDS["beside a reference"]
    with pytest.raises(ArgumentNameError, match=r"so\.ClassReward"):
        torch_reward(derive(u * sp.eye(2), Classes(2)), u=1.0)
    for parameters in ({}, {"u": 1.0, "v": 1.0}, {"v": 1.0}):
        with pytest.raises(ArgumentNameError, match="parameters"):
            torch_reward(square, **parameters)
    with pytest.raises(ArgumentNameError, match=r"float"):
        torch_reward(square, u="1.0")
    with pytest.raises(ArgumentError, match="must be > 0"):
        torch_reward(square, u=-1.0)
    with pytest.raises(ArgumentNameError, match=r"KL\(\.\.\.\)"):
        torch_reference(square, None)
    with pytest.raises(ArgumentNameError, match=r"so\.Reference"):
        torch_reference(derive(u * y_hat * y, Bits(1), KL()), None)
    with pytest.raises(ArgumentNameError, match="'P0' is missing"):
        torch_reference(beside, None, m0=0.0)
    with pytest.raises(ArgumentError, match="must be > 0"):
        torch_reference(beside, None, m0=0.0, P0=-1.0)
    others: tuple[Any, ...] = (None, 3, sp.Integer(3), -(z**2))
    for given in others:
        for function in (torch_reward, lambda found: torch_reference(found, None)):
            with pytest.raises(
                ArgumentNameError, match=rf"not {type(given).__name__}: pass derive"
            ):
                function(given)
    symmetric = derive(-u * z**4, Gaussian(1), KL(), Moments(symmetric=True))
    assert torch_reward(symmetric, u=1.0)(torch.ones(1), torch.zeros(1)) == -1


@pytest.mark.parametrize(
    "shapes",
    [((3, 1), (3, 1)), ((3, 2), (3, 1)), ((3, 3), (3, 2)), ((3, 2), (4, 2)), ((), ()), ((2,), ())],
)
def test_outcomes_of_other_shapes_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    reward = torch_reward(derive(-(Z.T * Z)[0], Gaussian(2)))
    first, second = (torch.ones(shape) for shape in shapes)
    with pytest.raises(ShapeError, match=r"\(\.\.\., 2\)") as caught:
        reward(first, second)
    assert all(str(shape) in str(caught.value) for shape in shapes)


def test_outcomes_that_are_no_tensors_are_refused() -> None:
    reward = torch_reward(REWARDS["constants"])
    with pytest.raises(InputError, match="not ndarray and Tensor: pass torch tensors"):
        reward(np.ones((3, 1)), torch.ones(3, 1))  # pyright: ignore[reportArgumentType]
