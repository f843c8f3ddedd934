"""Claims about figure 2: where training settles in the long run, and what its pictures show.

Judged on fresh seeds. Levels, sample sizes and criteria were fixed after a pilot at seeds 1000 to
1002 and before any other seed was looked at.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pandas as pd

from ...experiments import figure_2
from ...experiments.minimum_shift import stationary_scale
from ...statistics import (
    FAMILY,
    Interval,
    bonferroni,
    mean_interval,
    median_interval,
)
from .. import runs
from ..claim import Claim, Judgement, Verdict, seeds

# --- the long run ---

SEEDS = 8
M = figure_2.AS_PUBLISHED.generations
# No evolution, only the settling runs. In the pilot two generations, which go furthest, took 150
# epochs to arrive; 500 outcomes leave intervals of about 0.5 %.
LONG_RUN = replace(
    figure_2.AS_PUBLISHED,
    epochs=0,
    lams=(1.0,),
    settling=(2, M, 50),
    settling_epochs=400,
    settling_samples=500,
)
ARRIVED = 200
TOLERANCE = 0.02  # a law reaches the data's if its standard deviation is within 2 % of theirs
# One interval for each number of generations as published, and one for leave-one-out.
LEVEL = bonferroni(FAMILY, len(LONG_RUN.settling) + 1)


@cache
def settled(seed: int) -> pd.DataFrame:
    """Return where training settles, in units of σ: rows are seeds, columns (baseline, M).

    One number for each seed: epochs of a run are correlated, seeds are not.
    """
    states = seeds(seed, "figure A in the long run", SEEDS)
    table = runs.repeated(figure_2.run, LONG_RUN, states)
    return pd.DataFrame([_late(rows) for _, rows in table.groupby("run")])


def _late(table: pd.DataFrame) -> pd.Series:
    """The root of the mean variance: what is stationary is the expected gradient, linear in it."""
    late = table[(table.arm == "settling") & (table.epoch > ARRIVED)]
    return np.sqrt(_variance(late).groupby([late.baseline, late.generations]).mean())


def _variance(table: pd.DataFrame) -> pd.Series:
    return table[["std_1", "std_2"]].astype(float).pow(2).mean(axis=1)


def reaches_target(seed: int) -> Judgement:
    """Judge `PG(U*) ends at the data's law` by where it settles, as published and corrected."""
    published, corrected = (
        mean_interval(settled(seed)[(baseline, M)], LEVEL)
        for baseline in ("minimum", "leave-one-out")
    )
    return Judgement(
        correction(published, corrected),
        f"long-run standard deviation over σ, {100 * LEVEL:.1f} % t intervals over {SEEDS} seeds: "
        f"as published (M = {M}, minimum shift) shown, predicted "
        f"{stationary_scale(figure_2.N, M):.3f}; leave-one-out [{corrected.low:.3f}, "
        f"{corrected.high:.3f}]; within {100 * TOLERANCE:g} % of 1 reaches the data",
        (published.low + published.high) / 2,
        published,
        1.0,
    )


def correction(published: Interval, corrected: Interval) -> Verdict:
    """Return the verdict on `equal to 1`, as published and corrected."""
    band = (1 - TOLERANCE, 1 + TOLERANCE)
    if published.within(*band):
        return Verdict.reproduced
    if not published.overlaps(*band) and corrected.within(*band):
        return Verdict.corrected
    return Verdict.not_reproduced


def settles_as_predicted(generations: int, seed: int) -> Judgement:
    """Judge the predicted standard deviation under the published minimum shift.

    The interval must hold it, and not 1: else it could not tell the two apart.
    """
    interval = mean_interval(settled(seed)[("minimum", generations)], LEVEL)
    predicted = stationary_scale(figure_2.N, generations)
    holds = interval.overlaps(predicted, predicted) and not interval.overlaps(1.0, 1.0)
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"predicted {predicted:.4f}; long-run standard deviation over σ, root mean square of "
        f"epochs {ARRIVED + 1} to {LONG_RUN.settling_epochs}, {100 * LEVEL:.1f} % t interval over "
        f"{SEEDS} seeds [{interval.low:.4f}, {interval.high:.4f}]",
        (interval.low + interval.high) / 2,
        interval,
    )


# --- the pictures ---

LAST = 50  # the last epoch of the published pictures
# Of a first design with 40 repetitions the first claim below failed at 2 of 15 seeds, for want of
# power; this one was tried at seeds 2000 and 2001, where its interval ends near 0.64.
PICTURES = replace(figure_2.AS_PUBLISHED, repetitions=400)
PICTURES_LEVEL = bonferroni(FAMILY, 2)


@cache
def pictures(seed: int) -> pd.DataFrame:
    """Return the last pictured law of every repetition, in units of σ: `distance` and `width`.

    Both are root mean squares over the dimensions.
    """
    (state,) = seeds(seed, "figure A as published", 1)
    table = runs.once(figure_2.run, PICTURES, seed=state)
    last = table[table.epoch == LAST]
    error = last[["mean_1", "mean_2"]].astype(float) - figure_2.MEAN
    return last.assign(
        distance=np.sqrt(error.pow(2).mean(axis=1)) / figure_2.SIGMA,
        width=np.sqrt(_variance(last)) / figure_2.SIGMA,
    )


def mean_arrives(seed: int) -> Judgement:
    """Judge `with U* the mean arrives, whatever λ` by the λ where it is furthest.

    By medians: where an input is close to 0 the network moves slowly, and one repetition in forty
    may still be on its way. All λ must hold, so that no correction for their number is needed.
    """
    rows = pictures(seed)
    rows = rows[rows.arm == "PG(U*)"]
    found = {lam: median_interval(runs.distance, PICTURES_LEVEL) for lam, runs in _by_lam(rows)}
    lam = max(found, key=lambda lam: found[lam].high)
    return Judgement(
        Verdict.reproduced if found[lam].high < 1 else Verdict.not_reproduced,
        f"distance of the means over σ at epoch {LAST}, median and its {100 * PICTURES_LEVEL:.1f} "
        f"% interval over {PICTURES.repetitions} repetitions at λ = {lam:g}, the furthest of "
        f"{len(found)}: below 1 holds",
        float(rows[rows.lam == lam].distance.median()),
        found[lam],
    )


def width_follows_weight(seed: int) -> Judgement:
    """Judge `with U = I the width is right only for a λ in between`, by repetition.

    It must grow with λ, from too narrow at the smallest to too wide at the largest.
    """
    rows = pictures(seed)
    logs = np.log(
        rows[rows.arm == "PG(I)"].pivot(index="repetition", columns="lam", values="width")
    )
    slopes = np.polynomial.polynomial.polyfit(np.log(logs.columns), logs.T, 1)[1]
    slope, narrow, wide = (
        mean_interval(values, PICTURES_LEVEL)
        for values in (slopes, logs[logs.columns.min()], logs[logs.columns.max()])
    )
    holds = slope.low > 0 and narrow.high < 0 and wide.low > 0
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"slope of log(std/σ) in log λ at epoch {LAST} (½ in the long run), with its "
        f"{100 * PICTURES_LEVEL:.1f} % t interval over {PICTURES.repetitions} repetitions; median "
        f"std/σ at λ = {_widths(rows, 'PG(I)')}, right in the long run at "
        f"{2 * figure_2.SIGMA**2:.3g}; PG(U*): {_widths(rows, 'PG(U*)')}",
        float(slopes.mean()),
        slope,
    )


def _by_lam(rows: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    return [(float(lam), rows[rows.lam == lam]) for lam in sorted(set(rows.lam))]


def _widths(rows: pd.DataFrame, arm: str) -> str:
    widths = _by_lam(rows[rows.arm == arm])
    return ", ".join(f"{lam:g}: {runs.width.median():.2f}" for lam, runs in widths)


def claims() -> tuple[Claim, ...]:
    """Return the claims about figure 2."""
    return (
        Claim(
            "figure-2.target",
            "training on U* ends at the data's law; corrected: leave-one-out for minimum shift",
            "figure 2; estimator new",
            Verdict.corrected,
            reaches_target,
        ),
        *(
            Claim(
                f"figure-2.settling.M{generations}",
                "under the published minimum shift training on U* settles where predicted, "
                f"M = {generations}",
                "new",
                Verdict.reproduced,
                partial(settles_as_predicted, generations),
            )
            for generations in LONG_RUN.settling
        ),
        Claim(
            "figure-2.reaches.mean",
            f"with U* the mean is at the data by epoch {LAST}, for every λ",
            "figure 2",
            Verdict.reproduced,
            mean_arrives,
        ),
        Claim(
            "figure-2.reaches.width",
            "with U = I the width depends on λ: too narrow for a small, too wide for a large one",
            "figure 2",
            Verdict.reproduced,
            width_follows_weight,
        ),
    )
