"""A policy with full covariance, under the right and the wrong reward."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from paper_checks.experiments import full_covariance as experiment
from paper_checks.experiments.arms import NLL, labels
from paper_checks.experiments.summaries import quartiles

from . import curves, style

LABELS = {
    experiment.PG_FIXED.label: "PG, $U = M$",
    experiment.PG_FIXED_SCALED.label: "PG, $U = (\\lambda n / \\mathrm{Tr}\\,\\Sigma)\\,M$",
    experiment.PG_OPTIMAL_LOO.label: "PG, $U^\\star$, leave-one-out",
    experiment.PG_OPTIMAL_ANALYTIC.label: "PG, $U^\\star$, analytic",
    experiment.PG_RAY.label: "PG, best multiple of $M$",
    experiment.PG_ISOTROPIC.label: "PG, best multiple of $I$",
}
PANELS = {
    "excess_nll": "Excess NLL [nats]",
    "mean_error": "Mean error $\\|m-\\mu\\|$",
    "covariance_error": "Covariance error $\\|P-\\hat\\Sigma\\|_F$",
}
PUBLISHED_PANELS = {
    "cholesky_error": "$\\|S - \\mathrm{chol}\\,\\Sigma\\|_F$",
    "mean_error": "$\\|m - \\mu\\|_2$",
    "nll": "NLL [nats]",
}
ENDS_ELSEWHERE = labels((experiment.PG_RAY, experiment.PG_ISOTROPIC))
MEASURABLE = 1e-4  # nats: predicted ends below this are drawn at it


def draw(table: pd.DataFrame) -> Figure:
    """Draw medians and quartiles by epoch with the predicted ends, and end against prediction."""
    figure, axes = plt.subplots(1, 4, figsize=style.size(17))
    for axis, (metric, title) in zip(axes, PANELS.items(), strict=False):
        for arm, spread in quartiles(table, metric):
            curves.median_and_quartiles(axis, spread, arm)
        axis.set_title(style.wrap(title, 1 / 4))
        axis.set(xlabel="epoch", xlim=(0, table.epoch.max()), yscale="log")
    for arm in ENDS_ELSEWHERE:
        end = table[table.arm == arm].predicted.median()
        axes[0].axhline(end, color="black", linestyle=":", linewidth=0.8, zorder=3)
    axes[0].set_ylim(1e-4, 20)
    axes[1].set_ylim(3e-2, 3)
    axes[2].set_ylim(1e-3, 3)
    _ends(axes[3], table)
    style.legend_below(figure, axes[0], columns=3, names=LABELS)
    return figure


def _ends(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the final excess NLL of every experiment against the predicted one."""
    last = final(table)
    for arm in ENDS_ELSEWHERE:
        rows, look = last[last.arm == arm], style.look(arm)
        axis.scatter(
            rows.predicted.clip(lower=MEASURABLE),
            rows.excess_nll.clip(lower=MEASURABLE),
            s=8,
            alpha=0.6,
            linewidths=0,
            color=look["color"],
            marker=look["marker"],
        )
    shown = last[last.arm.isin(ENDS_ELSEWHERE)][["excess_nll", "predicted"]]
    low, high = (
        max(MEASURABLE, float(end)) for end in (shown.min(axis=None), shown.max(axis=None))
    )
    line = (10 ** np.floor(np.log10(low)), 10 ** (np.floor(np.log10(high)) + 1))  # whole decades
    axis.plot(line, line, color="0.4", linestyle=":", linewidth=0.8, zorder=1)
    axis.set(xscale="log", yscale="log", xlim=line, ylim=line, box_aspect=1)
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_minor_formatter(NullFormatter())  # within one decade they would overlap
    axis.set(title=style.wrap("Final excess NLL [nats]", 1 / 4), xlabel="predicted")


