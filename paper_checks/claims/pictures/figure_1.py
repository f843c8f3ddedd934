"""Claims about figure 1: what the paper concludes from it, and where that needs a correction.

Judged on fresh seeds of the published experiment and of a corrected one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import pandas as pd

from ...experiments import figure_1
from ...experiments.arms import NLL, Arm, labels
from ...statistics import (
    FAMILY,
    Interval,
    bonferroni,
    bootstrap_interval,
    mean_interval,
)
from .. import runs
from ..claim import Claim, Judgement, Verdict, seeds
from . import figure_1_published
from .figure_1_published import (
    EPOCHS,
    RUNS,
    SHORT,
    medians,
    published_failures,
    published_medians,
)

# --- (b) directions ---


@dataclass(frozen=True)
class Direction:
    """A claim that one arm's errors are smaller than another's, at every one of some epochs."""

    name: str
    statement: str
    metric: str
    smaller: Arm
    larger: Arm
    epochs: tuple[int, ...]


DIRECTIONS = (
    Direction(
        "mean",
        "PG(U*) has a smaller mean error than NLL at epochs 10 and 25",
        "mean_error",
        figure_1.PG_OPTIMAL,
        NLL,
        (10, 25),
    ),
    Direction(
        "covariance",
        "PG(U*) has a smaller covariance error than NLL at epochs 10 and 25",
        "covariance_error",
        figure_1.PG_OPTIMAL,
        NLL,
        (10, 25),
    ),
    Direction(
        "uncalibrated",
        "PG(I) does not calibrate: its covariance error stays above that of PG(U*)",
        "covariance_error",
        figure_1.PG_OPTIMAL,
        figure_1.PG_IDENTITY,
        EPOCHS,
    ),
)


def has_direction(claim: Direction, seed: int) -> Judgement:
    """Judge by the log ratio of medians per run, at the epoch where it is least clear.

    All epochs must hold, so that no correction for their number is needed; one is made for the
    number of claims.
    """
    level = bonferroni(FAMILY, len(DIRECTIONS))
    ours, (smaller, larger) = medians(seed, claim.metric), labels((claim.smaller, claim.larger))
    found = {
        epoch: mean_interval(np.log(ours[(smaller, epoch)] / ours[(larger, epoch)]), level)
        for epoch in claim.epochs
    }
    epoch = max(found, key=lambda e: found[e].high)
    interval = found[epoch]
    rows = published_medians()
    rows = rows[(rows.metric == claim.metric) & (rows.epoch == epoch)].set_index("arm")["median"]
    return Judgement(
        Verdict.reproduced if interval.high < 0 else Verdict.not_reproduced,
        f"log ratio of medians, {smaller} over {larger}, with its {100 * level:.1f} % "
        f"t interval over {RUNS} runs, at epoch {epoch}, the least clear of "
        f"{', '.join(map(str, claim.epochs))}: below 0 holds",
        (interval.low + interval.high) / 2,
        interval,
        float(np.log(rows[smaller] / rows[larger])),
    )


# --- (c) stability at small noise ---

CORRECTIONS = (figure_1.PG_OPTIMAL_LOO, figure_1.PG_OPTIMAL_ANALYTIC)
# Small noise, where sampled gradients are large; without the arms that do not take part. A first
# design, 30 experiments per noise level with all λ, was inconclusive at two seeds of three. This
# one was sized by a pilot at another seed (1000, 20 experiments per level): paired differences of
# -0.11 ± 0.53 for leave-one-out, which 332 experiments show with power 90 %. λ hardly moved them:
# the middle one stands for all.
SMALL_NOISE = replace(
    figure_1.CORRECTED,
    arms=(NLL, figure_1.PG_OPTIMAL, *CORRECTIONS),
    experiments=120,
    sigma=(0.1, 0.15, 0.2),
    lams=(0.63,),
    recorded=(figure_1.CORRECTED.epochs,),
    chunk=60,
)


@cache
def small_noise(seed: int) -> pd.DataFrame:
    """Return the last epoch of the corrected run at small noise."""
    (state,) = seeds(seed, "figure B at small noise", 1)
    return figure_1.final(runs.once(figure_1.run, SMALL_NOISE, seed=state))


def is_stable(arm: Arm, seed: int) -> Judgement:
    """Judge `PG(U*) fails no more often than NLL`, as published and with another estimator.

    Arms share data and initial policy, so that the differences of an experiment's failures are
    paired; experiments are resampled over all noise levels, which makes the intervals a little
    wider than resampling within each would.
    """
    table = small_noise(seed)
    failing = table.groupby(["experiment", "arm"]).failed.mean().unstack()
    level = bonferroni(FAMILY, 2 * len(CORRECTIONS))
    names = likely, *_ = labels((NLL, figure_1.PG_OPTIMAL, arm))
    published, corrected = (
        bootstrap_interval(failing[name] - failing[likely], level, seed=seed) for name in names[1:]
    )
    means = failing.mean()
    sigmas = ", ".join(f"{sigma:g}" for sigma in SMALL_NOISE.sigma)
    return Judgement(
        correction(published, corrected),
        f"failing runs at σ = {sigmas}, λ = {SMALL_NOISE.lams[0]:g}: "
        + ", ".join(f"{name} {100 * means[name]:.0f} %" for name in names)
        + f" (published code, σ < 0.3: {100 * published_failures(names[1], 0.3):.0f} %); minus "
        f"NLL's, {100 * level:.1f} % paired bootstrap: as published "
        f"[{published.low:+.2f}, {published.high:+.2f}], corrected shown",
        float(means[arm.label] - means[likely]),
        corrected,
    )


def correction(published: Interval, corrected: Interval) -> Verdict:
    """Return the verdict on `below 0`, as published and corrected."""
    if published.high < 0:
        return Verdict.reproduced
    if published.low > 0 and corrected.high < 0:
        return Verdict.corrected
    return Verdict.not_reproduced


def claims() -> tuple[Claim, ...]:
    """Return the claims about figure 1."""
    return (*figure_1_published.claims(), *_direction_claims(), *_stability_claims())


def _direction_claims() -> list[Claim]:
    return [
        Claim(
            f"figure-1.direction.{item.name}",
            item.statement,
            "figure 1",
            Verdict.reproduced,
            partial(has_direction, item),
        )
        for item in DIRECTIONS
    ]


def _stability_claims() -> list[Claim]:
    return [
        Claim(
            f"figure-1.stability.{SHORT[arm.label]}",
            "at small noise PG(U*) fails less often than NLL; corrected estimator: "
            f"{arm.estimator}",
            "figure 1; estimator new",
            Verdict.corrected,
            partial(is_stable, arm),
        )
        for arm in CORRECTIONS
    ]
