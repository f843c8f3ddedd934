"""Claims about tables 1 and 2 (about the scale β* that they rely on: `overshoot`).

Judged on fresh seeds of the published experiment, and on fresh splits of a corrected one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import get_args

import pandas as pd

from ...experiments import tables_1_2
from ...experiments.arms import NLL, Arm, labels
from ...experiments.convergence import NoneConverged, arrived, not_converged
from ...experiments.tables_1_2_methods import Name
from ...statistics import FAMILY, Interval, bonferroni, mean_interval
from .. import runs
from ..claim import Claim, Judgement, Verdict, seeds

NAMES: tuple[Name, ...] = get_args(Name)

# --- the published table ---

# More repetitions than published: then only the published scatter limits the comparison.
PUBLISHED = replace(tables_1_2.AS_PUBLISHED, repetitions=40, recorded=(0,))
ENTRIES = 12


@cache
def beside_published(seed: int) -> pd.DataFrame:
    """Return our accuracies beside the published ones (see `tables_1_2.agreement`)."""
    (state,) = seeds(seed, "table D as published", 1)
    table = runs.once(tables_1_2.run, PUBLISHED, seed=state)
    return tables_1_2.agreement(table, bonferroni(FAMILY, ENTRIES))


def accuracy(name: Name, seed: int) -> Judgement:
    """Judge the published accuracies of one data set by Welch intervals of the differences."""
    rows = beside_published(seed)
    rows = rows[rows["name"] == name]
    level = bonferroni(FAMILY, ENTRIES)
    said = ", ".join(
        f"{row.arm} {row.ours:.4f} (published {row.accuracy:.4f}, difference in "
        f"[{row.low:+.4f}, {row.high:+.4f}])"
        for row in rows.itertuples()
    )
    worst = rows.loc[(rows.ours - rows.accuracy).abs().idxmax()]
    return Judgement(
        Verdict.reproduced if rows.agrees.all() else Verdict.not_reproduced,
        f"{said}; Welch intervals at {100 * level:.1f} %, {PUBLISHED.repetitions} repetitions "
        f"against {tables_1_2.AS_PUBLISHED.repetitions}: those that cover 0 hold, and where "
        "nothing varies a difference of at most one test row",
        float(worst.ours),
        Interval(float(worst.accuracy + worst.low), float(worst.accuracy + worst.high), level),
        float(worst.accuracy),
    )


# --- the corrected protocol, training problems solved to the end ---

# No Adam steps: the stage "optimum" is all that is looked at.
OPTIMA = replace(tables_1_2.CORRECTED, repetitions=1, epochs=0)
LEARNED_SPLITS = 4
# Of digits: the other tables have too few test rows to tell. (A first design, of 20 splits of all
# four, found digits below 0 at some seeds and not at others.)
ACCURACY_SPLITS = 80
WITHIN = 0.01  # of the test NLL of maximum likelihood


@dataclass(frozen=True)
class Optima:
    """Training problems solved to the end, by NLL and by an arm.

    Attributes:
        rows: test metrics, a row per name, split and arm, of the splits where both converged.
        left_out: says how many did not, in a sentence after a space; "" where all did.
    """

    rows: pd.DataFrame
    left_out: str


@cache
def optima(seed: int, arm: Arm, names: tuple[Name, ...], splits: int) -> Optima:
    """Return the test metrics of NLL and of an arm on fresh splits.

    Raises:
        NoneConverged: on one of the data sets no split is left.
    """
    drawn = seeds(seed, f"splits of {arm.label}", splits)
    settings = replace(OPTIMA, names=names, arms=(NLL, arm), splits=drawn)
    table = runs.once(tables_1_2.run, settings, seed=seed)
    table = table[table.stage == "optimum"]
    left_out = not_converged(table, ["name", "split", "arm"], ["arm", "name"])
    rows = arrived(table)
    rows = rows[rows.groupby(["name", "split"]).arm.transform("nunique") == 2]
    if missing := sorted(set(names) - set(rows["name"])):
        raise NoneConverged(f"on {', '.join(missing)} nothing is left to compare:{left_out}")
    return Optima(rows, left_out)


@dataclass(frozen=True)
class Gap:
    """An arm against maximum likelihood on one data set: relative NLL, accuracy in test rows."""

    nll: float
    rows: float


def learned_differences(table: pd.DataFrame) -> dict[str, Gap]:
    """Return how far the learned reward is from maximum likelihood, over all splits together."""
    means = table.groupby(["name", "arm"])[["nll", "accuracy"]].mean()
    found: dict[str, Gap] = {}
    for name in NAMES:
        learned, likely = (means.loc[(name, arm)] for arm in labels((tables_1_2.PG_LEARNED, NLL)))
        gap = float(learned.accuracy - likely.accuracy)
        tested = tables_1_2.size_of_test(name) * table[table["name"] == name].split.nunique()
        found[name] = Gap(float(learned.nll / likely.nll - 1), gap * tested)
    return found


def learned(seed: int) -> Judgement:
    """Judge `a learned reward is as good as maximum likelihood` on all data sets."""
    table = optima(seed, tables_1_2.PG_LEARNED, NAMES, LEARNED_SPLITS)
    found = learned_differences(table.rows)
    holds = all(each.nll <= WITHIN and each.rows >= -1 for each in found.values())
    said = ", ".join(
        f"{name} {each.nll:+.2%} and {each.rows:+.0f} rows" for name, each in found.items()
    )
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"test NLL and test rows classified right, against maximum likelihood with the same weight "
        f"decay, {LEARNED_SPLITS} splits: {said}; at most {WITHIN:+.0%} and at least -1 row (of "
        f"all splits together) hold.{table.left_out}",
        max(each.nll for each in found.values()),
    )


def no_less_accurate(seed: int) -> Judgement:
    """Judge `PG(β*) classifies digits at least as well as NLL` by paired differences."""
    table = optima(seed, tables_1_2.PG_BETA, ("digits",), ACCURACY_SPLITS)
    by_arm = table.rows.pivot(index="split", columns="arm", values="accuracy")
    beta, likely = labels((tables_1_2.PG_BETA, NLL))
    found = mean_interval(by_arm[beta] - by_arm[likely], FAMILY)
    published = pd.read_csv(tables_1_2.PUBLISHED, comment="#").set_index(["name", "arm"]).accuracy
    return Judgement(
        Verdict.not_reproduced if found.high < 0 else Verdict.reproduced,
        f"test accuracy of PG(β*) minus NLL on digits, same weight decay, solved to the end, "
        f"paired {100 * FAMILY:g} % t interval over {len(by_arm)} splits; one below 0 does not "
        f"hold.{table.left_out}",
        (found.low + found.high) / 2,
        found,
        float(published["digits", beta] - published["digits", likely]),
    )


def claims() -> tuple[Claim, ...]:
    """Return the claims about tables 1 and 2."""
    return (
        *(
            Claim(
                f"tables-1-2.table.{name}",
                f"test accuracies of NLL, PG(2β*) and PG(β*) on {name}",
                "tables 1 and 2",
                Verdict.reproduced,
                partial(accuracy, name),
            )
            for name in NAMES
        ),
        Claim(
            "tables-1-2.accuracy",
            "PG(β*) classifies digits at least as well as maximum likelihood",
            "tables 1 and 2",
            Verdict.not_reproduced,
            no_less_accurate,
        ),
        Claim(
            "tables-1-2.learned",
            "PG on a learned reward: test NLL within 1 % of maximum likelihood, accuracy no lower",
            "paper (bilevel problem); for classes new",
            Verdict.reproduced,
            learned,
        ),
    )
