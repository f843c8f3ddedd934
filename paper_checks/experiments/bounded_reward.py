"""The reward exp(-‖ŷ - y‖²/ω): trainings that find its local maximum, and trainings that run away.

The reward is bounded and the entropy is not, so J grows for ever with the policy's variance s; a
local maximum exists below a critical entropy weight λ_c only, and from above the larger root of
λ = h(s) training runs away. Isotropic policies are trained on data N(0, β²I):

- *basin*: by exact gradients, over a grid of λ and starts; the mean starts at that of the data;
- *fold*: λ_c, found by trainings alone, by ladders of λ between one that stays and one that leaves;
- *sampled*: by the score function on fresh data at every step, from both sides of the larger root;
- *path*: J along a few trainings;
- *reach*: trained variance by ω, for λ around the largest one at which s = β² can be reached.

A training *left* once s has passed `far` times β², and is over then. One by exact gradients
*stayed* once the slope of J in log s is less than `level` times that of the entropy; a sampled one
if, over the last half of its steps, log s moved at less than `pace` times the entropy's pace. All
others are *undecided*, and counted. Predictions are the derivations of `analysis.bounded`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor

from analysis.bounded import inner as theory
from solvers.data import Dataset
from solvers.errors import InputError
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.law import Params
from solvers.rewards.bounded import BoundedReward
from solvers.training import streams
from solvers.training.ensemble import gradient_descent
from solvers.training.estimators import ScoreFunction
from solvers.training.objectives import PolicyGradient

from . import Progress

F64 = torch.float64
BETA = 1.0  # the deviation of the data is the unit of length
STAYED, LEFT, UNDECIDED = "stayed", "left", "undecided"
EVERY = 2  # steps between the points of a path
SHOWN = 2  # dimension of paths, and of what is drawn for one n only
# of paths: share of λ_c, start in units of the larger root, or of s̄ where there is none
PATHS = ((0.6, 0.1), (0.6, 0.5), (0.6, 1.5), (1.25, 0.1))
SMALLEST, LARGEST = 1e-9, 1e9  # variances between which roots are looked for


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        omega: width of the reward.
        dimensions: `n`, up to 3, 2 among them.
        shares: entropy weights of the basin, in units of λ_c.
        starts: variances at the start, first and last, spaced by their logarithm.
        rows: number of them.
        low: variance at which all other exact trainings start.
        weights: λ between which the fold is looked for, for every n.
        rungs: of a ladder of λ.
        ladders: one within the other.
        sampled: entropy weights of the sampled trainings, in units of λ_c.
        side: they start at the larger root divided and multiplied by this.
        repetitions: of each.
        outcomes: fresh data points at every step.
        generations: for each of them.
        sampled_steps: of these trainings.
        reach: entropy weights, in units of the largest that reaches s = β².
        widths: number of ω, spaced by their logarithm around 2nβ².
        rate: step size.
        steps: of exact trainings, at most.
        far: s/β² beyond which a training has left; so far that for these `shares` its entropy makes
            up for all of the reward.
        level: relative slope below which one has stayed.
        pace: relative drift below which a sampled one has.
    """

    omega: float = 4.0
    dimensions: tuple[int, ...] = (1, 2, 3)
    shares: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.03, 1.1, 1.25)
    starts: tuple[float, float] = (0.03, 3000.0)
    rows: int = 22
    low: float = 0.1
    weights: tuple[float, float] = (0.01, 1.0)
    rungs: int = 21
    ladders: int = 3
    sampled: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    side: float = 3.0
    repetitions: int = 4
    outcomes: int = 32
    generations: int = 8
    sampled_steps: int = 1000
    reach: tuple[float, ...] = (0.8, 1.0, 1.25)
    widths: int = 13
    rate: float = 1.0
    steps: int = 6000
    far: float = 1e12
    level: float = 1e-6
    pace: float = 0.1

    def __post_init__(self) -> None:
        if not {SHOWN} <= set(self.dimensions) <= {1, 2, 3}:
            raise InputError(f"dimensions are {self.dimensions}: pass {SHOWN}, and 1 or 3 as well")
        for name in ("starts", "weights"):
            first, last = getattr(self, name)
            if not 0 < first < last:
                raise InputError(f"{name} are {(first, last)}: pass 0 < first < last")
        if max(self.sampled) >= 1:
            raise InputError(f"sampled is {self.sampled}: pass shares of λ_c below 1")
        if self.widths % 2 == 0:
            raise InputError(f"widths is {self.widths}: pass an odd number, 2nβ² in the middle")


