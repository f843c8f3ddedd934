"""Intervals on cases whose answer is known, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from paper_checks.statistics import (
    BadCount,
    BadLevel,
    Interval,
    NotFinite,
    TooFewValues,
    bonferroni,
    bootstrap_interval,
    count_interval,
    farthest,
    mean_interval,
    median_interval,
    prediction_interval,
)


def test_t_interval_of_a_textbook_sample():
    """x̄ = 3, s = 1.5811, t_{4, .975} = 2.7764: half width 1.9632."""
    found = mean_interval([1, 2, 3, 4, 5], 0.95)
    assert (found.low, found.high) == pytest.approx((3 - 1.96324, 3 + 1.96324), abs=1e-5)
    assert found.level == 0.95


def test_the_farthest_of_what_is_no_number_is_none():
    assert farthest([0.5, -2.0, 1.0]) == 2.0
    assert not farthest([1.0, float("nan"), 0.0]) <= 5.0
    assert not farthest([]) <= 5.0


def test_prediction_intervals_are_wider_and_shrink_with_the_average():
    values = [1, 2, 3, 4, 5]
    one, five = prediction_interval(values, 0.95), prediction_interval(values, 0.95, averaged=5)
    t, s = 2.776445, np.sqrt(2.5)
    assert one.high - 3 == pytest.approx(t * s * np.sqrt(1 + 1 / 5), rel=1e-6)
    assert five.high - 3 == pytest.approx(t * s * np.sqrt(1 / 5 + 1 / 5), rel=1e-6)
    assert prediction_interval(values, 0.95, averaged=10**9).high == pytest.approx(
        mean_interval(values, 0.95).high
    )


def test_a_prediction_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = prediction_interval(rng.normal(size=6), 0.9, averaged=5)
        hits += found.low <= rng.normal(size=5).mean() <= found.high
    assert abs(hits / 2000 - 0.9) < 4 * np.sqrt(0.09 / 2000)


def test_bootstrap_is_close_to_the_normal_interval_and_reproducible():
    values = np.random.default_rng(1).normal(size=400)
    found = bootstrap_interval(values, 0.95, seed=3)
    half = stats.norm.ppf(0.975) * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)
    assert found == bootstrap_interval(values, 0.95, seed=3)
    assert found != bootstrap_interval(values, 0.95, seed=4)


def test_counts_are_predicted_even_if_none_was_seen():
    none = count_interval(0, 100, 50, 0.95)
    assert none.low == 0
    assert 0 < none.high < 0.1
    half = count_interval(500_000, 1_000_000, 100, 0.95)  # binomial in the limit
    assert (half.low, half.high) == pytest.approx((0.40, 0.60), abs=0.011)
    with pytest.raises(BadCount, match="6 successes in 5 trials"):
        count_interval(6, 5, 5, 0.95)


def test_bonferroni_and_overlap():
    assert bonferroni(0.95, 1) == 0.95
    assert bonferroni(0.95, 40) == pytest.approx(0.99875)
    interval = Interval(1.0, 2.0, 0.95)
    assert interval.overlaps(2.0, 3.0)
    assert interval.overlaps(1.2, 1.3)
    assert not interval.overlaps(2.1, 3.0)
    assert not interval.overlaps(0.0, 0.9)
    assert interval.within(1.0, 2.5)
    assert not interval.within(1.1, 2.5)
    assert interval.distance(1.4, 1.6) == 0
    assert (interval.distance(2.0, 9.0), interval.distance(-9.0, 0.5)) == (1, 2)


def test_a_median_lies_between_order_statistics():
    """Of 10 values the 2nd and the 9th: P(B(10, ½) <= 1) = 0.0107, and P(B <= 2) = 0.0547."""
    values = np.random.default_rng(0).permutation(np.arange(1.0, 11.0))
    found = median_interval(values, 0.95)
    assert (found.low, found.high) == (2, 9)
    with pytest.raises(TooFewValues, match="5 values are too few"):
        median_interval([1, 2, 3, 4, 5], 0.95)


def test_a_median_interval_covers_whatever_the_law():
    draws = np.random.default_rng(0).pareto(0.5, size=(2000, 40))
    true = 2**2 - 1
    hits = [median_interval(row, 0.95).overlaps(true, true) for row in draws]
    assert 0.95 <= np.mean(hits) + 0.005 <= 0.985


@pytest.mark.parametrize("values", [[1.0], [[1.0, 2.0]], [1.0, float("nan")], [1.0, float("inf")]])
def test_what_has_no_interval_is_refused(values):
    for interval in (mean_interval, prediction_interval):
        with pytest.raises((TooFewValues, NotFinite), match="an interval needs"):
            interval(values, 0.95)
    with pytest.raises((TooFewValues, NotFinite), match="an interval needs"):
        bootstrap_interval(values, 0.95, seed=0)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, float("nan")])
def test_a_level_that_is_none_is_refused(level):
    for interval in (mean_interval, prediction_interval, median_interval):
        with pytest.raises(BadLevel, match=f"level = {level}"):
            interval([1.0, 2.0, 3.0], level)
    with pytest.raises(BadLevel):
        bootstrap_interval([1.0, 2.0, 3.0], level, seed=0)
    with pytest.raises(BadLevel):
        count_interval(1, 5, 5, level)
