"""Tables with a column of classes: predict the class of a row from its other columns."""

from __future__ import annotations

from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from torch import Tensor

from solvers.errors import InputError, ShapeError, check_finite
from solvers.tasks import tables
from solvers.tasks.tables import mixed_columns as mixed_columns

BuiltIn = Literal["wine", "iris", "breast_cancer", "digits"]
Rows = Int[np.ndarray, "N"]


@dataclass(frozen=True)
class Part:
    """The rows of one part of a split.

    Attributes:
        x: inputs after preprocessing, `(N, d)`.
        y: classes `0 .. C-1`, `(N,)`, int64.
        rows: where these rows stand in the table, counted from 0, `(N,)`, int64.
    """

    x: Float[Tensor, "N d"]
    y: Int[Tensor, "N"]
    rows: Int[Tensor, "N"]


@dataclass(frozen=True)
class Split:
    """One random split of a table, made by `split`; all parts have the same `d`."""

    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True)
class ClassificationTask:
    """A table as it was read, checked, before any preprocessing.

    Attributes:
        name: of the table.
        features: names of the input columns.
        classes: names of the `C` classes, in the order of their labels.
        table: the input columns; row names are `0 .. N-1`.
        labels: classes `0 .. C-1`, `(N,)`.
        pipeline: scikit-learn transformer of the input columns; it is copied, never fitted
            itself. None standardises the columns, all numeric then.
    """

    name: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    table: pd.DataFrame
    labels: Rows
    pipeline: BaseEstimator | None = None


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
    path: Path | str, target: str, *, pipeline: BaseEstimator | None = None
) -> ClassificationTask:
    """Return the task of predicting column `target` of a CSV or Parquet file from all others.

    Args:
        path: ends in `.csv` or `.parquet`.
        target: the column of classes; strings, integers or booleans.
        pipeline: as `from_frame`.

    Raises:
        InputError: as `tables.read` and `from_frame`.
        NonFiniteError: as `from_frame`.
    """
    path = Path(path)
    return from_frame(path.stem, tables.read(path), target, pipeline=pipeline)


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

    Classes are numbered in sorted order: by value for numbers, by spelling for strings.

    Args:
        name: of the table, for messages.
        frame: one row per example.
        target: the column of classes; strings, integers or booleans.
        pipeline: scikit-learn transformer of the other columns, e.g. `mixed_columns()`. It may
            meet missing values, and must return finite numbers. None standardises the columns:
            they must be numeric then, and complete.

    Raises:
        InputError: repeated names, a missing target, no features, no rows, columns that the
            pipeline cannot take, fewer than two classes, or a class with fewer than three rows.
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
        InputError: labels that are no integers or out of range, no rows, no columns, fewer than
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


def split(
    task: ClassificationTask,
    *,
    seed: int,
    scaler: Literal["all", "train"] = "train",
    test_size: float = 0.2,
    validation_size: float = 0.2,
    dtype: torch.dtype = torch.float64,
) -> Split:
    """Split the rows at random, every class in proportion, and preprocess them.

    Args:
        task: the table.
        seed: of both draws, `0 <= seed < 2**32`; the same seed gives the same bits.
        scaler: the rows the preprocessing is fitted on: "train", or "all", which leaks the mean
            and scale of the test rows into training, as published.
        test_size: share of the rows that goes to test, between 0 and 1.
        validation_size: share of the *remaining* rows that goes to validation, between 0 and 1.
        dtype: of the inputs.

    Raises:
        InputError: arguments out of range, a part without any row of some class, or a pipeline
            that fails, or returns different widths.
        NonFiniteError: the pipeline returns NaN or infinity.

    Source: two calls of scikit-learn's `train_test_split`, stratified, as published.
    """
    if scaler not in ("all", "train"):
        raise InputError(f"scaler must be 'all' or 'train', got {scaler!r}")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be 0 .. 2**32 - 1, got {seed}")
    for word, size in (("test_size", test_size), ("validation_size", validation_size)):
        if not 0 < size < 1:
            raise InputError(f"{word} must lie between 0 and 1, got {size}")
    everything = np.arange(len(task.labels))
    rest, test = _draw(task, everything, test_size, seed, "test")
    train, validation = _draw(task, rest, validation_size, seed, "validation")
    rows = {"train": train, "validation": validation, "test": test}
    for part, chosen in rows.items():
        counts = np.bincount(task.labels[chosen], minlength=len(task.classes))
        if counts.min() == 0:
            raise _too_few(task, int(counts.argmin()), f"none of them in the {part} part")
    fitted_on = everything if scaler == "all" else train
    inputs = tables.preprocess(task.name, task.pipeline, task.table, fitted_on, rows)
    y = torch.from_numpy(task.labels)
    parts: dict[str, Part] = {}
    for part, chosen in rows.items():
        index = torch.from_numpy(chosen)
        x = torch.from_numpy(inputs[part]).to(dtype)
        check_finite(f"{task.name} as {dtype}: {part}.x", x)  # float32 may overflow
        parts[part] = Part(x, y[index], index)
    return Split(parts["train"], parts["validation"], parts["test"])


def _draw(
    task: ClassificationTask, rows: Rows, size: float, seed: int, part: str
) -> list[Int[np.ndarray, "_"]]:
    labels = task.labels[rows]
    counts = np.bincount(labels, minlength=len(task.classes))
    if counts.min() < 2:
        raise _too_few(task, int(counts.argmin()), f"too few to split off the {part} part")
    try:
        return train_test_split(rows, test_size=size, stratify=labels, random_state=seed)
    except ValueError as error:
        raise InputError(
            f"{task.name}: {len(rows)} rows of {len(task.classes)} classes cannot give a {part} "
            f"part of share {size}: {error}; pass more rows, or another share"
        ) from error


def _too_few(task: ClassificationTask, label: int, why: str) -> InputError:
    return InputError(
        f"{task.name}: class {task.classes[label]!r} has {int((task.labels == label).sum())} of "
        f"{len(task.labels)} rows, {why}: merge it with another class, drop it, or collect more "
        f"rows"
    )


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
        raise _too_few(
            task, int(counts.argmin()), "and train, validation and test need one each at least"
        )
