"""What is learned where KL to a reference policy stands in place of the entropy, and by GRPO.

Scalar data of variance 1 around a linear mean; the reference is a policy of the same class, whose
mean is off by `d` and whose variance is `P₀`. Three parts:

- *learned*: the bilevel problem is solved, reward and policy, from a policy of zeros;
- *entropy's reward*: a policy is trained on `U = (λ/2)Σ⁻¹`, the best one with entropy;
- *group*: policies with entropy are trained by the score function as commonly published with GRPO:
  rewards less the mean of their group, divided by its standard deviation. Rewards of several
  scales `u` must learn one variance, and weights `λ >= √(2/n)` none.

Predictions are the derivations of `analysis.reference`; where the derived `U*` is not positive the
best reward is none, and the policy is the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

import solvers as so
from analysis import gaussian
from analysis import reference as theory
from solvers.errors import InputError
from solvers.families.law import Params
from solvers.training import inner, streams
from solvers.training.ensemble import adam

from . import Progress

F64 = torch.float64
POLICY = so.GaussianPolicy(1, 1, "isotropic")
LEARNED, ENTROPIC, GROUP = "learned", "entropy's reward", "group"
NODES, FARTHEST = 40, 8.0  # of the quadrature over the distance of data, in deviations
SCALES = (0.1, 1.0, 10.0)  # u, which must not matter


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        distances: of the reference's mean from that of the data, `d`.
        ratios: of its variance to that of the data, `P₀/Σ`.
        lam: weight of the divergence; what is learned must not depend on it.
        points: of the predicted lines.
        dimensions: `n` of the policies trained by groups.
        variances: of which the groups' entropy weights make each the stationary one, `s/σ²`.
        beyond: one more entropy weight, in units of the largest one, `√(2/n)`.
        outcomes: data points for each step.
        generations: in the group of each.
        steps: Adam updates; variances are averaged over the last half.
        learning_rate: Adam's.
    """

    distances: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    ratios: tuple[float, ...] = (0.5, 1.0, 4.0)
    lam: float = 0.5
    points: int = 25
    dimensions: tuple[int, ...] = (1, 2, 3)
    variances: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    beyond: float = 1.15
    outcomes: int = 32
    generations: int = 128
    steps: int = 500
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        if self.beyond <= 1:
            raise InputError(f"beyond is {self.beyond}: pass a number above 1")


