"""Figure 3: the reward learned by implicit differentiation on the data of figure 1.

`AS_PUBLISHED` is the paper's algorithm, faults included, written out in plain torch; `CORRECTED`
is the same problem solved by this package. What moved:

- the inner surrogate's samples are held when it is differentiated twice, and its curvature has the
  wrong sign (`analysis.hypergradients.surrogate`), so that the published code negates the
  hypergradient; corrected: exact objectives, nothing to negate;
- one CG iteration on the normal equations; corrected: the linear system is solved;
- a new policy for every outer epoch, trained for 50 Adam steps and then still away from the mean of
  the data, so that `U` ends near `(λ/2)/(Σ + E eeᵀ)_ii`; corrected: inner solves to stationarity,
  each from the solution before;
- Adam's moments start anew at every epoch, so that a step on `U` is its rate times a sign: the size
  of a hypergradient never counts, and `U` may leave the cone; corrected: L-BFGS in `log U_ii`;
- one data set for all repetitions, one start; corrected: data of their own, three starts;
- a line at the *marginal* covariance; corrected: at the residual one, which is the maximiser;
- a network of 4,868 parameters, which fits the noise of 100 inputs when it is trained to the end
  (`U` is then about 0.36, and the validation loss higher by 0.07 nats per dimension), and whose
  inner solutions are no isolated points; corrected: an affine mean, as that of the data, and a
  constant scale.

In the authors' later notebook (5-2-implicit_diff) the reward has one number `u` in place of the
diagonal, and the marginal line is computed but not drawn; `shared` does the first. Where in its
network the layer norms stand is not recorded; here they follow the affine maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from solvers import bilevel
from solvers.bilevel import likelihood
from solvers.data import Dataset
from solvers.families.gaussian import GaussianPolicy
from solvers.families.law import Params
from solvers.rewards.learnable import ConstantReward, Phi
from solvers.rewards.mahalanobis import isotropic_weight
from solvers.training import streams
from solvers.training.objectives import NLL

from . import Progress, published_implicit
from .affine import affine, coefficients
from .convergence import solved
from .parallel import run_arms

N, INPUTS = 2, 2
SHIFT, SIGMA = 6.0, 1.25
POLICY, REWARD = GaussianPolicy(INPUTS, N, "diagonal"), ConstantReward(N, "diagonal")
Arm = Literal["corrected", "as published"]
NEAR = 0.01  # U has come to U* when both entries are within this share of it


@dataclass(frozen=True)
class Settings:
    """Settings of figure 3.

    Attributes:
        arms: what to run.
        repetitions: corrected runs from each start, each on data of its own.
        starts: `U = u I` at the start of corrected runs.
        steps: outer steps of corrected runs, at most.
        tolerance: on their hypergradient, relative to the largest met.
        published_repetitions: runs as published, all on one data set.
        published_start: their `U = u I` at the start.
        epochs: their outer epochs.
        inner_steps: their Adam steps on a new policy in every epoch.
        generations: their samples per data point.
        learning_rate: of both of their levels.
        shared: whether one number is both entries of their `U`, as published later.
        rows: training inputs, and validation inputs.
        samples: outcomes per training input.
        lam: entropy weight.
    """

    arms: tuple[Arm, ...] = ("corrected", "as published")
    repetitions: int = 5
    starts: tuple[float, ...] = (0.03, 1.0, 3.0)
    steps: int = 25
    tolerance: float = 1e-6
    published_repetitions: int = 1
    published_start: float = 1.0
    epochs: int = 100
    inner_steps: int = 50
    generations: int = 5
    learning_rate: float = 0.01
    shared: bool = False
    rows: int = 100
    samples: int = 10
    lam: float = 1.0


AS_PUBLISHED = Settings(arms=("as published",), published_repetitions=5)
CORRECTED = Settings()  # with one run as published, on the same axes
# For a first look in seconds.
QUICK_AS_PUBLISHED = replace(AS_PUBLISHED, published_repetitions=1)
QUICK = replace(CORRECTED, repetitions=2, epochs=75)


@dataclass(frozen=True)
class Task:
    """Both data sets of a run, and where the reward should go.

    Attributes:
        train: for both levels.
        validation: fresh inputs with one outcome each.
        residual: `(λ/2)/Σ_ii`, Σ the residual covariance of an affine fit: the maximiser.
        marginal: `λn/(2 Tr Σ)`, Σ the covariance of the outcomes.
    """

    train: Dataset
    validation: Dataset
    residual: Float[Tensor, "2"]
    marginal: float


def task(settings: Settings, seed: int, *key: str | int) -> Task:
    """Draw `y = x + 6 + 1.25 ε`, `x ~ U(-5, 5)²`."""
    generator = streams.generator(seed, "data", *key)

    def draw(samples: int) -> Dataset:
        x = 10 * torch.rand(settings.rows, N, generator=generator, dtype=torch.float64) - 5
        noise = torch.randn(settings.rows, samples, N, generator=generator, dtype=torch.float64)
        return Dataset.of(x, x.unsqueeze(-2) + SHIFT + SIGMA * noise)

    train, validation = draw(settings.samples), draw(1)
    fitted = affine(train.x) @ coefficients(train.x, train.mean)
    residual = likelihood.second_moment(fitted, train)
    marginal = torch.cov(train.y.flatten(0, 1).T)
    return Task(
        train,
        validation,
        settings.lam / 2 / residual.diagonal(),
        float(isotropic_weight(marginal.trace(), N, settings.lam)),
    )


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Learn the reward, and return where it went.

    Args:
        settings: what to run.
        seed: same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per run (`arm`, `start`, `repetition`) and outer `epoch`, the state after so many
        outer steps: `cost`, gradient evaluations so far, those for this policy and the next
        hypergradient included (a Hessian-vector product counts as one); `U_11` and `U_22`;
        `train` and `validation`, the NLL per dimension of the policy trained on this reward;
        `reward`, its mean; `optimum_11` and `optimum_22`, `(λ/2)/Σ_ii` for the residuals Σ of this
        policy: where the reward of one with such a mean makes the data most likely. The lines
        `residual_11`, `residual_22`, `marginal` (see `Task`) and `true`, `λ/(2·1.25²)`, belong to
        its data. As published also `reward_first`, the mean reward at the first inner step, and
        `hypergradient_11` and `_22` of the likelihood, as computed, before anything is negated.
        A corrected run `converged` if the hypergradient reached the tolerance and all inner
        problems were solved; it is missing as published, where the length is fixed.
    """
    runs = {"corrected": _corrected, "as published": _published}
    tables = [runs[arm](settings, seed, progress) for arm in settings.arms]
    whole = pd.concat([t.assign(arm=arm) for arm, t in zip(settings.arms, tables, strict=True)])
    whole = whole.assign(true=settings.lam / (2 * SIGMA**2)).reset_index(drop=True)
    return whole.astype({"converged": "boolean"})


