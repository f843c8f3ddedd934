"""Who is faster, policy gradient or NLL: paths beside their flows, and winners by start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_checks.experiments.who_is_faster import OBJECTIVES, compared

from . import style

LOOKS = {"PG": "blue", "NLL": "vermilion"}
NAMES = {"PG": "PG, $U = U^\\star$", "NLL": "NLL"}
PANELS = {
    (0, 1): ("small steps", "mean", "small steps: mean"),
    (0, 2): ("small steps", "likelihood", "small steps: NLL"),
    (1, 1): ("large steps", "mean", "large steps: mean"),
    (1, 2): ("Adam", "mean", "Adam: mean"),
}
BOUNDARIES: dict[str, dict[str, Any]] = {
    "flow": {"color": "black", "linewidth": 1.2},
    "limit": {"color": "0.35", "linewidth": 1, "linestyle": "--"},
}
SHOWN = ((0.2, 0.01), (2.0, 2.5))  # starts in the panel of errors by time, where there
FLOOR = 3e-4  # mean errors below are not drawn


def draw(table: pd.DataFrame) -> Figure:
    """Draw paths and errors over the flows, and who is first from every start."""
    figure, axes = plt.subplots(2, 3, figsize=style.size(34))
    _plane(axes[0, 0], table)
    _errors(axes[1, 0], table)
    rows = compared(table)
    for place, (training, measure, title) in PANELS.items():
        _winners(axes[place], rows[(rows.training == training) & (rows.measure == measure)])
        _boundary(axes[place], table, measure)
        axes[place].set_title(style.wrap(title, 1 / 3))
    for name in OBJECTIVES:
        axes[0, 0].plot([], [], **style.look(LOOKS[name]), label=NAMES[name])
    axes[0, 0].plot([], [], **BOUNDARIES["flow"], label="boundary, as the flows predict")
    axes[0, 0].plot([], [], **BOUNDARIES["limit"], label="$v_0 = \\sigma^2 e^{-\\delta_0^2}$")
    style.legend_below(figure, axes[0, 0], columns=4)
    return figure


def _runs(table: pd.DataFrame, kind: str) -> list[tuple[str, pd.DataFrame]]:
    """Return the name of the look and the rows of each path, by objective and start."""
    rows = table[table.kind == kind]
    return [
        (LOOKS[str(name)], path)
        for (name, _, _), path in rows.groupby(["objective", "delta_0", "v_0"])
    ]


def _plane(axis: Axes, table: pd.DataFrame) -> None:
    """Draw where trainings are in (|δ|, v), over the derived flows."""
    for look, path in _runs(table, "flow"):
        axis.plot(path.delta, path.v, **style.line(look), zorder=1)
    for look, path in _runs(table, "path"):
        seen = path[path.delta > FLOOR]
        axis.plot(seen.delta, seen.v, **style.points(look), markersize=2.2)
    starts = table[table.kind == "flow"].drop_duplicates(["delta_0", "v_0"])
    axis.plot(starts.delta_0, starts.v_0, "k*", markersize=5, zorder=5, clip_on=False)
    axis.set(xscale="log", yscale="log", xlim=(3, FLOOR), xlabel="error $|\\delta|$")
    axis.set_ylabel("variance $v$")
    axis.set_title(style.wrap("paths, four starts", 1 / 3))
    style.decades(axis.xaxis, 3)
    style.decades(axis.yaxis)


def _errors(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the mean error by time from two starts, over the derived flows."""
    for kind in ("flow", "path"):
        for look, path in _runs(table, kind):
            if (path.delta_0.iloc[0], path.v_0.iloc[0]) not in SHOWN:
                continue
            if kind == "flow":
                axis.plot(path.time, path.delta, **style.line(look))
            else:
                axis.plot(path.time, path.delta, **style.points(look), markersize=2.2)
    axis.set(yscale="log", ylim=(FLOOR, 3), xlabel="time", ylabel="error $|\\delta|$")
    axis.set_title(style.wrap("error, two starts", 1 / 3))
    style.decades(axis.yaxis)


