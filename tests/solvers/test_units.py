"""No column's unit, and no origin, changes what is found, or what is warned of."""

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers.errors import NotPositiveDefiniteError, check_spd
from solvers.families.gaussian import at_outcomes, in_units
from solvers.hypergradients.differentiable import InnerSolutionError, inner_solution
from solvers.hypergradients.implicit import HypergradientError, HypergradientWarning, implicit
from solvers.numerics import linear_solve
from tests.draws import F64, normal

powers = st.lists(st.integers(-6, 6), min_size=2, max_size=2)
shifts = st.sampled_from([0.0, 1.0, 1e3, -1e4])


def units(powers: list[int]) -> Tensor:
    return 10.0 ** torch.tensor(powers, dtype=F64)


def found(x: Tensor, y: Tensor, structure: Any = "full") -> Any:
    policy = so.GaussianPolicy(2, 2, structure=structure)
    kind = "full" if structure == "full" else "diagonal"
    data = so.Dataset.pairs(x, y)
    problem = so.maximum_likelihood(policy, so.ConstantReward(2, kind), data, lam=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return so.solve(problem)


@pytest.mark.parametrize("structure", ["full", "diagonal"])
@settings(max_examples=6)
@given(
    seed=st.integers(0, 99), of_x=powers, of_y=powers, x0=shifts, y0=shifts.map(lambda a: 10 * a)
)
def test_columns_in_any_units(
    structure: str, seed: int, of_x: list[int], of_y: list[int], x0: float, y0: float
) -> None:
    x, s = normal(seed, 20, 2), units(of_y)
    y = x @ normal(seed + 1, 2, 2) + normal(seed + 2, 20, 2) @ normal(seed + 3, 2, 2)
    here = found((x + x0) * units(of_x), (y + y0) * s, structure)
    X = torch.cat([x, torch.ones(20, 1, dtype=F64)], 1)
    left = y - X @ torch.linalg.lstsq(X, y).solution
    Sigma = left.T @ left / 20
    best = 0.25 * torch.linalg.inv(Sigma if structure == "full" else Sigma.diagonal().diag())
    d = best.diagonal().sqrt()
    assert here.converged
    assert not any(row.doubts for row in here.result.history)
    off = (here.reward.U * s * s[:, None] - best) / d / d[:, None]
    assert float(off.abs().max()) < 1e-4


def spd(seed: int, n: int) -> Tensor:
    A = normal(seed, n, n)
    return A @ A.T + 0.1 * torch.eye(n, dtype=F64)


@given(seed=st.integers(0, 99), of=st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_definite_in_any_units(seed: int, of: list[float]) -> None:
    d = 10.0 ** torch.tensor(of, dtype=F64)
    A, b = spd(seed, 3), normal(seed + 1, 3)
    scaled = d * A * d[:, None]
    check_spd("A", scaled)
    solved = linear_solve.dense(scaled, d * b)
    assert solved.curvature > 0
    torch.testing.assert_close(solved.x * d, torch.linalg.solve(A, b), rtol=1e-9, atol=1e-12)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -theta @ scaled @ theta / 2 + theta @ (d * phi)

    phi = normal(seed + 2, 3)
    theta = torch.linalg.solve(A, phi) / d
    value = implicit(J, lambda t, p: t @ (d * b), theta, phi, damping="auto", strict=True)
    assert value.damping == 0
    torch.testing.assert_close(value.value, torch.linalg.solve(A, b), rtol=1e-8, atol=1e-10)
    at = phi.clone().requires_grad_()
    (slope,) = torch.autograd.grad(inner_solution(J, torch.zeros(3, dtype=F64), at) @ (d * b), at)
    torch.testing.assert_close(slope, torch.linalg.solve(A, b), rtol=1e-8, atol=1e-10)


@given(seed=st.integers(0, 99), of=st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_singular_in_any_units(seed: int, of: list[float]) -> None:
    d = 10.0 ** torch.tensor(of, dtype=F64)
    L, phi = normal(seed, 3, 2), normal(seed + 1, 2)
    theta = torch.linalg.lstsq(L.T, phi).solution / d
    A = d * (L @ L.T) * d[:, None]
    with pytest.raises(NotPositiveDefiniteError):
        check_spd("A", (A + A.T) / 2)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -(L.T @ (d * theta) - phi).square().sum() / 2

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return (L.T @ (d * theta)).sum()

    with pytest.warns(HypergradientWarning, match="not strictly concave.*damped by"):
        value = implicit(J, F, theta, phi, method="dense", damping="auto")
    assert value.damping < 1e-5
    # of the problem damped in its own units, whatever these are
    damped = L @ L.T + value.damping * (L @ L.T).diagonal().diag()
    want = L.T @ torch.linalg.solve(damped, L.sum(1))
    torch.testing.assert_close(value.value, want, rtol=1e-6, atol=1e-6)
    refused = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            implicit(J, F, theta, phi, method="dense")
        except HypergradientError as error:  # where rounding leaves no curvature at all
            refused = str(error)
    if refused is None:
        words = [str(w.message) for w in said if w.category is HypergradientWarning]
        assert any("not strictly concave" in text for text in words)
    else:
        assert "the Hessian of J is singular at theta" in refused
    with pytest.raises(InnerSolutionError, match="not strict"):
        inner_solution(J, theta, phi)


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("scale", ["constant", "shared", so.MLP((3,), "tanh")])
@pytest.mark.parametrize("positive", ["exp", "softplus"])
def test_a_policy_in_other_units(structure: Any, scale: Any, positive: Any) -> None:
    policy = so.GaussianPolicy(2, 3, structure, scale=scale, positive=positive)
    params = {k: v.detach() for k, v in policy.init([so.generator(1)], dtype=F64).items()}
    if positive == "softplus" and scale != "constant":  # exact where the network adds nothing
        params = policy.zeros()
    mean, s = normal(2, 3), units([-3, 0, 4])
    if structure == "isotropic":
        s = torch.full((3,), 50.0, dtype=F64)
    x = normal(3, 4, 2)
    here, there = policy(params, x), policy(in_units(policy, params, mean, s), x)
    torch.testing.assert_close(there.mean, mean + s * here.mean)
    torch.testing.assert_close(
        there.covariance, here.covariance * s * s[:, None], rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("structure", ["diagonal", "full"])
def test_a_search_starts_at_the_mean_and_in_the_units_of_the_outcomes(structure: Any) -> None:
    policy = so.GaussianPolicy(2, 2, structure)
    params = policy.init([so.generator(1)], dtype=F64)
    x, s = normal(3, 6, 2), units([-2, 3])
    data = so.Dataset.of(x, 7.0 + s * normal(4, 6, 3, 2))
    start = policy(at_outcomes(policy, params, data), x)
    torch.testing.assert_close(start.mean.mean(0), data.y.mean((0, 1)))
    deviations = data.y.flatten(0, 1).std(0, correction=0)
    before = policy(params, x).covariance.diagonal(dim1=-2, dim2=-1)
    after = start.covariance.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(after / before, deviations.square().expand_as(after))
