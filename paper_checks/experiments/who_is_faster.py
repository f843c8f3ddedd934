"""Who is faster, policy gradient or NLL? Trainings over a grid of starts, beside their flows.

A scalar policy N(m, s²) in (m, log s), data N(0, σ²) by their exact moments, PG with the optimal
reward u = λ/(2σ²) and exact gradients. Small steps of gradient descent follow the flows of
`analysis.dynamics.inner_flow`: the mean of PG decays at its own rate, that of NLL waits for a
variance that is too large, and leaps ahead where it is too small. PG has the mean sooner iff
v₀ > σ² e^{-δ₀²}. Larger steps, and Adam, are trained from the same starts for comparison.

All starts are members of one stacked training, so that a run costs as many steps as its longest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy import integrate

from analysis.dynamics import inner_flow
from solvers.data import Dataset
from solvers.errors import InputError
from solvers.families.gaussian import GaussianPolicy
from solvers.families.law import Params
from solvers.rewards.mahalanobis import MahalanobisReward, isotropic_weight
from solvers.training.ensemble import adam, gradient_descent
from solvers.training.objectives import NLL, PolicyGradient

from . import Progress

F64 = torch.float64
POLICY = GaussianPolicy(1, 1, "diagonal")
OBJECTIVES: tuple[inner_flow.Objective, ...] = ("PG", "NLL")
MEASURES = ("mean", "likelihood")
ODE = 1e-9  # relative tolerance of the integrator
EVERY = 0.2  # time between points of a path
LINES = 49  # starts along each axis for the predicted boundaries

Training = Literal["small steps", "large steps", "Adam"]


@dataclass(frozen=True)
class Settings:
    """Settings of `who-is-faster`.

    Attributes:
        sigma: standard deviation of the data.
        lam: entropy weight; it sets PG's unit of time, and 1 is NLL's.
        errors: mean errors |δ₀| at the start, first and last.
        variances: v₀ at the start, first and last, spaced by their logarithm.
        columns: number of errors.
        rows: number of variances.
        paths: starts (δ₀, v₀) whose paths are recorded.
        mean: error |δ| at which the mean counts as matched.
        excess: NLL above its minimum at which mean and variance do, in nats.
        horizon: time of the small steps.
        small: their size.
        large: size of the large ones.
        adam: learning rate of Adam.
        steps: of the large ones, and of Adam.
    """

    sigma: float = 0.8
    lam: float = 1.0
    errors: tuple[float, float] = (0.1, 2.3)
    variances: tuple[float, float] = (0.01, 4.0)
    columns: int = 12
    rows: int = 14
    paths: tuple[tuple[float, float], ...] = ((0.2, 0.01), (1.5, 0.02), (2.0, 2.5), (0.6, 3.5))
    mean: float = 0.01
    excess: float = 1e-4
    horizon: float = 9.0
    small: float = 0.002
    large: float = 0.05
    adam: float = 0.01
    steps: int = 2000

    def __post_init__(self) -> None:
        for name in ("errors", "variances"):
            low, high = getattr(self, name)
            if not 0 < low < high:
                raise InputError(f"{name} are {(low, high)}: pass 0 < first < last")
        if not 0 < self.mean < self.errors[0]:
            raise InputError(f"mean is {self.mean}: pass less than errors, {self.errors[0]:g}")

    @property
    def u(self) -> float:
        """The optimal reward, U* = λ/(2σ²)."""
        return float(isotropic_weight(self.sigma**2, 1, self.lam))

    def starts(self, columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return δ₀ and v₀ of a grid, flat, row by row."""
        errors, variances = np.linspace(*self.errors, columns), np.geomspace(*self.variances, rows)
        v_0, delta_0 = np.meshgrid(variances, errors, indexing="ij")
        return delta_0.ravel(), v_0.ravel()


