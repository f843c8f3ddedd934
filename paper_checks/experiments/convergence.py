"""Runs that did not converge: left out of numbers, and counted in words.

A table of runs that go on until they converge has a column `converged`. It is missing in rows that
belong to no such run: training of a fixed length, predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from solvers.bilevel import Result


class NoneConverged(RuntimeError):
    """All runs that a number would be computed from did not converge; the message names them."""


def arrived(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of runs that converged, and those of no run to convergence."""
    return table[table.converged.astype("boolean").fillna(True).astype(bool)]


def not_converged(table: pd.DataFrame, runs: Sequence[str], by: Sequence[str]) -> str:
    """Say how many runs did not converge, in a sentence after a space; "" where all did.

    Args:
        table: of all runs; one of several rows converged if it did in all of them.
        runs: columns that tell runs apart.
        by: those of them that name the runs in the sentence, which counts them.
    """
    rows = table.dropna(subset="converged")
    each = rows.astype({"converged": bool}).groupby([*runs], sort=False, dropna=False)
    failed = (~each.converged.all()).rename("failed").reset_index()
    count = int(failed.failed.sum())
    if count == 0:
        return ""
    counts = failed[failed.failed].groupby([*by], sort=False, dropna=False).size()
    names = counts.reset_index()[[*by]].astype(str).agg(" ".join, axis=1)
    said = "; ".join(f"{name} ({n})" for name, n in zip(names, counts, strict=True))
    return f" {count} of {len(failed)} runs did not converge: {said}. They are left out."


def solved(found: Result) -> bool:
    """Whether every inner problem of a bilevel run was solved, and no hypergradient is in doubt."""
    return all(row.inner_converged and not row.doubts for row in found.history)
