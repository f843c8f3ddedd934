"""The methods of figure D: their rewards, and the data each is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from solvers import bilevel, class_likelihood, class_rewards
from solvers.categorical import CategoricalPolicy, LabelledData
from solvers.class_rewards import ClassReward, FreeReward
from solvers.hypergradient import implicit
from solvers.policies import Params
from solvers.tasks import classification

PublishedArm = Literal["NLL", "PG(2β*)", "PG(β*)"]
ExactArm = Literal["PG(u*)", "PG(diag)", "PG(learned)"]
Arm = PublishedArm | ExactArm
Name = Literal["wine", "iris", "breast_cancer", "digits"]

OUTER_STEPS = 60  # of L-BFGS, on the learned reward
# Its inner solutions and linear systems are solved to a few digits: outer steps need no more. (The
# inner solutions are then within about 1e-3 of exact ones, relative to 1 + ‖θ‖.)
INNER = bilevel.Exact(1e-7, 4000)
ACCURACY, DISTANCE = 1e-6, 1e-3
SLOPE = 1e-7  # of a training problem solved to the end: largest entry of its gradient, in nats


@dataclass(frozen=True)
class Problem:
    """One split of one table, and what the plug-in methods know of it.

    Attributes:
        train: training rows with their labels.
        distilled: training rows with `π̂(x)` in place of the labels.
        validation: validation rows.
        test: test rows.
        policy: logistic regression.
        lam: entropy weight.
        weight_decay: `ρ`, in nats.
    """

    train: LabelledData
    distilled: LabelledData
    validation: LabelledData
    test: LabelledData
    policy: CategoricalPolicy
    lam: Tensor
    weight_decay: float


def load(
    name: Name,
    split: int,
    *,
    scaler: Literal["all", "train"],
    weight_decay: float,
    lam: float,
    estimates: bool,
) -> Problem:
    """Return one split of a table, in float64.

    Args:
        name: the table.
        split: seed of the split.
        scaler: rows the features are standardised on.
        weight_decay: `ρN`, `N` training rows.
        lam: entropy weight.
        estimates: whether to fit `π̂(x)`; else the labels take its place.
    """
    task = classification.load(name)
    parts = classification.split(task, seed=split, scaler=scaler, dtype=torch.float64)
    C = len(task.classes)
    train, validation, test = (
        LabelledData.of(part.x, part.y, C) for part in (parts.train, parts.validation, parts.test)
    )
    policy = CategoricalPolicy(train.x.shape[-1], C)
    rho = weight_decay / len(train.x)
    distilled = train
    if estimates:
        fitted = class_likelihood.fit(policy, train, weight_decay=rho)
        distilled = LabelledData.soft(train.x, policy(fitted.value, train.x).p)
    weight = torch.tensor(lam, dtype=torch.float64)
    return Problem(train, distilled, validation, test, policy, weight, rho)


Taught = tuple[ClassReward, LabelledData]
"""A reward, and the data a policy is trained on with it."""


def reward(problem: Problem, arm: Arm) -> Taught:
    """Return what an arm other than NLL is trained on."""
    train, lam, C = problem.train, problem.lam, problem.train.classes
    pi = train.pi.mean(0)
    if arm == "PG(learned)":
        return learn(problem), train
    if arm == "PG(u*)":
        u = class_rewards.exact_scale(problem.distilled.pi, lam)
        return ClassReward.scalar(u, C), problem.distilled
    if arm == "PG(diag)":
        u = class_rewards.exact_diagonal(problem.distilled.pi, lam)
        return ClassReward.diagonal(u), problem.distilled
    beta = class_rewards.heuristic_scale(pi, lam, samples=len(train.x))
    return ClassReward.scalar(2 * beta if arm == "PG(2β*)" else beta, C), train


def learn(problem: Problem) -> ClassReward:
    """Return the reward `r_φ(ŷ | x)` that the bilevel solver learns from the training labels."""
    policy, train = problem.policy, problem.train
    model = FreeReward(policy.inputs, policy.classes)
    levels = class_likelihood.problem(
        policy, model, problem.lam, train, weight_decay=problem.weight_decay
    )
    found = bilevel.solve(
        levels,
        policy.zeros(),
        policy.zeros(),  # the reward has the shape of the policy
        optimiser=lambda phi: torch.optim.LBFGS(
            phi, max_iter=OUTER_STEPS, history_size=OUTER_STEPS, line_search_fn="strong_wolfe"
        ),
        steps=1,
        inner=INNER,
        climb=lambda theta, phi: implicit(
            levels.J, levels.F, theta, phi, tolerance=ACCURACY, distance=DISTANCE
        ),
    )
    return model(found.phi, train.x)


def solve(problem: Problem, taught: Taught | None) -> Params:
    """Return the solution of a training problem, penalised alike for all; None: likelihood."""
    policy, rho = problem.policy, problem.weight_decay
    if taught is None:
        found = class_likelihood.fit(policy, problem.train, weight_decay=rho, tolerance=SLOPE)
    else:
        found = class_likelihood.train_on(
            policy, taught[0], problem.lam, taught[1], weight_decay=rho, tolerance=SLOPE
        )
    return found.value