QUICK = replace(Settings(), columns=6, rows=7, small=0.01, steps=700)


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Train from every start by both objectives, and predict who is faster.

    Args:
        settings: what to run.
        seed: not used: nothing is random.
        progress: called as `progress(description, completed, total)`.

    Returns:
        Rows of four kinds. "cell": a start `delta_0`, `v_0`, for each `training` and `measure`, the
        number of steps (times the step size, of gradient descent) after which PG and NLL have
        matched it for good, `PG` and `NLL`, missing where they have not in time. "predicted": the
        times of the flows. "boundary": for a `delta_0`, the `v_0` above which PG is predicted to be
        faster, missing where it is everywhere; measure "limit" is the closed form. "path": a
        training's `delta` and `v` by `time`, for each start and `objective`; "flow": as derived.
    """
    trainings: tuple[tuple[Training, float, int], ...] = (
        ("small steps", settings.small, round(settings.horizon / settings.small)),
        ("large steps", settings.large, settings.steps),
        ("Adam", settings.adam, settings.steps),
    )
    delta_0, v_0 = settings.starts(settings.columns, settings.rows)
    tables = [_predicted(settings, delta_0, v_0), _boundaries(settings), _flows(settings)]
    for done, (training, rate, steps) in enumerate(trainings):
        found = {name: _train(settings, training, name, rate, steps) for name in OBJECTIVES}
        unit = 1.0 if training == "Adam" else rate
        for k, measure in enumerate(MEASURES):
            cells = pd.DataFrame({"delta_0": delta_0, "v_0": v_0})
            for name in OBJECTIVES:
                cells[name] = unit * found[name].steps[k, : len(cells)]
            tables.append(cells.assign(kind="cell", training=training, measure=measure))
        if training == "small steps":
            tables += [path for name in OBJECTIVES for path in found[name].paths]
        if progress is not None:
            progress(training, done + 1, len(trainings))
    return pd.concat(tables, ignore_index=True)


# --- trained ---


@dataclass(frozen=True)
class _Trained:
    """Steps until a measure is matched for good, (measures, members), NaN if never; and paths."""

    steps: np.ndarray
    paths: list[pd.DataFrame]


def _train(
    settings: Settings, training: Training, name: inner_flow.Objective, rate: float, steps: int
) -> _Trained:
    """Train from all starts of the grid, then from those of the paths, as members of one batch."""
    y = settings.sigma * torch.tensor([-1.0, 1.0], dtype=F64)  # with the moments of the data
    data = Dataset.of(torch.zeros(1, 1, dtype=F64), y[None, :, None])
    PG = PolicyGradient(MahalanobisReward.scalar(settings.u, 1), settings.lam)
    objective = NLL() if name == "NLL" else PG
    grid, shown = settings.starts(settings.columns, settings.rows), np.array(settings.paths).T
    delta_0, v_0 = (torch.as_tensor(np.concatenate(both)) for both in zip(grid, shown, strict=True))
    start = {
        "mean.weight0": torch.zeros(len(delta_0), 1, 1, dtype=F64),
        "mean.bias0": delta_0[:, None],
        "scale.raw": v_0.log()[:, None] / 2,
    }
    last = torch.zeros(2, len(delta_0), dtype=torch.int64)  # step at which it was not yet matched
    paths: list[pd.DataFrame] = []
    every = max(1, round(EVERY / rate))

    def observe(step: int, theta: Params) -> None:
        delta, v = theta["mean.bias0"][:, 0], (2 * theta["scale.raw"][:, 0]).exp()
        ratio = (settings.sigma**2 + delta.square()) / v
        excess = (ratio - 1 - (settings.sigma**2 / v).log()) / 2
        away = torch.stack([delta.abs() >= settings.mean, ~(excess < settings.excess)])
        last[away] = step
        if step % every == 0:
            ends = (x[len(grid[0]) :].numpy() for x in (delta, v))
            paths.append(_at(settings, "path", name, step * rate, *ends))

    descend = adam if training == "Adam" else gradient_descent
    descend(
        start,
        lambda theta, _: objective(POLICY(theta, data.x), data),
        steps=steps,
        learning_rate=rate,
        batch_ndim=1,
        observe=observe,
    )
    taken = last.numpy() + 1.0
    return _Trained(np.where(taken > steps, np.nan, taken), paths)


def _at(
    settings: Settings, kind: str, name: str, time: float, delta: np.ndarray, v: np.ndarray
) -> pd.DataFrame:
    delta_0, v_0 = np.array(settings.paths).T
    values = {"delta_0": delta_0, "v_0": v_0, "delta": delta, "v": v}
    return pd.DataFrame(values).assign(kind=kind, objective=name, time=time)


# --- predicted ---


def flow(
    settings: Settings,
    name: inner_flow.Objective,
    delta_0: np.ndarray,
    v_0: np.ndarray,
    t: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return δ and v, shape (starts, times): PG in closed form, NLL integrated."""
    sigma, start = settings.sigma, np.concatenate([delta_0, np.log(v_0) / 2])
    if name == "PG":
        end = settings.lam / (2 * settings.u)
        decay = np.exp(-2 * settings.lam * t)
        delta = delta_0[:, None] * np.exp(-2 * settings.u * t)
        return delta, end / (1 + (end / v_0[:, None] - 1) * decay)

    def velocity(_: float, raw: np.ndarray) -> np.ndarray:
        delta, log_s = raw.reshape(2, -1)
        precision = np.exp(-2 * log_s)
        return np.concatenate([-delta * precision, -1 + (sigma**2 + delta**2) * precision])

    found = integrate.solve_ivp(
        velocity, (0, t[-1]), start, method="DOP853", t_eval=t, rtol=ODE, atol=ODE
    )
    delta, log_s = found.y.reshape(2, len(delta_0), len(t))
    return delta, np.exp(2 * log_s)