def _winners(axis: Axes, rows: pd.DataFrame) -> None:
    """Mark every start by who is first; a tie by a cross."""
    for name in OBJECTIVES:
        own = rows[rows["first"] == name]
        axis.plot(own.delta_0, own.v_0, **style.points(LOOKS[name]), markersize=2.8)
    ties = rows[rows["first"] == "tie"]
    axis.plot(ties.delta_0, ties.v_0, "kx", markersize=3)
    axis.set(yscale="log", xlabel="error $\\delta_0$", ylabel="variance $v_0$")
    axis.set_ylim(rows.v_0.min() / 1.5, rows.v_0.max() * 1.5)
    style.decades(axis.yaxis)


def _boundary(axis: Axes, table: pd.DataFrame, measure: str) -> None:
    lines = table[table.kind == "boundary"]
    for kind, name in (("flow", measure), ("limit", "limit")):
        line = lines[lines.measure == name].sort_values("delta_0")
        axis.plot(line.delta_0, line.v_0, **BOUNDARIES[kind], zorder=4)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, by training and measure, who is first how often, and how far the flows tell."""
    rows: list[dict[str, object]] = []
    for (training, measure), cells in compared(table).groupby(["training", "measure"], sort=False):
        ratio = cells.NLL / cells.PG
        rows.append(
            {
                "training": training, "measure": measure, "starts": len(cells),
                "PG first": (cells["first"] == "PG").mean(),
                "NLL first": (cells["first"] == "NLL").mean(),
                "PG first as the flows predict": (cells.predicted == "PG").mean(),
                "as predicted": (cells["first"] == cells.predicted).mean(),
                "median of time NLL / time PG": ratio.median(),
                "PG not in time": int(cells.PG.isna().sum()),
                "NLL not in time": int(cells.NLL.isna().sum()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, where PG is faster, and how well the flows tell."""
    shares = summary(table).set_index(["training", "measure"])

    def said(training: str, measure: str) -> str:
        row = shares.loc[(training, measure)]
        return f"{row['as predicted']:.1%} of {int(row.starts)} starts"

    first = {
        name: f"{float(shares.loc[(name, 'mean'), 'PG first']):.0%}"  # pyright: ignore[reportArgumentType]
        for name in ("small steps", "large steps", "Adam")
    }
    return (
        "Who is faster. A scalar policy is trained by policy gradient with the optimal reward, and "
        "by NLL, both exact, from a mean error δ₀ and a variance v₀; λ = 1. Left: trainings by "
        "small steps of gradient descent (markers) on the derived flows (lines). The mean of PG "
        "decays at its own rate; that of NLL leaps ahead where the variance is too small, and "
        "waits where it is, or becomes, too large. Others: who is first from each start, until the "
        "mean error, or the likelihood, is matched for good (circles: PG, squares: NLL, crosses: a "
        "tie). Dashed: "
        "v₀ = σ² e^{-δ₀²}, the closed form for small errors: PG has the mean sooner above, NLL "
        "below; solid: the flows at the levels asked for. PG has the mean first from "
        f"{first['small steps']} of the starts. The flows tell who is first for "
        f"{said('small steps', 'mean')} (mean) and {said('small steps', 'likelihood')} "
        f"(likelihood). With large steps, where NLL overshoots from a collapsed variance, PG is "
        f"first from {first['large steps']}, and the flows are right for "
        f"{said('large steps', 'mean')}. With Adam, which divides by the size of past slopes, "
        f"they do not carry over: {said('Adam', 'mean')}; {_turned(table)}."
    )


def _turned(table: pd.DataFrame) -> str:
    """Say who is first with Adam on either side of the boundary of the flows."""
    rows = compared(table)
    rows = rows[(rows.training == "Adam") & (rows.measure == "mean")]
    above, below = (rows[rows.predicted == name]["first"] for name in ("PG", "NLL"))
    return (
        f"NLL is first from {np.mean(above == 'NLL'):.0%} of the starts above the boundary, PG "
        f"from {np.mean(below == 'PG'):.0%} of those below"
    )
