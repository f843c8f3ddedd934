"""Figure 2: how the law of the policy moves to the data, at one input.

`AS_PUBLISHED` reproduces the paper's run: rewards shifted by their minimum over the generations.
`CORRECTED` uses the leave-one-out baseline, repeats the run, and adds what the shift does in the
long run: started at the optimum, training with it walks away and settles where the theory says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from solvers.data import Dataset
from solvers.families.baselines import GroupBaseline
from solvers.families.gaussian import GaussianPolicy
from solvers.families.law import Params
from solvers.families.networks import MLP
from solvers.rewards.mahalanobis import MahalanobisReward, optimal_reward
from solvers.tasks import gaussian
from solvers.training import objectives, streams
from solvers.training.ensemble import train
from solvers.training.estimators import ScoreFunction
from solvers.training.objectives import Objective, PolicyGradient

from . import Progress
from .arms import NLL, PG_IDENTITY, PG_OPTIMAL, Arm
from .minimum_shift import stationary_scale

ARMS = (NLL, PG_IDENTITY, PG_OPTIMAL)
N = 2
MEAN, SIGMA = 6.5, 0.8  # of the data, in every dimension
POLICY = GaussianPolicy(2, N, "diagonal", mean=MLP((64, 64)), scale="shared")
CONSTANT = GaussianPolicy(1, N, "diagonal")  # the policy of the settling runs: m and S, no network


@dataclass(frozen=True)
class Settings:
    """Settings of figure 2.

    Attributes:
        repetitions: data sets and initial policies; all arms share those of a repetition.
        baseline: of the PG arms.
        lams: entropy weights of the PG arms.
        samples: outcomes at the one input.
        generations: samples per outcome.
        epochs: full-batch Adam updates.
        learning_rate: Adam's.
        settling: numbers of generations for the settling runs; empty for none.
        settling_epochs: length of the settling runs.
        settling_samples: outcomes of the settling runs, many, so that little noise is left.
    """

    repetitions: int = 1
    baseline: GroupBaseline = "minimum"
    lams: tuple[float, ...] = (0.1, 0.32, 1.0, 3.16, 10.0)
    samples: int = 10
    generations: int = 5
    epochs: int = 51
    learning_rate: float = 0.01
    settling: tuple[int, ...] = ()
    settling_epochs: int = 250
    settling_samples: int = 1000


AS_PUBLISHED = Settings()
CORRECTED = Settings(repetitions=20, baseline="leave-one-out", settling=(2, 5, 50))
QUICK = Settings(repetitions=3, baseline="leave-one-out", settling=(2, 5, 50), settling_samples=200)
SETTLING: tuple[GroupBaseline, ...] = ("minimum", "mean", "leave-one-out")


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Train every arm and return the law it has after each update.

    Args:
        settings: what to train.
        seed: same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per arm, repetition, λ and epoch (0 is the start), with the law's `mean_1`,
        `mean_2`, `std_1`, `std_2`, the `baseline` and the `generations`; λ is missing for NLL,
        which has none. The rows of the settling runs have the arm "settling" and `predicted`, the
        standard deviation at which they must settle; their data are standard normal.
    """
    jobs = len(ARMS) + len(settings.settling)
    tables: list[pd.DataFrame] = []
    for arm in ARMS:
        tables.append(_evolution(settings, arm, seed))
        if progress is not None:
            progress("evolution", len(tables), jobs)
    for M in settings.settling:
        tables += [_settling(settings, M, baseline, seed) for baseline in SETTLING]
        if progress is not None:
            progress("settling", len(ARMS) + settings.settling.index(M) + 1, jobs)
    return pd.concat(tables, ignore_index=True)


