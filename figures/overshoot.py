"""The probabilities that binary classifiers learn from published and exact rewards."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_checks.experiments import overshoot as experiment
from paper_checks.experiments.arms import labels
from paper_checks.experiments.convergence import arrived, not_converged
from paper_checks.experiments.overshoot import HALF, KINDS

from . import style

LABELS = {
    experiment.PG_TWICE_BETA.label: "PG, $U = 2\\beta^\\star I$ (published)",
    experiment.PG_BETA.label: "PG, $U = \\beta^\\star I$ (published)",
    experiment.PG_SCALAR.label: "PG, $U = u^\\star I$ (exact)",
    experiment.PG_DIAGONAL.label: "PG, exact diagonal $U$",
}
EXACT = labels(experiment.EXACT)
EVERY = 6  # grid points between the markers of an arm
SHOWN = (0.6, 0.9)  # π in the caption, or the nearest there is
LISTED = (0.1, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # and in the summary
AGREES = 1e-6  # between what is derived and what the exact gradient finds
ARRIVED = 0.05  # nats between a derived cost and that of sampled runs


def draw(table: pd.DataFrame) -> Figure:
    """Draw the learned probability, and its cost, by the probability of the class."""
    table = arrived(table)
    figure, (left, right) = plt.subplots(1, 2, figsize=style.size(20))
    left.plot([0, 1], [0, 1], color="0.4", linestyle=":", linewidth=0.8, zorder=1)
    for axis, column in ((left, "p"), (right, "kl")):
        for place, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
            _arm(axis, rows, column, str(arm), place)
        axis.set(xlabel="class probability $\\pi$", xlim=(0, 1))
    none: dict[str, Any] = {"color": "0.4", "linestyle": "none", "marker": "o"}
    left.plot([], [], **none, label="trained, exact gradient")
    left.plot([], [], **none, **style.HOLLOW, label="trained, sampled gradient")
    left.set(ylabel="learned probability $p$", ylim=(-0.03, 1.03))
    right.set_ylabel("cost KL$(\\pi\\,\\|\\,p)$ [nats]")
    style.legend_below(figure, left, columns=3, names=LABELS)
    return figure


def _arm(axis: Axes, rows: pd.DataFrame, column: str, arm: str, place: int) -> None:
    """Draw the prediction as a line, exact training as markers, sampled runs and their range.

    Markers of different arms and kinds stand at different places, because they coincide otherwise.
    """
    points, above = style.points(arm), 4 if arm in EXACT else 2
    predicted, exact, sampled = (rows[rows.kind == kind].groupby("pi")[column] for kind in KINDS)
    line = predicted.first()
    axis.plot(line.index, line, **style.line(arm), label=arm, zorder=above)
    filled = exact.first()[place % EVERY :: EVERY]
    axis.plot(filled.index, filled, **points, zorder=above + 1)
    runs = sampled.quantile([0, 0.5, 1]).unstack()[(place + EVERY // 2) % EVERY :: EVERY]
    axis.vlines(
        runs.index, runs[0.0], runs[1.0], color=points["color"], linewidth=0.8, zorder=above
    )
    axis.plot(runs.index, runs[0.5], **points, **style.HOLLOW, zorder=above + 1)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return what is derived and what is learned by every arm at some `π`."""
    rows = _compared(table)
    ends = table[table.kind == "exact"][["arm", "pi", "converged"]]
    rows = rows.merge(ends, how="left", on=["arm", "pi"])
    at = dict.fromkeys(_nearest(rows, pi) for pi in LISTED)
    return rows[rows.pi.isin(at)].sort_values("pi", kind="stable").reset_index(drop=True)


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm and `π`: `p` and cost, derived and learned (sampled: the median)."""
    medians = arrived(table).pivot_table(
        index=["arm", "pi"], columns="kind", values=["p", "kl"], aggfunc="median", sort=False
    )
    names = {"p": "p", "kl": "cost"}
    missing = pd.Series(float("nan"), medians.index)  # where no run converged
    columns = {
        f"{names[c]}, {kind}": medians.get((c, kind), missing) for c in names for kind in KINDS
    }
    return pd.DataFrame(columns).reset_index()


def _nearest(rows: pd.DataFrame, pi: float) -> float:
    return rows.pi.loc[(rows.pi - pi).abs().idxmin()]


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, and what the numbers are."""
    rows, keys = _compared(table), ["arm", "pi"]
    failed, table = not_converged(table, keys, ["arm"]), arrived(table)
    derived = table[table.kind == "predicted"][[*keys, "p", "kl"]]
    trained = table[table.kind != "predicted"].merge(derived, on=keys, suffixes=("", "_derived"))
    trained["apart"] = (trained.p - trained.p_derived).abs()
    exact, sampled = (trained[trained.kind == kind] for kind in ("exact", "sampled"))
    published = rows[~rows.arm.isin(EXACT)]
    off = published[(published.pi != HALF) & published["p, exact"].notna()]
    over = (off["p, exact"] - HALF).abs() > (off.pi - HALF).abs()
    beyond = (
        f"farther from ½ than π in {int(over.sum())} of {len(over)} cases: " if len(over) else ""
    )
    at = "; ".join(
        f"at π = {_nearest(rows, pi):.3g} "
        + ", ".join(
            f"{row.arm} gives {_probability(row['p, predicted'])}"
            for _, row in published[published.pi == _nearest(rows, pi)].iterrows()
        )
        for pi in SHOWN
    )
    costs = ", ".join(
        f"{arm} {cost:.3g}"
        for arm, cost in published.groupby("arm", sort=False)["cost, predicted"].max().items()
    )
    own, others = (sampled[sampled.arm.isin(EXACT) == ours] for ours in (True, False))
    return (
        "Overshoot. What a binary classifier learns where the first class has probability π, by "
        "reward; its logit is free at every input. Lines: derived; filled: trained by the exact "
        "gradient to the end; hollow: trained by a sampled gradient from p = ½, median and range "
        f"of {sampled.repetition.nunique()} runs; dotted: p = π. The published β* = λC/(2 Tr Σ) is "
        f"right for Gaussian policies. Here p is {beyond}{at}; largest cost on the grid, in nats: "
        f"{costs}."
        f"{_at_the_end(exact)}{failed} Sampled training ends within "
        f"{own.apart.max():.2g} in p of it with the exact rewards, at a cost of at most "
        f"{own.kl.max():.1g} nats, and within {others.apart.max():.2g} with the published ones."
        f"{_late(published)} At π = ½ every scalar is optimal: u* there is its limit, λ."
    )


