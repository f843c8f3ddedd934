"""Intervals of differences, against SciPy and against every resample that there is."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paper_checks import statistics


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("scale", [1.0, 1e-100])
def test_welch_interval_against_scipy(level: float, scale: float) -> None:
    """The smaller scale is that at which squares of variances are no numbers any more."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(1.3, 0.5, size=5), rng.normal(0.9, 1.5, size=7)
    want = stats.ttest_ind(a, b, equal_var=False).confidence_interval(level)
    (m_a, sd_a), (m_b, sd_b) = ((scale * x.mean(), scale * x.std(ddof=1)) for x in (a, b))
    found = statistics.welch_interval(m_a, sd_a, 5, m_b, sd_b, 7, level)
    assert np.array([found.low, found.high]) / scale == pytest.approx(
        [want.low, want.high], rel=1e-12
    )


def test_welch_interval_ends_at_0_at_the_level_of_the_p_value() -> None:
    samples = (1.3, 0.4, 5, 0.9, 0.2, 8)
    p = stats.ttest_ind_from_stats(*samples, equal_var=False).pvalue
    assert statistics.welch_interval(*samples, 1 - p).low == pytest.approx(0, abs=1e-12)


def test_welch_interval_where_samples_do_not_vary() -> None:
    half = stats.t.ppf(0.975, 4) * 0.3 / np.sqrt(5)  # one sample, of 5
    for found in (
        statistics.welch_interval(1.0, 0.0, 9, 0.5, 0.3, 5),
        statistics.welch_interval(1.0, 0.3, 5, 0.5, 0.0, 9),
    ):
        assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))
    point = statistics.welch_interval(1.0, 0.0, 5, 0.75, 0.0, 5)
    assert point == statistics.Interval(0.25, 0.25, 0.95)


def test_bootstrap_against_every_resample() -> None:
    """Three splits of two repetitions: all 27 x 64 resamples are equally likely."""
    values = np.array([[0.0, 1.0], [3.0, 5.0], [4.0, 9.0]])
    pairs = [(i, j) for i in range(2) for j in range(2)]
    inner = {s: np.array([values[s, list(pair)].sum() for pair in pairs]) for s in range(3)}
    sums = np.concatenate(
        [
            np.add.outer(np.add.outer(inner[a], inner[b]), inner[c]).ravel()
            for a in range(3)
            for b in range(3)
            for c in range(3)
        ]
    )
    for level in (0.5, 0.9):
        want = np.quantile(sums / 6, [(1 - level) / 2, (1 + level) / 2])
        found = statistics.paired_bootstrap(values, level, seed=3, resamples=40_000)
        assert (found.low, found.high) == pytest.approx(
            want, abs=0.18
        )  # the sums are whole: a sixth apart
    alone = statistics.paired_bootstrap(values.mean(1), 0.9, resamples=4000)
    assert alone == statistics.paired_bootstrap(values.mean(1)[:, None], 0.9, resamples=4000)


def test_bootstrap_covers_as_often_as_it_says_and_counts_splits_not_runs() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(200):
        values = rng.normal(size=(20, 1)) + 0.5 * rng.normal(size=(20, 10))
        covered += statistics.paired_bootstrap(values, 0.9, seed=i, resamples=200).overlaps(0, 0)
    assert 0.8 < covered / 200 < 0.97  # if runs were independent units, about 0.45


def global_stream() -> np.ndarray:
    return np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002


def test_bootstrap_is_reproducible_and_leaves_the_global_stream_alone() -> None:
    values = np.random.default_rng(0).normal(size=(5, 4))
    before = global_stream()
    a, b, c = (statistics.paired_bootstrap(values, seed=seed) for seed in (1, 1, 2))
    assert a == b != c
    assert (global_stream() == before).all()


@pytest.mark.parametrize("values", [[], [1.0], [[1.0, 2.0]], [[], []], np.zeros((2, 2, 2))])
def test_too_few_differences_are_named(values) -> None:
    with pytest.raises(statistics.TooFewValues, match=r"of shape .* two splits or more"):
        statistics.paired_bootstrap(np.array(values))


def test_wrong_input_is_named() -> None:
    with pytest.raises(statistics.TooFewValues, match="0 resamples"):
        statistics.paired_bootstrap(np.ones(3), resamples=0)
    with pytest.raises(statistics.NotFinite, match=r"nan at \(split, repetition\) \(1, 0\)"):
        statistics.paired_bootstrap(np.array([0.0, np.nan]))
    with pytest.raises(statistics.BadLevel, match="level = 95"):
        statistics.paired_bootstrap(np.ones(3), 95)
    with pytest.raises(statistics.BadLevel):
        statistics.welch_interval(1, 1, 5, 1, 1, 5, 1.0)
    with pytest.raises(statistics.TooFewValues, match="samples of 1 and 5"):
        statistics.welch_interval(1, 1, 1, 1, 1, 5)
    for name, bad in (("mean_a", (np.inf, 1, 5, 0, 1, 5)), ("sd_b", (0, 1, 5, 0, -1, 5))):
        with pytest.raises(statistics.NotFinite, match=name):
            statistics.welch_interval(*bad)
    runs = pd.DataFrame(
        {"arm": ["NLL", "NLL", "PG"], "split": [0, 1, 0], "repetition": 0, "nll": [1.0, 2.0, 3.0]}
    )
    with pytest.raises(statistics.NotFinite, match="leave out both runs"):
        statistics.paired(runs, "PG", "nll")