def _evolution(settings: Settings, arm: Arm, seed: int) -> pd.DataFrame:
    """Train one arm; members are repetitions x λ."""
    ids = range(settings.repetitions)
    data_streams = [streams.generator(seed, "data", i) for i in ids]
    task = gaussian.draw(
        data_streams, inputs=2, n=N, samples=settings.samples, mean=MEAN, scale=SIGMA
    )
    lams = settings.lams if arm.reward else (float("nan"),)
    batch = (len(ids), len(lams))
    initial = POLICY.init([streams.generator(seed, "init", i) for i in ids], (len(ids), 1))
    params = {
        name: p.detach().expand(*batch, *p.shape[2:]).contiguous() for name, p in initial.items()
    }
    noise = [streams.generator(seed, "noise", arm.label, i, lam) for i in ids for lam in lams]
    data = Dataset(*(t.unsqueeze(1) for t in vars(task.train).values()))
    laws = _train(
        POLICY,
        params,
        _objective(settings, arm, task, torch.tensor(lams).expand(batch)),
        data,
        streams.MemberNoise(noise, batch),
        settings.learning_rate,
        settings.epochs,
    )
    index = pd.MultiIndex.from_product(
        [ids, lams, range(settings.epochs + 1)], names=["repetition", "lam", "epoch"]
    )
    return _table(laws, index).assign(
        arm=arm.label,
        baseline=settings.baseline,
        generations=settings.generations,
        predicted=float("nan"),
    )


def _objective(settings: Settings, arm: Arm, task: gaussian.GaussianTask, lam: Tensor) -> Objective:
    """Return the objective of an arm for members of shape (repetitions, λ)."""
    if not arm.reward:
        return objectives.NLL()
    reward = MahalanobisReward.scalar(torch.ones_like(lam), N)
    if arm.reward == "optimal":
        # as published, Σ is the unbiased estimate from the few outcomes
        unbiased = task.train.covariance * (settings.samples / (settings.samples - 1))
        reward = optimal_reward(unbiased.expand(*lam.shape, -1, -1), lam, "isotropic")
    return PolicyGradient(reward, lam, arm.estimate(settings.generations, settings.baseline))


def _settling(settings: Settings, M: int, baseline: GroupBaseline, seed: int) -> pd.DataFrame:
    """Train mean and scale from the optimum on data of mean 0 and covariance I, exactly."""
    generator = streams.generator(seed, "settling")
    y = torch.randn(settings.settling_samples, N, generator=generator, dtype=torch.float64)
    y = y - y.mean(0)
    factor = torch.linalg.cholesky(y.T @ y / len(y))
    y = torch.linalg.solve_triangular(factor, y.T, upper=False).T
    data = Dataset.of(torch.zeros(1, 1), y[None].float())
    params = CONSTANT.init([streams.generator(seed, "init", "settling")])
    params = {name: torch.zeros_like(p) for name, p in params.items()}  # m = 0, S = I
    lam = torch.tensor(1.0)
    reward = optimal_reward(torch.eye(N), lam)
    noise = [streams.generator(seed, "noise", "settling", M, baseline)]
    laws = _train(
        CONSTANT,
        params,
        PolicyGradient(reward, lam, ScoreFunction(M, baseline)),
        data,
        streams.MemberNoise(noise),
        settings.learning_rate,
        settings.settling_epochs,
    )
    predicted = {
        "minimum": stationary_scale(N, M),
        "mean": float(np.sqrt(M / (M - 1))),
        "leave-one-out": 1.0,
    }
    index = pd.MultiIndex.from_product(
        [[0], [1.0], range(settings.settling_epochs + 1)], names=["repetition", "lam", "epoch"]
    )
    return _table(laws, index).assign(
        arm="settling", baseline=baseline, generations=M, predicted=predicted[baseline]
    )


def _train(
    policy: GaussianPolicy,
    params: Params,
    objective: Objective,
    data: Dataset,
    noise: streams.MemberNoise,
    learning_rate: float,
    epochs: int,
) -> Tensor:
    """Train, and return mean and standard deviations after each update, `(*b, epochs + 1, 2n)`."""
    laws: list[Tensor] = []

    def observe(epoch: int, params: Params) -> None:
        law = policy(params, data.x)
        laws.append(torch.cat([law.mean, law.scale.expand_as(law.mean)], -1)[..., 0, :])

    with torch.no_grad():
        observe(0, params)
    train(
        policy,
        params,
        objective,
        data,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_ndim=len(noise.batch),
        noise=noise,
        observe=observe,
    )
    return torch.stack(laws, -2)


def _table(laws: Tensor, index: pd.MultiIndex) -> pd.DataFrame:
    columns = ["mean_1", "mean_2", "std_1", "std_2"]
    return pd.DataFrame(laws.reshape(-1, 2 * N).numpy(), index, columns).reset_index()
