"""Does policy gradient forget less of its base than likelihood? By which measure, matched how?

Three parts, in files of their own but for the first:

- *paths*: scalar Gaussian policies, trained from a base `p₀ = N(m₀, P₀)` on data `q = N(0, 1)`, by
  NLL and by policy gradient with U*; natural gradients, which follow the paths of
  `analysis.forgetting.paths`, and plain ones in (m, log s), which do not;
- *modes*: an old mode and a new one (`forgetting_modes`);
- *digits*: a network trained on some classes, then on others (`forgetting_digits`).

Methods are compared where they are equally good on what is new (`at_level`), never by time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import solvers as so
from analysis.forgetting import paths as theory
from solvers.errors import InputError
from solvers.families.law import Params
from solvers.training.ensemble import gradient_descent

from .. import statistics
from . import Progress, forgetting_digits, forgetting_modes

F64 = torch.float64
POLICY = so.GaussianPolicy(1, 1, "isotropic")
METHODS: tuple[theory.Method, ...] = ("NLL", "PG")
# Steps between two records. With 10, linear interpolation was off by 4e-4 nats, and turned two of
# the narrowest of the Gaussian cases round.
EVERY = 2
GRID = np.linspace(0.001, 0.991, 34)  # ζ of the predicted paths
KEYS = ["distance", "ratio"]  # of a base
# The settings, what methods are matched by, and these levels were fixed before anything that is
# forgotten had been looked at.
SHARES = (0.5, 0.2, 0.05)  # of a base's own divergence from the data
LEVELS = {"new_loss": (1.0, 0.5, 0.25), "new_error": (0.2, 0.1, 0.05)}


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        distances: of the base's mean from that of the data, in deviations.
        ratios: of its variance to that of the data.
        horizon: time of the trainings of Gaussian policies.
        rate: size of their steps.
        modes: of the two modes.
        digits: of the digits.
    """

    distances: tuple[float, ...] = (0.5, 1.0, 2.0)
    ratios: tuple[float, ...] = (0.25, 1.0, 4.0)
    horizon: float = 5.0
    rate: float = 0.004
    modes: forgetting_modes.Settings = field(default_factory=forgetting_modes.Settings)
    digits: forgetting_digits.Settings = field(default_factory=forgetting_digits.Settings)

    def __post_init__(self) -> None:
        if not (all(d > 0 for d in self.distances) and all(r > 0 for r in self.ratios)):
            raise InputError(
                f"distances are {self.distances}, ratios {self.ratios}: pass positive numbers; a "
                f"base that is the data has no path"
            )

    @property
    def bases(self) -> np.ndarray:
        """Distance and ratio of every base, `(B, 2)`."""
        return np.array([(d, r) for d in self.distances for r in self.ratios])


