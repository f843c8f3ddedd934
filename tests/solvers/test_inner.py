"""Inner solvers: the closed form, and training to convergence, meet."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paper_checks.conformance.strategies import Problem, one_in, problems
from paper_checks.conformance.tolerances import agree
from solvers.data import Dataset
from solvers.errors import ShapeError
from solvers.families.gaussian import Gaussian, GaussianPolicy, Structure
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.numerics import minimise
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import inner
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import F64

STRUCTURES = ["isotropic", "diagonal", "full"]
CONVERGED = 1e-6
solvers = pytest.mark.parametrize("solve", [inner.gradient, inner.second_order])


def start(policy: GaussianPolicy) -> dict[str, Tensor]:
    return policy.init([torch.Generator().manual_seed(0)], dtype=F64)


def outcomes(problem: Problem, rows: int, samples: int) -> Tensor:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((rows, samples, problem.n))
    return torch.as_tensor(problem.mu + noise @ np.linalg.cholesky(problem.Sigma).T)


@pytest.mark.gate
@solvers
@pytest.mark.parametrize("structure", STRUCTURES)
@one_in(2)
@given(problem=problems(4))
def test_training_to_convergence_meets_the_closed_form(
    solve: Any, structure: Structure, problem: Problem
) -> None:
    t, y = problem.tensors(), outcomes(problem, 1, 7)
    reward = MahalanobisReward.full(t["U"])
    policy = GaussianPolicy(1, problem.n, structure)
    data = Dataset.of(torch.zeros(1, 1, dtype=F64), y)
    trained = solve(policy, start(policy), PolicyGradient(reward, t["lam"]), data)
    law = policy(trained.value, data.x)
    exact = inner.closed_form(reward, t["lam"], y.mean(1)[0], structure)
    assert trained.converged, f"stationarity {trained.stationarity:.3e}: {problem}"
    assert exact.converged, f"stationarity {exact.stationarity:.3e}: {problem}"
    for name, got, want in [
        ("m", law.mean[0], exact.value.mean),
        ("P", law.covariance[0], exact.value.covariance),
    ]:
        agree(
            f"{name} of the trained {structure} policy",
            got,
            want,
            rtol=CONVERGED,
            scale=1.0,
            inputs=problem,
        )


@pytest.mark.gate
@solvers
@pytest.mark.parametrize("structure", STRUCTURES)
@one_in(5)
@given(problem=problems(3), inputs=st.integers(1, 4))
def test_linear_regression(solve: Any, structure: Structure, problem: Problem, inputs: int) -> None:
    """With a linear mean and constant covariance, the mean is least squares, whatever `U`."""
    t, N, S = problem.tensors(), 9, 3
    x = torch.as_tensor(np.random.default_rng(1).standard_normal((N, inputs)))
    y = outcomes(problem, N, S) + (x.sum(-1)[:, None, None])
    reward = MahalanobisReward.full(t["U"])
    policy = GaussianPolicy(inputs, problem.n, structure)
    trained = solve(policy, start(policy), PolicyGradient(reward, t["lam"]), Dataset.of(x, y))
    assert trained.converged, f"stationarity {trained.stationarity:.3e}: {problem}"
    design = np.column_stack([x.repeat_interleave(S, 0), np.ones(N * S)])
    want = np.linalg.lstsq(design, y.flatten(0, 1).numpy())[0]
    got = torch.cat([trained.value["mean.weight0"], trained.value["mean.bias0"][None]])
    name = f"linear mean of a {structure} policy is least squares"
    agree(name, got, want, rtol=CONVERGED, scale=1.0, inputs=problem)
    P = policy(trained.value, x).covariance[0]
    exact = inner.closed_form(reward, t["lam"], t["mu"], structure).value.covariance
    name = f"P of a {structure} policy with a linear mean"
    agree(name, P, exact, rtol=CONVERGED, scale=1.0, inputs=problem)


@solvers
def test_maximum_likelihood(solve: Any) -> None:
    x = torch.randn(30, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    y = torch.randn(30, 1, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    policy = GaussianPolicy(2, 2, "full")
    trained = solve(policy, start(policy), NLL(), Dataset.of(x, y))
    design = np.column_stack([x, np.ones(30)])
    residual = y[:, 0].numpy() - design @ np.linalg.lstsq(design, y[:, 0].numpy())[0]
    P = policy(trained.value, x).covariance[0]
    agree("residual covariance", P, residual.T @ residual / 30, rtol=CONVERGED, inputs="seed 0")
    assert trained.converged
    assert trained.iterations > 0


def test_closed_form_of_a_batch() -> None:
    U = torch.diag_embed(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64))
    lam, mu = torch.tensor([0.5, 2.0], dtype=F64), torch.zeros(2, 2, dtype=F64)
    for structure in ("isotropic", "diagonal", "full"):
        batched = inner.closed_form(MahalanobisReward.full(U), lam, mu, structure)
        assert batched.converged
        assert batched.iterations == 0
        for k in range(2):
            alone = inner.closed_form(MahalanobisReward.full(U[k]), lam[k], mu[k], structure)
            torch.testing.assert_close(batched.value.covariance[k], alone.value.covariance)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_closed_form_is_stationary(structure: Structure) -> None:
    """Reward and entropy pull alike at it, each by about 1."""
    U = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=F64)
    mu = torch.tensor([0.5, -1.0], dtype=F64)
    found = inner.closed_form(MahalanobisReward.full(U), 0.7, mu, structure)
    assert found.stationarity < 1e-14
    many = inner.closed_form(MahalanobisReward.full(U), 0.7, mu.expand(1000, 2), structure)
    assert many.stationarity >= found.stationarity / 10  # of the worst, not of all on average


def small_problem() -> tuple[GaussianPolicy, PolicyGradient, Dataset]:
    one = torch.tensor(1.0, dtype=F64)
    data = Dataset.of(torch.ones(3, 1, dtype=F64), torch.ones(3, 2, 2, dtype=F64))
    objective = PolicyGradient(MahalanobisReward.scalar(one, 2), one)
    return GaussianPolicy(1, 2), objective, data


@solvers
def test_without_convergence_there_is_no_claim(solve: Any) -> None:
    policy, objective, data = small_problem()
    params = start(policy)
    before = {name: p.detach().clone() for name, p in params.items()}
    solution = solve(policy, params, objective, data, tolerance=1e-300)
    assert not solution.converged
    assert solution.stationarity > 1e-300
    assert all(torch.equal(params[name], before[name]) for name in params)


@solvers
def test_stationarity_is_the_gradient_at_the_solution(solve: Any) -> None:
    policy, objective, data = small_problem()
    solution = solve(policy, start(policy), objective, data, max_iterations=5)
    theta = {name: p.requires_grad_() for name, p in solution.value.items()}
    slopes = torch.autograd.grad(objective(policy(theta, data.x), data), list(theta.values()))
    assert solution.stationarity == max(float(slope.abs().max()) for slope in slopes)


@solvers
def test_mlp_mean_converges_too(solve: Any) -> None:
    policy = GaussianPolicy(1, 1, "diagonal", MLP((3,), "tanh"))
    x = torch.linspace(-1, 1, 5, dtype=F64)[:, None]
    y = x.square().unsqueeze(1)
    one = torch.tensor(1.0, dtype=F64)
    objective = PolicyGradient(MahalanobisReward.scalar(one, 1), one)
    solution = solve(policy, start(policy), objective, Dataset.of(x, y), tolerance=1e-5)
    assert solution.converged
    variance = policy(solution.value, x).covariance
    torch.testing.assert_close(variance, torch.full_like(variance, 0.5), rtol=1e-4, atol=0)


@solvers
def test_one_member_at_a_time(solve: Any) -> None:
    policy, objective, data = small_problem()
    batch = Dataset.of(data.x.expand(2, 3, 1), data.y.expand(2, 3, 2, 2))
    with pytest.raises(ShapeError, match=r"data.x has shape \(2, 3, 1\): pass x \(N, d\)"):
        solve(policy, start(policy), objective, batch)
    several = PolicyGradient(objective.reward, torch.ones(2, dtype=F64))
    with pytest.raises(ShapeError, match=r"returned shape \(2,\), not one number"):
        solve(policy, start(policy), several, data)


def test_second_order_follows_negative_curvature() -> None:
    """A tanh network with all weights 0 is a saddle point: start beside it."""
    policy = GaussianPolicy(1, 1, "diagonal", MLP((2,), "tanh"))
    x = torch.linspace(-1, 1, 9, dtype=F64)[:, None]
    data = Dataset.of(x, torch.tanh(2 * x).unsqueeze(1))
    one = torch.tensor(1.0, dtype=F64)
    objective = PolicyGradient(MahalanobisReward.scalar(one, 1), one)
    near = {name: 1e-4 * p.detach() for name, p in start(policy).items()}
    before = float(objective(policy(near, x), data))
    solution = inner.second_order(policy, near, objective, data, tolerance=1e-6)
    assert solution.converged
    assert float(objective(policy(solution.value, x), data)) < before - 0.1


def test_the_budget_is_kept() -> None:
    policy, objective, data = small_problem()
    for solve in (inner.gradient, inner.second_order):
        solution = solve(policy, start(policy), objective, data, max_iterations=1)
        assert not solution.converged
        assert solution.iterations <= 20


@pytest.mark.parametrize("method", [minimise.lbfgs, minimise.trust_region])
def test_any_loss_can_be_minimised(method: minimise.Method) -> None:
    A = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=F64)
    b = torch.tensor([1.0, -2.0], dtype=F64)
    start = {"a": torch.ones(2, dtype=F64), "c": torch.ones(1, 1, dtype=F64)}

    def loss(theta: Params) -> Tensor:
        a, c = theta["a"], theta["c"]
        return a @ A @ a / 2 - b @ a + c.exp().sum() - 2 * c.sum()

    found = inner.minimum(start, loss, [method], tolerance=1e-10)
    assert found.converged
    assert found.stationarity <= 1e-10
    assert found.iterations > 0
    torch.testing.assert_close(found.value["a"], torch.linalg.solve(A, b))
    torch.testing.assert_close(found.value["c"], torch.tensor([[2.0]], dtype=F64).log())
    assert not any(p.requires_grad for p in found.value.values())
    assert all(bool((p == 1).all()) for p in start.values())


def test_a_loss_is_one_number() -> None:
    start = {"a": torch.ones(3, dtype=F64)}
    with pytest.raises(ShapeError, match=r"returned shape \(3,\), not one number"):
        inner.minimum(start, lambda theta: theta["a"].square())


@pytest.mark.gate
@pytest.mark.parametrize("solve", [inner.fit, inner.gradient, inner.second_order])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("origin", [1e5, 1e9])
def test_no_origin_of_the_outcomes_makes_an_error_small(
    origin: float, structure: Structure, solve: Any
) -> None:
    """A mean of `origin` deviations is a large θ, beside which wrong variances look small."""
    x = torch.linspace(-1, 1, 20, dtype=F64)[:, None]
    noise = torch.stack([(7 * x[:, 0]).sin(), (5 * x[:, 0]).cos() + x[:, 0]], 1)
    data = Dataset.pairs(x, origin + noise)
    policy = GaussianPolicy(1, 2, structure)
    if solve is inner.fit:
        found = inner.fit(policy, data)
    else:
        found = solve(policy, policy.zeros(), NLL(), data)
    A = np.column_stack([x.numpy(), np.ones(20)])
    error = noise.numpy() - A @ np.linalg.lstsq(A, noise.numpy(), rcond=None)[0]
    S = error.T @ error / 20
    best = (
        {
            "full": np.linalg.slogdet(S)[1],
            "diagonal": np.log(np.diag(S)).sum(),
            "isotropic": 2 * np.log(np.trace(S) / 2),
        }[structure]
        / 2
        + 1
        + np.log(2 * np.pi)
    )
    excess = float(NLL()(policy(found.value, x), data)) - best
    assert not found.converged or abs(excess) < 1e-6, found.reason
    assert found.converged or solve is not inner.fit, found.reason  # which starts at their moments


def law_of_ones_own(theta: Params, x: Tensor) -> Gaussian:
    """A law that refuses a scale that is 0 or infinite, as `Gaussian` does."""
    return Gaussian(theta["m"].expand(len(x), 1), theta["raw"].exp().expand(len(x), 1))


@pytest.mark.gate
@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1.0, 1e3, 1e12])
def test_a_step_beyond_the_domain_is_too_long(unit: float) -> None:
    """The search is no reason to blame the data, and never an exception."""
    data = Dataset.pairs(torch.zeros(5, 1, dtype=F64), unit * torch.arange(5, dtype=F64)[:, None])

    def loss(theta: Params) -> Tensor:
        return NLL()(law_of_ones_own(theta, data.x), data)

    zero = torch.zeros(1, 1, dtype=F64)
    for methods in (None, [minimise.lbfgs], [minimise.trust_region]):
        found = inner.minimum({"m": zero, "raw": zero}, loss, methods)
        assert all(bool(torch.isfinite(p).all()) for p in found.value.values()), found.reason
        if found.converged:
            torch.testing.assert_close(found.value["m"], 2 * unit + zero, rtol=1e-6, atol=0)
            scale = found.value["raw"].exp()
            torch.testing.assert_close(scale, 2**0.5 * unit + zero, rtol=1e-6, atol=0)
        else:
            assert unit < 1e-6, found.reason


def test_what_has_no_minimum_is_said_and_no_exception() -> None:
    data = Dataset.pairs(torch.zeros(4, 1, dtype=F64), torch.zeros(4, 1, dtype=F64))
    zero = torch.zeros(1, 1, dtype=F64)
    found = inner.minimum(
        {"m": zero, "raw": zero}, lambda theta: NLL()(law_of_ones_own(theta, data.x), data)
    )
    assert not found.converged
    assert all(bool(torch.isfinite(p).all()) for p in found.value.values())
