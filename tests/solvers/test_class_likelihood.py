"""Maximum likelihood of classes, directly and through a learned reward."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from solvers import bilevel
from solvers.bilevel import AdamSteps, Exact, likelihood
from solvers.bilevel.single_loop import single_loop
from solvers.data import LabelledData
from solvers.errors import InputError, ShapeError
from solvers.families.categorical import CategoricalPolicy
from solvers.families.networks import MLP
from solvers.hypergradients.implicit import HypergradientWarning, implicit
from solvers.hypergradients.methods import Implicit
from solvers.numerics.trees import Leaves, Tree, flat
from solvers.rewards.between_classes import (
    ClassReward,
    FreeReward,
    OneHotReward,
    exact_scale,
    gibbs,
)
from solvers.rewards.learnable import ConstantReward, InputReward, RewardModel
from solvers.training import inner
from solvers.training.estimators import ScoreFunction
from solvers.training.objectives import PolicyGradient
from tests.draws import F64, normal

INPUTS, C, RHO = 2, 3, 0.05
LAM = torch.tensor(0.6, dtype=F64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def soft_data(rows: int = 12, seed: int = 0, classes: int = C) -> LabelledData:
    x = normal(seed, rows, INPUTS)
    return LabelledData.soft(x, (2 * normal(seed + 1, rows, classes)).softmax(-1))


def labelled(rows: int = 40, seed: int = 0, classes: int = C) -> LabelledData:
    x = normal(seed, rows, INPUTS)
    noisy = x @ normal(seed + 1, INPUTS, classes) + normal(seed + 2, rows, classes)
    return LabelledData.of(x, noisy.argmax(-1), classes)


DATA, POLICY = soft_data(), CategoricalPolicy(INPUTS, C)


def numbers(theta: Tree, data: LabelledData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Design with a column of ones, weights with the biases as last row, probabilities."""
    assert isinstance(theta, dict)
    design = np.column_stack([data.x.numpy(), np.ones(len(data.x))])
    weights = np.vstack([theta["weight0"].numpy(), theta["bias0"].numpy()])
    z = design @ weights
    p = np.exp(z - z.max(-1, keepdims=True))
    return design, weights, p / p.sum(-1, keepdims=True)


def log_likelihood(theta: Tree, data: LabelledData, rho: float = RHO) -> float:
    """`F` in numpy."""
    _, weights, p = numbers(theta, data)
    return float((data.pi.numpy() * np.log(p)).sum(-1).mean() - rho / 2 * (weights**2).sum())


@pytest.mark.parametrize("data", [DATA, labelled(), labelled(30, 5, 2), soft_data(9, 3, 5)])
def test_the_fit_is_stationary(data: LabelledData) -> None:
    found = inner.fit(CategoricalPolicy(INPUTS, data.classes), data, weight_decay=RHO)
    assert found.converged
    design, weights, p = numbers(found.value, data)
    slope = design.T @ (data.pi.numpy() - p) / len(p) - RHO * weights
    assert np.abs(slope).max() <= 2e-9


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_fit_is_that_of_scikit_learn(classes: int) -> None:
    """Its biases are penalised here: there they are the weights of a column of ones."""
    data = labelled(50, 3, classes)
    found = inner.fit(CategoricalPolicy(INPUTS, classes), data, weight_decay=RHO)
    design, _, p = numbers(found.value, data)
    strength = 1 / (RHO * len(p)) * (2 if classes == 2 else 1)  # one logit is two of half the size
    model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
    want = model.fit(design, data.pi.argmax(-1).numpy()).predict_proba(design)
    np.testing.assert_allclose(p, want, atol=1e-6)


def test_the_fit_from_any_start_is_the_same() -> None:
    """And its penalty is felt: less of it, more likelihood."""
    start = POLICY.init([generator()], dtype=F64)
    before = {name: p.detach().clone() for name, p in start.items()}
    one = inner.fit(POLICY, DATA, weight_decay=RHO, params=start)
    other = inner.fit(POLICY, DATA, weight_decay=RHO)
    for name, p in one.value.items():
        torch.testing.assert_close(p, other.value[name], rtol=0, atol=1e-7)
        assert torch.equal(start[name], before[name])
    loose = inner.fit(POLICY, DATA, weight_decay=RHO / 10)
    assert log_likelihood(loose.value, DATA, 0) > log_likelihood(one.value, DATA, 0) + 1e-3


@pytest.mark.parametrize("K", [1, C])
def test_the_inner_solution_is_stationary(K: int) -> None:
    """Of `E [r + λH] - λ(ρ/2)‖θ‖²`, with a reward of every input."""
    reward = ClassReward(normal(4, len(DATA.x), C, K))
    found = inner.fit(POLICY, DATA, PolicyGradient(reward, LAM), weight_decay=RHO)
    assert found.converged
    design, weights, p = numbers(found.value, DATA)
    lam, pi = LAM.item(), DATA.pi.numpy() if K == C else np.ones((len(DATA.x), 1))
    gain = np.einsum("nck,nk->nc", reward.table.numpy(), pi) - lam * np.log(p)
    slope = p * (gain - (p * gain).sum(-1, keepdims=True))  # of J in the logits
    assert np.abs(design.T @ slope / len(p) - lam * RHO * weights).max() <= 2e-9