def _at_the_end(exact: pd.DataFrame) -> str:
    """Say what exact rewards cost, and whether exact training ends where it is derived to end."""
    best, text = exact[exact.arm.isin(EXACT)], ""
    if len(best):
        text += (
            f" The exact rewards cost at most {best.kl.abs().max():.1g} nats and leave p within "
            f"{(best.p - best.pi).abs().max():.1g} of π."
        )
    if len(exact):
        lands = exact.apart.max() <= AGREES
        text += (
            " Exact training "
            f"{'ends where the theory says' if lands else 'does NOT end where the theory says'}: "
            f"largest distance {exact.apart.max():.1g} in p, "
            f"{(exact.kl - exact.kl_derived).abs().max():.1g} in nats."
        )
    return text


def _late(published: pd.DataFrame) -> str:
    """Say by how much sampled runs fall short of the derived cost, if they do."""
    short = published["cost, predicted"] - published["cost, sampled"]
    if short.max() <= ARRIVED:
        return ""
    return (
        f" Their costs are up to {short.max():.2g} nats lower than derived, because these runs "
        "have not arrived: where the softmax saturates, slopes shrink as p(1-p)."
    )


def _probability(p: float) -> str:
    """Say a probability, by its distance from 1 where five digits would not tell it from 1."""
    return f"{p:.5f}" if 1 - p >= 5e-6 else f"1 - {1 - p:.1e}"
