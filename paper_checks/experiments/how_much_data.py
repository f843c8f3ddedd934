"""How much data does a learned reward need, and does it pay to hold some out?

Rewards are learned from N Gaussian rows and lose nats on new ones, against the best reward:

- *structure*: the mean is known; `U*` is scalar, diagonal or full. A smaller structure fits worse
  and is learned sooner; where two lose the same, N crosses over from one to the other.
- *mean*: a linear mean of `d` inputs is fitted too. The outer level sees the rows of that fit
  (maximum likelihood, overconfident by a known factor), the same with this factor taken out, rows
  held out of it, or rows held out in turn, with the mean of all rows (cross-fitted).

Predictions are derived in `analysis.samples`; measured are rewards and policies of the closed
forms in `solvers`, for all repetitions at once. The gate holds the outer loop to the same rewards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import optimize
from torch import Tensor

from analysis import gaussian, samples
from analysis.calculus.symbols import STRUCTURES, Structure
from solvers.data import TwoMoments
from solvers.errors import InputError
from solvers.families.gaussian import Gaussian
from solvers.rewards.mahalanobis import optimal_reward
from solvers.training import inner, streams

from ..statistics import mean_interval
from . import Progress

F64 = torch.float64
Outer = Literal["same rows", "rescaled", "half held out", "cross-fitted"]
OUTERS: tuple[Outer, ...] = get_args(Outer)
LEVEL = 0.99  # of the intervals
PAIRS = tuple(samples.choice.PAIRS.items())[:2]  # neighbours in size


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        variances: of the outcomes, two or three.
        correlation: of any two of them.
        rows: N, where the mean is known.
        features: inputs `d` of the linear mean.
        totals: N, where it is fitted, even.
        folds: of the cross-fitted outer level.
        repetitions: data sets for each N.
        lam: entropy weight; it cancels in what is lost.
    """

    variances: tuple[float, ...] = (1.0, 1.6, 2.4)
    correlation: float = 0.25
    rows: tuple[int, ...] = (9, 11, 13, 16, 20, 26, 36, 50, 80, 140, 300)
    features: int = 8
    totals: tuple[int, ...] = (20, 24, 28, 34, 44, 60, 90, 140, 300)
    folds: int = 5
    repetitions: int = 4000
    lam: float = 0.5

    def __post_init__(self) -> None:
        n, d = len(self.variances), self.features
        if n not in (2, 3):
            raise InputError(f"variances has {n} entries: pass 2 or 3, as many as are derived")
        # two more than the mean of the loss asks for: standard errors want its variance
        if min(self.rows) < n + 4:
            raise InputError(f"rows has {min(self.rows)}: pass {n + 4} or more")
        few = max(d + n + 4, 2 * (d + 2), 2 * (n + 4))
        if min(self.totals) < few or any(total % 2 for total in self.totals):
            raise InputError(f"totals is {self.totals}: pass even numbers of {few} or more")
        if not 2 <= self.folds <= min(self.totals) - d:
            raise InputError(f"folds is {self.folds}: pass 2 to {min(self.totals) - d}")

    def covariance(self) -> Float[Tensor, "n n"]:
        """Return `Σ`."""
        scale = torch.tensor(self.variances, dtype=F64).sqrt()
        same = torch.full((len(scale),) * 2, self.correlation, dtype=F64).fill_diagonal_(1.0)
        return scale[:, None] * same * scale