def _times(settings: Settings, delta_0: np.ndarray, v_0: np.ndarray) -> dict[str, np.ndarray]:
    """Return, by objective, when the flow has matched each measure for good, (measures, starts)."""
    t = np.linspace(0, 2 * settings.horizon, 1 + round(100 * settings.horizon))
    found: dict[str, np.ndarray] = {}
    for name in OBJECTIVES:
        delta, v = flow(settings, name, delta_0, v_0, t)
        ratio = (settings.sigma**2 + delta**2) / v
        excess = (ratio - 1 - np.log(settings.sigma**2 / v)) / 2
        found[name] = np.stack(
            [_settled(t, delta, settings.mean), _settled(t, excess, settings.excess)]
        )
    return found


def _settled(t: np.ndarray, values: np.ndarray, level: float) -> np.ndarray:
    """Return when positive values, (starts, times), fall below a level for good, by their logs."""
    last = len(t) - 1 - np.argmax(values[:, ::-1] >= level, axis=1)  # where it is not yet below
    after = np.minimum(last + 1, len(t) - 1)
    above, below = (np.log(values[np.arange(len(values)), k] / level) for k in (last, after))
    share = above / np.where(after > last, above - below, 1.0)
    found = np.where(after > last, t[last] + share * (t[after] - t[last]), np.nan)
    return np.where((values < level).all(1), 0.0, found)


def _predicted(settings: Settings, delta_0: np.ndarray, v_0: np.ndarray) -> pd.DataFrame:
    times = _times(settings, delta_0, v_0)
    tables = [
        pd.DataFrame(
            {"delta_0": delta_0, "v_0": v_0, **{name: times[name][k] for name in times}}
        ).assign(kind="predicted", measure=measure)
        for k, measure in enumerate(MEASURES)
    ]
    return pd.concat(tables)


def _boundaries(settings: Settings) -> pd.DataFrame:
    """Return where both flows take the same time, and the closed form of the limit."""
    delta_0, v_0 = settings.starts(LINES, LINES)
    times = _times(settings, delta_0, v_0)
    errors, variances = delta_0[:LINES], v_0[::LINES]
    lines: dict[str, np.ndarray] = {}
    for k, measure in enumerate(MEASURES):
        gap = (times["NLL"][k] - times["PG"][k]).reshape(LINES, LINES)
        lines[measure] = np.array([_crossing(np.log(variances), column) for column in gap.T])
    lines["limit"] = np.array([limit(settings, delta) for delta in errors])
    tables = [
        pd.DataFrame({"delta_0": errors, "v_0": line}).assign(kind="boundary", measure=measure)
        for measure, line in lines.items()
    ]
    return pd.concat(tables)


def _crossing(log_v: np.ndarray, gap: np.ndarray) -> float:
    """Return the largest v at which a gap turns positive, NaN if it does nowhere."""
    turns = np.flatnonzero((gap[:-1] <= 0) & (gap[1:] > 0))
    if not len(turns):
        return float("nan")
    k = turns[-1]
    return float(np.exp(np.interp(0, gap[k : k + 2], log_v[k : k + 2])))


def limit(settings: Settings, delta_0: float) -> float:
    """Return v₀ where the derived lead of PG is 0; it is affine in log v₀, with the slope ½."""
    lead = inner_flow.lead().at("derived", sigma=settings.sigma, delta_0=delta_0, v_0=1.0)
    return float(np.exp(-2 * lead))


def _flows(settings: Settings) -> pd.DataFrame:
    t = np.linspace(0, settings.horizon, 1 + round(40 * settings.horizon))
    delta_0, v_0 = np.array(settings.paths).T
    tables: list[pd.DataFrame] = []
    for name in OBJECTIVES:
        delta, v = flow(settings, name, delta_0, v_0, t)
        tables += [_at(settings, "flow", name, s, delta[:, k], v[:, k]) for k, s in enumerate(t)]
    return pd.concat(tables)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return who was first from every start, and who was predicted to be.

    Returns:
        One row per `training`, `measure` and start: `first`, "PG", "NLL" or "tie", of the training
        ("tie" also where neither has matched in time), and `predicted`, of the flows.
    """
    cells = table[table.kind == "cell"]
    flows = table[table.kind == "predicted"].assign(predicted=_first)
    keys = ["measure", "delta_0", "v_0"]
    wanted = cells.assign(first=_first)[["training", *keys, "PG", "NLL", "first"]]
    return wanted.merge(flows[[*keys, "predicted"]], on=keys, how="left", validate="many_to_one")


def _first(rows: pd.DataFrame) -> np.ndarray:
    gap = rows.NLL.fillna(np.inf) - rows.PG.fillna(np.inf)  # NaN where neither has matched
    return np.select([gap > 0, gap < 0], ["PG", "NLL"], "tie")
