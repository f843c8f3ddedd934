"""The probability that a binary classifier learns, by reward, beside what is derived.

One input for every class probability `π`, with a reward of its own: the scalar `U = uI` with the
published `β* = λC/(2 Tr Σ)` (right for Gaussian policies), twice that, and the exact `u*`; and the
exact diagonal `U`. What each must teach is derived in `analysis`; policies are trained in `solvers`
by the exact gradient, to the end, and by a sampled one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis import categorical
from solvers.data import LabelledData
from solvers.errors import InputError
from solvers.families.categorical import Categorical
from solvers.rewards.between_classes import (
    ClassReward,
    exact_diagonal,
    exact_scale,
    heuristic_scale,
)
from solvers.training import streams
from solvers.training.ensemble import adam
from solvers.training.estimators import ScoreFunction
from solvers.training.objectives import Objective, PolicyGradient

from . import Progress
from .arms import PG_BETA, PG_DIAGONAL, PG_SCALAR, PG_TWICE_BETA, Arm, labels

F64, HALF = torch.float64, 0.5
EXACT = (PG_SCALAR, PG_DIAGONAL)
ARMS = (PG_TWICE_BETA, PG_BETA, *EXACT)
KINDS = ("predicted", "exact", "sampled")
NEWTON_STEPS = 500  # at most: far from its end, Newton's method moves a logit by 1 a step
SETTLED = 1e-12  # its last step, relative to the logit


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        lowest: the smallest `π`; the largest is `1 - lowest`.
        points: how many `π`, an odd number: one of them is ½.
        lam: entropy weight; it cancels in all that is learned.
        generations: samples `M` per input and step of the sampled gradient.
        repetitions: runs with the sampled gradient.
        steps: Adam updates of these.
        learning_rate: Adam's.
    """

    lowest: float = 0.02
    points: int = 49
    lam: float = 0.5
    generations: int = 100
    repetitions: int = 20
    steps: int = 1500
    learning_rate: float = 0.03

    def __post_init__(self) -> None:
        if not 0 < self.lowest < HALF or self.points < 3 or self.points % 2 == 0:
            raise InputError(
                f"lowest is {self.lowest}, points {self.points}: pass lowest in (0, ½) and an odd "
                f"number of at least 3 points, so that ½ is one of them"
            )


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Predict, and train, the policy of every arm at every `π`.

    Args:
        settings: what to train.
        seed: same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per arm, `pi`, kind ("predicted", "exact", "sampled") and repetition (0 but for
        "sampled"): the learned `logit` and probability `p` of the first class, its cost `kl`,
        `KL(π ‖ p)` in nats, and for "exact" whether the training `converged`.
    """
    task = data(settings)
    rewards = ClassReward.diagonal(torch.stack([weights(arm, task.pi, settings) for arm in ARMS]))
    lam = torch.tensor(settings.lam, dtype=F64)
    tables = [_predicted(settings, task)]
    for done, kind in enumerate(KINDS):
        if kind == "exact":
            objective = PolicyGradient(rewards, lam)
            start = torch.zeros(len(ARMS), settings.points, dtype=F64)
            logit, converged = _to_the_end(objective, start, task)
            table = _table(kind, logit.unsqueeze(1), task)
            tables.append(table.assign(converged=converged.flatten().numpy()))
        elif kind == "sampled":
            tables.append(_table(kind, _sampled(settings, rewards, lam, task, seed), task))
        if progress is not None:
            progress(kind, done + 1, len(KINDS))
    return pd.concat(tables, ignore_index=True).astype({"converged": "boolean"})


def data(settings: Settings) -> LabelledData:
    """Return one input per `π`, from `lowest` to `1 - lowest`."""
    below = torch.linspace(settings.lowest, HALF, settings.points // 2 + 1, dtype=F64)
    first = torch.cat([below, 1 - below[:-1].flip(0)])  # symmetric, with ½ itself
    pi = torch.stack([first, 1 - first], -1)
    return LabelledData.soft(pi[:, :1], pi)


def weights(arm: Arm, pi: Float[Tensor, "N 2"], settings: Settings) -> Float[Tensor, "N 2"]:
    """Return the diagonal of the arm's `U` at every input."""
    lam = torch.full_like(pi[:, 0], settings.lam)
    if arm.reward == "exact diagonal":
        return exact_diagonal(pi, lam)
    if arm.reward == "exact scalar":
        # At ½ every u is optimal, and `exact_scale` refuses to choose: the limit is λ.
        u, away = lam.clone(), pi[:, 0] != HALF
        u[away] = exact_scale(pi[away].unsqueeze(-2), lam[away])
    else:
        u = arm.scale * heuristic_scale(pi, lam)
    return u.unsqueeze(-1).expand_as(pi)


