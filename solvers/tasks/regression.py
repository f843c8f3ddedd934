"""Tables of numbers: predict some columns from the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from sklearn import datasets

from ..data import Dataset
from ..errors import InputError
from . import cells, tables

BuiltIn = Literal["diabetes", "linnerud"]


@dataclass(frozen=True)
class RegressionTask:
    """A regression problem, every column standardised to mean 0 and variance 1.

    Standardising shifts every log-likelihood by one constant, so differences in nats do not
    depend on the units.

    Attributes:
        name: of the table.
        features: names of the input columns.
        targets: names of the outcome columns.
        data: inputs `(N, d)`, outcomes `(N, 1, n)`, float64.
    """

    name: str
    features: tuple[str, ...]
    targets: tuple[str, ...]
    data: Dataset


def load(name: BuiltIn, targets: tuple[str, ...] = ()) -> RegressionTask:
    """Return one of scikit-learn's tables: diabetes (442 x 10, n = 1), linnerud (20 x 3, n = 3).

    Args:
        name: "diabetes" or "linnerud".
        targets: which of its outcomes to predict; none means all.

    Raises:
        InputError: unknown table or outcome.
    """
    if name == "diabetes":
        table = datasets.load_diabetes(as_frame=True, scaled=False)
    elif name == "linnerud":
        table = datasets.load_linnerud(as_frame=True)
    else:
        raise InputError(f"unknown table {name!r}: pass 'diabetes' or 'linnerud', or a CSV file")
    outcomes = pd.DataFrame(table["target"])
    frame = pd.concat([table["data"], outcomes], axis=1)
    chosen = targets or tuple(map(str, outcomes.columns))
    unused = [column for column in outcomes.columns if column not in chosen]
    return from_frame(name, frame.drop(columns=unused), chosen)


def load_csv(
    path: Path | str,
    targets: tuple[str, ...],
    *,
    sep: str = ",",
    encoding: str = "utf-8",
    decimal: str = ".",
    na_values: tables.NaValues = (),
) -> RegressionTask:
    """Return the task of predicting `targets` from all other columns of a CSV file.

    Args:
        path: of the file.
        targets: names of the outcome columns.
        sep: as `tables.read_csv`, and so the rest.
        encoding: of the text.
        decimal: "." or ",".
        na_values: what stands for a missing value.

    Raises:
        InputError: as `tables.read_csv` and `from_frame`.
        NonFiniteError: as `from_frame`.
    """
    frame = tables.read_csv(path, sep=sep, encoding=encoding, decimal=decimal, na_values=na_values)
    return from_frame(Path(path).stem, frame, targets)


def from_frame(name: str, frame: pd.DataFrame, targets: tuple[str, ...]) -> RegressionTask:
    """Return the task of predicting the columns `targets` from all others.

    Raises:
        InputError: missing, duplicate or no targets, no features, non-numeric or constant
            columns, bad cells among numbers (see `cells`), integers that float64 cannot hold, or
            too few rows for a residual covariance of full rank.
        NonFiniteError: missing or infinite values.
    """
    columns = [str(column) for column in frame.columns]
    tables.check_names(f"{name}: column", columns)
    tables.check_names(f"{name}: target", list(targets))
    absent = [target for target in targets if target not in columns]
    features = tuple(column for column in columns if column not in targets)
    if absent or not targets or not features:
        raise InputError(
            f"{name}: targets {list(targets)} must name some, not all, of the columns {columns}"
            + (f"; {absent} are not there" if absent else "")
        )
    if len(frame) == 0:
        raise InputError(f"{name} is empty: pass a table with rows")
    frame = frame.set_axis(columns, axis=1)
    remedy = "encode it as numbers or drop it"
    for column in columns:
        tables.check_exact(name, frame[column])
        cells.check_kinds(name, frame[column])
        cells.check_bad_cells(name, frame[column], f"if it holds categories, {remedy}")
    tables.check_numeric(name, frame, remedy)
    values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    _check_values(name, values, columns, len(targets))
    # Scaled first: the variance of columns as large as 1e200 would overflow.
    values = values / np.abs(values).max(0, initial=1e-300)
    standardised = (values - values.mean(0)) / values.std(0)
    x = standardised[:, [columns.index(feature) for feature in features]]
    y = standardised[:, [columns.index(target) for target in targets]]
    data = Dataset.of(torch.from_numpy(x), torch.from_numpy(y).unsqueeze(-2))
    return RegressionTask(name, features, targets, data)


def _check_values(name: str, values: np.ndarray, columns: list[str], n: int) -> None:
    rows = len(values)
    tables.check_finite_table(name, values, columns, "impute or drop them first")
    constant = np.ptp(values, axis=0) == 0
    if constant.any():
        column = int(np.argmax(constant))
        raise InputError(
            f"{name}: column {columns[column]!r} is {values[0, column]} in all {rows} rows: drop it"
        )
    if rows <= len(columns):
        raise InputError(
            f"{name}: {rows} rows for {len(columns) - n} features and {n} targets leave no "
            f"residual covariance of full rank: pass more than {len(columns)} rows"
        )
