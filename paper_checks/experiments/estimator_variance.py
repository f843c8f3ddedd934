"""How noisy are estimators of the policy gradient, and where do group baselines settle?

A scalar policy N(m, s²) in (m, log s), reward -u(ŷ - y)², data N(0, σ²). Estimates of the solvers
are drawn many times over, each from its own input, and their variances are held against those of
`analysis.estimators`:

- *baseline*: the score function with a constant b subtracted from every reward;
- *generations*: M times the variance, of groups of M, at the mean of the data, in units of u²s² for
  m and u²s⁴ for log s;
- *spread*: with a data point sampled for each estimate, by the data's deviation σ;
- *group*: trainings with the mean or the minimum of a group as its baseline, by the exact reward
  U* = λ/(2σ²): the standard deviation at which they settle.

"averaged": the reward is averaged over the data, which adds uσ² to it and no noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import integrate, stats
from torch import Tensor

from analysis.estimators import groups, score_function
from solvers.data import Dataset
from solvers.errors import InputError
from solvers.families.baselines import GroupBaseline
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.law import Params
from solvers.rewards.mahalanobis import MahalanobisReward, isotropic_weight
from solvers.training import streams
from solvers.training.ensemble import gradient_descent
from solvers.training.estimators import Estimator, Pathwise, ScoreFunction
from solvers.training.objectives import PolicyGradient

from ..statistics import mean_interval
from . import Progress
from .minimum_shift import stationary_scale

F64 = torch.float64
Data = Literal["averaged", "sampled"]
DATA: tuple[Data, ...] = get_args(Data)
PARAMETERS = ("m", "log s")
MINIMUM: GroupBaseline = "minimum"
MEAN: GroupBaseline = "mean"
LEVEL = 0.99  # of the intervals
CONSTANT, OPTIMAL, KNOWING = "constant", "optimal", "optimal for each y"
VALUE, LEAVE_ONE_OUT, PATHWISE = "expected reward", "leave-one-out", "pathwise"


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        u: weight of the reward.
        s: standard deviation of the policy.
        sigma: of the data.
        delta: error of the policy's mean; groups of M are drawn without one.
        baselines: constants b.
        generations: M of a group.
        spreads: σ of the data that are sampled.
        batches: of estimates, each with a variance of its own.
        size: estimates in each.
        dimensions: n of the group trainings; the mean is a baseline for n = 1 only.
        groups: M of the group trainings.
        members: trainings of each.
        samples: generations in a step of each, in all groups together.
        steps: of these trainings; variances are averaged over the last two thirds.
        rate: step size.
    """

    u: float = 0.5
    s: float = 0.8
    sigma: float = 1.0
    delta: float = 0.5
    baselines: tuple[float, ...] = (-4.0, -3.3, -2.7, -2.0, -1.3, -0.7, 0.0, 0.7)
    generations: tuple[int, ...] = (2, 3, 5, 9, 16, 32)
    spreads: tuple[float, ...] = (0.1, 0.4, 0.8, 1.2, 1.6, 2.0)
    batches: int = 40
    size: int = 10_000
    dimensions: tuple[int, ...] = (1, 2)
    groups: tuple[int, ...] = (2, 5, 10, 50)
    members: int = 16
    samples: int = 400
    steps: int = 300
    rate: float = 0.05

    def __post_init__(self) -> None:
        if self.batches < 2:
            raise InputError(f"batches is {self.batches}: pass at least 2, for intervals")
        if self.dimensions not in ((1,), (1, 2)):
            raise InputError(f"dimensions is {self.dimensions}: pass (1,) or (1, 2)")
        if max(self.groups) > self.samples:
            raise InputError(f"samples is {self.samples}: pass at least {max(self.groups)}")


