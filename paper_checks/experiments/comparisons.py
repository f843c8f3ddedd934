"""Is a difference between two means more than noise: intervals for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

ROUNDING = 5e-5  # of published values, which have four digits


class TooFewValues(ValueError):
    """An interval needs more values than were given; the message says how many."""


class NotFinite(ValueError):
    """A value is NaN or infinite; the message says where."""


class BadLevel(ValueError):
    """The level of an interval is not between 0 and 1."""


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences to a baseline.

    Attributes:
        low: lower end of its interval.
        high: upper end.
        relative: the mean over that of the baseline.
    """

    mean: float
    low: float
    high: float
    relative: float

    @property
    def real(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


def welch_interval(
    mean_a: float,
    sd_a: float,
    n_a: int,
    mean_b: float,
    sd_b: float,
    n_b: int,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return Welch's interval for `μ_a - μ_b` from means and deviations of two samples.

    `ν = (v_a + v_b)² / (v_a²/(n_a - 1) + v_b²/(n_b - 1))`, `v = sd²/n`, degrees of freedom (Welch
    and Satterthwaite). Where neither sample varies the interval is one point, the difference: such
    samples say nothing about the size of their noise, and the caller has to decide what is near.

    Args:
        mean_a: of the first sample: ours.
        sd_a: its standard deviation, with divisor `n_a - 1`.
        n_a: its size, >= 2.
        mean_b: of the second sample: the published one.
        sd_b: its standard deviation, with divisor `n_b - 1`.
        n_b: its size, >= 2.
        level: probability that such an interval covers the true difference.

    Raises:
        TooFewValues: a sample of fewer than two.
        NotFinite: a mean or deviation that is not a number, or a negative deviation.
        BadLevel: `level` is not between 0 and 1.
    """
    _check_level(level)
    if min(n_a, n_b) < 2:
        raise TooFewValues(f"samples of {n_a} and {n_b}: pass deviations of two values or more")
    given = {"mean_a": mean_a, "sd_a": sd_a, "mean_b": mean_b, "sd_b": sd_b}
    for name, value in given.items():
        if not math.isfinite(value) or (name.startswith("sd") and value < 0):
            raise NotFinite(f"{name} = {value}: pass finite means and deviations >= 0")
    difference = mean_a - mean_b
    v_a, v_b = sd_a**2 / n_a, sd_b**2 / n_b
    if v_a + v_b == 0:
        return difference, difference
    # Shares and not squares of variances, which may underflow.
    share = v_a / (v_a + v_b)
    freedom = 1 / (share**2 / (n_a - 1) + (1 - share) ** 2 / (n_b - 1))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(v_a + v_b)
    return difference - half, difference + half


def paired_bootstrap(
    differences_by_split: Float[np.ndarray, " splits"] | Float[np.ndarray, "splits repetitions"],
    level: float = 0.95,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the percentile interval of the mean of paired differences over independent splits.

    Repetitions of one split share its rows, so their number says little about other splits. Hence
    two levels: splits are drawn with replacement, and within each drawn split its repetitions.
    (That is wide by the scatter of repetitions, which counts at both levels, and narrow by the
    factor `√(1 - 1/S)` of a percentile interval over `S` splits.)

    Args:
        differences_by_split: of two arms that share split, initial policy and order of the rows.
        level: probability that such an interval is to cover the true mean.
        seed: of the draws; same seed, same interval.
        resamples: number of them.

    Raises:
        TooFewValues: fewer than two splits, no repetition, or no resample.
        NotFinite: a difference that is not a number: a run without a partner, or one that diverged.
        BadLevel: `level` is not between 0 and 1.
    """
    _check_level(level)
    values = np.asarray(differences_by_split, dtype=float)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1 or resamples < 1:
        raise TooFewValues(
            f"differences of shape {np.shape(differences_by_split)}, {resamples} resamples: pass "
            "(splits,) or (splits, repetitions) with two splits or more, and one resample or more"
        )
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        where = tuple(int(i) for i in wrong[0])
        raise NotFinite(
            f"difference {values[where]} at (split, repetition) {where}, {len(wrong)} such in all: "
            "leave out both runs of such a pair, and say so"
        )
    rng = np.random.default_rng(seed)
    S, R = values.shape
    means = np.empty(resamples)
    for i in range(resamples):  # one at a time: all together would fill the memory
        chosen = rng.integers(S, size=S)
        inner = rng.integers(R, size=(S, R)) if R > 1 else np.zeros((S, 1), dtype=int)
        means[i] = values[chosen[:, None], inner].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(
    table: pd.DataFrame, arm: str, metric: str, *, baseline: str = "NLL", level: float = 0.95
) -> Difference:
    """Return how far an arm is from the baseline, run by run.

    Args:
        table: columns arm, split, repetition and the metric; of one task and stage.
        arm: to compare.
        metric: to compare by.
        baseline: arm to compare with.
        level: of the interval.

    Raises:
        TooFewValues: as `paired_bootstrap`.
        NotFinite: as `paired_bootstrap`.
    """
    runs = table.pivot(index=["arm", "split"], columns="repetition", values=metric)
    difference = (runs.loc[arm] - runs.loc[baseline]).to_numpy(float)
    low, high = paired_bootstrap(difference, level)
    mean = float(difference.mean())
    return Difference(mean, low, high, mean / float(runs.loc[baseline].to_numpy(float).mean()))


def beside_published(
    runs: pd.DataFrame,
    published: pd.DataFrame,
    *,
    repetitions: int,
    rows: Mapping[str, int],
    level: float = 0.95,
) -> pd.DataFrame:
    """Return our accuracies beside published ones, with Welch's interval of the difference.

    They agree where the interval covers 0; where neither varies, it is a point, and they agree
    within one test row.

    Args:
        runs: columns name, arm and accuracy, a row per repetition.
        published: columns name, arm, accuracy and deviation; what was not run is left out.
        repetitions: of the publication.
        rows: number of test rows by name.
        level: of the interval.

    Returns:
        The columns name, arm, accuracy and deviation as published, ours, our_deviation, low, high,
        agrees.
    """
    found: list[dict[str, object]] = []
    for entry in published.itertuples(index=False):
        name, theirs = str(entry.name), (float(entry.accuracy), float(entry.deviation))
        chosen = runs[(runs["name"] == name) & (runs.arm == entry.arm)].accuracy
        if chosen.empty:
            continue
        # Equal values may deviate from their mean by rounding.
        mean, sd = float(chosen.mean()), float(chosen.std()) * (chosen.nunique() > 1)
        low, high = welch_interval(mean, sd, len(chosen), *theirs, repetitions, level)
        near = abs(mean - theirs[0]) <= 1 / rows[name] + ROUNDING
        agrees = near if low == high else low <= 0 <= high
        ours = {"ours": mean, "our_deviation": sd, "low": low, "high": high, "agrees": agrees}
        found.append({**entry._asdict(), **ours})
    columns = [*published.columns, "ours", "our_deviation", "low", "high", "agrees"]
    return pd.DataFrame(found, columns=columns)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise BadLevel(f"level = {level}: pass a probability between 0 and 1, such as 0.95")