QUICK = Settings(
    distances=(1.0, 2.0),
    rate=0.01,
    modes=replace(forgetting_modes.Settings(), horizon=2.0),
    digits=replace(forgetting_digits.Settings(), splits=5, weights=(0.1,), hidden=16),
)


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Predict and train all three parts.

    Args:
        settings: what to train.
        seed: of the splits and networks of the digits; all else is exact.
        progress: called as `progress(description, completed, total)`.

    Returns:
        Rows of three parts. "paths": by `kind` ("predicted", "natural", "plain"), `method`,
        `distance` and `ratio` of the base, and `time`, the policy's `mean` and `variance`, its
        divergences `to_data` KL(q ‖ p) and `back_to_data` KL(p ‖ q), and `forward` KL(p₀ ‖ p) and
        `reverse` KL(p ‖ p₀) of the base. "modes" and "digits" as in their files.
    """
    found = [_paths(settings).assign(part="paths")]
    found.append(forgetting_modes.run(settings.modes).assign(part="modes"))
    digits = forgetting_digits.run(settings.digits, seed=seed, progress=progress)
    found.append(digits.assign(part="digits"))
    return pd.concat(found, ignore_index=True).astype({"converged": "boolean"})


def at_level(falling: np.ndarray, values: np.ndarray, level: float) -> float:
    """Return a value where another one first falls to a level, linear in between; NaN if nowhere.

    Args:
        falling: along a training.
        values: along it.
        level: below the start of what falls.
    """
    reached = np.flatnonzero(falling <= level)
    if not len(reached) or reached[0] == 0:
        return float("nan")
    k = reached[0]
    share = (falling[k - 1] - level) / (falling[k - 1] - falling[k])
    return float(values[k - 1] + share * (values[k] - values[k - 1]))


def matched_paths(table: pd.DataFrame, kind: str, by: str) -> pd.DataFrame:
    """Return what Gaussian policies have forgotten where they are equally near to the data.

    Args:
        table: of the experiment.
        kind: "natural" or "plain".
        by: "to_data" or "back_to_data".

    Returns:
        `NLL` and `PG` by `measure` ("forward", "reverse"), `share` of the start, and base.
    """
    rows = table[(table.part == "paths") & (table.kind == kind)]
    found: list[dict[str, object]] = []
    for (distance, ratio, method), path in rows.sort_values("time").groupby([*KEYS, "method"]):
        falling = path[by].to_numpy()
        for measure in ("forward", "reverse"):
            for share in SHARES:
                value = at_level(falling, path[measure].to_numpy(), share * falling[0])
                found.append(
                    {"distance": distance, "ratio": ratio, "method": method, "measure": measure,
                     "share": share, "value": value}
                )  # fmt: skip
    wide = pd.DataFrame(found).pivot(
        index=["measure", "share", *KEYS], columns="method", values="value"
    )
    return wide.reset_index().rename_axis(columns=None)


def matched_digits(table: pd.DataFrame) -> pd.DataFrame:
    """Return what every run on the digits has forgotten where it first is as good on the new ones.

    Returns:
        A row per `arm`, `w`, `split`, what is matched `by`, and `level`: the measures, NaN where
        the level was not reached; `converged` as in the table.
    """
    found: list[dict[str, object]] = []
    rows = table[table.part == "digits"].sort_values("step", kind="stable")
    for (arm, w, split), path in rows.groupby(["arm", "w", "split"], sort=False):
        for by, levels in LEVELS.items():
            falling = path[by].to_numpy(float)
            for level in levels:
                values = {
                    name: at_level(falling, path[name].to_numpy(float), level)
                    for name in forgetting_digits.MEASURES
                }
                place = {"arm": arm, "w": w, "split": split, "by": by, "level": level}
                found.append({**place, **values, "converged": path.converged.iloc[0]})
    return pd.DataFrame(found).astype({"converged": "boolean"})


def _paths(settings: Settings) -> pd.DataFrame:
    """Return derived paths, and trainings by natural and by plain gradients."""
    tables = [_predicted(settings, method) for method in METHODS]
    for kind, descend in (("natural", natural), ("plain", gradient_descent)):
        tables += [_trained(settings, kind, method, descend) for method in METHODS]
    return pd.concat(tables, ignore_index=True)


def _predicted(settings: Settings, method: theory.Method) -> pd.DataFrame:
    """Return the derived path from every base; PG with λ = 1 and NLL have ζ = 1 - exp(-t)."""
    means, variances = np.empty((2, len(GRID), len(settings.bases)))
    for k, zeta in enumerate(GRID):
        for b, (distance, ratio) in enumerate(settings.bases):
            values = {"m0": distance, "P0": ratio, "mu": 0.0, "Sigma": 1.0, "zeta": zeta}
            first, second = (
                d.at("derived", **{name: values[name] for name in d.arguments})
                for d in (theory.mean(method, 1), theory.covariance(method, 1))
            )
            m, P = (first, second) if method == "NLL" else (first / second, 1 / second)
            means[k, b], variances[k, b] = m, P
    found = divergences(settings, torch.tensor(means), torch.tensor(variances), -np.log1p(-GRID))
    return found.assign(kind="predicted", method=method)


def _trained(
    settings: Settings, kind: str, method: theory.Method, descend: Callable[..., object]
) -> pd.DataFrame:
    """Train from every base at once, as members of one batch."""
    y = torch.tensor([-1.0, 1.0], dtype=F64)  # with the moments of the data
    data = so.Dataset.of(torch.zeros(1, 1, dtype=F64), y[None, :, None])
    reward = so.optimal_reward(data.covariance[0], 1.0)
    objective = so.NLL() if method == "NLL" else so.PolicyGradient(reward, 1.0)
    distance, ratio = torch.tensor(settings.bases, dtype=F64).unbind(-1)
    start = {
        "mean.weight0": torch.zeros(len(distance), 1, 1, dtype=F64),
        "mean.bias0": distance[:, None],
        "scale.raw": ratio.log()[:, None] / 2,
    }
    trace: list[tuple[Tensor, Tensor]] = []

    def observe(step: int, theta: Params) -> None:
        if step % EVERY == 0:
            variance = (2 * theta["scale.raw"][:, 0]).exp()
            trace.append((theta["mean.bias0"][:, 0].clone(), variance))

    observe(0, start)
    descend(
        start,
        lambda theta, _: objective(POLICY(theta, data.x), data),
        steps=round(settings.horizon / settings.rate),
        learning_rate=settings.rate,
        batch_ndim=1,
        observe=observe,
    )
    means, variances = (torch.stack(x) for x in zip(*trace, strict=True))
    time = EVERY * settings.rate * np.arange(len(trace))
    return divergences(settings, means, variances, time).assign(kind=kind, method=method)


def natural(
    params: Params,
    losses: Callable[[Params, int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    batch_ndim: int,
    observe: Callable[[int, Params], object],
) -> None:
    """Descend as `gradient_descent` does, by F⁻¹∇: F = diag(1/P, 2) in (m, log s) of `POLICY`."""
    theta = {name: p.clone().requires_grad_() for name, p in params.items()}
    for step in range(1, steps + 1):
        slopes = torch.autograd.grad(losses(theta, step).sum(), list(theta.values()))
        with torch.no_grad():
            variance = (2 * theta["scale.raw"]).exp()
            inverse = {"mean.weight0": variance[..., None], "mean.bias0": variance}
            for name, slope in zip(theta, slopes, strict=True):
                theta[name] -= learning_rate * inverse.get(name, 0.5) * slope
            observe(step, theta)


def divergences(settings: Settings, m: Tensor, P: Tensor, time: np.ndarray) -> pd.DataFrame:
    """Return a row per time and base with the divergences of N(m, P), `(T, B)` each."""
    distance, ratio = torch.tensor(settings.bases, dtype=F64).unbind(-1)
    law, base, data = (
        so.Gaussian(a[..., None], b.sqrt()[..., None])
        for a, b in (
            (m, P),
            (distance, ratio),
            (torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64)),
        )
    )
    found = {
        "distance": distance, "ratio": ratio, "mean": m, "variance": P,
        "to_data": data.kl(law), "back_to_data": law.kl(data),
        "forward": base.kl(law), "reverse": law.kl(base),
        "time": torch.tensor(time)[:, None],
    }  # fmt: skip
    return pd.DataFrame({name: x.expand_as(m).flatten().numpy() for name, x in found.items()})


def compared(
    matched: pd.DataFrame, arm: tuple[str, float], against: tuple[str, float], measure: str
) -> pd.DataFrame:
    """Return how much more an arm has forgotten than another one, split by split.

    Args:
        matched: what `matched_digits` returns, of runs that converged.
        arm: its name and `w`.
        against: those of the other.
        measure: of what is forgotten.

    Returns:
        A row per `by` and `level`: the number of `pairs`, splits where both reach the level, and
        `mean`, `low`, `high` of their differences: t intervals that hold together with probability
        `FAMILY`; NaN of fewer than two pairs.
    """
    keys, comparisons = ["by", "level", "split"], sum(map(len, LEVELS.values()))
    one, other = (
        matched[(matched.arm == name) & (matched.w == w)].set_index(keys)[measure]
        for name, w in (arm, against)
    )
    difference = (one - other).dropna().rename("difference").reset_index()
    found: list[dict[str, object]] = []
    for by, levels in LEVELS.items():
        for level in levels:
            here = difference[(difference.by == by) & (difference.level == level)]["difference"]
            place = {"by": by, "level": level, "pairs": len(here)}
            if len(here) < 2:
                found.append({**place, "mean": np.nan, "low": np.nan, "high": np.nan})
                continue
            interval = statistics.mean_interval(
                here, statistics.bonferroni(statistics.FAMILY, comparisons)
            )
            found.append({**place, "mean": here.mean(), "low": interval.low, "high": interval.high})
    return pd.DataFrame(found)
