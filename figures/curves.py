"""Curves by epoch, in the look of their method."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from paper_checks.experiments.arms import MSE

from . import style


def median_and_quartiles(axis: Axes, spread: pd.DataFrame, arm: str) -> None:
    """Draw the columns 0.25, 0.5 and 0.75 of a table with a row per epoch."""
    epochs, line = spread.index.to_numpy(), style.line(arm)
    above = 4 if arm == MSE.label else 2  # dotted: seen above the line it lies on
    axis.plot(epochs, spread[0.5], **line, label=arm, zorder=above)
    axis.fill_between(
        epochs, spread[0.25], spread[0.75], color=line["color"], alpha=0.15, linewidth=0
    )


def mean_and_interval(axis: Axes, runs: pd.DataFrame, arm: str) -> None:
    """Draw the mean over runs (rows) by epoch (columns), and its 95 % bootstrap interval."""
    epochs, values = runs.columns.to_numpy(), runs.to_numpy(float)
    chosen = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    # Order statistics, because means of diverged runs are infinite and cannot be interpolated.
    interval = np.quantile(values[chosen].mean(1), [0.025, 0.975], axis=0, method="inverted_cdf")
    line = style.line(arm)
    axis.plot(epochs, values.mean(0), **line, label=arm)
    axis.fill_between(epochs, *interval, color=line["color"], alpha=0.2, linewidth=0)
