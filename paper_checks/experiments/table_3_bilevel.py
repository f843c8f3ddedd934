"""Rewards of table 3 by implicit differentiation through networks, outer problems on held-out rows.

The inner problem, a network trained to stationarity, is not concave: the search spends its time
there, and is no more accurate than it. `scalar` learns `U = uI` of one split, with a small network.
`learned` goes on from the reward that cross-fitted alternation found, with the networks of the
table: a mean of a restricted class answers to `U(x)`, and `λ(x)` says how, which alternation leaves
out of its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from solvers import bilevel
from solvers.bilevel import likelihood
from solvers.data import Dataset
from solvers.families.gaussian import GaussianPolicy
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.hypergradients.implicit import unwarned
from solvers.rewards.learnable import ConstantReward, Phi
from solvers.rewards.mahalanobis import DiagonalReward, isotropic_weight, optimal_reward
from solvers.training import inner, streams
from solvers.training.early_stopping import EarlyStopping
from solvers.training.objectives import NLL, Objective, PolicyGradient

from .table_3_data import Problem
from .table_3_methods import LearnedReward, Trained, Training, kept, policy, reward, rows_of, start

IMPLICIT, IMPLICIT_TEMPERED = "PG(implicit U(x))", "PG(implicit U(x), λ(x))"
CONTROLS = ("PG(residual diagonal), L-BFGS", "NLL, L-BFGS")
"""What the inner solver and its weight decay do without a learned reward."""


@dataclass(frozen=True)
class Scalar:
    """What the bilevel solver found for `U = uI`.

    Attributes:
        u: the scalar.
        predicted: `λn/(2 Tr S)`, S the second moment of the residuals of its policy on held-out
            rows: where the hypergradient of a mean that does not follow `u` is 0.
        start: where the search began, `λn/(2 Tr Σ)` of the marginal covariance.
        slope: the last hypergradient, relative to the largest.
        inner: how many of the inner solves reached the accuracy asked of them.
        solves: how many there were.
        evaluations: gradients and Hessian-vector products of all inner solves.
    """

    u: float
    predicted: float
    start: float
    slope: float
    inner: int
    solves: int
    evaluations: int


def scalar(
    problem: Problem,
    *,
    lam: float,
    seed: int,
    units: int = 8,
    weight_decay: float = 1e-3,
    steps: int = 5,
) -> Scalar:
    """Learn `u` of the first split by `bilevel.solve`: validation rows are the outer problem's.

    Args:
        problem: its data.
        lam: entropy weight.
        seed: of the initial policy.
        units: of the one hidden layer of the mean; the scale is shared.
        weight_decay: of both levels, in nats.
        steps: of L-BFGS on `log u`.

    Warns:
        HypergradientWarning: where the inner solutions are too far from stationary.
    """
    train, held_out = (
        Dataset.pairs(part.x[0].double(), part.mean[0].double())
        for part in (problem.train, problem.validation)
    )
    policy = GaussianPolicy(
        problem.inputs, problem.n, "diagonal", mean=MLP((units,), "tanh"), scale="constant"
    )
    reward = ConstantReward(problem.n, "scalar")
    levels = likelihood.problem(
        policy, reward, lam, train, held_out=held_out, weight_decay=weight_decay
    )
    theta = policy.init([streams.generator(seed, "init")], dtype=torch.float64)
    marginal = train.mean.var(0, correction=0).sum()
    start = isotropic_weight(marginal, problem.n, lam)
    found = bilevel.solve(
        levels,
        {name: leaf.detach() for name, leaf in theta.items()},
        reward.start(start * torch.eye(problem.n, dtype=torch.float64)),
        optimiser=bilevel.lbfgs,
        steps=steps,
    )
    mean = policy(found.theta, held_out.x).mean
    S = likelihood.second_moment(mean, held_out)
    slopes = [row.hypergradient for row in found.history]
    return Scalar(
        float(found.phi["log_u"].exp()),
        float(isotropic_weight(S.trace(), problem.n, lam)),
        float(start),
        slopes[-1] / max(slopes),
        sum(row.inner_converged for row in found.history),
        len(found.history),
        sum(row.inner_evaluations for row in found.history),
    )


@dataclass(frozen=True)
class Learned:
    """What the bilevel solver found for `U(x)` and `λ(x)`.

    Attributes:
        trained: the policies, of one method.
        power: β of `λ(x) ∝ Σ̂(x)^β`, `(splits,)`.
        inner: share of the inner solves that reached the accuracy asked of them.
    """

    trained: Trained
    power: Float[Tensor, "splits"]
    inner: float


def learned(
    problem: Problem,
    training: Training,
    found: LearnedReward,
    power: float | None,
    lam: float,
    seed: int,
) -> Learned:
    """Learn `U(x) = ½ λ(x) Σ̂(x)⁻¹`, with `λ(x) = λ Σ̂(x)^β`, by `bilevel.solve`, for all splits.

    The outer problem has one half of the validation rows; the other tells at which outer step the
    policy of a split is kept. Splits have levels of their own, so that the sums over them make one
    problem, whose hypergradient holds that of each. What ends a search is the sum: a split's answer
    depends on its company, but no more than on how far the search goes.

    Args:
        problem: the data.
        training: settings.
        found: where the search of `Σ̂(x)` begins.
        power: β, if it stays as it is; None learns it, from ½.
        lam: entropy weight.
        seed: of the initial policies.
    """
    half = problem.validation.x.shape[-2] // 2
    rows = torch.arange(2 * half, device=problem.device)
    levels = _Levels(problem, training, lam, rows_of(problem.validation, rows[:half]))
    judge = rows_of(problem.validation, rows[half:])
    stop = EarlyStopping(
        lambda leaves: NLL()(levels.policy(leaves, judge.x), judge) / problem.n,
        patience=2,
        least=training.least,
    )
    phi = {name: leaf.detach().requires_grad_() for name, leaf in found.found.value.items()}
    begin = 0.5 if power is None else power
    beta = problem.train.x.new_full((1, len(problem.splits), 1, 1), begin)
    phi["power"] = beta.requires_grad_(power is None)  # if not, a frozen leaf

    def observe(step: int, theta: Any, phi: Any) -> None:  # trees; here dictionaries
        stop(step, {**theta, "power": phi["power"]})

    with unwarned():  # that inner solutions are not stationary is told by `inner`
        answer = bilevel.solve(
            bilevel.Bilevel(levels.J, levels.F, at=levels.at),
            start(levels.policy, 1, problem, seed),
            phi,
            optimiser=lambda leaves: torch.optim.Adam(leaves, lr=training.outer_rate),
            steps=training.outer_steps,
            inner=bilevel.Inexact(max_iterations=training.evaluations),
            observe=observe,
        )
    solved = [row.inner_converged for row in answer.history]
    beta = stop.best()["power"].reshape(-1)
    return Learned(kept(levels.policy, stop), beta, sum(solved) / len(solved))


@dataclass(frozen=True)
class _Levels:
    """Both objectives, summed over splits."""

    problem: Problem
    training: Training
    lam: float
    held_out: Dataset

    @property
    def policy(self) -> GaussianPolicy:
        return policy(self.problem, self.training)

    def J(self, theta: Params, phi: Phi) -> Tensor:
        return self.at(phi)(theta)

    def at(self, phi: Phi) -> Callable[[Params], Tensor]:
        train = self.problem.train
        weights = reward(self.problem, self.training).weights(phi, train.x)
        tau = (self.lam / (2 * weights)) ** phi["power"]
        objective = PolicyGradient(DiagonalReward(tau * weights), self.lam, temperature=tau)

        def J(theta: Params) -> Tensor:
            value = -objective(self.policy(theta, train.x), train).sum()
            return value - self.lam * inner.decay(theta, self.training.decay)

        return J

    def F(self, theta: Params, phi: Phi) -> Tensor:
        value = -NLL()(self.policy(theta, self.held_out.x), self.held_out).sum()
        return value - inner.decay(theta, self.training.decay)


def controls(
    problem: Problem, training: Training, residuals: Tensor, lam: float, seed: int
) -> dict[str, Trained]:
    """Train the arms `CONTROLS` by the inner solver's L-BFGS, with its weight decay.

    Args:
        problem: the data.
        training: settings.
        residuals: of rows that the mean was not trained on, of which the constant reward is made.
        lam: entropy weight.
        seed: of the initial policies.
    """
    second = torch.diag_embed(residuals.square().mean(-2))
    constant = PolicyGradient(optimal_reward(second, lam, "diagonal"), lam)
    objectives: tuple[tuple[Objective, float], ...] = ((constant, lam), (NLL(), 1.0))
    return {
        arm: _descended(problem, training, objective, nat, seed)
        for arm, (objective, nat) in zip(CONTROLS, objectives, strict=True)
    }


def _descended(
    problem: Problem, training: Training, objective: Objective, nat: float, seed: int
) -> Trained:
    """Train by L-BFGS, and keep of each split the best of the looks at its validation rows.

    Args:
        problem: the data.
        training: settings.
        objective: to minimise.
        nat: what a nat of likelihood counts in it, and of weight decay.
        seed: of the initial policies.
    """
    model = policy(problem, training)
    leaves = {
        name: leaf[0].requires_grad_() for name, leaf in start(model, 1, problem, seed).items()
    }
    stop = EarlyStopping(
        lambda at: NLL()(model(at, problem.validation.x), problem.validation) / problem.n,
        patience=training.patience,
        least=training.least,
    )
    optimiser = bilevel.lbfgs(list(leaves.values()), iterations=10)

    def loss() -> float:
        optimiser.zero_grad()
        value = objective(model(leaves, problem.train.x), problem.train).sum()
        value = value + nat * inner.decay(leaves, training.decay)
        value.backward()
        return value.item()

    for step in range(training.evaluations):
        optimiser.step(loss)
        if stop(step, leaves):
            break
    best = {name: leaf[None] for name, leaf in stop.best().items()}
    return Trained(lambda x: model(best, x), stop.done[None], stop.score[None])
