"""How the learned reward finds the covariance of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_checks.experiments.convergence import arrived, not_converged

from . import style

ARMS = {
    "implicit, Adam": "blue",
    "implicit, L-BFGS": "vermilion",
    "single loop": "green",
    "plug-in, marginal": "wine",
    "plug-in, residual": "brown",
}
LEARNED = ("implicit, Adam", "implicit, L-BFGS", "single loop")
STEPS = (0, 3, 6, 10, 20)  # whose ellipses are drawn, and the last one's
RECORDS = 80  # drawn of a run: the single loop has hundreds, all noise
SUMMARY = (
    "arm",
    "start",
    "steps",
    "first distance",
    "last distance",
    "first excess NLL",
    "last excess NLL",
    "predicted excess",
    "converged",
)
FLOOR = 1e-8  # nats: what is below is drawn at it
MARKERS = {"o": "●", "s": "■", "^": "▲"}  # of the starts, and what they look like in a text


def draw(table: pd.DataFrame) -> Figure:
    """Draw ellipses from every start, all paths in a section of the cone, and the excess NLL."""
    table = arrived(table)
    starts = sorted(table.start.dropna().unique())
    figure = plt.figure(figsize=style.size(38))
    above, below = figure.add_gridspec(2, 1)
    row = [figure.add_subplot(cell) for cell in above.subgridspec(1, len(starts))]
    reach = 1.05 * np.sqrt(table[table.step == 0][["P_11", "P_22"]].max().max())
    for axis, start, symbol in zip(row, starts, MARKERS.values(), strict=True):
        _ellipses(axis, table, start)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        axis.set_title(f"start {start + 1:g} {symbol}")
        axis.spines[["top", "right"]].set_visible(True)
    left, right = (
        figure.add_subplot(cell) for cell in below.subgridspec(1, 2, width_ratios=(1, 1.6))
    )
    _section(left, table)
    _excess(right, table)
    style.legend_below(figure, right, columns=3)
    return figure


def _matrix(row: Any) -> np.ndarray:
    return np.array([[row.P_11, row.P_12], [row.P_12, row.P_22]])


def _ellipse(axis: Axes, P: np.ndarray, **look: Any) -> None:
    """Draw `yᵀP⁻¹y = 1`."""
    angle = np.linspace(0, 2 * np.pi, 181)
    axis.plot(*np.linalg.cholesky(P) @ np.stack([np.cos(angle), np.sin(angle)]), **look)


def _ellipses(axis: Axes, table: pd.DataFrame, start: float) -> None:
    """Draw the covariance of the implicit algorithm, darker as it goes, and the target."""
    runs = table[(table.arm == "implicit, Adam") & (table.start == start)].set_index("step")
    steps = [step for step in (*STEPS, runs.index.max()) if step in runs.index]
    for shade, step in zip(np.linspace(0.25, 1, len(steps)), steps, strict=True):
        color = style.look(ARMS["implicit, Adam"])["color"]
        _ellipse(axis, _matrix(runs.loc[step]), color=color, alpha=shade, linewidth=1)
    target = table[table.arm == "target"].iloc[0]
    _ellipse(axis, _matrix(target), color="black", linestyle=(0, (3, 3)), linewidth=1.2)


def _shape(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return `(P_11 - P_22)/Tr P` and `2P_12/Tr P`: a section of the cone, the unit disc."""
    trace = rows.P_11 + rows.P_22
    return (rows.P_11 - rows.P_22) / trace, 2 * rows.P_12 / trace


