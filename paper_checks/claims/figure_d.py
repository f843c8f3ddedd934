"""Claims about table D, and about the scale β* that it relies on (figure H).

Judged on fresh seeds of the published experiment, on fresh splits of a corrected one, and by
training on the rewards of the theory to the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import get_args

import pandas as pd

from ..experiments import figure_d, figure_h
from ..experiments.convergence import NoneConverged, arrived, not_converged
from ..experiments.figure_d_methods import Arm, Name
from .claim import Claim, Judgement, Verdict, seeds
from .statistics import FAMILY, Interval, bonferroni, mean_interval

NAMES: tuple[Name, ...] = get_args(Name)

# --- the published table ---

# More repetitions than published: then only the published scatter limits the comparison.
PUBLISHED = replace(figure_d.AS_PUBLISHED, repetitions=40, recorded=(0,))
ENTRIES = 12


@cache
def beside_published(seed: int) -> pd.DataFrame:
    """Return our accuracies beside the published ones (see `figure_d.agreement`)."""
    (state,) = seeds(seed, "table D as published", 1)
    return figure_d.agreement(figure_d.run(PUBLISHED, seed=state), bonferroni(FAMILY, ENTRIES))


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
        f"against {figure_d.AS_PUBLISHED.repetitions}: those that cover 0 hold, and where nothing "
        "varies a difference of at most one test row",
        float(worst.ours),
        Interval(float(worst.accuracy + worst.low), float(worst.accuracy + worst.high), level),
        float(worst.accuracy),
    )


# --- the corrected protocol, training problems solved to the end ---

# No Adam steps: the stage "optimum" is all that is looked at.
OPTIMA = replace(figure_d.CORRECTED, repetitions=1, epochs=0)
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
    table = figure_d.run(
        replace(
            OPTIMA, names=names, arms=("NLL", arm), splits=seeds(seed, f"splits of {arm}", splits)
        ),
        seed=seed,
    )
    table = table[table.stage == "optimum"]
    left_out = not_converged(table, ["name", "split", "arm"], ["arm", "name"])
    rows = arrived(table)
    rows = rows[rows.groupby(["name", "split"]).arm.transform("nunique") == 2]
    if missing := sorted(set(names) - set(rows["name"])):
        raise NoneConverged(f"on {', '.join(missing)} nothing is left to compare:{left_out}")
    return Optima(rows, left_out)


@dataclass(frozen=True)
class Difference:
    """An arm against maximum likelihood on one data set: relative NLL, accuracy in test rows."""

    nll: float
    rows: float


def learned_differences(table: pd.DataFrame) -> dict[str, Difference]:
    """Return how far the learned reward is from maximum likelihood, over all splits together."""
    means = table.groupby(["name", "arm"])[["nll", "accuracy"]].mean()
    found: dict[str, Difference] = {}
    for name in NAMES:
        learned, likely = means.loc[(name, "PG(learned)")], means.loc[(name, "NLL")]
        gap = float(learned.accuracy - likely.accuracy)
        tested = figure_d.size_of_test(name) * table[table["name"] == name].split.nunique()
        found[name] = Difference(float(learned.nll / likely.nll - 1), gap * tested)
    return found


def learned(seed: int) -> Judgement:
    """Judge `a learned reward is as good as maximum likelihood` on all data sets."""
    table = optima(seed, "PG(learned)", NAMES, LEARNED_SPLITS)
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
    table = optima(seed, "PG(β*)", ("digits",), ACCURACY_SPLITS)
    by_arm = table.rows.pivot(index="split", columns="arm", values="accuracy")
    found = mean_interval(by_arm["PG(β*)"] - by_arm["NLL"], FAMILY)
    published = pd.read_csv(figure_d.PUBLISHED, comment="#").set_index(["name", "arm"]).accuracy
    return Judgement(
        Verdict.not_reproduced if found.high < 0 else Verdict.reproduced,
        f"test accuracy of PG(β*) minus NLL on digits, same weight decay, solved to the end, "
        f"paired {100 * FAMILY:g} % t interval over {len(by_arm)} splits; one below 0 does not "
        f"hold.{table.left_out}",
        (found.low + found.high) / 2,
        found,
        float(published["digits", "PG(β*)"] - published["digits", "NLL"]),
    )


# --- figure H ---

EXACT = ("PG(u*)", "PG(diag)")
H = figure_h.Settings(points=25, repetitions=1, steps=1)
LOSES_NOTHING = 1e-6  # nats


def scale(seed: int) -> Judgement:
    """Judge `the optimal scale teaches the probability of the data`, as published and exact."""
    table = figure_h.run(H, seed=seed)
    ends = table[table.kind == "exact"]
    trained, left_out = arrived(ends), not_converged(ends, ["arm", "pi"], ["arm"])
    published = trained[trained.arm == "PG(β*)"]
    away = published[(published.pi - 0.5).abs() > 0.05]
    looked_at = pd.concat([away, trained[trained.arm.isin(EXACT)]])
    if missing := sorted({"PG(β*)", *EXACT} - set(looked_at.arm)):
        raise NoneConverged(f"of {', '.join(missing)} nothing is left to look at:{left_out}")
    exact = float(trained[trained.arm.isin(EXACT)].kl.max())
    overshoots = bool(((away.p - 0.5).abs() > (away.pi - 0.5).abs()).all()) and away.kl.min() > 1e-3
    if not overshoots:
        verdict = Verdict.reproduced
    else:
        verdict = Verdict.corrected if exact < LOSES_NOTHING else Verdict.not_reproduced
    return Judgement(
        verdict,
        f"policies of two classes trained by the exact gradient at {H.points} probabilities: "
        f"β* costs {away.kl.min():.2g} to {away.kl.max():.2g} nats away from ½ (farther from ½ "
        f"than the data in {int(((away.p - 0.5).abs() > (away.pi - 0.5).abs()).sum())} of "
        f"{len(away)} cases); the exact scalar and diagonal at most {exact:.0e}.{left_out}",
        float(away.kl.max()),
        published=0.0,
    )


def claims() -> tuple[Claim, ...]:
    """Return the claims about table D and the scale β*."""
    return (
        *(
            Claim(
                f"figure_d.table.{name}",
                f"test accuracies of NLL, PG(2β*) and PG(β*) on {name}",
                "table D",
                Verdict.reproduced,
                partial(accuracy, name),
            )
            for name in NAMES
        ),
        Claim(
            "figure_d.accuracy",
            "PG(β*) classifies digits at least as well as maximum likelihood",
            "table D",
            Verdict.not_reproduced,
            no_less_accurate,
        ),
        Claim(
            "figure_d.learned",
            "PG on a learned reward: test NLL within 1 % of maximum likelihood, accuracy no lower",
            "paper (bilevel problem); for classes new",
            Verdict.reproduced,
            learned,
        ),
        Claim(
            "figure_h.scale",
            "the optimal scale teaches the data's probabilities; corrected: exact u* for β*",
            "paper (β* for classes); correction new",
            Verdict.corrected,
            scale,
        ),
    )