def law(logit: Float[Tensor, "*b N"]) -> Categorical:
    """Return the law whose first class has this logit.

    As logarithms of both probabilities: slopes are then right to the last digits, however small.
    """
    sides = [torch.nn.functional.logsigmoid(side) for side in (logit, -logit)]
    return Categorical(torch.stack(sides, -1))


def _to_the_end(
    objective: Objective, start: Float[Tensor, "*b N"], task: LabelledData
) -> tuple[Float[Tensor, "*b N"], Bool[Tensor, "*b N"]]:
    """Return the logits where the exact gradient vanishes, and whether each was found.

    By Newton's method from a start, each logit on its own. Plain steps stall where the softmax
    saturates: slopes shrink as p(1-p). From p = ½ the objective is concave all the way, and steps
    never overshoot.
    """
    logit, arrived = start.clone(), torch.zeros_like(start, dtype=torch.bool)
    for _ in range(NEWTON_STEPS):
        theta = logit.clone().requires_grad_()
        (slope,) = torch.autograd.grad(objective(law(theta), task).sum(), theta, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), theta)
        step = slope.detach() / curvature
        logit = logit - step
        arrived = step.abs() <= SETTLED * logit.abs().clamp(min=1)
        if bool(arrived.all()):
            break
    return logit, arrived


def _sampled(
    settings: Settings, rewards: ClassReward, lam: Tensor, task: LabelledData, seed: int
) -> Float[Tensor, "arms repetitions N"]:
    """Return the logits after training by the score function, from p = ½."""
    batch = (len(ARMS), settings.repetitions)
    generators = [
        streams.generator(seed, "noise", arm.label, repetition)
        for arm in ARMS
        for repetition in range(settings.repetitions)
    ]
    noise = streams.MemberNoise(generators, batch)
    objective = PolicyGradient(
        ClassReward(rewards.table.unsqueeze(1)), lam, ScoreFunction(settings.generations)
    )
    trained = adam(
        {"logit": torch.zeros(*batch, settings.points, dtype=F64)},
        lambda theta, _: objective(law(theta["logit"]), task, noise),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        batch_ndim=len(batch),
    )
    return trained["logit"]


def _table(
    kind: str, logit: Float[Tensor, "arms repetitions N"], task: LabelledData
) -> pd.DataFrame:
    """Return a row per arm, repetition and input of trained policies."""
    found = law(logit)
    kl = found.cross_entropy(task) - Categorical(task.pi.log()).entropy()
    values = {"logit": logit, "p": found.p[..., 0], "kl": kl}
    index = pd.MultiIndex.from_product(
        [labels(ARMS), range(logit.shape[1]), task.pi[:, 0].tolist()],
        names=["arm", "repetition", "pi"],
    )
    columns = {name: value.flatten().numpy() for name, value in values.items()}
    return pd.DataFrame(columns, index=index).reset_index().assign(kind=kind)


def _predicted(settings: Settings, task: LabelledData) -> pd.DataFrame:
    """Return a row per arm and input of what the derivations say."""
    rows: list[dict[str, object]] = []
    for arm in ARMS:
        for pi in task.pi.numpy():
            u, lam = derived_weights(arm, pi, settings.lam), settings.lam
            p = categorical.inner.solution(2).at(side="derived", pi=pi, U=np.diag(u), lam=lam)
            # of a U for two classes only its trace counts: as if it were scalar
            kl = categorical.costs.binary_gap().at(side="derived", pi=pi, u=u.mean(), lam=lam)
            logit = categorical.inner.binary_logit().at(
                side="derived", pi=pi, U=np.diag(u), lam=lam
            )
            row = {"arm": arm.label, "pi": pi[0], "kind": "predicted", "repetition": 0}
            rows.append({**row, "logit": logit, "p": p[0], "kl": kl})
    return pd.DataFrame(rows)


def derived_weights(arm: Arm, pi: np.ndarray, lam: float) -> np.ndarray:
    """Return the diagonal of the arm's `U` as derived, for one `π`."""
    if arm.reward == "heuristic scalar":
        beta = categorical.scalar.heuristic_scale(2).at(side="derived", pi=pi, lam=lam)
        return np.full(2, arm.scale * beta)
    if pi[0] == HALF:  # every u is optimal: the limit
        return np.full(2, categorical.scalar.binary_limit().at(side="derived", lam=lam))
    if arm.reward == "exact scalar":
        return np.full(2, categorical.scalar.binary().at(side="derived", pi=pi, lam=lam))
    # not the offset that the solvers choose: what is learned must not depend on it
    offset = -np.log(pi).mean()
    return categorical.diagonal.reward(2).at(side="derived", pi=pi, lam=lam, offset=offset)
