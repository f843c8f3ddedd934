"""Intervals: t, prediction, median, bootstrap, and those of differences between two means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

# All claims of one kind hold together with probability FAMILY if each is true: a faithful
# reproduction is called one on all but one seed in twenty, whatever the number of claims.
FAMILY = 0.95
ROUNDING = 5e-5  # of published values, which have four digits


class TooFewValues(ValueError):
    """An interval needs more values than were given; the message says how many."""


class NotFinite(ValueError):
    """A value is NaN or infinite; the message says where."""


class BadLevel(ValueError):
    """The level of an interval is not between 0 and 1."""


class BadCount(ValueError):
    """So many successes cannot have been seen; the message says how many can."""


def farthest(values: ArrayLike) -> float:
    """Return the largest `|value|`; NaN, which no limit allows, where one is NaN or there is none.

    (The maximum of a pandas column passes over NaN.)
    """
    sizes = np.abs(np.asarray(values, float))
    return float(sizes.max()) if sizes.size else math.nan


@dataclass(frozen=True)
class Interval:
    """A closed interval and its confidence level in (0, 1)."""

    low: float
    high: float
    level: float

    def overlaps(self, low: float, high: float) -> bool:
        """Whether it shares a point with `[low, high]`."""
        return low <= self.high and self.low <= high

    def within(self, low: float, high: float) -> bool:
        """Whether it lies in `[low, high]`."""
        return low <= self.low and self.high <= high

    def distance(self, low: float, high: float) -> float:
        """How far `[low, high]` is from its centre, in half widths: above 1 is outside."""
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return max(low - centre, centre - high, 0.0) / half


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences to a baseline.

    Attributes:
        mean: of the differences.
        interval: around it.
        relative: the mean over that of the baseline.
    """

    mean: float
    interval: Interval
    relative: float

    @property
    def real(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.interval.overlaps(0, 0)


def bonferroni(family: float, comparisons: int) -> float:
    """Return the level at which `comparisons` intervals hold together with probability `family`."""
    return 1 - (1 - family) / comparisons


def mean_interval(values: ArrayLike, level: float) -> Interval:
    """Return the t interval of the mean, `x̄ ± t s/√k`.

    Raises:
        TooFewValues: fewer than two values.
        NotFinite: a value is NaN or infinite.
        BadLevel: `level` is not between 0 and 1.
    """
    return _t_interval(values, level, 0.0)


def prediction_interval(values: ArrayLike, level: float, averaged: int = 1) -> Interval:
    """Return the t interval for the mean of `averaged` new values, `x̄ ± t s √(1/averaged + 1/k)`.

    Args:
        values: k independent values, roughly normal.
        level: probability that the new mean falls inside.
        averaged: how many new values the mean is of.

    Raises:
        TooFewValues, NotFinite, BadLevel: as `mean_interval`.
    """
    return _t_interval(values, level, 1 / averaged)


def median_interval(values: ArrayLike, level: float) -> Interval:
    """Return the interval between two order statistics that holds the median, whatever the law.

    Raises:
        TooFewValues: also where they are too few for the level.
        NotFinite, BadLevel: as `mean_interval`.
    """
    numbers = np.sort(_checked(values, level))
    k = int(stats.binom.ppf((1 - level) / 2, len(numbers), 0.5))  # so many may lie outside
    if k == 0:
        raise TooFewValues(f"{len(numbers)} values are too few for a median at level {level:g}")
    return Interval(float(numbers[k - 1]), float(numbers[-k]), level)


def count_interval(count: float, trials: int, new_trials: int, level: float) -> Interval:
    """Return where the fraction of successes in `new_trials` is expected: beta-binomial.

    Unlike a t interval it holds for rare successes, even if none was seen.

    Args:
        count: successes seen (with Jeffreys' prior, half a success and half a failure more).
        trials: independent trials they were seen in.
        new_trials: independent trials of the fraction that is predicted.
        level: probability that it falls inside.

    Raises:
        BadCount: fewer successes than none, or more than trials.
        BadLevel: `level` is not between 0 and 1.
    """
    _check_level(level)
    if not 0 <= count <= trials:
        raise BadCount(f"{count} successes in {trials} trials; pass 0 to {trials}")
    law = stats.betabinom(new_trials, count + 0.5, trials - count + 0.5)
    low, high = (float(law.ppf(p)) for p in ((1 - level) / 2, (1 + level) / 2))
    return Interval(low / new_trials, high / new_trials, level)


def bootstrap_interval(values: ArrayLike, level: float, *, seed: int) -> Interval:
    """Return the percentile bootstrap interval of the mean of independent values.

    Raises:
        TooFewValues, NotFinite, BadLevel: as `mean_interval`.
    """
    numbers = _checked(values, level)
    found = stats.bootstrap(
        (numbers,),
        np.mean,
        confidence_level=level,
        n_resamples=9999,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high), level)


def welch_interval(
    mean_a: float,
    sd_a: float,
    n_a: int,
    mean_b: float,
    sd_b: float,
    n_b: int,
    level: float = 0.95,
) -> Interval:
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
        return Interval(difference, difference, level)
    # Shares and not squares of variances, which may underflow.
    share = v_a / (v_a + v_b)
    freedom = 1 / (share**2 / (n_a - 1) + (1 - share) ** 2 / (n_b - 1))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(v_a + v_b)
    return Interval(difference - half, difference + half, level)


def paired_bootstrap(
    differences_by_split: Float[np.ndarray, " splits"] | Float[np.ndarray, "splits repetitions"],
    level: float = 0.95,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
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
    return Interval(float(low), float(high), level)


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
    mean = float(difference.mean())
    of_baseline = float(runs.loc[baseline].to_numpy(float).mean())
    return Difference(mean, paired_bootstrap(difference, level), mean / of_baseline)


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
        found_in = welch_interval(mean, sd, len(chosen), *theirs, repetitions, level)
        low, high = found_in.low, found_in.high
        near = abs(mean - theirs[0]) <= 1 / rows[name] + ROUNDING
        agrees = near if low == high else low <= 0 <= high
        ours = {"ours": mean, "our_deviation": sd, "low": low, "high": high, "agrees": agrees}
        found.append({**entry._asdict(), **ours})
    columns = [*published.columns, "ours", "our_deviation", "low", "high", "agrees"]
    return pd.DataFrame(found, columns=columns)


def _t_interval(values: ArrayLike, level: float, new: float) -> Interval:
    numbers = _checked(values, level)
    k = len(numbers)
    half = float(stats.t.ppf((1 + level) / 2, k - 1) * numbers.std(ddof=1) * np.sqrt(new + 1 / k))
    centre = float(numbers.mean())
    return Interval(centre - half, centre + half, level)


def _checked(values: ArrayLike, level: float) -> np.ndarray:
    _check_level(level)
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise TooFewValues(f"an interval needs two values or more, not shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise NotFinite(f"an interval needs finite values, not {numbers.tolist()}")
    return numbers


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise BadLevel(f"level = {level}: pass a probability between 0 and 1, such as 0.95")