def _lines(known: Task) -> dict[str, float]:
    first, second = known.residual.tolist()
    return {"residual_11": first, "residual_22": second, "marginal": known.marginal}


def _optimum(lam: float, mean: Tensor, data: Dataset) -> dict[str, float]:
    first, second = (lam / 2 / likelihood.second_moment(mean, data).diagonal()).tolist()
    return {"optimum_11": first, "optimum_22": second}


def distance(table: pd.DataFrame) -> pd.Series:
    """Return the largest relative distance of an entry of `U` from the maximiser, by row."""
    entries = [(table[f"U_{i}"] / table[f"residual_{i}"] - 1).abs() for i in ("11", "22")]
    return pd.concat(entries, axis=1).max(axis=1, skipna=False)


def arrivals(table: pd.DataFrame) -> pd.DataFrame:
    """Return what each run spends until `U` is within `NEAR` of the maximiser.

    Returns:
        One row per run: the `cost` of the first row `passing` that is so near, that of the first
        one after which all are (`arriving`), missing if there is none, the `spent` total, and
        `converged`.
    """
    rows: list[dict[str, object]] = []
    for (arm, start, repetition), path in table.groupby(["arm", "start", "repetition"], sort=False):
        near = (distance(path) <= NEAR).to_numpy()
        from_here = near[::-1].cumprod()[::-1].astype(bool)
        cost = path.cost.to_numpy(float)
        rows.append(
            {
                "arm": arm, "start": start, "repetition": repetition,
                "passing": cost[near].min(initial=np.inf),
                "arriving": cost[from_here].min(initial=np.inf),
                "spent": cost[-1], "converged": path.converged.iloc[-1],
            }
        )  # fmt: skip
    return pd.DataFrame(rows).replace(np.inf, np.nan).astype({"converged": "boolean"})


# --- corrected ---


