"""Claims about `forgetting`: does policy gradient forget less than likelihood? Measure by measure.

Settings, measures, what methods are matched by, the levels and those of the intervals were fixed
before anything that is forgotten had been looked at; the verdicts that are expected, how often
Gaussian paths are recorded, the criterion for `direction`, what counts as arriving with KL to the
base, and the horizon of the modes were not. Splits of one table
vary its rows and the networks' starts: intervals say nothing about other tasks. Seeds 0 and 1 give
the same verdicts; those about error and about KL to the base are the closest.
"""

from __future__ import annotations

from functools import partial

import pandas as pd

from ...experiments import forgetting
from ...experiments.convergence import NoneConverged, arrived, not_converged
from ...statistics import FAMILY, farthest
from .. import runs
from ..claim import Claim, Judgement, Verdict

SETTINGS = forgetting.Settings()  # those of the figure: one table serves both
AGREES = 0.05  # of log-odds, between a training and the derived leading order
SLOWER = 1.01  # of the factor by which PG drops the old mode faster than NLL
MOST = 0.5  # of the splits have to arrive for a comparison
PG, NLL, SOFT = ("PG", 0.0), ("NLL", 0.0), ("NLL(p*)", 0.0)
WORDS = {
    "old_loss": "loss on the old task",
    "old_error": "error on the old task",
    "forward_new": "KL(p₀ ‖ p) on new inputs",
    "reverse_new": "KL(p ‖ p₀) on new inputs",
    "forward_old": "KL(p₀ ‖ p) on old inputs",
    "reverse_old": "KL(p ‖ p₀) on old inputs",
}
STANDS_FOR = dict.fromkeys(WORDS, Verdict.corrected) | {"old_error": Verdict.not_reproduced}


def _table(seed: int) -> pd.DataFrame:
    return runs.once(forgetting.run, SETTINGS, seed=seed)


def gaussian(seed: int) -> Judgement:
    """Judge who forgets less along natural gradients, by both directions of KL."""
    table = _table(seed)
    cells = [
        forgetting.matched_paths(table, "natural", by).assign(by=by)
        for by in ("to_data", "back_to_data")
    ]
    rows = pd.concat(cells).dropna()
    if not len(rows):
        raise NoneConverged("no Gaussian policy came near enough to the data to be compared")
    less = (rows.PG < rows.NLL).groupby([rows.by, rows.measure])
    PG_less, total = less.sum(), less.size()
    forward, reverse = ("to_data", "forward"), ("back_to_data", "reverse")
    if (PG_less == total).all():
        verdict = Verdict.reproduced
    elif PG_less[forward] == 0 and PG_less[reverse] == total[reverse]:
        verdict = Verdict.corrected
    else:
        verdict = Verdict.not_reproduced

    def said(by: str, measure: str) -> str:
        return f"{int(PG_less[by, measure])} of {int(total[by, measure])}"

    return Judgement(
        verdict,
        f"natural gradients from {len(SETTINGS.bases)} bases, at {len(forgetting.SHARES)} levels: "
        f"PG forgets less by KL(p₀ ‖ p) at equal KL(q ‖ p) in {said(*forward)} cases, by "
        f"KL(p ‖ p₀) at equal KL(p ‖ q) in {said(*reverse)}; matched the other way round by "
        f"KL(p₀ ‖ p) in {said('back_to_data', 'forward')}, by KL(p ‖ p₀) in "
        f"{said('to_data', 'reverse')}, which no theorem decides",
        float(PG_less[forward] / total[forward]),
    )


def modes(seed: int) -> Judgement:
    """Judge that an old mode is dropped at the derived rates, by PG faster than by NLL."""
    table = _table(seed)
    rows = table[table.part == "modes"]
    odds = rows.pivot_table(index=["method", "distance", "time"], columns="kind", values="logit")
    apart = farthest(odds.trained - odds.predicted)
    last = rows[(rows.kind == "trained") & (rows.time == rows.time.max())]
    weights = last.pivot(index="distance", columns="method", values="weight")
    faster = bool((weights.NLL > SLOWER * weights.PG).all())
    words = "; ".join(
        f"{w.PG:.2g} by PG and {w.NLL:.2g} by NLL for δ = {distance:g}"
        for distance, w in weights.iterrows()
    )
    return Judgement(
        Verdict.reproduced if apart <= AGREES and faster else Verdict.not_reproduced,
        f"of a weight of {SETTINGS.modes.weight:g} is left at time {rows.time.max():g}: {words}; "
        f"log-odds within {apart:.2g} of the derived leading order ({AGREES:g} allowed)",
        apart,
    )


def _matched(seed: int) -> tuple[pd.DataFrame, str]:
    """Return the matched digits of runs that converged, and which did not."""
    digits = forgetting.matched_digits(_table(seed))
    return arrived(digits), not_converged(digits, ["arm", "w", "split"], ["arm"])


