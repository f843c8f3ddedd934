"""Claims about figure 1: published numbers against our own runs of the published experiment.

The unit is one *run* of the published notebook: its 10 experiments share an initial policy, so that
runs are independent and experiments within a run are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from ...experiments import arms, figure_1
from ...statistics import (
    FAMILY,
    Interval,
    bonferroni,
    count_interval,
    prediction_interval,
)
from .. import runs
from ..claim import Claim, Judgement, Verdict, seeds

EPOCHS = (10, 25, 50, 100)
RUNS = 12
PUBLISHED_RUNS = 5  # repetitions of the notebook behind the published medians
FAILURES = Path(__file__).parents[2] / "published" / "figure_1_failures.csv"
SHORT = {  # names of arms that need no quotes in a shell
    arms.MSE.label: "mse",
    arms.NLL.label: "nll",
    arms.PG_IDENTITY.label: "identity",
    arms.PG_OPTIMAL.label: "optimal",
    arms.PG_OPTIMAL_LOO.label: "leave_one_out",
    arms.PG_OPTIMAL_ANALYTIC.label: "analytic",
}


@cache
def published_runs(seed: int) -> tuple[pd.DataFrame, ...]:
    """Return `RUNS` runs of the published notebook; trained once for all claims."""
    settings = replace(figure_1.ONE_RUN, recorded=EPOCHS)
    states = seeds(seed, "figure B as published", RUNS)
    table = runs.repeated(figure_1.run, settings, states)
    return tuple(rows for _, rows in table.groupby("run"))


@cache
def medians(seed: int, metric: str) -> pd.DataFrame:
    """Return the median of every run: rows are runs, columns (arm, epoch)."""
    return pd.DataFrame(
        [
            {
                (arm, epoch): levels.loc[epoch, 0.5]
                for arm, levels in figure_1.quartiles(table, metric)
                for epoch in EPOCHS
            }
            for table in published_runs(seed)
        ]
    )


def published_medians() -> pd.DataFrame:
    """Return the medians of the published code: metric, arm, epoch, median."""
    return pd.read_csv(figure_1.PUBLISHED, comment="#")


def published_failures(arm: str, sigma_below: float | None = None) -> float:
    """Return the published fraction of failing runs, of all or of those with small noise."""
    rows = pd.read_csv(FAILURES, comment="#")
    small = rows.sigma_below.isna() if sigma_below is None else rows.sigma_below == sigma_below
    return float(rows[(rows.arm == arm) & small].fraction.iloc[0])


def failure_arms() -> list[str]:
    """Return the arms whose fraction of failing runs was published."""
    rows = pd.read_csv(FAILURES, comment="#")
    return list(rows[rows.sigma_below.isna()].arm)


@dataclass(frozen=True)
class Comparison:
    """Our runs beside one published median.

    Attributes:
        epoch: where.
        ours: the typical median of our runs.
        interval: where the published median is expected.
        published: the median of the published code.
        inside: whether it is there, up to its rounding.
        distance: how far it is from ours, in half widths of the interval.
    """

    epoch: int
    ours: float
    interval: Interval
    published: float
    inside: bool
    distance: float


def compare(
    values: np.ndarray, published: float, rounding: float, level: float, epoch: int
) -> Comparison:
    """Hold a published median against the prediction of our runs.

    The published median is of 5 repetitions pooled. Repetitions, not experiments, are independent,
    so it scatters like a mean of 5 of our single-run medians. Medians of positive metrics scatter
    by factors: their logarithms are compared, unless the excess NLL has come down to 0 or below.
    """
    positive = bool((values > 0).all()) and published - rounding > 0
    forth, back = (np.log, np.exp) if positive else (np.asarray, np.asarray)
    found = prediction_interval(forth(values), level, PUBLISHED_RUNS)
    low, high = float(forth(published - rounding)), float(forth(published + rounding))
    return Comparison(
        epoch=epoch,
        ours=float(back((found.low + found.high) / 2)),
        interval=Interval(float(back(found.low)), float(back(found.high)), level),
        published=published,
        inside=found.overlaps(low, high),
        distance=found.distance(low, high),
    )


def rounding_of(written: float) -> float:
    """Return half a unit of the last digit: medians have three digits or two decimals."""
    return 0.5 if abs(written) >= 1000 else 0.05 if abs(written) >= 10 else 0.005


def reproduces_medians(metric: str, arm: str, seed: int) -> Judgement:
    """Judge the medians of one metric of one arm, by the epoch where they agree least."""
    rows = published_medians()
    level = bonferroni(FAMILY, len(rows))
    ours = medians(seed, metric)
    chosen = rows[(rows.metric == metric) & (rows.arm == arm)]
    found = [
        compare(
            ours[(arm, row.epoch)].to_numpy(), row.median, rounding_of(row.median), level, row.epoch
        )
        for row in chosen.itertuples()
    ]
    worst = max(found, key=lambda comparison: comparison.distance)
    inside = sum(comparison.inside for comparison in found)
    return Judgement(
        Verdict.reproduced if inside == len(found) else Verdict.not_reproduced,
        f"{inside} of {len(found)} published medians inside the {100 * level:.3f} % prediction "
        f"interval of {RUNS} runs; shown: epoch {worst.epoch}, the furthest, at "
        f"{worst.distance:.2f} of its half width",
        worst.ours,
        worst.interval,
        worst.published,
    )


def reproduces_failures(arm: str, seed: int) -> Judgement:
    """Judge the fraction of runs of one arm that fail, over all noise levels.

    Failures are rare and come with an experiment's noise level, for all its λ: they are counts of
    experiments, not normal.
    """
    level = bonferroni(FAMILY, len(failure_arms()))
    experiments = figure_1.ONE_RUN.experiments
    fraction = float(np.mean([_failing(table, arm) for table in published_runs(seed)]))
    published = published_failures(arm)
    found = count_interval(
        fraction * RUNS * experiments, RUNS * experiments, PUBLISHED_RUNS * experiments, level
    )
    inside = found.overlaps(published - 0.005, published + 0.005)
    return Judgement(
        Verdict.reproduced if inside else Verdict.not_reproduced,
        f"failing: excess NLL above {figure_1.FAILURE:g} nat per dimension at epoch "
        f"{EPOCHS[-1]}; {100 * level:.1f} % beta-binomial prediction for "
        f"{PUBLISHED_RUNS * experiments} experiments from {RUNS * experiments}",
        fraction,
        found,
        published,
    )


def _failing(table: pd.DataFrame, arm: str) -> float:
    last = figure_1.final(table)
    return float(last[last.arm == arm].failed.mean())


def claims() -> tuple[Claim, ...]:
    """Return a claim for every published metric of every arm, and for its failures."""
    pairs = dict.fromkeys((row.metric, row.arm) for row in published_medians().itertuples())
    return (*(_median_claim(*pair) for pair in pairs), *_failure_claims())


def _median_claim(metric: str, arm: str) -> Claim:
    return Claim(
        f"figure-1.published.{metric.removesuffix('_error')}.{SHORT[arm]}",
        f"published medians of the {metric.replace('_', ' ')} of {arm} at epochs 10, 25, 50, 100",
        "figure 1, published code",
        Verdict.reproduced,
        partial(reproduces_medians, metric, arm),
    )


def _failure_claims() -> list[Claim]:
    return [
        Claim(
            f"figure-1.published.failures.{SHORT[arm]}",
            f"published fraction of failing runs of {arm}",
            "figure 1, published code",
            Verdict.reproduced,
            partial(reproduces_failures, arm),
        )
        for arm in failure_arms()
    ]
