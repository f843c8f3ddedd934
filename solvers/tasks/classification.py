"""Tables with a column of classes: predict the class of a row from its other columns."""

from __future__ import annotations

from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.base import BaseEstimator
from torch import Tensor

from ..errors import InputError, ShapeError
from . import tables
from .splits import ClassificationTask, too_few
from .splits import split as split
from .tables import mixed_columns as mixed_columns

BuiltIn = Literal["wine", "iris", "breast_cancer", "digits"]


def load(name: BuiltIn) -> ClassificationTask:
    """Return one of scikit-learn's tables: wine (178 x 13, C = 3), iris (150 x 4, C = 3),
    breast_cancer (569 x 30, C = 2), digits (1797 x 64, C = 10).

    Raises:
        InputError: unknown table.
    """
    loaders = {
        "wine": datasets.load_wine,
        "iris": datasets.load_iris,
        "breast_cancer": datasets.load_breast_cancer,
        "digits": datasets.load_digits,
    }
    if name not in loaders:
        raise InputError(
            f"unknown table {name!r}: pass one of {sorted(loaders)}, or a file to load_table"
        )
    bunch = loaders[name]()
    features = tuple(map(str, bunch["feature_names"]))
    classes = tuple(map(str, bunch["target_names"]))
    return from_arrays(name, bunch["data"], bunch["target"], classes, features=features)


