"""Summaries of tables with a row per arm, run and epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd


def quartiles(table: pd.DataFrame, metric: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield, per arm that has the metric, its quartiles by epoch over its runs.

    A run whose metric is not a number has diverged and counts as beyond all others.
    """
    for arm, rows in table.groupby("arm", sort=False):
        if rows[metric].notna().any():
            # finite, because quantiles between two infinities would not be numbers
            values = rows[metric].astype(float).fillna(np.inf).clip(upper=1e300)
            yield str(arm), values.groupby(rows.epoch).quantile([0.25, 0.5, 0.75]).unstack()
