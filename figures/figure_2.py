"""Figure 2: the law of the policy on its way to the data, and where biased training settles."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from paper_checks.experiments import figure_2 as experiment
from paper_checks.experiments.arms import NLL, labels

from . import style

EPOCHS = (0, 5, 10, 25, 40, 50)
OPTIMAL, IDENTITY = labels((experiment.PG_OPTIMAL, experiment.PG_IDENTITY))
LABELS = {OPTIMAL: "PG, $U^\\star$", IDENTITY: "PG, $U = I$"}
SAMPLES = 100  # drawn from each law, as published
LIMITS = (-5.5, 12.5)
ONE_LAM = 0.1  # of the published picture with a single λ
SETTLING = {  # label and look of each baseline
    "minimum": ("minimum (published)", "indigo"),
    "mean": ("group mean", "brown"),
    "leave-one-out": ("leave-one-out", "green"),
}


def draw_as_published(table: pd.DataFrame) -> Figure:
    """Draw one row of scatter plots, for the λ of the published picture."""
    size = style.size(_panel_lines() + 2)
    figure, axes = plt.subplots(1, len(EPOCHS), figsize=size)
    _evolution(list(axes), table, ONE_LAM, size[1])
    _legend(figure, axes[0])
    return figure


def draw_grid(table: pd.DataFrame) -> Figure:
    """Draw a row of scatter plots for every λ."""
    lams = sorted(set(table[table.arm == OPTIMAL].lam))
    size = style.size((_panel_lines(beside=5) + 0.5) * len(lams) + 2)
    figure, axes = plt.subplots(len(lams), len(EPOCHS), figsize=size, squeeze=False)
    for row, lam in zip(axes, lams, strict=True):
        _evolution(list(row), table, lam, size[1] / len(lams), titles=lam == lams[0])
        row[0].set_ylabel(f"$\\lambda = {lam:g}$", rotation=0, ha="right", va="center")
    _legend(figure, axes[0, 0])
    return figure


def draw(table: pd.DataFrame) -> Figure:
    """Draw one row of scatter plots, and below it the standard deviation in the long run."""
    settled = table[table.arm == "settling"]
    groups = sorted(set(settled.generations))
    lines = (_panel_lines() + 2, 15)
    size = style.size(sum(lines))
    figure = plt.figure(figsize=size)
    above, below = figure.add_gridspec(2, 1, height_ratios=lines)
    row = [figure.add_subplot(cell) for cell in above.subgridspec(1, len(EPOCHS))]
    _evolution(row, table, ONE_LAM, size[1] * lines[0] / sum(lines))
    panels = [figure.add_subplot(cell) for cell in below.subgridspec(1, len(groups))]
    top = 1.05 * float(settled[["std_1", "std_2"]].max(axis=None))
    for axis, M in zip(panels, groups, strict=True):
        _settling(axis, settled[settled.generations == M])
        axis.set(title=f"$M = {M:g}$ generations", ylim=(0.9, top))
    panels[0].set_ylabel(style.wrap("std / optimum", 1 / 5))
    # where the lines leave most room
    panels[-1].legend(loc="upper right", borderpad=0, borderaxespad=0, handletextpad=0.4)
    _legend(figure, row[0])
    return figure


def _panel_lines(beside: float = 0) -> float:
    """Return the side of a square panel in font sizes: all epochs share the text width.

    Args:
        beside: width of what stands beside the panels, in font sizes.
    """
    width = mpl.rcParams["figure.figsize"][0] * style.POINTS_PER_INCH / mpl.rcParams["font.size"]
    return (width - beside) / len(EPOCHS)


def _legend(figure: Figure, axis: Axes) -> None:
    """Put the legend below all panels, with markers that can be told apart."""
    style.legend_below(figure, axis, columns=5, names=LABELS)
    for handle in figure.legends[-1].legend_handles:
        assert isinstance(handle, PathCollection)
        handle.set(sizes=[14], alpha=0.9)


def _evolution(
    axes: list[Axes], table: pd.DataFrame, lam: float, height: float, *, titles: bool = True
) -> None:
    """Scatter samples of initial, target and trained laws of the first repetition.

    Args:
        axes: one for each epoch.
        table: of the experiment.
        lam: the λ of the PG arms.
        height: inches that the row has.
        titles: whether to name the epochs.
    """
    first = table[(table.repetition == 0) & (table.lam.isna() | (table.lam == lam))]
    rng = np.random.default_rng(0)
    laws = {arm: rows.set_index("epoch") for arm, rows in first.groupby("arm", sort=False)}
    start = laws[NLL.label].loc[0]
    target = pd.Series(
        {f"mean_{i}": experiment.MEAN for i in (1, 2)}
        | {f"std_{i}": experiment.SIGMA for i in (1, 2)}
    )
    side = min(mpl.rcParams["figure.figsize"][0] / len(EPOCHS), height)
    area = (2 * side) ** 2  # of a marker, in square points: its side is 1/36 of the panel's
    for axis, epoch in zip(axes, EPOCHS, strict=True):
        _scatter(axis, start, rng, "initial", "0.6", "x", area)
        _scatter(axis, target, rng, "target", "black", "*", area)
        for arm in (NLL.label, OPTIMAL, IDENTITY):
            look = style.look(arm)
            _scatter(axis, laws[arm].loc[epoch], rng, arm, look["color"], look["marker"], area)
        axis.set(xlim=LIMITS, ylim=LIMITS, xticks=[], yticks=[], aspect="equal")
        if titles:
            axis.set_title(f"epoch {epoch}")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(True)


def _scatter(
    axis: Axes,
    law: pd.Series,
    rng: np.random.Generator,
    label: str,
    color: str,
    marker: str,
    area: float,
) -> None:
    mean, std = (law[[f"{moment}_1", f"{moment}_2"]].to_numpy(float) for moment in ("mean", "std"))
    points = mean + std * rng.standard_normal((SAMPLES, 2))
    axis.scatter(
        *points.T, s=area, alpha=0.45, linewidths=0.5, color=color, marker=marker, label=label
    )


def _settling(axis: Axes, settled: pd.DataFrame) -> None:
    """Draw the standard deviation by epoch, and where it must settle."""
    for baseline, rows in settled.groupby("baseline", sort=False):
        label, like = SETTLING[str(baseline)]
        line = style.line(like)
        scale = np.sqrt((rows.std_1**2 + rows.std_2**2) / 2)
        axis.plot(rows.epoch, scale, **line, label=label)
        axis.axhline(rows.predicted.iloc[0], color=line["color"], linestyle=":", linewidth=0.8)
    axis.set(xlabel="epoch", xlim=(0, settled.epoch.max()))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the laws at the last drawn epoch, and measured and predicted standard deviations."""
    rows: list[dict[str, object]] = []
    last = table[(table.arm != "settling") & (table.epoch == EPOCHS[-1])]
    for (arm, lam), runs in last.groupby(["arm", "lam"], sort=False, dropna=False):
        scale = np.sqrt((runs.std_1**2 + runs.std_2**2) / 2) / experiment.SIGMA
        error = np.hypot(runs.mean_1 - experiment.MEAN, runs.mean_2 - experiment.MEAN)
        rows.append(
            {
                "arm": arm,
                "λ": lam,
                "epoch": EPOCHS[-1],
                "median mean error": error.median(),
                "median std / σ": scale.median(),
            }
        )
    for baseline, M, measured, predicted in settled_scales(table):
        rows.append(
            {
                "arm": f"settling, {baseline}, M = {M}",
                "λ": 1.0,
                "median std / σ": measured,
                "predicted": predicted,
            }
        )
    return pd.DataFrame(rows)