QUICK = replace(
    Settings(),
    baselines=(-4.0, -2.7, -1.3, 0.0),
    generations=(2, 5, 16),
    spreads=(0.4, 1.2, 2.0),
    batches=20,
    groups=(2, 5, 50),
    members=8,
    samples=200,
    steps=300,
)


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Draw estimates, train, and predict their variances.

    Args:
        settings: what to draw and train.
        seed: same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per part, arm, kind of `data`, `parameter` ("m", "log s") and `x`: the baseline, M,
        or σ. Kind "measured": the variance `value` (in the units of its part), its standard
        `error`, an interval `low`, `high`, and the derived one, `predicted`; "line": a derived
        `value` in between. In part "group" the parameter is "n = 1" or "n = 2", and the value the
        standard deviation at which training settles, in units of σ.
    """
    points = list(_points(settings))
    trainings: list[tuple[GroupBaseline, Data, int, int]] = [
        *product((MINIMUM,), DATA, settings.dimensions, settings.groups),
        *product((MEAN,), DATA[:1], settings.dimensions[:1], settings.groups),
    ]
    rows, total = _lines(settings), len(points) + len(trainings)
    for done, point in enumerate(points):
        x = f"{point.x:.6g}"  # some are derived, and the last digits of these are no name
        names = (point.part, point.arm, point.data, *point.parameters, x)
        generator = streams.generator(seed, "noise", *names)
        rows += _measured(settings, point, generator)
        if progress is not None:
            progress("estimates", done + 1, total)
    for done, (arm, data, n, M) in enumerate(trainings):
        rows.append(_settled(settings, arm, data, n, M, seed))
        if progress is not None:
            progress("groups", len(points) + done + 1, total)
    return pd.DataFrame(rows)


# --- derived ---


def variance(
    settings: Settings,
    arm: str,
    data: Data,
    *,
    delta: float,
    sigma: float,
    M: int = 1,
    b: float = 0.0,
) -> Float[np.ndarray, "2"]:
    """Return the derived variances in (m, log s) of the mean of M estimates."""
    at = {"u": settings.u, "delta": delta, "s": settings.s}
    spread = {"sigma": sigma} if data == "sampled" else {}
    theory = score_function
    if arm == LEAVE_ONE_OUT:
        return theory.leave_one_out_variance().at("derived", **at, generations=M)
    if arm == PATHWISE:
        return theory.pathwise_variance(data).at("derived", **at, **spread) / M
    if arm == OPTIMAL:
        return theory.minimal_variance(data).at("derived", **at, **spread) / M
    if arm == KNOWING:
        return theory.minimal_variance("conditional").at("derived", **at, **spread) / M
    return theory.variance(data).at("derived", **at, sigma=sigma, baseline=b) / M


def best_baseline(settings: Settings, data: Data, sigma: float) -> Float[np.ndarray, "2"]:
    """Return the derived constants of least variance for (m, log s)."""
    at = {"u": settings.u, "delta": settings.delta, "s": settings.s, "sigma": sigma}
    return score_function.optimal_baseline(data).at("derived", **at)


def expected_reward(settings: Settings) -> float:
    """Return E r at the mean of the data, a constant baseline as good as any in mean."""
    return -settings.u * (settings.s**2 + settings.sigma**2)


def scales(settings: Settings, M: int) -> tuple[float, float]:
    """Return u²s²/M and u²s⁴/M, the units of variances in (m, log s) at the mean of the data."""
    return settings.u**2 * settings.s**2 / M, settings.u**2 * settings.s**4 / M


@cache
def _largest(n: int, M: int) -> float:
    """Return E[max of M χ²_n]."""
    found, _ = integrate.quad(lambda q: 1 - stats.chi2.cdf(q, n) ** M, 0, np.inf)
    return float(found)


def settles(arm: GroupBaseline, data: Data, n: int, M: int) -> float:
    """Return the standard deviation, in units of σ, at which training settles, as derived."""
    at = {"u": 0.5, "lam": 1.0, "generations": M}  # v∞ = 1
    if arm == MEAN:
        return float(np.sqrt(groups.mean().at("derived", **at)))
    if data == "sampled":
        return stationary_scale(n, M)
    return float(np.sqrt(groups.minimum(n).at("derived", **at, maximum=_largest(n, M))))


# --- estimates ---


@dataclass(frozen=True)
class Less:
    """The reward -u‖ŷ - y‖² less a constant."""

    u: float
    constant: float

    def __call__(
        self, generation: Float[Tensor, "*d n"], y: Float[Tensor, "*e n"]
    ) -> Float[Tensor, "*f"]:
        """Return the rewards."""
        return -self.u * (generation - y).square().sum(-1) - self.constant


@dataclass(frozen=True)
class Point:
    """One estimator, reward and law of the data, and its derived variances, in some `units`.

    Its baseline may be of interest for one of the `parameters` only.
    """

    part: str
    arm: str
    data: Data
    x: float
    estimator: Estimator
    reward: Any
    predicted: Float[np.ndarray, "2"]
    delta: float
    sigma: float
    units: tuple[float, float] = (1.0, 1.0)
    parameters: tuple[str, ...] = PARAMETERS


def _points(settings: Settings) -> Iterator[Point]:
    """Yield all estimators to be drawn."""
    u, delta, sigma = settings.u, settings.delta, settings.sigma
    quadratic, alone = MahalanobisReward.scalar(u, 1), ScoreFunction(1, "none")

    def less(data: Data, b: float, sigma: float = sigma) -> Less:
        return Less(u, b + (u * sigma**2 if data == "averaged" else 0.0))

    at = partial(Point, "baseline", delta=delta, sigma=sigma)
    for data in DATA:
        for b in settings.baselines:
            derived = variance(settings, CONSTANT, data, delta=delta, sigma=sigma, b=b)
            yield at(CONSTANT, data, b, alone, less(data, b), derived)
    optimal = ScoreFunction(1, "optimal")
    derived = variance(settings, OPTIMAL, "averaged", delta=delta, sigma=sigma)
    for name, b in zip(PARAMETERS, best_baseline(settings, "averaged", sigma), strict=True):
        yield at(OPTIMAL, "averaged", float(b), optimal, quadratic, derived, parameters=(name,))
    value = expected_reward(settings)
    for M in settings.generations:
        arms: Mapping[str, tuple[Estimator, Any]] = {
            LEAVE_ONE_OUT: (ScoreFunction(M, "leave-one-out"), quadratic),
            VALUE: (ScoreFunction(M, "none"), less("averaged", value)),
            OPTIMAL: (ScoreFunction(M, "optimal"), quadratic),
            PATHWISE: (Pathwise(M), quadratic),
        }
        at = partial(Point, "generations", delta=0.0, sigma=sigma, units=scales(settings, M))
        for arm, (estimator, reward) in arms.items():
            derived = variance(settings, arm, "averaged", delta=0, sigma=sigma, M=M, b=value)
            yield at(arm, "averaged", M, estimator, reward, derived)
    knowing = ScoreFunction(1, "optimal-per-outcome")
    for spread in settings.spreads:
        at = partial(Point, "spread", delta=delta, sigma=spread)
        for arm, estimator in {KNOWING: knowing, PATHWISE: Pathwise(1)}.items():
            derived = variance(settings, arm, "sampled", delta=delta, sigma=spread)
            yield at(arm, "sampled", spread, estimator, quadratic, derived)
        derived = variance(settings, OPTIMAL, "sampled", delta=delta, sigma=spread)
        for name, b in zip(PARAMETERS, best_baseline(settings, "sampled", spread), strict=True):
            reward = less("sampled", float(b))
            yield at(OPTIMAL, "sampled", spread, alone, reward, derived, parameters=(name,))


def estimates(
    point: Point, s: float, count: int, generator: torch.Generator
) -> Float[Tensor, "2 count"]:
    """Return independent estimates of the gradient in (m, log s), one from each input."""
    m = torch.full((count, 1), point.delta, dtype=F64, requires_grad=True)
    log_s = torch.full((count, 1), float(np.log(s)), dtype=F64, requires_grad=True)
    y = torch.zeros(count, 1, dtype=F64)
    if point.data == "sampled":
        y = point.sigma * y.normal_(generator=generator)
    noise = streams.MemberNoise([generator])
    data = Dataset.pairs(torch.zeros(count, 1, dtype=F64), y)
    surrogate = point.estimator(Gaussian(m, log_s.exp()), data, point.reward, noise)
    slopes = torch.autograd.grad(surrogate.sum(), [m, log_s])
    return torch.stack([slope[:, 0] for slope in slopes])


def _measured(
    settings: Settings, point: Point, generator: torch.Generator
) -> list[dict[str, object]]:
    """Return the mean of the variances of many batches, with its interval, by parameter."""
    variances = torch.stack(
        [
            estimates(point, settings.s, settings.size, generator).var(-1)
            for _ in range(settings.batches)
        ]
    )
    found: list[dict[str, object]] = []
    for parameter in point.parameters:
        k = PARAMETERS.index(parameter)
        values = variances[:, k].numpy() / point.units[k]
        interval = mean_interval(values, LEVEL)
        key = {"part": point.part, "arm": point.arm, "data": point.data, "x": point.x}
        found.append(
            {
                "kind": "measured", **key, "parameter": parameter, "value": float(values.mean()),
                "error": float(values.std(ddof=1) / np.sqrt(len(values))),
                "low": interval.low, "high": interval.high,
                "predicted": float(point.predicted[k] / point.units[k]),
            }
        )  # fmt: skip
    return found


def _lines(settings: Settings) -> list[dict[str, object]]:
    """Return what is derived between the points."""
    delta, sigma = settings.delta, settings.sigma
    rows: list[dict[str, object]] = []

    def add(part: str, arm: str, data: Data, x: float, values: Float[np.ndarray, "2"]) -> None:
        key = {"kind": "line", "part": part, "arm": arm, "data": data, "x": x}
        for parameter, value in zip(PARAMETERS, values, strict=True):
            rows.append({**key, "parameter": parameter, "value": float(value)})

    for data in DATA:
        for b in np.linspace(min(settings.baselines), max(settings.baselines), 41):
            at = variance(settings, CONSTANT, data, delta=delta, sigma=sigma, b=float(b))
            add("baseline", CONSTANT, data, float(b), at)
    value = expected_reward(settings)
    for M in range(min(settings.generations), max(settings.generations) + 1):
        for arm in (LEAVE_ONE_OUT, VALUE, OPTIMAL, PATHWISE):
            at = variance(settings, arm, "averaged", delta=0, sigma=sigma, M=M, b=value)
            add("generations", arm, "averaged", M, at / np.array(scales(settings, M)))
    for spread in np.linspace(min(settings.spreads), max(settings.spreads), 21):
        for arm in (OPTIMAL, KNOWING, PATHWISE):
            at = variance(settings, arm, "sampled", delta=delta, sigma=float(spread))
            add("spread", arm, "sampled", float(spread), at)
    first, last = min(settings.groups), max(settings.groups)
    shown: list[tuple[GroupBaseline, int]] = [
        *product((MINIMUM,), settings.dimensions),
        (MEAN, settings.dimensions[0]),
    ]
    for arm, n in shown:
        for M in sorted({*np.geomspace(first, last, 25).round().astype(int).tolist()}):
            key = {"kind": "line", "part": "group", "arm": arm, "data": "averaged", "x": M}
            settled = settles(arm, "averaged", n, M)
            rows.append({**key, "parameter": f"n = {n}", "value": settled})
    return rows


# --- groups ---


def _settled(
    settings: Settings, arm: GroupBaseline, data: Data, n: int, M: int, seed: int
) -> dict[str, object]:
    """Train with a baseline of the group from the optimum, and return where it settles."""
    members, N = settings.members, settings.samples // M
    batch = (members,)
    noise, points = (
        streams.MemberNoise(
            [streams.generator(seed, kind, "group", arm, data, n, M, k) for k in range(members)],
            batch,
        )
        for kind in ("noise", "data")
    )
    policy, x = GaussianPolicy(1, n, "isotropic"), torch.zeros(members, N, 1, dtype=F64)
    reward = MahalanobisReward.scalar(float(isotropic_weight(float(n), n, 1.0)), n)
    objective = PolicyGradient(reward, 1.0, ScoreFunction(M, arm))
    fixed = Dataset.of(x, torch.zeros(members, N, 1, n, dtype=F64))
    start = {
        "mean.weight0": torch.zeros(members, 1, n, dtype=F64),
        "mean.bias0": torch.zeros(members, n, dtype=F64),
        "scale.raw": torch.zeros(members, 1, dtype=F64),
    }
    squares: list[Tensor] = []

    def losses(theta: Params, _: int) -> Tensor:
        task = fixed
        if data == "sampled":
            task = Dataset.of(x, points.normal((N, 1, n), F64))
        return objective(policy(theta, x), task, noise)

    def observe(_: int, theta: Params) -> None:
        squares.append((2 * theta["scale.raw"][:, 0]).exp())

    gradient_descent(
        start, losses, steps=settings.steps, learning_rate=settings.rate, batch_ndim=1,
        observe=observe,
    )  # fmt: skip
    # The slope is linear in s²: on average it is 0 where s², not s, has the derived mean.
    values = torch.stack(squares[settings.steps // 3 :]).mean(0).sqrt().numpy()
    interval = mean_interval(values, LEVEL)
    return {
        "kind": "measured", "part": "group", "arm": arm, "data": data, "parameter": f"n = {n}",
        "x": M, "value": float(values.mean()), "low": interval.low, "high": interval.high,
        "error": float(values.std(ddof=1) / np.sqrt(members)),
        "predicted": settles(arm, data, n, M),
    }  # fmt: skip


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return measured rows, with `z`, standard errors from the derived value, and `inside`."""
    rows = table[table.kind == "measured"]
    inside = (rows.low <= rows.predicted) & (rows.predicted <= rows.high)
    return rows.assign(z=(rows.value - rows.predicted) / rows.error, inside=inside)