QUICK = replace(
    Settings(),
    shares=(0.35, 0.65, 0.9, 1.1),
    rows=10,
    ladders=2,
    sampled=(0.4, 0.8),
    repetitions=1,
    sampled_steps=600,
    widths=7,
)


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Train, and predict where trainings end.

    Args:
        settings: what to train.
        seed: of data and noise of the sampled trainings; all else is exact.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per training and `part`: `n`, `lam`, `share` of λ_c (of the largest weight that
        reaches β², for "reach"), `omega`, `start`, its last `s` (of a sampled one that stayed, the
        geometric mean over the last half), how it `ended`, `J` there, `steps`; and as derived:
        `predicted`, how it ends, `root`, the s it stays at, missing where there is none, `edge`,
        where the basin ends, and `peak`, J at the root. Part "fold" has a row per n, λ_c in `root`
        and the bracket `low`, `high` that trainings found. Part "path" has a row per step shown.
        Part "line" has what is derived only: `of` "branch" (`lam` by `s`, s̄ in `root`), "J" (`J`
        by `s`), "reach" (`root` by `omega`).
    """
    parts: tuple[Callable[[], pd.DataFrame], ...] = (
        *(lambda n=n: basin(settings, n) for n in settings.dimensions),
        *(lambda n=n: fold(settings, n) for n in settings.dimensions),
        *(lambda n=n: sampled(settings, n, seed) for n in settings.dimensions),
        *(lambda n=n: reach(settings, n) for n in settings.dimensions),
        lambda: paths(settings),
        lambda: _lines(settings),
    )
    tables: list[pd.DataFrame] = []
    for part in parts:
        tables.append(part())
        if progress is not None:
            progress("bounded reward", len(tables), len(parts))
    return pd.concat(tables, ignore_index=True)


# --- derived ---


def pull(n: int, s: float, omega: float) -> float:
    """Return h(s), the λ at which J is stationary: from the derived slope, (n/2s)(λ - h)."""
    at = {"omega": omega, "s": s, "beta": BETA}
    return 1 - 2 * s / n * theory.slope(n).at("derived", lam=1.0, **at)


def critical_weight(n: int, omega: float) -> float:
    """Return the derived λ_c."""
    return theory.critical_weight(n).at("derived", omega=omega, beta=BETA)


def roots(n: int, lam: float, omega: float) -> tuple[float, float]:
    """Return the derived local maximum and minimum of J, NaN unless λ < λ_c."""
    if lam >= critical_weight(n, omega):
        return float("nan"), float("nan")
    peak = theory.peak_variance(n).at("derived", omega=omega, beta=BETA)

    def gap(log_s: float) -> float:
        return pull(n, float(np.exp(log_s)), omega) - lam

    ends = np.log([SMALLEST, peak, LARGEST])
    low, high = (optimize.brentq(gap, a, b, xtol=1e-12) for a, b in pairwise(ends))
    return float(np.exp(low)), float(np.exp(high))


def objective_value(n: int, s: float, lam: float, omega: float) -> float:
    """Return the derived J(s) at m = μ."""
    zero: Any = np.zeros(n) if n > 1 else 0.0
    at = {"m": zero, "mu": zero, "omega": omega, "s": s, "beta": BETA}
    entropy = n / 2 * np.log(2 * np.pi * np.e * s)
    return theory.expected_reward(n).at("derived", **at) + lam * float(entropy)


# --- trained ---


@dataclass(frozen=True)
class Against:
    """The exact gradient for the outcomes of a law, in place of those in the data."""

    q: Gaussian

    def __call__(
        self, law: Any, data: Any, reward: Any, noise: object = None
    ) -> Float[Tensor, "*b N"]:
        """Return `E_ŷ E_y r(ŷ, y)` per input."""
        return reward.expected(law, self.q)


def outcomes(n: int) -> Dataset:
    """Return data at one input with mean 0 and covariance β²I."""
    points = BETA * n**0.5 * torch.eye(n, dtype=F64)
    return Dataset.of(torch.zeros(1, 1, dtype=F64), torch.cat([points, -points])[None])


def _start(n: int, s: np.ndarray) -> dict[str, Tensor]:
    zeros = torch.zeros(len(s), 1, n, dtype=F64)
    log_scale = torch.as_tensor(s).log()[:, None] / 2
    return {"mean.weight0": zeros, "mean.bias0": zeros[:, 0].clone(), "scale.raw": log_scale}


@dataclass(frozen=True)
class Trained:
    """Ends of trainings, a number per member; `trace` has s and J after some steps."""

    s: np.ndarray
    J: np.ndarray
    ended: np.ndarray
    steps: int
    trace: list[tuple[int, np.ndarray, np.ndarray]]


def train(
    settings: Settings,
    n: int,
    lam: np.ndarray,
    start: np.ndarray,
    omega: np.ndarray | None = None,
    *,
    traced: bool = False,
) -> Trained:
    """Train by exact gradients from variances `start`, until all have stayed or left."""
    weight = torch.as_tensor(lam)
    width = torch.full_like(weight, settings.omega) if omega is None else torch.as_tensor(omega)
    policy, data = GaussianPolicy(1, n, "isotropic"), outcomes(n)
    normal = Gaussian(data.mean, torch.full_like(data.mean, BETA))
    objective = PolicyGradient(BoundedReward(width), weight, Against(normal))
    theta = _start(n, start)
    last = theta["scale.raw"][:, 0].clone()
    limit = np.log(settings.far) / 2
    slope, J = torch.full_like(last, torch.inf), torch.zeros_like(last)
    trace: list[tuple[int, np.ndarray, np.ndarray]] = []
    taken = 0

    def losses(theta: Params, _: int) -> Tensor:
        loss = objective(policy(theta, data.x), data)
        J.copy_(-loss.detach())
        return torch.where(theta["scale.raw"][:, 0] <= limit, loss, 0.0)

    def observe(step: int, theta: Params) -> bool:
        nonlocal taken
        taken = step
        raw = theta["scale.raw"][:, 0]
        if traced and (step - 1) % EVERY == 0:
            trace.append((step - 1, (2 * last).exp().numpy(), J.numpy().copy()))
        slope.copy_((raw - last) / (settings.rate * n * weight))
        last.copy_(raw)
        return bool(((raw > limit) | (slope.abs() < settings.level)).all())

    end = gradient_descent(
        theta, losses, steps=settings.steps, learning_rate=settings.rate, batch_ndim=1,
        observe=observe,
    )  # fmt: skip
    s = (2 * end["scale.raw"][:, 0]).exp()
    ended = np.select([last > limit, slope.abs() < settings.level], [LEFT, STAYED], UNDECIDED)
    return Trained(s.numpy(), J.numpy(), ended, taken, trace)


def basin(settings: Settings, n: int) -> pd.DataFrame:
    """Train over a grid of entropy weights and starts."""
    omega = settings.omega
    variances = np.geomspace(*settings.starts, settings.rows)
    share, start = (x.ravel() for x in np.meshgrid(settings.shares, variances, indexing="ij"))
    lam = share * critical_weight(n, omega)
    found = train(settings, n, lam, start)
    rows = pd.DataFrame({"lam": lam, "share": share, "start": start, "omega": omega})
    rows = rows.assign(s=found.s, J=found.J, ended=found.ended, steps=found.steps)
    return _predicted(rows.assign(part="basin", n=n))


def _predicted(rows: pd.DataFrame) -> pd.DataFrame:
    """Add how trainings must end, and where."""
    known = {
        (n, lam, omega): roots(n, lam, omega)
        for n, lam, omega in rows[["n", "lam", "omega"]].drop_duplicates().itertuples(index=False)
    }
    keys = list(rows[["n", "lam", "omega"]].itertuples(index=False, name=None))
    root, edge = np.array([known[key] for key in keys]).T
    peak = [
        objective_value(n, s, lam, omega) if np.isfinite(s) else np.nan
        for (n, lam, omega), s in zip(keys, root, strict=True)
    ]
    return rows.assign(
        root=root, edge=edge, peak=peak, predicted=np.where(rows.start < edge, STAYED, LEFT)
    )


def fold(settings: Settings, n: int) -> pd.DataFrame:
    """Find the entropy weight above which no training stays, from a small variance."""
    low, high = settings.weights
    taken = 0
    for _ in range(settings.ladders):
        lam = np.geomspace(low, high, settings.rungs)
        start = np.full(len(lam), settings.low)
        found = train(settings, n, lam, start)
        taken += found.steps
        stays, leaves = found.ended == STAYED, found.ended == LEFT
        below = int(np.argmin(stays)) - 1  # up to here all stayed
        above = len(lam) - int(np.argmin(leaves[::-1]))  # from here on all left
        if below < 0 or above >= len(lam):
            raise InputError(
                f"weights are {settings.weights}: for n = {n}, {stays.sum()} trainings stayed and "
                f"{leaves.sum()} left; pass weights with the fold between them, or more steps"
            )
        low, high = float(lam[below]), float(lam[above])
    root = critical_weight(n, settings.omega)
    row = {"part": "fold", "n": n, "low": low, "high": high, "root": root, "steps": taken}
    return pd.DataFrame([row])


def sampled(settings: Settings, n: int, seed: int) -> pd.DataFrame:
    """Train by the score function, from both sides of the larger root."""
    omega = settings.omega
    top = critical_weight(n, omega)
    edges = {share: roots(n, share * top, omega)[1] for share in settings.sampled}
    sides = {"below": 1 / settings.side, "above": settings.side}
    cells = list(product(settings.sampled, sides, range(settings.repetitions)))
    share = np.array([share for share, _, _ in cells])
    start = np.array([edges[share] * sides[side] for share, side, _ in cells])
    noise, fresh = (
        streams.MemberNoise(
            [streams.generator(seed, kind, n, *cell) for cell in cells], (len(cells),)
        )
        for kind in ("noise", "data")
    )
    weight, policy = torch.as_tensor(share * top), GaussianPolicy(1, n, "isotropic")
    estimator = ScoreFunction(settings.generations, "leave-one-out")
    objective = PolicyGradient(BoundedReward(omega), weight, estimator)
    x = torch.zeros(len(cells), 1, 1, dtype=F64)
    limit = np.log(settings.far) / 2
    trace: list[Tensor] = []

    def losses(theta: Params, _: int) -> Tensor:
        data = Dataset.of(x, BETA * fresh.normal((1, settings.outcomes, n), F64))
        loss = objective(policy(theta, x), data, noise)
        return torch.where(theta["scale.raw"][:, 0] <= limit, loss, 0.0)

    def observe(_: int, theta: Params) -> None:
        trace.append(theta["scale.raw"][:, 0].clone())

    gradient_descent(
        _start(n, start), losses, steps=settings.sampled_steps, learning_rate=settings.rate,
        batch_ndim=1, observe=observe,
    )  # fmt: skip
    late = torch.stack(trace[settings.sampled_steps // 2 :])
    drift = (late[-1] - late[0]) / (settings.rate * n * weight * (len(late) - 1))
    ended = np.select([late[-1] > limit, drift.abs() < settings.pace], [LEFT, STAYED], UNDECIDED)
    s = np.where(ended == STAYED, (2 * late.mean(0)).exp(), (2 * late[-1]).exp())
    rows = pd.DataFrame({"lam": weight.numpy(), "share": share, "start": start, "omega": omega})
    rows = rows.assign(s=s, ended=ended, steps=settings.sampled_steps, part="sampled", n=n)
    return _predicted(rows)


def _widths(n: int, count: int) -> np.ndarray:
    return 2 * n * BETA**2 * np.geomspace(1 / 6, 6, count)


def reach(settings: Settings, n: int) -> pd.DataFrame:
    """Train by ω, at entropy weights around the largest that reaches s = β²."""
    best = theory.reachable_weight(n).at("derived")
    omegas = _widths(n, settings.widths)
    share, omega = (x.ravel() for x in np.meshgrid(settings.reach, omegas, indexing="ij"))
    start = np.full(len(omega), settings.low)
    found = train(settings, n, share * best, start, omega)
    rows = pd.DataFrame({"lam": share * best, "share": share, "start": start, "omega": omega})
    rows = rows.assign(s=found.s, J=found.J, ended=found.ended, steps=found.steps)
    return _predicted(rows.assign(part="reach", n=n))


def paths(settings: Settings) -> pd.DataFrame:
    """Record J along trainings in two dimensions, from both sides of the larger root."""
    omega = settings.omega
    top = critical_weight(SHOWN, omega)
    share, factor = np.array(PATHS).T
    edges = [roots(SHOWN, lam, omega)[1] for lam in share * top]
    peak = theory.peak_variance(SHOWN).at("derived", omega=omega, beta=BETA)
    start = factor * np.where(np.isfinite(edges), edges, peak)
    found = train(settings, SHOWN, share * top, start, traced=True)
    at = pd.DataFrame({"lam": share * top, "share": share, "start": start, "omega": omega})
    tables = [at.assign(s=s, J=J, steps=step) for step, s, J in found.trace]
    return pd.concat(tables).assign(part="path", n=SHOWN)


def _lines(settings: Settings) -> pd.DataFrame:
    """Return what is derived along lines."""
    omega = settings.omega
    variances = np.geomspace(*settings.starts, 81)
    rows: list[dict[str, object]] = []
    for n in settings.dimensions:
        peak = theory.peak_variance(n).at("derived", omega=omega, beta=BETA)
        for s in sorted({*variances.tolist(), peak}):
            lam = pull(n, s, omega)
            rows.append({"of": "branch", "n": n, "s": s, "lam": lam, "root": peak})
    best = theory.reachable_weight(SHOWN).at("derived")
    for share in settings.reach:
        for width in _widths(SHOWN, 41):
            root, _ = roots(SHOWN, share * best, width)
            rows.append({"of": "reach", "n": SHOWN, "share": share, "omega": width, "root": root})
    top = critical_weight(SHOWN, omega)
    for share in sorted({share for share, _ in PATHS}):
        for s in variances:
            J = objective_value(SHOWN, s, share * top, omega)
            rows.append({"of": "J", "n": SHOWN, "share": share, "s": s, "J": J})
    return pd.DataFrame(rows).assign(part="line")