def _verdict(rows: pd.DataFrame) -> Verdict:
    """Return what intervals of `PG - rival` say of `PG forgets less`."""
    if not len(rows):
        raise NoneConverged("no level was reached by enough pairs of runs")
    if (rows.high < 0).all():
        return Verdict.reproduced
    return Verdict.corrected if (rows.low > 0).all() else Verdict.not_reproduced


def _said(rows: pd.DataFrame) -> str:
    names = {"new_loss": "loss", "new_error": "error"}
    return ", ".join(
        f"{row['mean']:+.3g} [{row.low:+.3g}, {row.high:+.3g}] at {names[row.by]} {row.level:g} "
        f"({row.pairs:.0f} pairs)"
        for _, row in rows.iterrows()
    )


def digits(measure: str, seed: int) -> Judgement:
    """Judge whether PG forgets less than NLL of the digits, by one measure."""
    matched, left_out = _matched(seed)
    rows = forgetting.compared(matched, PG, NLL, measure).dropna()
    return Judgement(
        _verdict(rows),
        f"{WORDS[measure]}, PG less NLL, where both have the same new one: {_said(rows)}; "
        f"intervals together {FAMILY:.0%}.{left_out}",
        float(rows["mean"].mean()),
    )


def direction(seed: int) -> Judgement:
    """Judge whether it is the learned reward that forgets more, or the direction of KL."""
    matched, left_out = _matched(seed)
    soft = forgetting.compared(matched, SOFT, NLL, "old_loss").dropna()
    rows = forgetting.compared(matched, PG, SOFT, "old_loss").dropna()
    holds = _verdict(rows) is Verdict.corrected and bool((soft.high < rows.low.min()).all())
    return Judgement(
        Verdict.reproduced if holds else Verdict.not_reproduced,
        f"old loss: PG less likelihood of the same p*: {_said(rows)}; likelihood of p* less that "
        f"of the labels: {_said(soft)}.{left_out}",
        float(rows["mean"].mean()),
    )


def regulariser(seed: int) -> Judgement:
    """Judge whether PG forgets less than NLL where both have the same KL to the base."""
    matched, left_out = _matched(seed)
    compared = [
        forgetting.compared(matched, ("PG+KL", w), ("NLL+KL", w), "old_loss").assign(w=w)
        for w in SETTINGS.digits.weights
    ]
    rows = pd.concat(compared)
    enough = rows[rows.pairs >= MOST * SETTINGS.digits.splits]
    reached = matched[matched.arm.isin(["PG+KL", "NLL+KL"])]
    reached = reached[(reached.by == "new_loss") & (reached.level == 1.0)]
    counts = reached.groupby(["arm", "w"]).old_loss.agg(["count", "size"])
    words = ", ".join(
        f"{arm} {w:g}: {row['count']} of {row['size']}" for (arm, w), row in counts.iterrows()
    )
    weights = ", ".join(f"{w:g}" for w in sorted(enough.w.unique()))
    return Judgement(
        _verdict(enough),
        f"old loss, PG+KL less NLL+KL of the same w = {weights}, where at least {MOST:.0%} of the "
        f"splits bring both there: {_said(enough)}. A loss of 1 nat is reached by {words}: the "
        f"others are not compared.{left_out}",
        float(enough["mean"].mean()),
    )


def claims() -> tuple[Claim, ...]:
    """Return the claims about forgetting."""
    return (
        Claim(
            "forgetting.gaussian",
            "PG forgets less than likelihood; corrected: by KL(p ‖ p₀) at equal KL(p ‖ q) only, by "
            "KL(p₀ ‖ p) at equal likelihood NLL forgets least",
            "paper (motivation); correction new",
            Verdict.corrected,
            gaussian,
        ),
        Claim(
            "forgetting.old_mode",
            "a reward of new data drops an old mode at the derived rate, faster than likelihood",
            "new",
            Verdict.reproduced,
            modes,
        ),
        *(
            Claim(
                f"forgetting.{measure}",
                f"digits: PG with a learned reward forgets less than NLL, by {words}"
                + ("; corrected: more" if STANDS_FOR[measure] is Verdict.corrected else ""),
                "paper (motivation); correction new",
                STANDS_FOR[measure],
                partial(digits, measure),
            )
            for measure, words in WORDS.items()
        ),
        Claim(
            "forgetting.direction",
            "digits: PG forgets more by its direction of KL, not by the learned reward it aims at",
            "new",
            Verdict.reproduced,
            direction,
        ),
        Claim(
            "forgetting.regulariser",
            "digits: with the same KL to the base PG forgets less than NLL; corrected: more",
            "new",
            Verdict.corrected,
            regulariser,
        ),
    )
