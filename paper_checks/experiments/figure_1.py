"""Figure 1: how fast policy gradient and NLL match the moments of a linear Gaussian law.

`AS_PUBLISHED` reproduces the paper's runs, faults included; `CORRECTED` changes what an honest
comparison needs and nothing else:

- all arms of an experiment share its data set and its initial policy (published: each arm draws
  its own data, and one initial policy serves every experiment);
- the noise level is a grid with equally many experiments each (published: `σ ~ U(0.1, 2.5)`);
- leave-one-out and analytic estimators stand beside the published one.

In both, `U* = λn/(2 Tr Σ) I` is given the *true* Σ, which NLL is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from solvers.data import Dataset
from solvers.families.gaussian import GaussianPolicy
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.rewards.mahalanobis import MahalanobisReward, optimal_reward
from solvers.tasks import linear
from solvers.training import objectives, streams
from solvers.training.ensemble import train
from solvers.training.objectives import Objective, PolicyGradient

from . import Progress
from .arms import (
    MSE,
    NLL,
    PG_IDENTITY,
    PG_OPTIMAL,
    PG_OPTIMAL_ANALYTIC,
    PG_OPTIMAL_LOO,
    Arm,
    check_arms,
)
from .parallel import run_arms
from .summaries import quartiles

ARMS = (MSE, NLL, PG_IDENTITY, PG_OPTIMAL, PG_OPTIMAL_LOO, PG_OPTIMAL_ANALYTIC)
METRICS = ("excess_nll", "nll", "mean_error", "covariance_error")
PUBLISHED = Path(__file__).parents[1] / "published" / "figure_1.csv"
FAILURE = 1.0  # an experiment fails if its excess NLL per dimension ends above this many nats


@dataclass(frozen=True)
class Settings:
    """Settings of figure 1.

    Attributes:
        arms: methods to train.
        repetitions: how often the whole run is repeated; unless paired, all experiments of a
            repetition start from one initial policy.
        experiments: number of experiments for each noise level.
        sigma: noise levels; empty draws one per experiment from `U(0.1, 2.5)`.
        lams: entropy weights of the PG arms.
        paired: arms share data sets, and every experiment has its own initial policy.
        generations: samples `M` per data point.
        epochs: full-batch Adam updates.
        recorded: epochs at which the validation metrics are kept; empty keeps all.
        learning_rate: Adam's.
        max_norm: clipping of each member's gradient. The published code averages its losses
            over the n = 2 outcomes and clips at 1e5; ours sum, hence twice that.
        chunk: experiments trained at once; bounds memory, changes numbers by rounding only.
    """

    arms: tuple[Arm, ...] = (MSE, NLL, PG_IDENTITY, PG_OPTIMAL)
    repetitions: int = 1
    experiments: int = 10
    sigma: tuple[float, ...] = ()
    lams: tuple[float, ...] = (0.1, 0.25, 0.63, 1.58, 3.98)
    paired: bool = False
    generations: int = 5
    epochs: int = 100
    recorded: tuple[int, ...] = ()
    learning_rate: float = 0.01
    max_norm: float = 2e5
    chunk: int = 10

    def __post_init__(self) -> None:
        check_arms(self.arms, ARMS)


ONE_RUN = Settings()  # the published notebook, once: 120 members
AS_PUBLISHED = Settings(repetitions=10)  # enough to compare medians with the published code's
CORRECTED = Settings(
    arms=(MSE, NLL, PG_OPTIMAL, PG_OPTIMAL_LOO, PG_OPTIMAL_ANALYTIC),
    experiments=50,
    sigma=(0.1, 0.15, 0.2, 0.3, 0.6, 1.0, 2.0),
    paired=True,
    recorded=(*range(1, 11), *range(12, 25, 2), *range(25, 101, 5)),
)
# For a first look in seconds.
QUICK_AS_PUBLISHED = replace(AS_PUBLISHED, repetitions=3)
QUICK = replace(CORRECTED, experiments=3)


@dataclass(frozen=True)
class Experiment:
    """One data set: `sigma` None draws the noise level."""

    id: int
    repetition: int
    sigma: float | None


POLICY = GaussianPolicy(2, 2, "diagonal", mean=MLP((64, 64)), scale="shared")


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Train every arm of every experiment and return the validation metrics.

    Args:
        settings: what to train.
        seed: same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per arm, experiment, λ and recorded epoch (counted in updates, from 1), with the
        columns of `METRICS`: NLL per dimension, its excess over the true law on the same
        validation sample, root mean square error of the mean, and `‖std - true std‖` averaged
        over inputs. The scale of an MSE arm is not trained: it has `mean_error` only. λ is
        missing for MSE and NLL, which have none.
    """
    levels = settings.sigma or (None,)
    grid = product(range(settings.repetitions), levels, range(settings.experiments))
    experiments = [
        Experiment(id, repetition, sigma) for id, (repetition, sigma, _) in enumerate(grid)
    ]
    return run_arms(
        _run_arm,
        settings,
        seed,
        settings.arms,
        experiments,
        settings.chunk,
        progress,
    )


