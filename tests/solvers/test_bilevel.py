"""Outer loops: history, stopping, checkpoints, held-out data, learnable rewards, plug-in."""

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from paper_checks.conformance.strategies import make_problem
from solvers import bilevel
from solvers.bilevel import AdamSteps, Bilevel, Exact, likelihood
from solvers.bilevel.single_loop import single_loop
from solvers.data import Dataset
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.families.gaussian import GaussianPolicy
from solvers.families.networks import MLP
from solvers.hypergradients.implicit import HypergradientWarning
from solvers.hypergradients.methods import Implicit
from solvers.rewards.learnable import ConstantReward, InputReward
from solvers.rewards.mahalanobis import optimal_reward
from solvers.training import inner
from solvers.training.estimators import ScoreFunction
from solvers.training.objectives import NLL
from tests.draws import F64, normal

LAM = torch.tensor(0.5, dtype=F64)


def linear_data(rows: int = 40, seed: int = 0) -> Dataset:
    x = normal(seed, rows, 2)
    root = torch.tensor([[1.0, 0.0], [0.5, 0.6]], dtype=F64)
    y = x @ normal(99, 2, 2) + normal(seed + 50, rows, 2) @ root.T
    return Dataset.of(x, y.unsqueeze(1))


def residual_covariance(data: Dataset) -> Tensor:
    design = torch.cat([data.x, torch.ones(len(data.x), 1, dtype=F64)], 1)
    e = data.mean - design @ torch.linalg.lstsq(design, data.mean, driver="gels").solution
    return e.T @ e / len(e)


def linear_problem(kind: Any = "full", **options: Any) -> tuple[Bilevel, Any, Any, Any]:
    structure = {"full": "full", "diagonal": "diagonal", "scalar": "isotropic"}[kind]
    policy = GaussianPolicy(2, 2, structure)  # pyright: ignore[reportArgumentType]
    reward = ConstantReward(2, kind)
    theta = policy.init([torch.Generator().manual_seed(0)], dtype=F64)
    problem = likelihood.problem(policy, reward, LAM, linear_data(), **options)
    return problem, theta, reward.start(3 * torch.eye(2, dtype=F64)), reward


