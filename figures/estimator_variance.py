"""Variances of gradient estimators on their derived lines, and where group baselines settle."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from paper_checks.experiments.estimator_variance import (
    CONSTANT,
    KNOWING,
    LEAVE_ONE_OUT,
    LEVEL,
    MEAN,
    MINIMUM,
    OPTIMAL,
    PARAMETERS,
    PATHWISE,
    VALUE,
    compared,
)

from . import style

LOOKS = {
    (CONSTANT, "averaged"): "brown",
    (CONSTANT, "sampled"): "peach",
    (OPTIMAL, "averaged"): "orange",
    (OPTIMAL, "sampled"): "orange",
    (KNOWING, "sampled"): "wine",
    (VALUE, "averaged"): "sky",
    (LEAVE_ONE_OUT, "averaged"): "green",
    (PATHWISE, "averaged"): "blue",
    (PATHWISE, "sampled"): "blue",
}
GROUPS = {(MINIMUM, "n = 1"): "indigo", (MINIMUM, "n = 2"): "violet", (MEAN, "n = 1"): "black"}
LABELS = {
    (CONSTANT, "averaged"): "constant $b$",
    (CONSTANT, "sampled"): "constant $b$, $y$ sampled",
    (OPTIMAL, "averaged"): "best $b$",
    (KNOWING, "sampled"): "best $b(y)$",
    (VALUE, "averaged"): "$b = E\\,r$",
    (LEAVE_ONE_OUT, "averaged"): LEAVE_ONE_OUT,
    (PATHWISE, "averaged"): PATHWISE,
    (MINIMUM, "n = 1"): "minimum, $n = 1$",
    (MINIMUM, "n = 2"): "minimum, $n = 2$",
    (MEAN, "n = 1"): "mean of the group",
}
UNITS = {"m": "$[u^2s^2]$", "log s": "$[u^2s^4]$"}
TICKS = (2, 5, 10, 20, 50)


def draw(table: pd.DataFrame) -> Figure:
    """Draw variances by baseline, by M and by σ, and where trainings settle by M."""
    figure, axes = plt.subplots(2, 3, figsize=style.size(36))
    for row, parameter in enumerate(PARAMETERS):
        own = table[table.parameter == parameter]
        _baselines(axes[row, 0], own[own.part == "baseline"], parameter)
        _generations(axes[row, 1], own[own.part == "generations"], parameter)
    spread = table[(table.part == "spread") & (table.parameter == "m")]
    _arms(axes[0, 2], spread)
    axes[0, 2].set(yscale="log", xlabel="data's $\\sigma$", ylabel="variance")
    axes[0, 2].set_title(style.wrap("y sampled: m", 1 / 3))
    _groups(axes[1, 2], table[table.part == "group"])
    for key, label in LABELS.items():
        look = style.look((LOOKS | GROUPS)[key])
        axes[0, 0].plot([], [], **look, label=label)
    axes[0, 0].plot([], [], "k*", markersize=6, label="best $b$, derived")
    style.legend_below(figure, axes[0, 0], columns=4)
    return figure


def _arms(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw derived lines, and measured points with their intervals."""
    for (arm, data), own in rows.groupby(["arm", "data"], sort=False):
        _line_and_points(axis, own, LOOKS[str(arm), str(data)])


def _line_and_points(
    axis: Axes, rows: pd.DataFrame, name: str, marks: dict[str, Any] | None = None
) -> None:
    line, points = (rows[rows.kind == kind].sort_values("x") for kind in ("line", "measured"))
    look = style.line(name)
    axis.plot(line.x, line.value, **look)
    axis.vlines(points.x, points.low, points.high, color=look["color"], linewidth=0.8)
    axis.plot(points.x, points.value, **style.points(name), **(marks or {}))


def _baselines(axis: Axes, rows: pd.DataFrame, parameter: str) -> None:
    """Draw the variance by the constant that is subtracted, and the derived best constant."""
    best = rows[rows.arm == OPTIMAL]
    _arms(axis, rows)
    axis.plot(best.x, best.predicted, "k*", markersize=6, zorder=5)
    axis.set(ylim=(0, None), xlabel="baseline $b$", ylabel="variance")
    axis.set_title(style.wrap(f"constant b: {parameter}", 1 / 3))


def _generations(axis: Axes, rows: pd.DataFrame, parameter: str) -> None:
    """Draw M times the variance by M."""
    _arms(axis, rows)
    axis.set(xscale="log", ylim=(0, None), xlabel="generations $M$")
    axis.set_ylabel(f"$M\\times$ variance\n{UNITS[parameter]}")
    axis.set_title(style.wrap(f"group of M: {parameter}", 1 / 3))
    _label_generations(axis, rows)


def _label_generations(axis: Axes, rows: pd.DataFrame) -> None:
    inside = [M for M in TICKS if rows.x.min() <= M <= rows.x.max()]
    axis.set_xticks(inside, [str(M) for M in inside])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_minor_formatter(NullFormatter())


def _groups(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw the deviation at which trainings settle by M; hollow where data points are sampled."""
    for (arm, parameter), own in rows.groupby(["arm", "parameter"], sort=False):
        name = GROUPS[str(arm), str(parameter)]
        _line_and_points(axis, own[own.data == "averaged"], name)
        _line_and_points(axis, own[own.data == "sampled"], name, style.HOLLOW)
    axis.axhline(1, color="0.4", linestyle=":", linewidth=0.8, zorder=0)
    axis.set(xscale="log", xlabel="generations $M$", ylabel="settles at $s/\\sigma$")
    axis.set_title(style.wrap("group as baseline", 1 / 3))
    _label_generations(axis, rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return measured and derived values, with the interval and the distance in its errors."""
    columns = ["part", "arm", "data", "parameter", "x", "value", "low", "high", "predicted", "z"]
    return compared(table)[columns].reset_index(drop=True)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, how well measured variances agree, and what the baselines cost."""
    rows = compared(table)
    estimates, groups = rows[rows.part != "group"], rows[rows.part == "group"]
    pairs = rows[rows.part == "generations"]
    last = pairs[pairs.x == pairs.x.max()].set_index(["arm", "parameter"]).value

    def times(parameter: str) -> str:
        return f"{last[LEAVE_ONE_OUT, parameter] / last[OPTIMAL, parameter]:.2f}"

    low = groups[groups.arm == MINIMUM].value
    return (
        "Variances of gradient estimators, of a scalar policy in (m, log s). Lines: derived; "
        f"markers: of the solvers' estimates, with intervals of {LEVEL:.0%}; "
        f"{int(estimates.inside.sum())} of {len(estimates)} cover the derived variance, and the "
        f"farthest is {estimates.z.abs().max():.1f} standard errors away. Left: a constant "
        "subtracted from every reward; stars: the derived best one, not the same for mean and "
        "scale; the rewards are averaged over the data, or each is against a data point of its "
        "own. Middle: M times the variance of groups of M, at the mean of the data. Leave-one-out "
        f"tends to the baseline E r, and at M = {pairs.x.max():g} has {times('m')} (m) and "
        f"{times('log s')} (log s) "
        "times the variance of the best constant. Top right: by σ of data that are sampled; a "
        "baseline that knows y is spared the σ⁴. Bottom right: where trainings settle whose "
        "rewards are less the group's minimum or mean, a baseline that depends on what it judges: "
        f"with the minimum between {low.min():.2f} and {low.max():.2f} times the data's deviation "
        f"(hollow: data points sampled), {int(groups.inside.sum())} of {len(groups)} as derived."
    )