def settled_scales(table: pd.DataFrame) -> list[tuple[str, int, float, float]]:
    """Return baseline, M, standard deviation over the last 100 epochs, and its prediction."""
    late = table[(table.arm == "settling") & (table.epoch > table.epoch.max() - 100)]
    return [
        (
            str(baseline),
            int(M),
            float(np.sqrt((rows.std_1**2 + rows.std_2**2) / 2).mean()),
            float(rows.predicted.iloc[0]),
        )
        for (baseline, M), rows in late.groupby(["baseline", "generations"], sort=False)
    ]


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, what differs from the publication, and what the numbers are."""
    ends = "; ".join(
        f"{baseline}, M = {M}: {measured:.3f} (predicted {predicted:.3f})"
        for baseline, M, measured, predicted in settled_scales(table)
    )
    return (
        f"Figure 2 of the paper, corrected. Above: {SAMPLES} samples of the policy's law at one "
        f"input, λ = {ONE_LAM:g}, leave-one-out baseline. {_spread(table)} Below: the "
        "standard deviation of a policy without a network, trained with U* from the optimum, "
        "in units of the optimum; dotted: where the theory says it settles. Mean over the last "
        f"100 epochs: {ends}.\n"
        "What moved against the publication: the published minimum shift subtracts a minimum "
        "that contains the sample itself, a biased gradient, so that training leaves the optimum "
        "and settles at a larger variance; the leave-one-out baseline has no such bias. Σ is "
        "estimated from the same few outcomes, as published."
    )


def caption_grid(table: pd.DataFrame) -> str:
    """Say what is drawn."""
    return (
        f"Figure 2 of the paper, corrected, for every λ: {SAMPLES} samples of the policy's law "
        f"at one input, leave-one-out baseline. {_spread(table)}"
    )


def caption_as_published(table: pd.DataFrame) -> str:
    """Say what is drawn."""
    return (
        f"Figure 2 of the paper, as published: {SAMPLES} samples of the policy's law at one "
        f"input, rewards shifted by the minimum of their group; a single row has λ = {ONE_LAM:g}. "
        f"{_spread(table)}"
    )


def _spread(table: pd.DataFrame) -> str:
    """Say how wide the laws of PG(U*) and of PG(I) are at the end."""
    rows = summary(table)
    wide = [
        f"λ = {row['λ']:g}: {row['median std / σ']:.2f} and {_of(rows, IDENTITY, row['λ']):.2f}"
        for _, row in rows[rows.arm == OPTIMAL].iterrows()
    ]
    runs = table[table.arm == OPTIMAL].repetition.nunique()
    over = f"median of {runs} repetitions" if runs > 1 else "one run"
    return (
        f"Standard deviation at epoch {EPOCHS[-1]} in units of the data's, PG(U*) and PG(I), "
        f"{over}: {'; '.join(wide)}. Samples outside the panels are not shown."
    )


def _of(rows: pd.DataFrame, arm: str, lam: float) -> float:
    return float(rows[(rows.arm == arm) & (rows["λ"] == lam)]["median std / σ"].iloc[0])


# The grids show the same experiments as the pictures of one λ.
draw_grid_as_published = draw_grid
caption_grid_as_published = caption_as_published
summary_grid = summary_as_published = summary_grid_as_published = summary
