"""Intervals for the claims about experiments: t, prediction, median, bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

# All claims of one kind hold together with probability FAMILY if each is true: a faithful
# reproduction is called one on all but one seed in twenty, whatever the number of claims.
FAMILY = 0.95


class StatisticsError(ValueError):
    """Too few values, or values that are not finite; the message says which."""


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


def bonferroni(family: float, comparisons: int) -> float:
    """Return the level at which `comparisons` intervals hold together with probability `family`."""
    return 1 - (1 - family) / comparisons


def mean_interval(values: ArrayLike, level: float) -> Interval:
    """Return the t interval of the mean, `x̄ ± t s/√k`."""
    return _t_interval(values, level, 0.0)


def prediction_interval(values: ArrayLike, level: float, averaged: int = 1) -> Interval:
    """Return the t interval for the mean of `averaged` new values, `x̄ ± t s √(1/averaged + 1/k)`.

    Args:
        values: k independent values, roughly normal.
        level: probability that the new mean falls inside.
        averaged: how many new values the mean is of.
    """
    return _t_interval(values, level, 1 / averaged)


def median_interval(values: ArrayLike, level: float) -> Interval:
    """Return the interval between two order statistics that holds the median, whatever the law.

    Raises:
        StatisticsError: also if there are too few values for the level.
    """
    numbers = np.sort(_checked(values))
    k = int(stats.binom.ppf((1 - level) / 2, len(numbers), 0.5))  # so many may lie outside
    if k == 0:
        raise StatisticsError(f"{len(numbers)} values are too few for a median at level {level:g}")
    return Interval(float(numbers[k - 1]), float(numbers[-k]), level)


def count_interval(count: float, trials: int, new_trials: int, level: float) -> Interval:
    """Return where the fraction of successes in `new_trials` is expected: beta-binomial.

    Unlike a t interval it holds for rare successes, even if none was seen.

    Args:
        count: successes seen (with Jeffreys' prior, half a success and half a failure more).
        trials: independent trials they were seen in.
        new_trials: independent trials of the fraction that is predicted.
        level: probability that it falls inside.
    """
    if not 0 <= count <= trials:
        raise StatisticsError(f"{count} successes in {trials} trials; pass 0 to {trials}")
    law = stats.betabinom(new_trials, count + 0.5, trials - count + 0.5)
    low, high = (float(law.ppf(p)) for p in ((1 - level) / 2, (1 + level) / 2))
    return Interval(low / new_trials, high / new_trials, level)


def bootstrap_interval(
    values: ArrayLike, level: float, *, seed: int, resamples: int = 9999
) -> Interval:
    """Return the percentile bootstrap interval of the mean of independent values."""
    numbers = _checked(values)
    found = stats.bootstrap(
        (numbers,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high), level)


def _t_interval(values: ArrayLike, level: float, new: float) -> Interval:
    numbers = _checked(values)
    k = len(numbers)
    half = float(stats.t.ppf((1 + level) / 2, k - 1) * numbers.std(ddof=1) * np.sqrt(new + 1 / k))
    centre = float(numbers.mean())
    return Interval(centre - half, centre + half, level)


def _checked(values: ArrayLike) -> np.ndarray:
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise StatisticsError(f"an interval needs two values or more, not shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise StatisticsError(f"an interval needs finite values, not {numbers.tolist()}")
    return numbers
