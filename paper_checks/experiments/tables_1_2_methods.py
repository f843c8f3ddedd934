"""The methods of tables 1 and 2: their rewards, and the data each is trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor

from solvers import bilevel
from solvers.bilevel import likelihood
from solvers.data import LabelledData
from solvers.families.categorical import CategoricalPolicy
from solvers.families.law import Params
from solvers.hypergradients.methods import Implicit
from solvers.numerics.solution import Solution
from solvers.rewards import between_classes
from solvers.rewards.between_classes import ClassReward, FreeReward
from solvers.tasks import classification
from solvers.training import inner
from solvers.training.objectives import PolicyGradient

from .arms import Arm
from .convergence import solved

Name = Literal["wine", "iris", "breast_cancer", "digits"]

OUTER_STEPS = 60  # of L-BFGS, on the learned reward
LEARNED = 1e-3  # hypergradient at which it counts as learned, relative to the largest met
# Newton steps solve its inner problems. A few digits of their solutions, and of the linear systems,
# are all that outer steps need.
INNER = bilevel.Exact(1e-5, 4000)
ACCURACY, DISTANCE = 1e-6, 1e-3
RESTARTS = 3  # from 0, of the loop that learns a reward
BETTER = 1e-5  # in nats: an inner maximum better by less is the same one


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
        estimated: whether the fit of `π̂(x)` converged, if there was one.
    """

    train: LabelledData
    distilled: LabelledData
    validation: LabelledData
    test: LabelledData
    policy: CategoricalPolicy
    lam: Tensor
    weight_decay: float
    estimated: bool


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
    distilled, estimated = train, True
    if estimates:
        fitted = inner.fit(policy, train, weight_decay=rho)
        distilled = LabelledData.soft(train.x, policy(fitted.value, train.x).p)
        estimated = fitted.converged
    weight = torch.tensor(lam, dtype=torch.float64)
    return Problem(train, distilled, validation, test, policy, weight, rho, estimated)


@dataclass(frozen=True)
class Taught:
    """What a policy is trained on.

    Attributes:
        reward: the reward.
        data: the data.
        converged: whether the search for the reward, or for its data, did; None without a search.
        start: where training starts: near the inner maximum that a reward was learned at; None: 0.
    """

    reward: ClassReward
    data: LabelledData
    converged: bool | None = None
    start: Params | None = None


def reward(problem: Problem, arm: Arm) -> Taught:
    """Return what an arm with a reward is trained on."""
    train, lam, C = problem.train, problem.lam, problem.train.classes
    pi = train.pi.mean(0)
    if arm.reward == "learned":
        return learn(problem)
    if arm.reward == "exact scalar":
        u = between_classes.exact_scale(problem.distilled.pi, lam)
        return Taught(ClassReward.scalar(u, C), problem.distilled, problem.estimated)
    if arm.reward == "exact diagonal":
        u = between_classes.exact_diagonal(problem.distilled.pi, lam)
        return Taught(ClassReward.diagonal(u), problem.distilled, problem.estimated)
    beta = between_classes.heuristic_scale(pi, lam, samples=len(train.x))
    return Taught(ClassReward.scalar(arm.scale * beta, C), train)


def learn(problem: Problem) -> Taught:
    """Return the reward `r_φ(ŷ | x)` that the bilevel solver learns from the training labels.

    The inner problem can have several maxima, and the outer loop follows one of them while `φ`
    moves. So it starts again from `θ = 0` at the `φ` it found, as long as training from there ends
    at a better maximum than the loop's own: the reward's solution is the best one known.
    """
    policy, train, lam, rho = problem.policy, problem.train, problem.lam, problem.weight_decay
    model = FreeReward(policy.inputs, policy.classes)
    levels = likelihood.problem(policy, model, lam, train, weight_decay=rho)
    phi = policy.zeros()  # the reward has the shape of the policy
    for left in range(RESTARTS, -1, -1):
        found = bilevel.solve(
            levels,
            policy.zeros(),
            phi,
            optimiser=lambda phi: torch.optim.LBFGS(
                phi, max_iter=OUTER_STEPS, history_size=OUTER_STEPS, line_search_fn="strong_wolfe"
            ),
            steps=1,
            inner=INNER,
            tolerance=LEARNED,
            hypergradient=Implicit(tolerance=ACCURACY, damping=0.0, distance=DISTANCE),
        )
        phi, theta = cast(Params, found.phi), cast(Params, found.theta)
        taught = Taught(model(phi, train.x), train, found.converged and solved(found), theta)
        fresh = solve(problem, replace(taught, start=None))
        best = bool(levels.J(fresh.value, phi) <= levels.J(theta, phi) + BETTER * lam)
        if best or not left:
            return replace(taught, converged=taught.converged and best)
    raise AssertionError("the last round returns")


def solve(problem: Problem, taught: Taught | None) -> Solution[dict[str, Tensor]]:
    """Return the solution of a training problem, penalised alike for all; None: likelihood."""
    policy, rho = problem.policy, problem.weight_decay
    if taught is None:
        return inner.fit(policy, problem.train, weight_decay=rho)
    objective = PolicyGradient(taught.reward, problem.lam)
    return inner.fit(policy, taught.data, objective, params=taught.start, weight_decay=rho)