def load_table(
    path: Path | str,
    target: str,
    *,
    pipeline: BaseEstimator | None = None,
    sep: str = ",",
    encoding: str = "utf-8",
    decimal: str = ".",
    na_values: tables.NaValues = (),
    categorical: Sequence[str] = (),
) -> ClassificationTask:
    """Return the task of predicting column `target` of a CSV or Parquet file from all others.

    Args:
        path: ends in `.csv` or `.parquet`.
        target: the column of classes; strings, integers or booleans.
        pipeline: as `from_frame`.
        sep: of CSV files, as `tables.read_csv`, and so the rest.
        encoding: of the text.
        decimal: "." or ",".
        na_values: what stands for a missing value; a word of the target is a class otherwise, NA
            and None too.
        categorical: columns that hold categories even if they look like numbers; of either format.

    Raises:
        InputError: another suffix, options of CSV for a Parquet file; or as `tables.read_csv`,
            `tables.read_parquet` and `from_frame`.
        NonFiniteError: as `from_frame`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise InputError(f"{path} ends in {path.suffix!r}: pass a .csv or a .parquet file")
    if suffix == ".csv":
        frame = tables.read_csv(
            path,
            sep=sep,
            encoding=encoding,
            decimal=decimal,
            na_values=na_values,
            categorical=categorical,
        )
    elif (sep, encoding, decimal) != (",", "utf-8", ".") or na_values:
        raise InputError(
            f"{path}: sep, encoding, decimal and na_values are of CSV files: read it by "
            f"pandas.read_parquet, mend the table and pass it to from_frame"
        )
    else:
        frame = tables.declared(str(path), tables.read_parquet(path), categorical)
    return from_frame(path.stem, frame, target, pipeline=pipeline)


def load_openml(
    name: str,
    target: str | None = None,
    *,
    version: int,
    data_home: Path | None = None,
    pipeline: BaseEstimator | None = None,
) -> ClassificationTask:
    """Return a table of openml.org, from scikit-learn's cache or over the network.

    Args:
        name: of the table, e.g. "adult".
        target: the column of classes; None means the one OpenML names.
        version: of the table; versions differ in content.
        data_home: folder of the cache; None means scikit-learn's, in the home directory.
        pipeline: as `from_frame`.

    Raises:
        InputError: no connection, no such table, no single target; or as `from_frame`.
        NonFiniteError: as `from_frame`.
    """
    folder = None if data_home is None else str(data_home)
    try:
        bunch = datasets.fetch_openml(
            name, version=version, data_home=folder, as_frame=True, parser="auto"
        )
    except (OSError, HTTPException) as error:  # URLError, time-outs and resets are OSErrors
        raise InputError(
            f"cannot download {name!r} version {version} from openml.org: {error!r}; download the "
            f"table once where there is a network, save it as CSV or Parquet and pass the file to "
            f"load_table, or set data_home to a folder where scikit-learn has it cached"
        ) from error
    except ValueError as error:  # OpenMLError is one: no such table; so is a wrong checksum
        raise InputError(
            f"openml.org does not give {name!r} version {version}: {error}; look up name and "
            f"version there, or pass a file to load_table"
        ) from error
    targets = [str(column) for column in bunch["target_names"] or ()]
    if target is None and len(targets) != 1:
        columns = tables.shorten([str(column) for column in bunch["frame"].columns])
        raise InputError(
            f"{name}: OpenML names {len(targets)} targets {targets}: pass target=, one of {columns}"
        )
    return from_frame(name, bunch["frame"], target or targets[0], pipeline=pipeline)


def from_frame(
    name: str, frame: pd.DataFrame, target: str, *, pipeline: BaseEstimator | None = None
) -> ClassificationTask:
    """Return the task of predicting column `target` from all others.

    Classes are numbered in sorted order: by value for numbers, by spelling for strings. Columns of
    text hold categories, unless they look like numbers: `cells` has the rule. Columns of the pandas
    type `category` always do.

    Args:
        name: of the table, for messages.
        frame: one row per example.
        target: the column of classes; strings, integers or booleans.
        pipeline: scikit-learn transformer of the other columns, e.g. `mixed_columns()`. It may
            meet missing values, and must return finite numbers. None standardises the columns:
            they must be numeric then, and complete.

    Raises:
        InputError: repeated names, a missing target, no features, no rows, columns that the
            pipeline cannot take, bad cells among numbers, fewer than two classes, or a class with
            fewer than three rows.
        NonFiniteError: infinite values, missing classes, or missing values without a pipeline.
    """
    columns = [str(column) for column in frame.columns]
    tables.check_names(f"{name}: column", columns)
    if target not in columns:
        raise InputError(f"{name}: no column {target!r}: pass one of {tables.shorten(columns)}")
    frame = frame.set_axis(columns, axis=1).reset_index(drop=True)
    inputs = frame.drop(columns=target)
    tables.check_inputs(name, inputs, pipeline)
    labels, classes = tables.encode(name, frame[target])
    task = ClassificationTask(name, tuple(inputs.columns), classes, inputs, labels, pipeline)
    _check_classes(task)
    return task


def from_arrays(
    name: str,
    x: np.ndarray | Tensor,
    y: np.ndarray | Tensor,
    classes: int | tuple[str, ...] | None = None,
    *,
    features: tuple[str, ...] | None = None,
) -> ClassificationTask:
    """Return the task of predicting labels `y` from numbers `x`.

    Args:
        name: of the table, for messages.
        x: inputs, `(N, d)`.
        y: integers `0 .. C-1`, `(N,)`.
        classes: names of the classes, or their number `C`; None counts up to the largest label.
        features: names of the columns of `x`; None names them "x0", "x1", ...

    Raises:
        ShapeError: shapes or names that do not fit together.
        InputError: labels that are no integers or out of range, integers in `x` that float64
            cannot hold, no rows, no columns, fewer than
            two classes, or a class with fewer than three rows.
        NonFiniteError: NaN or infinity in `x`.
    """
    numbers, labels = _to_numpy(x), _to_numpy(y)
    if numbers.dtype.kind not in "biuf":
        raise InputError(f"{name}: x holds {numbers.dtype}: pass real numbers")
    if numbers.ndim != 2 or labels.shape != numbers.shape[:1]:
        raise ShapeError(f"{name}: x is {numbers.shape}, y {labels.shape}: pass (N, d) and (N,)")
    names = tuple(f"x{i}" for i in range(numbers.shape[1])) if features is None else features
    if len(names) != numbers.shape[1]:
        raise ShapeError(f"{name}: {len(names)} names for {numbers.shape[1]} columns of x")
    tables.check_names(f"{name}: column", list(names))
    if numbers.dtype.kind in "iu":
        for column, values in zip(names, numbers.T, strict=True):
            tables.check_exact(name, pd.Series(values, name=column))
    # astype copies: the task must not change when the caller's arrays do
    inputs = pd.DataFrame(numbers.astype(np.float64), columns=list(names))
    tables.check_inputs(name, inputs, None)
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{name}: labels are {labels.dtype}: pass integers 0 .. C-1")
    if classes is None:
        # no more classes than rows: a stray label must not make a billion names
        classes = max(1, min(int(labels.max()) + 1, len(labels)))
    words = tuple(map(str, range(classes))) if isinstance(classes, int) else classes
    outside = (labels < 0) | (labels >= len(words))
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(
            f"{name}: label {labels[row]} of row {row} (counted from 0) is outside "
            f"0 .. {len(words) - 1}: name all classes, or encode them from 0"
        )
    tables.check_names(f"{name}: class", list(words))
    task = ClassificationTask(name, names, words, inputs, labels.astype(np.int64))
    _check_classes(task)
    return task


def _to_numpy(values: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16
        values = (values.double() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _check_classes(task: ClassificationTask) -> None:
    if len(task.classes) < 2:
        raise InputError(
            f"{task.name}: fewer than two classes: {list(task.classes)}; pass rows of at least two"
        )
    counts = np.bincount(task.labels, minlength=len(task.classes))
    if counts.min() < 3:
        raise too_few(
            task, int(counts.argmin()), "and train, validation and test need one each at least"
        )
