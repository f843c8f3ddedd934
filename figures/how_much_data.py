"""What learned rewards lose by the number of rows: which structure, and from which rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from paper_checks.experiments.how_much_data import LEVEL, OUTERS

from . import style

LABELS = {
    "isotropic": "scalar $U$",
    "diagonal": "diagonal $U$",
    "full": "full $U$",
    "same rows": "rows of the mean's fit",
    "rescaled": "the same, rescaled",
    "half held out": "half held out",
    "cross-fitted": "held out in turn",
}
LOOKS = {
    "isotropic": "green",
    "diagonal": "orange",
    "full": "blue",
    "same rows": "vermilion",
    "rescaled": "wine",
    "half held out": "sky",
    "cross-fitted": "black",
}
TICKS = (10, 20, 50, 100, 200)
TITLES = {"structure": "Which structure?", "mean": "From which rows?"}


def draw(table: pd.DataFrame) -> Figure:
    """Draw predicted loss as lines, measured with its interval, and where structures cross over."""
    figure, axes = plt.subplots(1, 2, figsize=style.size(20))
    for axis, part in zip(axes, TITLES, strict=True):
        _panel(axis, table[table.part == part])
        axis.set_title(TITLES[part], fontsize="medium")
    axes[0].set_ylabel(style.wrap("lost on new rows [nats\xa0/\xa0row]", 0.4))
    _cross(axes[0], table[table.kind == "crossing"])
    for arm in OUTERS:  # in the one legend; of the last nothing is derived, it has no line
        look = style.points if arm == OUTERS[-1] else style.look
        axes[0].plot([], [], **look(LOOKS[arm]), label=arm)
    style.legend_below(figure, axes[0], columns=4, names=LABELS)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    for arm, of_arm in rows[rows.kind != "crossing"].groupby("arm", sort=False):
        look = LOOKS[str(arm)]
        line = style.line(look)
        predicted, measured = (of_arm[of_arm.kind == kind] for kind in ("predicted", "measured"))
        label = str(arm) if arm not in OUTERS else None
        axis.plot(predicted.rows, predicted.lost, **line)
        axis.vlines(measured.rows, measured.low, measured.high, color=line["color"])
        axis.plot(measured.rows, measured.lost, **style.points(look))
        if label is not None:
            axis.plot([], [], **style.look(look), label=label)
    axis.set(xscale="log", yscale="log", xlabel="rows $N$")
    inside = [N for N in TICKS if rows.rows.min() <= N <= rows.rows.max()]
    axis.set_xticks(inside, [str(N) for N in inside])
    axis.yaxis.set_major_locator(LogLocator(base=10))
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_minor_formatter(NullFormatter())


def _cross(axis: Axes, crossings: pd.DataFrame) -> None:
    """Mark where two structures lose the same, and the N from which the larger one is better."""
    for row in crossings.itertuples():
        at, lost = float(np.asarray(row.rows)), float(np.asarray(row.lost))
        axis.plot(at, lost, marker="o", color="black", fillstyle="none", markersize=8, zorder=5)
        axis.axvline(at, color="0.6", linestyle=":", linewidth=0.8, zorder=0)
        axis.annotate(
            f"{at:.0f}",
            (at, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 2),
            textcoords="offset points",
            fontsize="small",
            color="0.3",
        )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return predicted and measured loss by part, N and arm, and the crossings."""
    keys = ["part", "rows", "arm"]
    sides = table[table.kind != "crossing"].pivot_table(
        index=keys, columns="kind", values="lost", sort=False, dropna=False
    )
    interval = table[table.kind == "measured"].set_index(keys)[["low", "high"]]
    found = sides.join(interval).reset_index().dropna(subset="measured")
    crossings = table[table.kind == "crossing"]
    pairs = "crossing " + crossings.arm + ", " + crossings.larger
    columns = {"part": crossings.part, "rows": crossings.rows, "arm": pairs}
    return pd.concat(
        [found, pd.DataFrame(columns | {"predicted": crossings.lost})], ignore_index=True
    )


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return measured rows with their prediction, and whether it lies in the interval."""
    keys = ["part", "arm", "rows"]
    predicted = table[table.kind == "predicted"][[*keys, "lost"]].dropna()
    both = table[table.kind == "measured"].merge(predicted, on=keys, suffixes=("", "_predicted"))
    inside = (both.low <= both.lost_predicted) & (both.lost_predicted <= both.high)
    return both.assign(inside=inside)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, where structures cross over, and which rows to learn from."""
    both, crossings = compared(table), table[table.kind == "crossing"]
    said = "; ".join(
        f"{'scalar' if row.arm == 'isotropic' else row.arm} to {row.larger} at N = {row.rows:.1f} "
        f"(to order 1/N: {row.leading:.1f})"
        for row in crossings.itertuples()
    )
    over = f" Structures cross over, by the derivation, from {said}." if said else ""
    return (
        "How much data? Nats that learned rewards lose on new rows against the best reward; lines "
        "as derived from finite samples of Gaussian data, markers measured over repetitions, with "
        f"intervals of {LEVEL:.0%}; {int(both.inside.sum())} of {len(both)} cover the derived "
        "value. Left: the mean is known, the reward is scalar, diagonal or full; a smaller "
        "structure fits worse and is learned sooner."
        f"{over} Right: a linear mean is fitted too.{_outer_levels(table)}"
    )


def _outer_levels(table: pd.DataFrame) -> str:
    """Say how the outer levels compare, by the measured losses."""
    rows = table[(table.part == "mean") & (table.kind == "measured")]
    lost = rows.pivot(index="rows", columns="arm", values="lost")
    plain = lost["same rows"]
    halves = lost.index[lost["half held out"] < plain]
    until = f"up to N = {max(halves):.0f} of those drawn" if len(halves) else "nowhere"
    gains = {arm: plain - lost[arm] for arm in ("rescaled", "cross-fitted")}
    text = ", ".join(
        f"{LABELS[arm]}: {gain.iloc[0]:.2g} at N = {gain.index[0]:.0f}, "
        f"{gain.iloc[-1]:.2g} at N = {gain.index[-1]:.0f}"
        for arm, gain in gains.items()
    )
    return (
        " Maximum likelihood, whose reward sees the rows of the mean's fit, is overconfident; "
        f"half of the rows held out of that fit pay {until}, as the mean then has only the other "
        f"half. Nats gained with the mean of all rows: {text}."
    )
