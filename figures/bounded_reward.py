"""A bounded reward: which trainings stay at its local maximum, and which run away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from paper_checks.experiments.bounded_reward import LEFT, SHOWN, STAYED, UNDECIDED

from . import style

LOOKS = {1: "blue", 2: "orange", 3: "green"}
ON_PATHS, IN_REACH = ("wine", "sky"), ("brown", "indigo", "peach")
MARKS: dict[str, dict[str, Any]] = {
    STAYED: {"marker": "o", "color": "#0072B2"},
    LEFT: {"marker": "^", "color": "#E69F00", **style.HOLLOW},
    UNDECIDED: {"marker": "x", "color": "black"},
}
NONE: dict[str, Any] = {"linestyle": "none"}


def draw(table: pd.DataFrame) -> Figure:
    """Draw starts by where they end, ends on the derived branches, J, and what ω can reach."""
    figure, axes = plt.subplots(2, 2, figsize=style.size(38))
    lines = table[table.part == "line"]
    _starts(axes[0, 0], table[(table.part == "basin") & (table.n == SHOWN)], lines)
    _branches(axes[0, 1], table, lines)
    _objective(axes[1, 0], table[table.part == "path"], lines)
    _reach(axes[1, 1], table[(table.part == "reach") & (table.n == SHOWN)], lines)
    for end, mark in MARKS.items():
        if end != UNDECIDED or (table.ended == UNDECIDED).any():
            axes[0, 0].plot([], [], **NONE, **mark, label=f"training {end}")
    axes[0, 0].plot([], [], color="black", label="maximum of $J$, derived")
    axes[0, 0].plot([], [], color="black", linestyle="--", label="minimum")
    axes[0, 0].plot([], [], "k*", markersize=6, label="fold $(\\lambda_c, \\bar s)$")
    axes[0, 0].plot([], [], **NONE, marker="s", color="0.4", fillstyle="none", label="by samples")
    shares = table[table.part == "reach"].share.unique()
    for share, name in zip(shares, IN_REACH, strict=True):
        times = "" if share == 1 else f"{share:g}\\,"
        label = f"$\\lambda = {times}\\lambda_\\beta$"
        axes[0, 0].plot([], [], **style.look(name), label=label)
    style.legend_below(figure, axes[0, 0], columns=5)
    return figure


def _branch(axis: Axes, rows: pd.DataFrame, color: Any) -> None:
    """Draw maxima below the fold as a line, minima above it dashed, and the fold."""
    rows = rows.sort_values("s")
    peak = rows[rows.s == rows.root].iloc[0]
    stable, unstable = rows[rows.s <= peak.s], rows[rows.s >= peak.s]
    axis.plot(stable.lam, stable.s, color=color)
    axis.plot(unstable.lam, unstable.s, color=color, linestyle="--")
    axis.plot(peak.lam, peak.s, "k*", markersize=6, zorder=5)


def _starts(axis: Axes, rows: pd.DataFrame, lines: pd.DataFrame) -> None:
    """Mark every start by how its training ended, over the derived branches."""
    for end, mark in MARKS.items():
        own = rows[rows.ended == end]
        axis.plot(own.lam, own.start, **NONE, **mark, markersize=2.5)
    _branch(axis, lines[(lines.of == "branch") & (lines.n == SHOWN)], "black")
    axis.set(yscale="log", xlim=(0, None), ylabel="start $s_0/\\beta^2$")
    axis.set_xlabel("entropy weight $\\lambda$")
    axis.set_title(style.wrap(f"starts, n = {SHOWN}", 0.5))
    style.decades(axis.yaxis, 6)


def _branches(axis: Axes, table: pd.DataFrame, lines: pd.DataFrame) -> None:
    """Draw where trainings stayed on the branches of each n, and the λ of the fold they found."""
    for n, rows in lines[lines.of == "branch"].groupby("n"):
        points = style.points(LOOKS[int(str(n).partition(".")[0])])
        _branch(axis, rows, points["color"])
        stayed = table[(table.n == n) & (table.ended == STAYED)]
        exact, noisy = (stayed[stayed.part == part] for part in ("basin", "sampled"))
        ends = exact.groupby("lam").s.median()
        axis.plot(ends.index, ends, **points)
        axis.plot(noisy.lam, noisy.s, **NONE, marker="s", color="0.4", fillstyle="none")
        fold = table[(table.part == "fold") & (table.n == n)].iloc[0]
        axis.axvspan(fold.low, fold.high, color=points["color"], alpha=0.5, linewidth=0.6, zorder=0)
        axis.annotate(f"n = {n:g}", (fold.root, 0.02), xytext=(-2, 0), ha="right",
                      xycoords=("data", "axes fraction"), textcoords="offset points",
                      color=points["color"], fontsize="small")  # fmt: skip
    axis.set(yscale="log", xlim=(0, None), ylim=(None, 300))
    axis.set(xlabel="entropy weight $\\lambda$", ylabel="variance $s/\\beta^2$")
    axis.set_title(style.wrap("ends, and the fold", 0.5))
    style.decades(axis.yaxis, 6)


def _objective(axis: Axes, paths: pd.DataFrame, lines: pd.DataFrame) -> None:
    """Draw J over the variance, and trainings that climb it to a maximum or for ever."""
    derived = lines[lines.of == "J"]
    right = derived.s.max()
    for place, (share, rows) in enumerate(derived.groupby("share")):
        name = ON_PATHS[place]
        axis.plot(rows.s, rows.J, **style.line(name))
        shown = paths[(paths.share == share) & (paths.s < right)]
        axis.plot(shown.s, shown.J, **style.points(name))
        label = f"$\\lambda = {share:g}\\,\\lambda_c$"
        axis.plot([], [], **style.look(name), label=label)
    first = paths[paths.steps == 0]
    axis.plot(first.s, first.J, **NONE, marker="o", color="black", fillstyle="none", markersize=5)
    axis.set(xscale="log", xlabel="variance $s/\\beta^2$", ylabel=f"$J$, n = {SHOWN}")
    axis.set_title(style.wrap("paths, from circles", 0.5))
    axis.legend(fontsize="small", loc="upper left", borderpad=0.2)
    style.decades(axis.xaxis, 6)


def _reach(axis: Axes, rows: pd.DataFrame, lines: pd.DataFrame) -> None:
    """Draw trained variances by ω; those that left are arrows on top."""
    derived = lines[(lines.of == "reach") & (lines.n == SHOWN)]
    top = 1.15 * float(derived.root.max())
    for place, (share, line) in enumerate(derived.groupby("share")):
        points = style.points(IN_REACH[place])
        axis.plot(line.omega, line.root, **style.line(IN_REACH[place]))
        own = rows[rows.share == share]
        stayed, left = own[own.ended == STAYED], own[own.ended == LEFT]
        axis.plot(stayed.omega, stayed.s, **points)
        height = np.full(len(left), top * (1 + 0.12 * place))
        axis.plot(left.omega, height, **points | {"marker": "^"}, **style.HOLLOW)
    axis.axhline(1, color="0.4", linestyle=":", linewidth=0.8, zorder=0)
    axis.set(xscale="log", yscale="log", xlabel="width $\\omega/\\beta^2$")
    axis.set_ylabel("variance $s/\\beta^2$")
    axis.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axis.set_ylim(None, 1.5 * top)
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_title(style.wrap(f"can s = β² be reached? n = {SHOWN}", 0.5))
    style.decades(axis.xaxis, 6)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return how trainings ended, by part and n, how far they tell, and the fold they found."""
    rows: list[dict[str, object]] = []
    trained = table[table.part.isin(["basin", "sampled", "reach"])]
    for (part, n), own in trained.groupby(["part", "n"], sort=False):
        stayed = own[(own.ended == STAYED) & (own.predicted == STAYED)]
        rows.append(
            {
                "part": part, "n": n, "trainings": len(own),
                **{end: int((own.ended == end).sum()) for end in MARKS},
                "as predicted": (own.ended == own.predicted).mean(),
                "largest distance of s": (stayed.s / stayed.root - 1).abs().max(),
            }
        )  # fmt: skip
    folds = table[table.part == "fold"][["part", "n", "low", "high", "root"]]
    named = folds.rename(columns={"low": "λ_c from", "high": "λ_c to", "root": "λ_c, derived"})
    return pd.concat([pd.DataFrame(rows), named], ignore_index=True)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, and how many trainings end where they are derived to end."""
    rows = summary(table)
    basin, sampled, reach = (rows[rows.part == part] for part in ("basin", "sampled", "reach"))

    def said(part: pd.DataFrame) -> str:
        right = (part["as predicted"] * part.trainings).sum()
        return f"{right:.0f} of {part.trainings.sum():.0f}"

    folds = table[table.part == "fold"]
    brackets = ", ".join(f"[{r.low:.5f}, {r.high:.5f}] (n = {r.n:g})" for r in folds.itertuples())
    weights = ", ".join(f"{root:.5f}" for root in folds.root)
    away = table[(table.part == "basin") & (table.ended == LEFT) & table.peak.notna()]
    higher = int((away.peak < away.J).sum())
    undecided = int(rows[UNDECIDED].sum())
    shares = ", ".join(f"{share:g}" for share in table[table.part == "reach"].share.unique())
    return (
        "Bounded reward exp(-‖ŷ - y‖²/ω). J has a local maximum for small entropy weights only, "
        "and no global one. Top left: trainings by exact gradients, by entropy weight and variance "
        "at the start: filled circles stay, hollow triangles leave, far beyond this picture; "
        "lines: the derived maximum of J (solid) and minimum (dashed), the edge of its basin. "
        f"{said(basin)} end as derived, for every n. Top right: where they stay, and "
        "by the score function on fresh data (hollow squares), on the derived branches; ladders "
        f"of trainings put the fold in {brackets}, derived: {weights}. {said(sampled)} sampled "
        "trainings, from both sides of the dashed lines, end as derived. Bottom left: J along "
        "trainings (markers) on the derived J (lines); where no maximum stops them they climb for "
        f"ever: {higher} of {len(away)} exact trainings that left are above the local maximum "
        f"there was. Bottom right: variance by width of the reward, for λ of {shares} times "
        "λ_β = n^{n/2}/(n+2)^{n/2+1}, the largest with which some ω, 2nβ², teaches the variance of "
        f"the data; {said(reach)} end as derived. Undecided: {undecided}."
    )