def _corrected(settings: Settings, seed: int, progress: Progress | None) -> pd.DataFrame:
    jobs = [(u, k) for u in settings.starts for k in range(settings.repetitions)]
    return run_arms(_solve, settings, seed, ("corrected",), jobs, 1, progress)


def _solve(
    settings: Settings, seed: int, arm: Arm, jobs: Sequence[tuple[float, int]]
) -> pd.DataFrame:
    """Run this package's outer loop, each job from its `U = u I`."""
    rows = [row for u, repetition in jobs for row in _path(settings, seed, u, repetition)]
    return pd.DataFrame(rows)


def _path(settings: Settings, seed: int, u: float, repetition: int) -> list[dict[str, object]]:
    """Run this package's outer loop from `U = u I`."""
    known = task(settings, seed, repetition)
    problem = likelihood.problem(POLICY, REWARD, settings.lam, known.train)
    theta = POLICY.init([streams.generator(seed, "init", repetition)], dtype=torch.float64)
    size, cost = sum(leaf.numel() for leaf in theta.values()), 0

    def charged(objective: Callable[..., Tensor], price: int) -> Callable[..., Tensor]:
        def priced(theta: Any, phi: Any) -> Tensor:
            nonlocal cost
            cost += price
            return objective(theta, phi)

        return priced

    # Any value of J may be followed by a gradient and by a whole Hessian, one product for each
    # parameter: charged as if it always were.
    counted = replace(problem, J=charged(problem.J, 1 + size), F=charged(problem.F, 1))
    rows: list[dict[str, object]] = []

    def observe(step: int, theta: Params, phi: Phi) -> None:
        law, reward = POLICY(theta, known.train.x), REWARD(phi, known.train.x)
        first, second = reward.U.diagonal().tolist()
        rows.append(
            {
                "start": u, "repetition": repetition, "epoch": step, "cost": cost,
                "U_11": first, "U_22": second,
                "train": float(NLL()(law, known.train)) / N,
                "validation": float(NLL()(POLICY(theta, known.validation.x), known.validation)) / N,
                "reward": float(reward.expected(law, known.train).mean()),
                **_optimum(settings.lam, law.mean, known.train), **_lines(known),
            }
        )  # fmt: skip

    found = bilevel.solve(
        counted,
        {name: leaf.detach() for name, leaf in theta.items()},
        REWARD.start(u * torch.eye(N, dtype=torch.float64)),
        optimiser=bilevel.lbfgs,
        steps=settings.steps,
        inner=bilevel.Exact(),
        tolerance=settings.tolerance,
        observe=observe,
    )
    return [row | {"converged": found.converged and solved(found)} for row in rows]


# --- as published ---


def _published(settings: Settings, seed: int, progress: Progress | None) -> pd.DataFrame:
    """Run all repetitions at once, as members of one batch."""
    known = task(settings, seed)
    train, validation = (
        Dataset.of(data.x.float(), data.y.float()) for data in (known.train, known.validation)
    )
    runs, u = range(settings.published_repetitions), settings.published_start
    solver = published_implicit.Solver(
        settings.lam,
        settings.inner_steps,
        settings.generations,
        settings.learning_rate,
        settings.shared,
    )
    found = published_implicit.epochs(
        solver,
        torch.full((len(runs), N), u),
        train,
        validation,
        noise=streams.MemberNoise(
            [streams.generator(seed, "noise", k) for k in runs], (len(runs),)
        ),
        policies=lambda epoch: [streams.generator(seed, "init", k, epoch) for k in runs],
    )
    rows: list[dict[str, object]] = []
    for step, epoch in enumerate(islice(found, settings.epochs + 1)):
        for k in runs:
            rows.append(
                {
                    "start": u, "repetition": k, "epoch": step, "cost": (step + 1) * solver.price,
                    "U_11": float(epoch.U[k, 0]), "U_22": float(epoch.U[k, 1]),
                    "train": float(epoch.train[k]), "validation": float(epoch.validation[k]),
                    "reward_first": float(epoch.reward_first[k]),
                    "reward": float(epoch.reward[k]),
                    "hypergradient_11": float(epoch.hypergradient[k, 0]),
                    "hypergradient_22": float(epoch.hypergradient[k, 1]),
                    **_optimum(settings.lam, epoch.mean[k].double(), known.train),
                    **_lines(known), "converged": None,
                }
            )  # fmt: skip
        if progress is not None:
            progress("as published", step + 1, settings.epochs + 1)
    return pd.DataFrame(rows)