def final(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last epoch."""
    return table[table.epoch == table.epoch.max()]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return final medians of every arm, the predicted end and how far experiments are from it."""
    rows: list[dict[str, object]] = []
    for arm, runs in final(table).groupby("arm", sort=False):
        gap = (runs.excess_nll - runs.predicted).abs()
        rows.append(
            {
                "arm": arm,
                **{f"median {metric}": runs[metric].median() for metric in PANELS},
                "median predicted excess": runs.predicted.median(),
                "median gap": gap.median(),
                "gap above 0.01 nats": f"{(gap > 0.01).sum()} of {len(runs)}",
            }
        )
    return pd.DataFrame(rows)


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, what differs from the publication, and what the numbers are."""
    rows = summary(table).set_index("arm")
    ends = "; ".join(
        f"{arm} {row['median excess_nll']:.2g} (predicted {row['median predicted excess']:.2g}; "
        f"more than 0.01 nats off: {row['gap above 0.01 nats']})"
        for arm, row in rows.iterrows()
    )
    return (
        "Full covariance, corrected. Median and quartiles over "
        f"{table.experiment.nunique()} experiments, training data; dotted: the excess NLL at "
        "which the theory says the multiples of M and of I end (the loss of their ray). Excess "
        f"NLL at epoch {table.epoch.max()}, median: {ends}.\n"
        "What moved against the publication: U* = (λ/2)Σ̂⁻¹, the optimum for a full covariance, "
        "takes the place of a multiple of one fixed matrix M that has nothing to do with the "
        "data; all arms of an experiment share its initial policy; gradients are unbiased; "
        "training is longer, at a larger step (where Σ̂ is nearly singular Adam is still on its "
        "way); ‖P - Σ̂‖_F is plotted, not the distance of Cholesky factors. Σ̂ is the covariance "
        "of the training data, which is all that NLL gets."
    )


def draw_as_published(table: pd.DataFrame) -> Figure:
    """Draw means and their intervals by epoch, as published, beside values read off the picture."""
    figure, axes = plt.subplots(1, 3, figsize=style.size(15))
    published = pd.read_csv(experiment.PUBLISHED, comment="#")
    for axis, (metric, title) in zip(axes, PUBLISHED_PANELS.items(), strict=True):
        for arm, rows in table.groupby("arm", sort=False):
            runs = rows.pivot(index="experiment", columns="epoch", values=metric)
            curves.mean_and_interval(axis, runs, str(arm))
            read = published[(published.metric == metric) & (published.arm == arm)]
            axis.plot(read.epoch, read.value, **style.points(str(arm)))
        axis.set_title(style.wrap(title, 1 / 3))
        axis.set(xlabel="epoch", xlim=(-2, table.epoch.max() + 2))
    axes[2].set_ylim(0.5, 10)
    style.legend_below(figure, axes[0], columns=3, names=LABELS)
    return figure


def summary_as_published(table: pd.DataFrame) -> pd.DataFrame:
    """Return our means and their standard errors beside the values read off the picture."""
    published = pd.read_csv(experiment.PUBLISHED, comment="#")
    rows: list[dict[str, object]] = []
    for row in published.itertuples():
        runs = table[(table.arm == row.arm) & (table.epoch == row.epoch)][str(row.metric)]
        rows.append(
            {
                "metric": row.metric,
                "arm": row.arm,
                "epoch": row.epoch,
                "published": row.value,
                "ours": runs.mean(),
                "standard error": runs.sem(),
            }
        )
    return pd.DataFrame(rows)


def caption_as_published(table: pd.DataFrame) -> str:
    """Say what is drawn and how it compares with the published picture."""
    ends = final(table).groupby("arm", sort=False)[list(PUBLISHED_PANELS)].mean()
    compared = summary_as_published(table)
    start = compared[(compared.epoch == 0) & (compared.arm != experiment.PG_FIXED_SCALED.label)]
    later = compared[(compared.epoch == 50) & (compared.metric == "mean_error")]
    faster = ": the published settings learn faster than the published picture shows"
    return (
        "Full covariance, as published, faults included: mean and 95 % bootstrap interval over "
        f"{table.experiment.nunique()} experiments, training data; markers: read off the "
        "published picture. NLL ends lowest in "
        f"{int((ends.idxmin() == NLL.label).sum())} of {len(PUBLISHED_PANELS)} panels. Curves of "
        "NLL and PG(M) start within "
        f"{np.abs(start.ours / start.published - 1).max():.0%} of the published ones; by epoch 50 "
        "our mean errors are "
        + ", ".join(
            f"{row.ours:.2f} ({row.arm}; published {row.published:.2f})"
            for row in later.itertuples()
        )
        + (faster if (later.ours < later.published).all() else "")
        + ". PG(U*) starts from one policy for all experiments, as published, but not from the "
        "same one."
    )