def _run_arm(settings: Settings, seed: int, arm: Arm, chunk: Sequence[Experiment]) -> pd.DataFrame:
    """Train one arm on a chunk of experiments: members are experiments x λ."""
    ids = [experiment.id for experiment in chunk]
    sigma = [experiment.sigma for experiment in chunk if experiment.sigma is not None] or None
    # As published, MSE and NLL draw their own data sets; both PG arms share theirs.
    data_owner = "all" if settings.paired else "PG" if arm.reward else arm.label
    task = linear.draw([streams.generator(seed, "data", data_owner, i) for i in ids], sigma=sigma)
    lams = settings.lams if arm.reward else (float("nan"),)
    batch = (len(ids), len(lams))
    objective = _objective(settings, arm, task.sigma, torch.tensor(lams).expand(batch))
    starts = [("own", e.id) if settings.paired else ("shared", e.repetition) for e in chunk]
    generators = [streams.generator(seed, "init", *start) for start in starts]
    initial = POLICY.init(generators, (len(ids), 1))
    params = {
        name: p.detach().expand(*batch, *p.shape[2:]).contiguous() for name, p in initial.items()
    }
    noise = streams.MemberNoise(
        [streams.generator(seed, "noise", arm.label, i, lam) for i in ids for lam in lams], batch
    )
    recorded = settings.recorded or tuple(range(1, settings.epochs + 1))
    measured: list[Tensor] = []

    def observe(epoch: int, params: Params) -> None:
        if epoch in recorded:
            measured.append(_metrics(params, task))

    train(
        POLICY,
        params,
        objective,
        _per_lam(task.train),
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_ndim=2,
        noise=noise,
        max_norm=settings.max_norm,
        observe=observe,
    )
    values = torch.stack(measured, dim=-2).numpy()  # (E, L, recorded, metrics)
    if arm == MSE:
        values[..., [METRICS.index(m) for m in METRICS if m != "mean_error"]] = np.nan
    index = pd.MultiIndex.from_product([ids, lams, recorded], names=["experiment", "lam", "epoch"])
    table = pd.DataFrame(values.reshape(-1, len(METRICS)), index, METRICS).reset_index()
    table.insert(0, "arm", arm.label)
    rows = len(lams) * len(recorded)
    table.insert(1, "repetition", np.repeat([e.repetition for e in chunk], rows))
    table.insert(2, "sigma", np.repeat(task.sigma.numpy(), rows))
    return table


def _per_lam(data: Dataset) -> Dataset:
    """Give every tensor a dimension of size 1 for λ, behind the experiments."""
    return Dataset(*(t.unsqueeze(1) for t in (data.x, data.y, data.mean, data.covariance)))


def _objective(settings: Settings, arm: Arm, sigma: Tensor, lam: Tensor) -> Objective:
    """Return the objective of an arm for members of shape (experiments, λ)."""
    if not arm.reward:
        return objectives.MSE() if arm == MSE else objectives.NLL()
    if arm.reward == "identity":
        reward = MahalanobisReward.scalar(torch.ones_like(lam), POLICY.n)
    else:
        Sigma = sigma.square()[:, None, None, None] * torch.eye(POLICY.n)
        reward = optimal_reward(Sigma.expand(*lam.shape, -1, -1), lam, "isotropic")
    return PolicyGradient(reward, lam, arm.estimate(settings.generations, "none"))


def _metrics(params: Params, task: linear.LinearTask) -> Tensor:
    """Return the validation metrics of every member, (E, L, len(METRICS))."""
    data = _per_lam(task.validation)
    law, true = POLICY(params, data.x), task.law(task.validation.x)
    nll = law.cross_entropy(data).mean(-1) / POLICY.n
    floor = true.cross_entropy(task.validation).mean(-1)
    mean_error = (law.mean - true.mean.unsqueeze(1)).square().mean((-2, -1)).sqrt()
    gap = law.standard_deviations() - true.standard_deviations().unsqueeze(1)
    covariance_error = gap.norm(dim=-1).mean(-1)
    excess = nll - floor.unsqueeze(1) / POLICY.n
    return torch.stack([excess, nll, mean_error, covariance_error], dim=-1)


def final(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last epoch, with a column `failed` (excess NLL not below 1)."""
    last = table[(table.epoch == table.epoch.max()) & (table.arm != MSE.label)]
    return last.assign(failed=~(last.excess_nll <= FAILURE))


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Set our as-published medians beside the published code's quartiles.

    Returns:
        The rows of `published/figure_1.csv` with `ours` and whether it lies `inside`.
    """
    published = pd.read_csv(PUBLISHED, comment="#")
    medians = {metric: dict(quartiles(table, metric)) for metric in set(published.metric)}
    ours = [
        float(medians[row.metric][row.arm].loc[row.epoch, 0.5]) for row in published.itertuples()
    ]
    inside = (published.lower_quartile <= ours) & (ours <= published.upper_quartile)
    return published.assign(ours=ours, inside=inside)
