"""Figure 1: matching the moments of a linear Gaussian law, by NLL and by policy gradient."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_checks.experiments import figure_1 as experiment
from paper_checks.experiments.arms import NLL
from paper_checks.experiments.summaries import quartiles

from . import curves, style

PANELS = {
    "excess_nll": "Excess NLL [nats\xa0/\xa0dim.]",
    "mean_error": "Mean error (RMS)",
    "covariance_error": "Covariance error",
}
LABELS = {
    experiment.PG_IDENTITY.label: "PG, $U = I$",
    experiment.PG_OPTIMAL.label: "PG, $U^\\star$, no baseline (published)",
    experiment.PG_OPTIMAL_LOO.label: "PG, $U^\\star$, leave-one-out",
    experiment.PG_OPTIMAL_ANALYTIC.label: "PG, $U^\\star$, analytic",
}
EPOCHS = (10, 25, 50, 100)


def draw(table: pd.DataFrame) -> Figure:
    """Draw the corrected comparison: medians and quartiles by epoch, failures by noise level."""
    figure, axes = plt.subplots(1, 4, figsize=style.size(15))
    for axis, (metric, title) in zip(axes, PANELS.items(), strict=False):
        for arm, spread in quartiles(table, metric):
            curves.median_and_quartiles(axis, spread, arm)
        axis.set(title=style.wrap(title, 1 / 4), xlabel="epoch", xlim=(0, 100), yscale="log")
    axes[0].set_ylim(3e-3, 1e5)
    axes[0].set_yticks([1e-2, 1, 1e2, 1e4])
    axes[1].set_ylim(6e-2, 1e1)
    axes[2].set_ylim(2e-2, 1e2)
    _draw_failures(axes[3], table)
    style.legend_below(figure, axes[1], columns=3, names=LABELS)
    return figure


def _draw_failures(axis: Axes, table: pd.DataFrame) -> None:
    failures = failure_fractions(table)
    positions = np.arange(len(failures))  # the levels are a list, not a scale
    for arm in failures.columns:
        axis.plot(positions, failures[arm], label=arm, clip_on=False, **style.look(arm))
    axis.set_xticks(positions, [f"{level:g}" for level in failures.index], rotation=60)
    axis.set(
        title=style.wrap("Failure fraction", 1 / 4), xlabel="noise level $\\sigma$", ylim=(0, 1)
    )


def failure_fractions(table: pd.DataFrame) -> pd.DataFrame:
    """Return the fraction of failed runs at the last epoch: a row per σ, a column per arm."""
    last = experiment.final(table)
    order = list(dict.fromkeys(last.arm))
    return last.pivot_table(index="sigma", columns="arm", values="failed")[order]


def caption(table: pd.DataFrame) -> str:
    """Say what is drawn, what differs from the publication, and what the numbers are."""
    ends = experiment.final(table).groupby("arm", sort=False).failed.agg(["mean", "size"])
    arms = ", ".join(
        f"{arm} {end['mean']:.1%} of {end['size']:.0f}" for arm, end in ends.iterrows()
    )
    experiments = table.experiment.nunique()
    leads = [
        f"{metric.replace('_', ' ')} at epoch {epoch}: σ = {', '.join(levels)}"
        for metric in ("mean_error", "covariance_error")
        for epoch in EPOCHS[:3]
        if (levels := where_nll_leads(table, experiment.PG_OPTIMAL_ANALYTIC.label, metric, epoch))
    ]
    return (
        f"Figure 1 of the paper, corrected. Median and quartiles over {experiments} experiments "
        f"({table.sigma.nunique()} noise levels) and, for PG, {table.lam.nunique()} values of λ; "
        f"validation data. Failure: excess NLL above {experiment.FAILURE:g} nat per dimension at "
        f"the last epoch: {arms}. PG learns the covariance first and the mean at its own pace, so "
        "at small σ its likelihood is poor until the mean arrives. Noise levels at which NLL's "
        f"median is below that of analytic PG: {'; '.join(leads) or 'none'}.\n"
        "What moved against the publication: all arms of an experiment share its data and its "
        "initial policy (published: own data per arm, one initial policy for all); noise levels "
        "are a grid; PG with leave-one-out baseline and with the analytic gradient stand beside "
        "the published estimator without baseline, whose many failures at small σ come from its "
        "variance (U* grows as 1/σ²), not from the reward; medians, quartiles and failure "
        "fractions replace means, which a few diverged runs dominate. As published, U* is given "
        "the true Σ, and NLL is not."
    )


def by_level(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split a table by noise level."""
    return [(f"{level:g}", rows) for level, rows in table.groupby("sigma")]