QUICK = Settings(rows=(9, 13, 20, 36, 80), totals=(20, 28, 44, 90), repetitions=500)


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Predict and measure what learned rewards lose.

    Args:
        settings: what to learn from.
        seed: of the data; same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per part ("structure", "mean"), arm, kind and `rows`. "predicted": `lost` in nats
        per new row (NaN where nothing is derived); "measured": its mean over repetitions with an
        interval `low`, `high`; "crossing": `rows` is the N at which the arm and the structure
        that is the next `larger` lose the same, and `leading` the derived one to order 1/N.
    """
    found: list[Mapping[str, object]] = []
    every = len(settings.rows) + len(settings.totals)
    for done, entries in enumerate(_parts(settings, seed)):
        found += entries
        if progress is not None:
            progress("data sets", done + 1, every)
    return pd.DataFrame(found + _crossings(settings))


def _parts(settings: Settings, seed: int) -> Iterator[list[Mapping[str, object]]]:
    """Yield the rows of the table for every number of rows of data."""
    for N in settings.rows:
        measured = structures(settings, N, streams.generator(seed, "data", "structure", N))
        predicted = {arm: _total(settings, arm, N) for arm in STRUCTURES}
        yield _entries("structure", N, measured, predicted)
    for T in settings.totals:
        measured = means(settings, T, streams.generator(seed, "data", "mean", T))
        yield _entries("mean", T, measured, _expected(settings, T))


def _entries(
    part: str, N: int, measured: Mapping[Any, Tensor], predicted: Mapping[Any, float]
) -> list[Mapping[str, object]]:
    entries: list[Mapping[str, object]] = []
    for arm, lost in measured.items():
        key = {"part": part, "arm": arm, "larger": None, "rows": N}
        interval = mean_interval(lost.numpy(), LEVEL)
        entries.append(key | {"kind": "predicted", "lost": predicted.get(arm, float("nan"))})
        entries.append(
            key
            | {"kind": "measured", "lost": float(lost.mean())}
            | {"low": interval.low, "high": interval.high}
        )
    return entries


def structures(
    settings: Settings, N: int, generator: torch.Generator
) -> dict[Structure, Float[Tensor, "repetitions"]]:
    """Return nats lost per new row by rewards of each structure, learned from N rows."""
    Sigma = settings.covariance()
    rows = _noise(settings, N, generator)
    S = rows.mT @ rows / N
    best = _entropy(Sigma)
    return {arm: loss(S, Sigma, arm, settings.lam) - best for arm in STRUCTURES}


def loss(
    S: Float[Tensor, "*b n n"],
    V: Float[Tensor, "*#b n n"],
    structure: Structure = "full",
    lam: float = 1.0,
) -> Float[Tensor, "*b"]:
    """Return the NLL per row of the policy of `U*(S)` on rows of second moment V about its mean."""
    zero = torch.zeros_like(S[..., 0])
    law = inner.closed_form(optimal_reward(S, lam, structure), lam, zero, structure).value
    return law.cross_entropy(TwoMoments(zero, V.expand_as(S)))


def _entropy(Sigma: Float[Tensor, "n n"]) -> Tensor:
    """Return the NLL of the best policy."""
    return Gaussian(torch.zeros_like(Sigma[0]), torch.linalg.cholesky(Sigma)).entropy()


def means(
    settings: Settings, T: int, generator: torch.Generator
) -> dict[Outer, Float[Tensor, "repetitions"]]:
    """Return nats lost at new inputs by each outer level, mean and reward fitted on T rows.

    Least squares moves with the coefficients of the data, which are 0 here: what is fitted is the
    error `δ`, and new rows of inputs `N(0, I)` have the second moment `Σ + δᵀδ` about the mean.
    """
    d, Sigma = settings.features, settings.covariance()
    x = torch.randn(settings.repetitions, T, d, generator=generator, dtype=F64)
    y = _noise(settings, T, generator)
    delta, half = _fit(x, y), _fit(x[:, : T // 2], y[:, : T // 2])
    residuals, errors = y - x @ delta, (y - x @ half)[:, T // 2 :]
    in_turn = y.clone()
    for fold in range(settings.folds):
        out = torch.arange(T) % settings.folds == fold
        in_turn[:, out] -= x[:, out] @ _fit(x[:, ~out], y[:, ~out])
    S = residuals.mT @ residuals / T
    n = len(Sigma)
    factor = T * (T - 1) / ((T - d - 1) * (T - d - n - 1))  # of `samples.linear.rescaled`
    learned: dict[Outer, tuple[Tensor, Tensor]] = {
        "same rows": (S, delta),
        "rescaled": (factor * S, delta),
        "half held out": (errors.mT @ errors / (T - T // 2), half),
        "cross-fitted": (in_turn.mT @ in_turn / T, delta),
    }
    best = _entropy(Sigma)
    return {
        arm: loss(covariance, Sigma + error.mT @ error, lam=settings.lam) - best
        for arm, (covariance, error) in learned.items()
    }


def _noise(
    settings: Settings, N: int, generator: torch.Generator
) -> Float[Tensor, "repetitions N n"]:
    L = torch.linalg.cholesky(settings.covariance())
    shape = (settings.repetitions, N, len(L))
    return torch.randn(shape, generator=generator, dtype=F64) @ L.mT


def _fit(x: Float[Tensor, "*b N d"], y: Float[Tensor, "*b N n"]) -> Float[Tensor, "*b d n"]:
    """Return the coefficients of least squares; inputs here are far from collinear."""
    return torch.linalg.solve(x.mT @ x, x.mT @ y)


def _total(settings: Settings, structure: Structure, nu: float) -> float:
    """Return the derived loss of a structure, that of a scalar reward by quadrature."""
    n, Sigma = len(settings.variances), settings.covariance().numpy()
    if structure != "isotropic":
        return samples.choice.total(structure, n).at("derived", Sigma=Sigma, freedom=nu)
    log_t, log_transform = _transform(settings)
    t, phi = np.exp(log_t), np.exp(nu * log_transform)  # E e^{-tQ}, Q = ν Tr S
    step, trace = log_t[1] - log_t[0], nu * Sigma.trace()
    log_mean, inverse = step * np.sum(np.exp(-t) - phi), step * np.sum(phi * t)
    cost = gaussian.rays.loss(n).at("derived", M=np.eye(n), Sigma=Sigma)
    return cost + n / 2 * float(log_mean - np.log(trace) + trace * inverse - 1)


@cache
def _transform(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return a grid of log t, and the derived log E exp(-t Q) for one row there."""
    derived = samples.wishart.trace_transform(len(settings.variances))
    Sigma, grid = settings.covariance().numpy(), np.arange(-40.0, 14.0, 0.1)
    found = [derived.at("derived", Sigma=Sigma, freedom=1.0, t=float(t)) for t in np.exp(grid)]
    return grid, np.array(found)


