"""Claims about figure 3: where the published solver takes the reward, and why; what it costs.

Judged on a fresh seed. Levels, sample sizes and criteria were fixed after a pilot at seed 0 of the
figure and before any other seed was looked at.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from ...experiments import figure_3
from ...statistics import FAMILY, bonferroni, farthest, mean_interval
from .. import runs
from ..claim import Claim, Judgement, Verdict, seeds

CORRECTED = replace(figure_3.CORRECTED, arms=("corrected",))
LATE = 80  # epochs from which the published runs have stopped going anywhere
HOVER = 0.15  # of the reward predicted, of which a step of 0.01 is 4 %
AWAY = 0.2  # of the best reward, from which on the sign of the exact hypergradient is clear
WRONG = 0.9  # share of hypergradients of the wrong sign that make it the rule
CHEAPER = 4.0  # factor
LEVEL = bonferroni(FAMILY, 3)  # the three intervals below
ENTRIES = ("11", "22")


@cache
def published(seed: int) -> pd.DataFrame:
    """Return the published runs."""
    (state,) = seeds(seed, "figure 3 as published", 1)
    return runs.once(figure_3.run, figure_3.AS_PUBLISHED, seed=state)


@cache
def corrected(seed: int) -> pd.DataFrame:
    """Return the corrected runs."""
    (state,) = seeds(seed, "figure 3 corrected", 1)
    return runs.once(figure_3.run, CORRECTED, seed=state)


def _late(table: pd.DataFrame, line: str) -> np.ndarray:
    """Return, for each run, the mean of `U_ii` over a line in late epochs."""
    late = table[table.epoch >= LATE]
    ratios = [late[f"U_{entry}"] / late[f"{line}_{entry}"] for entry in ENTRIES]
    return pd.concat(ratios, axis=1).mean(axis=1).groupby(late.repetition).mean().to_numpy()


def target(seed: int) -> Judgement:
    """Judge `the solver converges to U*` by where it ends, as published and corrected."""
    interval = mean_interval(_late(published(seed), "residual"), LEVEL)
    table = corrected(seed)
    ends = table.groupby(["start", "repetition"]).tail(1)
    worst, converged = farthest(figure_3.distance(ends)), int(ends.converged.sum())
    band = (1 - figure_3.NEAR, 1 + figure_3.NEAR)
    if interval.within(*band):
        verdict = Verdict.reproduced
    elif not interval.overlaps(*band) and converged == len(ends) and worst <= figure_3.NEAR:
        verdict = Verdict.corrected
    else:
        verdict = Verdict.not_reproduced
    return Judgement(
        verdict,
        f"U over U*, the reward at the residual covariance; as published mean of epochs {LATE} to "
        f"{figure_3.AS_PUBLISHED.epochs}, {100 * LEVEL:.1f} % t interval over "
        f"{figure_3.AS_PUBLISHED.published_repetitions} repetitions, shown; corrected, {converged} "
        f"of {len(ends)} runs from {table.start.nunique()} starts converged, at most {worst:.1g} "
        f"off; within {figure_3.NEAR:.0%} of 1 is convergence",
        (interval.low + interval.high) / 2,
        interval,
        1.0,
    )


def hovers(seed: int) -> Judgement:
    """Judge `it hovers where the policy's own mean errors put it`.

    The interval must lie near 1, and that of U* in the same units must not.
    """
    table = published(seed)
    interval = mean_interval(_late(table, "optimum"), LEVEL)
    late = table[table.epoch >= LATE]
    shift = float(np.mean([late[f"residual_{e}"] / late[f"optimum_{e}"] for e in ENTRIES]))
    holds = interval.within(1 - HOVER, 1 + HOVER) and not interval.overlaps(shift, np.inf)
    return Judgement(
        Verdict.reproduced if holds and shift > 1 + HOVER else Verdict.not_reproduced,
        f"U over (λ/2)/(Σ + E eeᵀ)_ii, e the mean errors left after "
        f"{figure_3.AS_PUBLISHED.inner_steps} inner steps, {100 * LEVEL:.1f} % t interval: within "
        f"{HOVER:.0%} of 1 holds; U* is {shift:.2f} in this unit",
        (interval.low + interval.high) / 2,
        interval,
    )


def sign(seed: int) -> Judgement:
    """Judge `the hypergradient through the held surrogate has the wrong sign`.

    Where the exact one, for a policy with the errors of this one, is clear.
    """
    table = published(seed)
    parts: list[pd.DataFrame] = []
    for entry in ENTRIES:
        ratio = table[f"U_{entry}"] / table[f"optimum_{entry}"]
        wrong = np.sign(table[f"hypergradient_{entry}"]) == np.sign(ratio - 1)  # exact: 1 - ratio
        clear = (ratio - 1).abs() > AWAY
        parts.append(pd.DataFrame({"repetition": table.repetition, "wrong": wrong})[clear])
    seen = pd.concat(parts)
    shares = seen.groupby("repetition").wrong.mean()
    interval = mean_interval(shares, LEVEL)
    return Judgement(
        Verdict.reproduced if interval.low > WRONG else Verdict.not_reproduced,
        f"share of hypergradients, before they are negated, that point away from the likelihood "
        f"where U is more than {AWAY:.0%} off: {int(seen.wrong.sum())} of {len(seen)}, "
        f"{100 * LEVEL:.1f} % t interval over {len(shares)} repetitions; above {WRONG:g} holds",
        float(shares.mean()),
        interval,
    )


def cost(seed: int) -> Judgement:
    """Judge `solved inner problems and linear systems cost less than the published epochs`."""
    ours = figure_3.arrivals(corrected(seed))
    theirs = figure_3.arrivals(published(seed))
    worst, spent = farthest(ours.arriving), float(theirs.spent.max())
    arrived = theirs.arriving.notna().sum()
    holds = CHEAPER * worst <= spent and arrived == 0
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"gradient evaluations until U stays within {figure_3.NEAR:.0%} of U*: corrected "
        f"{ours.arriving.min():.0f} to {worst:.0f} in {len(ours)} runs; as published {arrived} of "
        f"{len(theirs)} runs do within {spent:.0f}; {CHEAPER:g} times fewer than all holds",
        worst,
        published=spent,
    )


def claims() -> tuple[Claim, ...]:
    """Return the claims about figure 3."""
    return (
        Claim(
            "figure-3.target",
            "the implicit solver learns U*; corrected: exact objectives and solved systems",
            "figure 3; correction new",
            Verdict.corrected,
            target,
        ),
        Claim(
            "figure-3.hovers",
            "as published U hovers where the mean errors of its short inner training put it",
            "new",
            Verdict.reproduced,
            hovers,
        ),
        Claim(
            "figure-3.sign",
            "the hypergradient through the published surrogate has the wrong sign",
            "figure 3, which negates it; explanation new",
            Verdict.reproduced,
            sign,
        ),
        Claim(
            "figure-3.cost",
            "corrected, U* is reached with fewer gradient evaluations than the published epochs",
            "new",
            Verdict.reproduced,
            cost,
        ),
    )