def _section(axis: Axes, table: pd.DataFrame) -> None:
    """Draw all paths, whatever the size of P: matrices that are singular lie on the circle."""
    angle = np.linspace(0, 2 * np.pi, 181)
    axis.plot(np.cos(angle), np.sin(angle), color="0.7", linewidth=0.8)
    for (arm, start), rows in table.groupby(["arm", "start"], sort=False):
        marker = list(MARKERS)[int(start)]
        if arm == "flow":
            axis.plot(*_shape(rows), color="0.3", linestyle=":", linewidth=0.8, zorder=1)
            axis.plot(*_shape(rows[rows.step == 0]), color="0.3", marker=marker, zorder=4)
        else:
            axis.plot(*_shape(rows), **style.line(ARMS[str(arm)]), linewidth=1)
    axis.plot(
        *_shape(table[table.arm == "target"]), color="black", marker="*", markersize=6, zorder=5
    )
    axis.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axis.set_xlabel("$(P_{11} - P_{22})\\,/\\,\\mathrm{Tr}\\,P$")
    axis.set_ylabel("$2P_{12}\\,/\\,\\mathrm{Tr}\\,P$")


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Return at most `RECORDS` rows, evenly spaced on a logarithmic axis of steps."""
    wanted = np.geomspace(1, rows.step.max() + 1, RECORDS)
    chosen = np.searchsorted(rows.step.to_numpy() + 1, wanted)
    return rows.iloc[np.unique(chosen.clip(max=len(rows) - 1))]


def _excess(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the excess NLL by outer step: one line for each start, plug-in at its constant cost."""
    for arm, like in ARMS.items():
        line, chosen = style.line(like), table[table.arm == arm]
        if arm in LEARNED:
            for place, (_, rows) in enumerate(chosen.groupby("start")):
                label = arm if place == 0 else None
                shown = _thinned(rows)
                axis.plot(shown.step + 1, shown.excess.clip(lower=FLOOR), **line, label=label)
        else:
            for excess in chosen.excess:
                axis.axhline(max(FLOOR, float(excess)), **line, label=arm)
    axis.set(xscale="log", yscale="log", xlim=(1, table.step.max() + 1), ylim=(FLOOR / 2, 4))
    axis.set(xlabel="outer step + 1", ylabel=style.wrap("excess NLL [nats]", 1 / 6))
    style.decades(axis.xaxis)
    style.decades(axis.yaxis, 5)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return where every arm begins and ends, from each start."""
    rows: list[dict[str, object]] = []
    for (arm, start), runs in table.groupby(["arm", "start"], sort=False, dropna=False):
        if arm in ARMS:
            first, last = runs.iloc[0], runs.iloc[-1]
            ends = bool(len(arrived(runs)))
            rows.append(
                {
                    "arm": arm,
                    "start": start + 1,
                    "steps": last.step,
                    "first distance": first.distance if arm in LEARNED else np.nan,
                    "last distance": last.distance if ends else np.nan,
                    "first excess NLL": first.excess if arm in LEARNED else np.nan,
                    "last excess NLL": last.excess if ends else np.nan,
                    "predicted excess": last.predicted,
                    "converged": None if pd.isna(last.converged) else bool(last.converged),
                }
            )
    return pd.DataFrame(rows, columns=SUMMARY)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, and what the numbers are."""
    rows = summary(arrived(table)).groupby("arm")
    ends = "; ".join(
        f"{arm}, {_span(runs.steps)} steps: {runs['last excess NLL'].max():.1g} nats, distance "
        f"{runs['last distance'].max():.1g}"
        for arm, runs in rows
        if arm in LEARNED
    )
    failed = not_converged(table, ["arm", "start"], ["arm"])
    shown = ", ".join(map(str, STEPS))
    return (
        "Outer paths. Learning the reward of a policy with a linear mean and one full covariance. "
        f"Above: P = (λ/2)U⁻¹ from each start by the implicit algorithm, outer Adam, at steps "
        f"{shown} and the last, light to dark; dashed: the residual covariance Σ of the data, the "
        "target. Below, left: all paths in a section of the cone of SPD matrices, the disc, on "
        "whose rim matrices are singular; star: Σ; dotted, straight lines: the continuous flow "
        "P(t) = Σ + e^{-t/2}(P₀ - Σ). Below, right: NLL of the policy above maximum likelihood, "
        f"what is below {FLOOR:g} drawn there, at most {RECORDS} points a run. A step "
        "of the implicit algorithm is a whole "
        "inner training, one of the single loop a batch. At the end, worst of "
        f"{table.start.nunique()} starts: {ends} (distance: norm of log Σ^{{-½}}PΣ^{{-½}})."
        f"{_plugged_in(arrived(table))}{failed}"
    )


def _plugged_in(table: pd.DataFrame) -> str:
    """Say what the plug-in algorithm costs, with each estimate."""
    costs: list[str] = []
    for row in table[table.arm == "plug-in, marginal"].itertuples():
        costs.append(
            f"with the marginal covariance it costs {row.excess:.4f} nats (predicted "
            f"{row.predicted:.4f})"
        )
    for row in table[table.arm == "plug-in, residual"].itertuples():
        costs.append(f"with the residual one it costs {abs(row.excess):.1g}")
    return f" Plug-in takes no outer steps: {', '.join(costs)}." if costs else ""


def _span(values: pd.Series) -> str:
    """Say between what values lie, once if they are all the same."""
    ends = sorted({values.min(), values.max()})
    return " to ".join(f"{end:.0f}" for end in ends)