def _expected(settings: Settings, T: int) -> dict[str, float]:
    """Return the derived loss of each outer level; none is derived for the cross-fitted one."""
    n, fitted = len(settings.variances), {"features": settings.features}
    linear = samples.linear
    return {
        "same rows": linear.in_sample(n).at("derived", **fitted, rows=T),
        "rescaled": linear.rescaled(n).at("derived", **fitted, rows=T),
        "half held out": linear.held_out(n).at("derived", **fitted, rows=T // 2, held=T - T // 2),
    }


def _crossings(settings: Settings) -> list[Mapping[str, object]]:
    """Return where the derived totals of two structures are equal, exactly and to order 1/N."""
    n, Sigma = len(settings.variances), settings.covariance().numpy()
    far = 1e7  # rows, at which what is left is the fit of the structure
    entries: list[Mapping[str, object]] = []
    for pair, (less, more) in PAIRS:

        def gap(nu: float, less: Structure = less, more: Structure = more) -> float:
            return _total(settings, less, nu) - _total(settings, more, nu)

        if gap(far) <= 0:
            continue  # the larger structure never pays
        at = optimize.brentq(gap, n + 1.01, far)
        crossing = samples.choice.crossing(pair, n)
        known = {"gap": gap(far), "Sigma": Sigma}
        leading = crossing.at(
            "derived", **{k: v for k, v in known.items() if k in crossing.arguments}
        )
        entry = {"part": "structure", "arm": less, "larger": more, "kind": "crossing", "rows": at}
        entries.append(entry | {"lost": _total(settings, less, at), "leading": leading})
    return entries