def adam(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(tensors, lr=0.2)


def lbfgs(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(tensors, max_iter=4, line_search_fn="strong_wolfe")


@pytest.mark.parametrize("kind", ["full", "diagonal", "scalar"])
def test_implicit_algorithm_is_maximum_likelihood(kind: Any) -> None:
    problem, theta, phi, reward = linear_problem(kind)
    found = bilevel.solve(problem, theta, phi, optimiser=lbfgs, steps=25, tolerance=2e-5)
    assert found.converged
    data = linear_data()
    structure: Any = {"full": "full", "diagonal": "diagonal", "scalar": "isotropic"}[kind]
    want = optimal_reward(residual_covariance(data), LAM, structure).U
    torch.testing.assert_close(reward(found.phi, data.x).U, want, rtol=1e-4, atol=1e-5)
    policy = GaussianPolicy(2, 2, structure)
    fit = inner.gradient(policy, theta, NLL(), data)
    assert pytest.approx(-float(NLL()(policy(fit.value, data.x), data))) == found.history[-1].F


def test_history_observation_and_progress() -> None:
    problem, theta, phi, _ = linear_problem("scalar")
    seen: list[Any] = []
    reports: list[tuple[int, int]] = []
    found = bilevel.solve(
        problem, theta, phi, optimiser=adam, steps=3, tolerance=0.0,
        observe=lambda step, t, p: seen.append((step, t, p)),
        progress=lambda *report: reports.append(report),
    )  # fmt: skip
    assert [row.step for row in found.history] == [0, 1, 2, 3]
    assert reports == [(k, 3) for k in range(4)]
    assert not found.converged
    assert torch.equal(seen[0][2]["log_u"], phi["log_u"])
    assert torch.equal(seen[-1][2]["log_u"], found.phi["log_u"])
    assert found.history[-1].F > found.history[0].F
    for row, (_, t, p) in zip(found.history, seen, strict=True):
        assert float(problem.F(t, p)) == row.F
        assert row.stationarity < 1e-7
    table = found.table()
    assert list(table.step) == [0, 1, 2, 3]
    assert {"F", "J", "hypergradient", "residual", "curvature"} <= set(table.columns)


def test_what_depends_on_phi_alone_is_computed_once_for_an_inner_solve() -> None:
    asked: list[bool] = []

    class Counted(InputReward):
        def __call__(self, phi: Any, x: Tensor) -> Any:
            asked.append(phi["bias0"].requires_grad)
            return super().__call__(phi, x)

    policy, data = GaussianPolicy(2, 2, "diagonal", scale=MLP()), linear_data()
    reward = Counted(2, 2, MLP(), "diagonal")
    problem = likelihood.problem(policy, reward, LAM, data, weight_decay=1e-3)
    theta = policy.init([torch.Generator().manual_seed(0)], dtype=F64)
    phi = reward.start(torch.Generator().manual_seed(1))
    whole = bilevel.solve(problem, theta, phi, optimiser=adam, steps=2, inner=Exact())
    assert sum(row.inner_evaluations for row in whole.history) > 30
    assert sum(not slope for slope in asked) < 15
    again = bilevel.solve(
        replace(problem, at=None), theta, phi, optimiser=adam, steps=2, inner=Exact()
    )
    assert whole.history == again.history
    for name, leaf in whole.phi.items():
        assert torch.equal(leaf, again.phi[name])


def test_another_objective_at_phi_is_refused() -> None:
    problem, theta, phi, _ = linear_problem()
    other = replace(problem, at=lambda phi: lambda theta: 2 * problem.J(theta, phi))
    with pytest.raises(InputError, match="an `at` that returns the same as J"):
        bilevel.solve(other, theta, phi, optimiser=adam, steps=1)


def test_it_stops_at_the_tolerance() -> None:
    problem, theta, phi, _ = linear_problem("scalar")
    found = bilevel.solve(problem, theta, phi, optimiser=lbfgs, steps=50, tolerance=1e-4)
    assert found.converged
    assert found.history[-1].hypergradient <= 1e-4 < found.history[-2].hypergradient


@pytest.mark.parametrize("sampled", [False, True])
def test_steps_of_adam_climb_the_inner_objective(sampled: bool) -> None:
    """By the surrogate where there is one, whose gradient here is that of `J` with noise."""

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -(theta - phi).square().sum() / 2

    def surrogate(theta: Tensor, phi: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(2, generator=generator, dtype=F64)
        return J(theta, phi) + 0.01 * (noise * theta).sum()

    problem = Bilevel(
        J, lambda theta, phi: J(theta, phi) - 1, sampled=surrogate if sampled else None
    )
    phi = torch.ones(2, dtype=F64)
    with warnings.catch_warnings():  # a hundred steps come near the inner solution only
        warnings.simplefilter("ignore", HypergradientWarning)
        found = bilevel.solve(
            problem, torch.zeros(2, dtype=F64), phi,
            optimiser=lambda tensors: torch.optim.SGD(tensors, lr=0.0), steps=1, tolerance=0.0,
            inner=AdamSteps(100, 0.05), generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    torch.testing.assert_close(found.theta, phi, rtol=0.0, atol=0.05)


@pytest.mark.parametrize("optimiser", [adam, lbfgs])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_resumed_run_has_the_same_bits(tmp_path: Path, optimiser: Any, sampled: bool) -> None:
    estimator = ScoreFunction(4) if sampled else None
    problem, theta, phi, _ = linear_problem("full", estimator=estimator)
    how = AdamSteps(5, 0.01) if sampled else Exact()

    def run(steps: int, checkpoint: Path | None) -> bilevel.Result:
        with warnings.catch_warnings():  # five sampled steps do not reach the inner solution
            warnings.simplefilter("ignore", HypergradientWarning)
            return bilevel.solve(
                problem, theta, phi, optimiser=optimiser, steps=steps, inner=how, tolerance=0.0,
                hypergradient=Implicit(damping=0.01),
                generator=torch.Generator().manual_seed(3), checkpoint=checkpoint,
            )  # fmt: skip

    whole, path = run(5, None), tmp_path / "deep" / "run.pt"
    run(2, path)
    resumed = run(5, path)
    assert resumed.history == whole.history
    for name in phi:
        assert torch.equal(resumed.phi[name], whole.phi[name])
    for name in theta:
        assert torch.equal(resumed.theta[name], whole.theta[name])
    with pytest.raises(InputError, match=r"run.pt is at step 5: pass steps >= 5"):
        run(4, path)
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]


def test_a_checkpoint_of_another_problem_is_refused(tmp_path: Path) -> None:
    problem, theta, phi, _ = linear_problem("scalar")
    path = tmp_path / "run.pt"
    bilevel.solve(problem, theta, phi, optimiser=adam, steps=1, checkpoint=path)
    other, theta, phi, _ = linear_problem("full")
    with pytest.raises(InputError, match="pass another checkpoint file"):
        bilevel.solve(other, theta, phi, optimiser=adam, steps=2, checkpoint=path)


def test_held_out_data_choose_the_reward() -> None:
    """The policy is trained on one data set, the reward maximises the likelihood of another."""
    held_out = linear_data(30, seed=7)
    problem, theta, phi, reward = linear_problem("full", held_out=held_out)
    found = bilevel.solve(problem, theta, phi, optimiser=lbfgs, steps=25, tolerance=2e-5)
    assert found.converged
    policy = GaussianPolicy(2, 2, "full")
    mean = policy(found.theta, held_out.x).mean
    want = optimal_reward(likelihood.second_moment(mean, held_out), LAM).U
    # a linear mean is least squares whatever U, so the residuals on held-out data decide
    torch.testing.assert_close(reward(found.phi, held_out.x).U, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("estimate", ["residual", "online"])
def test_plug_in_is_maximum_likelihood(estimate: Any) -> None:
    data, policy = linear_data(), GaussianPolicy(2, 2, "full")
    theta = policy.init([torch.Generator().manual_seed(0)], dtype=F64)
    found = likelihood.plug_in(policy, theta, LAM, data, estimate=estimate)
    torch.testing.assert_close(found.estimated, residual_covariance(data), rtol=1e-7, atol=1e-9)
    P = policy(found.trained.value, data.x).covariance[0]
    torch.testing.assert_close(P, found.estimated, rtol=1e-6, atol=1e-8)
    assert found.trained.converged


def test_plug_in_as_published_uses_the_marginal_covariance() -> None:
    data, policy = linear_data(), GaussianPolicy(2, 2, "full")
    theta = policy.init([torch.Generator().manual_seed(0)], dtype=F64)
    found = likelihood.plug_in(policy, theta, LAM, data, estimate="marginal")
    torch.testing.assert_close(found.estimated, torch.cov(data.mean.T, correction=0))
    better = likelihood.plug_in(policy, theta, LAM, data)
    losses = [float(NLL()(policy(one.trained.value, data.x), data)) for one in (found, better)]
    assert losses[0] > losses[1] + 0.01


@pytest.mark.parametrize("batch_size", [None, 30])
def test_single_loop_approaches_the_same_reward(batch_size: int | None) -> None:
    problem, theta, phi, reward = linear_problem("scalar", batch_size=batch_size)
    found = single_loop(
        problem, theta, phi, steps=1200,
        inner_rate=lambda k: 0.1 / (1 + k / 300) ** 0.5,
        outer_rate=lambda k: 0.05 / (1 + k / 300) ** 0.5,
        generator=torch.Generator().manual_seed(0), every=400,
    )  # fmt: skip
    data = linear_data()
    want = optimal_reward(residual_covariance(data), LAM, "isotropic").U
    got = reward(found.phi, data.x).U
    torch.testing.assert_close(got, want, rtol=0.15 if batch_size else 1e-2, atol=0)
    assert [row.step for row in found.history] == [*range(0, 1201, 400)]


def test_single_loop_resumes_with_the_same_bits(tmp_path: Path) -> None:
    problem, theta, phi, _ = linear_problem("scalar", batch_size=10)

    def run(steps: int, checkpoint: Path | None) -> bilevel.Result:
        return single_loop(
            problem, theta, phi, steps=steps, inner_rate=lambda k: 0.05,
            outer_rate=lambda k: 0.02, every=2, checkpoint=checkpoint,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip

    path = tmp_path / "loop.pt"
    run(4, path)
    resumed, whole = run(9, path), run(9, None)
    assert torch.equal(resumed.phi["log_u"], whole.phi["log_u"])
    assert resumed.history == whole.history


def test_single_loop_that_diverges_says_so() -> None:
    problem, theta, phi, _ = linear_problem("scalar")
    with pytest.raises(NonFiniteError, match="pass smaller rates"):
        single_loop(
            problem, theta, phi, steps=500, inner_rate=lambda k: 10.0, outer_rate=lambda k: 1.0
        )


@pytest.mark.parametrize("kind", ["scalar", "diagonal", "full"])
def test_a_constant_reward_starts_where_it_is_told(kind: Any) -> None:
    U = torch.as_tensor(make_problem(3, 1).U)
    reward = ConstantReward(3, kind)
    got = reward(reward.start(U), torch.zeros(4, 2)).U
    want = {
        "scalar": U.diagonal().mean() * torch.eye(3, dtype=F64),
        "diagonal": torch.diag(U.diagonal()),
        "full": U,
    }[kind]
    torch.testing.assert_close(got, want)


def test_a_reward_of_the_inputs_learns_their_covariance() -> None:
    """Two inputs of different noise: `U*(x) = (λ/2) Σ(x)⁻¹`."""
    x = torch.tensor([[-1.0], [1.0]], dtype=F64)
    y = torch.stack([0.3 * normal(1, 50, 1), 2.0 * normal(2, 50, 1)])
    data = Dataset.of(x, y)
    policy = GaussianPolicy(1, 1, "diagonal", mean=MLP(), scale=MLP())
    reward = InputReward(1, 1, MLP())
    theta = policy.init([torch.Generator().manual_seed(0)], dtype=F64)
    phi = reward.start(torch.Generator().manual_seed(0))
    problem = likelihood.problem(policy, reward, LAM, data)
    found = bilevel.solve(problem, theta, phi, optimiser=lbfgs, steps=30, tolerance=2e-5)
    assert found.converged
    want = LAM / 2 / data.covariance
    torch.testing.assert_close(reward(found.phi, x).U, want, rtol=1e-3, atol=0)


def test_what_is_refused() -> None:
    problem, theta, phi, _ = linear_problem("scalar", estimator=ScoreFunction(2), batch_size=5)
    with pytest.raises(InputError, match="steps is -1"):
        bilevel.solve(problem, theta, phi, optimiser=adam, steps=-1)
    with pytest.raises(InputError, match="the inner gradient is sampled: pass generator"):
        bilevel.solve(problem, theta, phi, optimiser=adam, steps=1, inner=AdamSteps(1, 0.1))
    with pytest.raises(InputError, match="batches are drawn at random: pass generator"):
        single_loop(
            problem, theta, phi, steps=1, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1
        )
    data, policy = linear_data(), GaussianPolicy(2, 2, "full")
    batched = Dataset(*(t.unsqueeze(0) for t in vars(data).values()))
    with pytest.raises(ShapeError, match=r"data.x has shape \(1, 40, 2\): pass x \(N, d\)"):
        likelihood.problem(policy, ConstantReward(2), LAM, batched)
    with pytest.raises(ShapeError, match="U has n = 3, the reward n = 2"):
        ConstantReward(2).start(torch.eye(3, dtype=F64))
    with pytest.raises(InputError, match=r"batch_size is 41 .*: pass at most 40"):
        likelihood.problem(policy, ConstantReward(2), LAM, data, batch_size=41)


@pytest.mark.parametrize("batched", [False, True])
def test_single_loop_refuses_what_its_first_look_tells(batched: bool) -> None:
    """A J without theta, which would never move; NaN at the start, which no rate mends."""
    start = torch.zeros(2, dtype=F64)

    def run(J: Any) -> Any:
        return single_loop(
            Bilevel(J, lambda t, p: -(t - p - 1).square().sum(), batch=drawing(J)), start, start,
            steps=3, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip

    def drawing(J: Any) -> Any:
        return (lambda generator: (J, lambda t, p: -(t - p).square().sum())) if batched else None

    with pytest.raises(InputError, match="J does not depend on theta"):
        run(lambda t, p: -p.square().sum())
    with pytest.raises(NonFiniteError, match=r"^J is nan") as caught:
        run(lambda t, p: -(t - p).square().sum() * math.nan)
    assert "rates" not in str(caught.value)


def test_l_bfgs_stays_where_nothing_has_a_slope() -> None:
    leaf = torch.ones(2, dtype=F64, requires_grad=True)

    def closure() -> float:
        leaf.grad = torch.zeros_like(leaf)
        return 3.0

    bilevel.lbfgs([leaf]).step(closure)
    assert torch.equal(leaf.detach(), torch.ones(2, dtype=F64))