QUICK = replace(
    Settings(),
    distances=(0.0, 1.0, 2.0),
    ratios=(0.5, 4.0),
    points=13,
    dimensions=(1, 2),
    variances=(0.5, 1.0, 2.0),
    generations=64,
    steps=300,
)


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Predict, solve and train.

    Args:
        settings: what to train.
        seed: of the noise of the groups; all else is exact.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per arm, kind ("predicted", "measured") and problem. Arms "learned" and "entropy's
        reward": `ratio`, `distance`, and the policy's `variance`, `error` of the mean, `weight` u/λ
        of the reward, `cost` in nats beside maximum likelihood, `converged`. Arm "group": `n`,
        `lam`, `scale` u, and the `variance`, infinite where none is stationary. Measured ones have
        `implied`, the λ whose derived variance this is, and `growth`, by what factor it is larger
        in the last quarter of the steps than in the one before.
    """
    parts = [_predicted(settings), *_weights(settings)]
    total = len(settings.ratios) + len(settings.dimensions)
    for done in range(total):
        if progress is not None:
            progress("reference", done, total)
        if done < len(settings.ratios):
            parts.append(_measured(settings, settings.ratios[done]))
        else:
            n = settings.dimensions[done - len(settings.ratios)]
            parts.append(_groups(settings, n, seed))
    if progress is not None:
        progress("reference", total, total)
    return pd.concat(parts, ignore_index=True).astype({"converged": "boolean"})


def data() -> so.Dataset:
    """Return outcomes of mean `x` and variance 1 at four inputs."""
    x = torch.linspace(-1, 1, 4, dtype=F64).unsqueeze(-1)
    return so.Dataset.of(x, torch.stack([x - 1, x + 1], 1))


def base(distance: float, ratio: float) -> so.Reference:
    """Return the reference: a policy whose mean is off by `distance`."""
    theta = {
        "mean.weight0": torch.ones(1, 1, dtype=F64),
        "mean.bias0": torch.tensor([distance], dtype=F64),
        "scale.raw": torch.tensor([ratio], dtype=F64).log() / 2,
    }
    return so.Reference(POLICY, theta)


def _measured(settings: Settings, ratio: float) -> pd.DataFrame:
    """Solve and train beside one variance of the reference."""
    rows: list[dict[str, object]] = []
    task = data()
    for distance in settings.distances:
        reference = base(distance, ratio)
        place = {"kind": "measured", "ratio": ratio, "distance": distance}
        problem = so.maximum_likelihood(
            POLICY, so.ConstantReward(1, "scalar"), task, lam=settings.lam, reference=reference
        )
        found = so.solve(problem, theta=POLICY.zeros())
        weight = float(found.reward.U) / settings.lam
        row = {**place, "arm": LEARNED, "weight": weight, "converged": found.converged}
        rows.append({**row, **_outcome(found.theta, task)})
        reward = so.optimal_reward(torch.ones(1, 1, dtype=F64), settings.lam)
        objective = so.PolicyGradient(reward, settings.lam, reference=reference)
        trained = inner.gradient(POLICY, POLICY.zeros(), objective, task)
        row = {**place, "arm": ENTROPIC, "weight": 0.5, "converged": trained.converged}
        rows.append({**row, **_outcome(trained.value, task)})
    return pd.DataFrame(rows)


def _outcome(theta: Params, task: so.Dataset) -> dict[str, float]:
    """Return variance, error of the mean, and cost in nats of a trained policy."""
    law = POLICY(theta, task.x)
    best = so.Gaussian.diagonal(task.mean, torch.ones_like(task.mean))
    return {
        "variance": float(law.scale[0, 0].square()),
        "error": float((law.mean - task.mean).mean()),
        "cost": float(so.NLL()(law, task) - so.NLL()(best, task)),
    }


def _predicted(settings: Settings) -> pd.DataFrame:
    """Return what is derived: both arms along the distances of the lines and of the points."""
    grid = np.linspace(0, max(settings.distances), settings.points)
    rows: list[dict[str, object]] = []
    for ratio in settings.ratios:
        for distance in sorted({*grid.tolist(), *settings.distances}):
            place = {"kind": "predicted", "ratio": ratio, "distance": distance}
            rows += [{**place, **found} for found in predicted(distance, ratio)]
    return pd.DataFrame(rows)


def predicted(distance: float, ratio: float) -> list[dict[str, object]]:
    """Return the derived variance, error, weight and cost of both arms, for data of variance 1."""
    a, moments = distance / ratio, {"P0": ratio, "m0": distance, "mu": 0.0}
    weight = theory.outer.optimal_reward(1).at("derived", Sigma=1.0, P0=ratio, a=a, lam=1.0)
    inside = weight > 0
    learned = {"arm": LEARNED, "weight": max(weight, 0.0), "inside": inside}
    if inside:
        S = theory.outer.covariance(1).at("derived", Sigma=1.0, a=a)
        learned["cost"] = theory.outer.learned_cost(1).at("derived", Sigma=1.0, a=a)
    else:
        S, at = ratio, {"m": distance, "P": ratio, "mu": 0.0, "Sigma": 1.0}
        learned["cost"] = gaussian.divergences.gaussian_cost(1).at("derived", **at)
    entropic = {"arm": ENTROPIC, "weight": 0.5, "inside": True}
    precision = theory.inner.precision(1).at("derived", U=0.5, P0=ratio, lam=1.0)
    cost = theory.outer.cost_of_entropy_reward(1).at("derived", Sigma=1.0, P0=ratio, a=a)
    found = [(learned, S), ({**entropic, "cost": cost}, 1 / precision)]
    return [
        {**row, "variance": P, "error": theory.inner.mean(1).at("derived", P=P, **moments)}
        for row, P in found
    ]


@cache
def group_weight(n: int, variance: float) -> float:
    """Return the λ whose stationary variance is this, `s/σ²`: E of the derived one over χ²_n."""
    balance = theory.group_deviation.entropy_weight(n)

    nodes, shares = np.polynomial.legendre.leggauss(NODES)
    radii = (nodes + 1) * FARTHEST / 2
    total = 0.0
    for radius, share in zip(radii, shares * stats.chi.pdf(radii, n) * FARTHEST / 2, strict=True):
        y = np.zeros(n)
        y[0] = radius
        values = {"m": np.zeros(n), "y": y} if n > 1 else {"m": 0.0, "y": float(radius)}
        total += float(share) * balance.at("derived", **values, s=variance)
    return total


def _weights(settings: Settings) -> list[pd.DataFrame]:
    """Return the derived entropy weights for a line of variances, and the largest, by dimension."""
    line = np.geomspace(min(settings.variances) / 2, 8 * max(settings.variances), 12).tolist()
    tables: list[pd.DataFrame] = []
    for n in settings.dimensions:
        s = sorted({*line, *settings.variances})
        lam = [*(group_weight(n, v) for v in s), theory.group_deviation.largest_weight(n).at()]
        at = {"arm": GROUP, "kind": "predicted", "n": n}
        tables.append(pd.DataFrame({**at, "lam": lam, "variance": [*s, np.inf]}))
    return tables


def _groups(settings: Settings, n: int, seed: int) -> pd.DataFrame:
    """Train policies by groups: every entropy weight, with every scale of the reward."""
    top = theory.group_deviation.largest_weight(n).at()
    kinds = [*settings.variances, "beyond"]
    lams = [*(group_weight(n, v) for v in settings.variances), settings.beyond * top]
    lam, u = torch.meshgrid(
        torch.tensor(lams, dtype=F64), torch.tensor(SCALES, dtype=F64), indexing="ij"
    )
    batch = (len(lams), len(SCALES))
    noise = streams.MemberNoise(
        [streams.generator(seed, "noise", n, kind, u) for kind in kinds for u in SCALES], batch
    )
    outcomes = streams.generator(seed, "data", n)
    estimator = so.ScoreFunction(settings.generations, "standardised")
    objective = so.PolicyGradient(so.MahalanobisReward.scalar(u, n), lam, estimator)
    x = torch.zeros(1, 1, dtype=F64)  # where all data are
    trace: list[Tensor] = []

    def losses(theta: Params, _: int) -> Tensor:
        y = torch.randn(1, settings.outcomes, n, generator=outcomes, dtype=F64)
        scale = theta["log_s"].exp().expand_as(theta["mean"])
        # a member may diverge, alone
        law = so.Gaussian(theta["mean"].unsqueeze(-2), scale.unsqueeze(-2), check=False)
        return objective(law, so.Dataset.of(x, y), noise)

    adam(
        {"mean": torch.zeros(*batch, n, dtype=F64), "log_s": torch.zeros(*batch, 1, dtype=F64)},
        losses,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        batch_ndim=len(batch),
        observe=lambda step, theta: trace.append(2 * theta["log_s"][..., 0].clone()),
    )
    last = torch.stack(trace[settings.steps // 2 :])
    halves = last.tensor_split(2)
    found = {
        "lam": lam,
        "scale": u,
        "variance": last.mean(0).exp(),
        "growth": (halves[1].mean(0) - halves[0].mean(0)).exp(),
    }
    columns = {name: value.flatten().numpy() for name, value in found.items()}
    columns["implied"] = np.array([group_weight(n, float(s)) for s in columns["variance"]])
    return pd.DataFrame({"arm": GROUP, "kind": "measured", "n": n, **columns})