@pytest.mark.parametrize("network", [MLP(), MLP((8,), "tanh")])
def test_flexible_policies_reach_the_gibbs_law(network: MLP) -> None:
    """With a column for each input, logits are free; a wide network has enough freedom, too."""
    x = torch.eye(4, dtype=F64)
    data = LabelledData.soft(x, normal(1, 4, C).softmax(-1))
    reward = ClassReward(normal(2, 4, C, C))
    policy = CategoricalPolicy(4, C, network)
    start = policy.init([generator()], dtype=F64)
    found = inner.fit(policy, data, PolicyGradient(reward, LAM), weight_decay=0.0, params=start)
    want = gibbs(reward, LAM, data.pi).p
    torch.testing.assert_close(policy(found.value, x).p, want, rtol=0, atol=1e-7)


def parameters(model: Any) -> tuple[RewardModel, Tree]:
    """A reward model and a point of its parameters."""
    if isinstance(model, ConstantReward):
        A = normal(5, C, C)
        return OneHotReward(model), model.start(A @ A.T + torch.eye(C, dtype=F64))
    reward = OneHotReward(model) if isinstance(model, InputReward) else model
    return reward, model.start(generator(6))


MODELS = {
    "scalar": ConstantReward(C, "scalar"),
    "diagonal": ConstantReward(C, "diagonal"),
    "full": ConstantReward(C, "full"),
    "of the input": InputReward(INPUTS, C, MLP((4,), "tanh")),
    "free": FreeReward(INPUTS, C),
    "free network": FreeReward(INPUTS, C, MLP((4,), "tanh")),
    "free, of the outcome": FreeReward(INPUTS, C, compares="outcome"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("held_out", [None, soft_data(7, 20)])
def test_hypergradients_by_finite_differences(name: str, held_out: LabelledData | None) -> None:
    reward, phi = parameters(MODELS[name])
    outer = DATA if held_out is None else held_out
    problem = likelihood.problem(POLICY, reward, LAM, DATA, weight_decay=RHO, held_out=held_out)
    leaves = Leaves.of("phi", phi)

    def solved(point: Tree) -> Tree:
        assert isinstance(point, dict)
        return inner.fit(
            POLICY,
            DATA,
            PolicyGradient(reward(point, DATA.x), LAM),
            weight_decay=RHO,
            tolerance=1e-12,
        ).value

    theta = solved(phi)
    assert float(problem.F(theta, phi)) == pytest.approx(log_likelihood(theta, outer), rel=1e-12)
    found = implicit(problem.J, problem.F, theta, phi, method="dense", strict=True)
    slope = flat(Leaves.of("hypergradient", found.value).tensors)
    for seed in range(3):
        direction = normal(30 + seed, len(slope))
        ends = [solved(leaves.moved(leaves.split(direction), h).detached()) for h in (1e-4, -1e-4)]
        rise = (log_likelihood(ends[0], outer) - log_likelihood(ends[1], outer)) / 2e-4
        size = float(slope.norm() * direction.norm())
        assert float(slope @ direction) == pytest.approx(rise, rel=1e-5, abs=1e-6 * size)


def test_the_inner_objective_is_its_definition() -> None:
    reward, phi = parameters(MODELS["free, of the outcome"])
    problem = likelihood.problem(POLICY, reward, LAM, DATA, weight_decay=RHO)
    theta = {name: p.detach() for name, p in POLICY.init([generator()], dtype=F64).items()}
    _, weights, p = numbers(theta, DATA)
    assert isinstance(phi, dict)
    table, lam = reward(phi, DATA.x).table.numpy(), LAM.item()
    J = np.einsum("nc,nck,nk->n", p, table, DATA.pi.numpy()) - lam * (p * np.log(p)).sum(-1)
    want = J.mean() - lam * RHO / 2 * (weights**2).sum()
    assert float(problem.J(theta, phi)) == pytest.approx(want, rel=1e-12)


def lbfgs(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(
        tensors, max_iter=50, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )


@pytest.mark.parametrize("compares", ["nothing", "outcome"])
def test_a_free_reward_reaches_maximum_likelihood(compares: Any) -> None:
    data, model = labelled(), FreeReward(INPUTS, C, compares=compares)
    problem = likelihood.problem(POLICY, model, LAM, data, weight_decay=RHO)
    found = bilevel.solve(
        problem, POLICY.zeros(), model.start(generator()), optimiser=lbfgs, steps=5, tolerance=1e-6
    )
    assert found.converged
    best = inner.fit(POLICY, data, weight_decay=RHO)
    torch.testing.assert_close(found.theta, best.value, rtol=0, atol=1e-4)
    assert pytest.approx(log_likelihood(best.value, data), abs=1e-8) == found.history[-1].F


def test_a_scalar_reward_of_one_input_is_the_exact_scale() -> None:
    """At a large input weights are small, and so is what their decay changes."""
    pi = torch.tensor([[0.5, 0.3, 0.2]], dtype=F64)
    data = LabelledData.soft(torch.tensor([[100.0]], dtype=F64), pi)
    policy, weight = CategoricalPolicy(1, C), ConstantReward(C, "scalar")
    problem = likelihood.problem(policy, OneHotReward(weight), LAM, data, weight_decay=1e-2)
    phi = weight.start(0.3 * torch.eye(C, dtype=F64))
    found = bilevel.solve(
        problem, policy.zeros(), phi, optimiser=lbfgs, steps=10, inner=Exact(1e-11), tolerance=1e-8
    )
    assert found.converged
    (log_u,) = Leaves.of("phi", found.phi).tensors
    torch.testing.assert_close(log_u.exp(), exact_scale(pi, LAM), rtol=1e-5, atol=0)


def test_sampled_inner_steps_repeat_their_bits() -> None:
    by, model = ScoreFunction(3), FreeReward(INPUTS, C)
    problem = likelihood.problem(POLICY, model, LAM, DATA, weight_decay=RHO, estimator=by)

    def run(seed: int) -> tuple[Tensor, ...]:
        with warnings.catch_warnings():  # a few sampled steps do not reach the inner solution
            warnings.simplefilter("ignore", HypergradientWarning)
            found = bilevel.solve(
                problem, POLICY.zeros(), model.start(generator()),
                optimiser=lambda p: torch.optim.Adam(p, lr=0.1), steps=3, tolerance=0.0,
                inner=AdamSteps(5, 0.01), generator=generator(seed),
                hypergradient=Implicit(damping=0.1),
            )  # fmt: skip
        return (*Leaves.of("theta", found.theta).tensors, *Leaves.of("phi", found.phi).tensors)

    first, second, other = run(1), run(1), run(2)
    assert all(map(torch.equal, first, second))
    assert not any(map(torch.equal, first, other))


def test_single_loop_climbs_on_batches() -> None:
    data, held_out, model = labelled(), labelled(30, 9), FreeReward(INPUTS, C)
    problem = likelihood.problem(
        POLICY, model, LAM, data, weight_decay=RHO, held_out=held_out, batch_size=10
    )

    def run(seed: int) -> bilevel.Result:
        return single_loop(
            problem, POLICY.zeros(), model.start(generator()), steps=60, every=30,
            inner_rate=lambda k: 0.3, outer_rate=lambda k: 0.1, generator=generator(seed),
        )  # fmt: skip

    first, second, other = run(1), run(1), run(2)
    assert first.history == second.history != other.history
    assert first.history[-1].F > first.history[0].F + 0.05
    assert pytest.approx(log_likelihood(first.theta, held_out), rel=1e-12) == first.history[-1].F


def test_a_batch_is_rows_of_the_data() -> None:
    """All rows, in any order, give the objectives themselves."""
    problem = likelihood.problem(
        POLICY, FreeReward(INPUTS, C), LAM, DATA, weight_decay=RHO, batch_size=len(DATA.x)
    )
    theta, phi = POLICY.zeros(), FreeReward(INPUTS, C).start(generator())
    assert problem.batch is not None
    J, F = problem.batch(generator())
    assert float(J(theta, phi)) == pytest.approx(float(problem.J(theta, phi)), rel=1e-12)
    assert float(F(theta, phi)) == pytest.approx(float(problem.F(theta, phi)), rel=1e-12)


def refused(**options: Any) -> Callable[[], Any]:
    settings: dict[str, Any] = {"lam": LAM, "data": DATA, "weight_decay": RHO, **options}
    return lambda: likelihood.problem(POLICY, FreeReward(INPUTS, C), **settings)


def test_what_is_refused() -> None:
    for value in (0.0, -0.5):
        with pytest.raises(InputError, match=f"lam must be positive, got {value:g}"):
            refused(lam=torch.tensor(value, dtype=F64))()
    with pytest.raises(InputError, match="weight_decay is 0: pass a positive one"):
        refused(weight_decay=0.0)()
    for rho in (-1.0, float("nan")):
        fit = partial(inner.fit, POLICY, DATA)
        for call in (refused(weight_decay=rho), partial(fit, weight_decay=rho)):
            with pytest.raises(InputError, match=f"weight_decay is {rho}: pass a number >= 0"):
                call()
    for size, bound in ((0, "at least 1"), (len(DATA.x) + 1, "at most 12")):
        with pytest.raises(InputError, match=f"batch_size is {size}.*: pass {bound}"):
            refused(batch_size=size)()
    with pytest.raises(ShapeError, match="the policy has C = 3 classes, the data 5"):
        inner.fit(POLICY, soft_data(9, 3, 5), weight_decay=RHO)
    assert refused()().batch is None
    assert refused()().sampled is None
