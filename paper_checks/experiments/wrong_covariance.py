"""Which covariance belongs in the reward? Predicted and measured cost, on real data.

A linear mean with one full covariance is trained by analytic policy gradient to convergence, with
the reward built from

- the *residual* covariance `Σ̄`: must land on the maximum-likelihood fit;
- the *marginal* covariance `Σ_m = Σ̄ + Cov(μ(x))`: must cost
  `½[log det(Σ_m Σ̄⁻¹) + Tr(Σ_m⁻¹ Σ̄) - n]` nats per row;
- the paper's scalar `λn/(2 Tr Σ̄) I`: the same formula with `(Tr Σ̄/n) I` for `Σ_m`.

`Σ̄` comes from a least-squares fit, which the trained policy never sees. The prediction is the
SymPy derivation of the cost; the measurement is the likelihood of the trained policy.

Which structure of the reward to learn from so many rows is another question: see `advice`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from analysis import gaussian
from solvers.data import Dataset
from solvers.errors import InputError
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.networks import MLP
from solvers.rewards.mahalanobis import optimal_reward
from solvers.tasks import regression
from solvers.tasks.regression import RegressionTask
from solvers.training import inner, streams
from solvers.training.objectives import NLL, PolicyGradient

from . import Progress
from .advice import advise
from .affine import affine, coefficients

Reward = Literal["residual Σ", "marginal Σ", "scalar of residual Σ"]
ROUNDING = 1e-12  # standard deviation of what a fit leaves of an outcome it gives exactly
REWARDS: tuple[Reward, ...] = ("residual Σ", "marginal Σ", "scalar of residual Σ")


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        data: a CSV file of your own; None takes scikit-learn's diabetes and linnerud.
        targets: columns of that file to predict.
        sep: between its cells, as in `solvers.tasks.tables.read_csv`, and so the next three.
        encoding: of its text.
        decimal: "." or ",".
        na_values: what stands for a missing value there.
        lams: entropy weights; the cost must not depend on them.
        tolerance: distance from the end of training, relative and without units, at which it has
            converged (see `solvers.numerics.solution.Solution`).
    """

    data: Path | None = None
    targets: tuple[str, ...] = ()
    sep: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    na_values: tuple[str, ...] = ()
    lams: tuple[float, ...] = (0.1, 1.0, 10.0)
    tolerance: float = 1e-8


def tasks(settings: Settings) -> list[RegressionTask]:
    """Load the tables, checking them; linnerud also in all pairs and singles of its outcomes.

    Raises:
        InputError: as `regression.load_csv`, or targets that depend on each other, or on the
            features, without a residual.
    """
    if settings.data is not None:
        task = regression.load_csv(
            settings.data,
            settings.targets,
            sep=settings.sep,
            encoding=settings.encoding,
            decimal=settings.decimal,
            na_values=settings.na_values,
        )
        check_residuals(task)
        return [task]
    a, b, c = "Weight", "Waist", "Pulse"
    subsets = [(a, b, c), (a, b), (a, c), (b, c), (a,), (b,), (c,)]
    return [
        regression.load("diabetes"),
        *(regression.load("linnerud", targets) for targets in subsets),
    ]


def check_residuals(task: RegressionTask) -> None:
    """Raise `InputError` naming the targets whose residual covariance has no full rank.

    The threshold is that of `check_spd`, which the residual covariance meets in the reward.
    """
    y, eps = task.data.mean, torch.finfo(torch.float64).eps
    residual = y - affine(task.data.x) @ coefficients(task.data.x, y, collinear=True)
    Sigma = residual.T @ residual / len(y)  # of outcomes of variance 1
    for k in range(1, len(task.targets) + 1):
        lengths, directions = torch.linalg.eigh(Sigma[:k, :k])
        if float(lengths[0]) > max(eps * len(task.targets) * float(lengths[-1]), ROUNDING**2):
            continue
        pairs = zip(task.targets, directions[:, 0].abs().tolist(), strict=False)
        *others, dependent = [target for target, share in pairs if share > 1e-6]
        known = f"the targets {others} and of the features" if others else "the features"
        raise InputError(
            f"{task.name}: target {dependent!r} is a linear function of {known}, so that the "
            f"residuals have no covariance of full rank: drop the column {dependent!r} from the "
            f"table, and from the targets"
        )


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Train on every table with every reward, and compare with the theory.

    Args:
        settings: what to train.
        seed: of the initial policies.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per table, reward and λ: `predicted` and `measured` excess NLL over the
        maximum-likelihood fit in nats per row, the convergence of the inner solver, and `advice`:
        which structure of the reward to `learn` from such a table.
    """
    loaded = tasks(settings)
    rows: list[dict[str, object]] = []
    for done, task in enumerate(loaded):
        if progress is not None:
            progress("real data", done, len(loaded))
        rows += _run_task(task, settings, seed)
    if progress is not None:
        progress("real data", len(loaded), len(loaded))
    return pd.DataFrame(rows)


def least_squares(data: Dataset) -> Gaussian:
    """Return the maximum-likelihood fit of a linear mean and one covariance: the law at each x."""
    y = data.mean
    fitted = affine(data.x) @ coefficients(data.x, y, collinear=True)
    residual = y - fitted
    Sigma = residual.T @ residual / len(y)
    return Gaussian(fitted, torch.linalg.cholesky(Sigma).unsqueeze(0))


def _run_task(task: RegressionTask, settings: Settings, seed: int) -> list[dict[str, object]]:
    data, n = task.data, len(task.targets)
    fit = least_squares(data)
    best = float(NLL()(fit, data))
    residual = fit.covariance[0]
    covariances: dict[Reward, Tensor] = {
        "residual Σ": residual,
        "marginal Σ": torch.atleast_2d(torch.cov(data.mean.T, correction=0)),
        "scalar of residual Σ": residual.trace() / n * torch.eye(n, dtype=residual.dtype),
    }
    policy = GaussianPolicy(data.x.shape[-1], n, "full", mean=MLP(), scale="constant")
    start = policy.init([streams.generator(seed, "init", task.name)], dtype=torch.float64)
    # Explicit derivations reach n = 3; beyond, the matrix expression for general n.
    cost = gaussian.misspecification.cost_of_covariance(n if n <= 3 else None)
    advised = advise(data.x, data.mean, task.targets)
    rows: list[dict[str, object]] = []
    for reward in REWARDS:
        S = covariances[reward]
        arguments = (S.numpy(), residual.numpy()) if n > 1 else (float(S), float(residual))
        predicted = cost.at(side="derived", S=arguments[0], Sigma=arguments[1])
        for lam in settings.lams:
            weight = torch.tensor(lam, dtype=torch.float64)
            objective = PolicyGradient(optimal_reward(S, weight), weight)
            solution = inner.gradient(policy, start, objective, data, tolerance=settings.tolerance)
            law = policy(solution.value, data.x)
            rows.append(
                {
                    "table": task.name,
                    "rows": len(data.x),
                    "features": len(task.features),
                    "targets": ", ".join(task.targets),
                    "n": n,
                    "reward": reward,
                    "lam": lam,
                    "predicted": predicted,
                    "measured": float(NLL()(law, data)) - best,
                    "nll_of_maximum_likelihood": best,
                    "converged": solution.converged,
                    "inner_distance": solution.distance,
                    "iterations": solution.iterations,
                    "advice": str(advised),
                    "learn": advised.name,
                }
            )
    return rows
