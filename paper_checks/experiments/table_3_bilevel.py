"""The scalar reward of table 3 by implicit differentiation, its outer problem on held-out rows.

The corrected table learns its rewards by cross-fitted alternation; this is the general solver on
the same data, with a network of a size that it can afford. The inner problem, that network trained
to stationarity, is not concave: the search spends its time there, and is no more accurate than it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from solvers import bilevel
from solvers.bilevel import likelihood
from solvers.data import Dataset
from solvers.families.gaussian import GaussianPolicy
from solvers.families.networks import MLP
from solvers.rewards.learnable import ConstantReward
from solvers.rewards.mahalanobis import isotropic_weight
from solvers.training import streams

from .table_3_data import Problem


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