def where_nll_leads(table: pd.DataFrame, arm: str, metric: str, epoch: int) -> list[str]:
    """Return the noise levels at which NLL's median of a metric is below that of `arm`.

    An arm of which every run at a level has diverged has no median there, and does not lead.
    """
    leads: list[str] = []
    for level, rows in by_level(table):
        medians = {name: float(spread.loc[epoch, 0.5]) for name, spread in quartiles(rows, metric)}
        if medians.get(NLL.label, np.inf) < medians.get(arm, np.inf):
            leads.append(level)
    return leads


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return medians by noise level and overall at chosen epochs, and failure fractions."""
    failures = failure_fractions(table)
    rows: list[dict[str, object]] = []
    for level, part in [*by_level(table), ("all", table)]:
        for metric in ("mean_error", "covariance_error", "excess_nll"):
            for arm, spread in quartiles(part, metric):
                medians = {
                    f"epoch {e}": float(spread.loc[e, 0.5]) for e in EPOCHS if e in spread.index
                }
                rows.append({"σ": level, "median of": metric, "arm": arm, **medians})
    for arm in failures.columns:
        for level, fraction in failures[arm].items():
            rows.append(
                {
                    "σ": f"{level:g}",
                    "median of": "failure fraction",
                    "arm": arm,
                    f"epoch {table.epoch.max()}": float(fraction),
                }
            )
    return pd.DataFrame(rows)


def draw_as_published(table: pd.DataFrame) -> Figure:
    """Draw one repetition as published, and medians of all beside the published code's."""
    figure, axes = plt.subplots(2, 3, figsize=style.size(30), sharex=True)
    one = table[table.repetition == _shown_repetition(table)]
    limits = {"nll": (0, 27), "mean_error": (0, 6.5), "covariance_error": (0, 10)}
    titles = {"nll": "NLL [nats\xa0/\xa0dim.]", **PANELS}
    for axis, (metric, limit) in zip(axes[0], limits.items(), strict=True):
        for arm, rows in one.groupby("arm", sort=False):
            if rows[metric].notna().any():
                whole = rows.fillna({"lam": 0.0, metric: np.inf})  # no λ for NLL; diverged runs
                runs = whole.pivot(index=["experiment", "lam"], columns="epoch", values=metric)
                curves.mean_and_interval(axis, runs, str(arm))
        axis.set(title=style.wrap(titles[metric], 1 / 3), ylim=limit)
    published = experiment.agreement(table)
    for axis, (metric, title) in zip(axes[1], PANELS.items(), strict=True):
        for arm, spread in quartiles(table, metric):
            curves.median_and_quartiles(axis, spread, arm)
            _published_quartiles(axis, published, metric, arm)
        axis.set(title=style.wrap(title, 1 / 3), xlabel="epoch", xlim=(0, 102), yscale="log")
    axes[1, 0].set_ylim(1e-3, 1e5)
    axes[1, 1].set_ylim(6e-2, 1e1)
    axes[0, 0].set_ylabel("mean, one run")
    axes[1, 0].set_ylabel("median, all runs")
    style.legend_below(figure, axes[0, 1], columns=4, names=LABELS)
    return figure


def _failures_by_repetition(table: pd.DataFrame) -> pd.Series:
    """Return how many runs of PG(U*) fail in each repetition."""
    last = experiment.final(table)
    return last[last.arm == experiment.PG_OPTIMAL.label].groupby("repetition").failed.sum()


def _shown_repetition(table: pd.DataFrame) -> int:
    """Return the first repetition with the fewest failing runs of PG(U*)."""
    return int(_failures_by_repetition(table).idxmin())


def _published_quartiles(axis: Axes, published: pd.DataFrame, metric: str, arm: str) -> None:
    """Draw the published code's medians and quartiles as markers with bars."""
    rows = published[(published.metric == metric) & (published.arm == arm)]
    look = style.look(arm)
    bars = [rows["median"] - rows.lower_quartile, rows.upper_quartile - rows["median"]]
    axis.errorbar(
        rows.epoch,
        rows["median"],
        yerr=bars,
        linestyle="none",
        color=look["color"],
        marker=look["marker"],
        elinewidth=0.8,
        zorder=5,
    )


def caption_as_published(table: pd.DataFrame) -> str:
    """Say what is drawn and how it compares with the published code."""
    compared = experiment.agreement(table)
    failures = _failures_by_repetition(table)
    rates = experiment.final(table).groupby("arm", sort=False).failed.mean()
    return (
        "Figure 1 of the paper, as published, faults included (arms do not share data, "
        f"one initial policy for all experiments); validation data. Above: "
        f"repetition {failures.idxmin()} of {len(failures)}, mean and 95 % bootstrap interval over "
        "its experiments and values of λ. "
        f"PG(U*) has failing runs in {int((failures > 0).sum())} of the {len(failures)} "
        "repetitions, and one of them moves the mean out of any picture: shown is the repetition "
        f"with the fewest, {failures.min()}. Below: median and quartiles over all repetitions; "
        "markers with bars are those of the published code, "
        f"{int(compared.inside.sum())} of {len(compared)} of our medians at epochs 10, 25, 50 and "
        "100 lie inside its quartiles. Failing runs (excess NLL above "
        f"{experiment.FAILURE:g} nat per dimension at the end): "
        + ", ".join(f"{arm} {rate:.1%}" for arm, rate in rates.items())
        + "."
    )


def summary_as_published(table: pd.DataFrame) -> pd.DataFrame:
    """Return our medians beside the published code's quartiles."""
    return experiment.agreement(table)
