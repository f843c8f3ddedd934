"""Labelled tables, and their random splits into training, validation and test rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from torch import Tensor

from ..errors import InputError, check_count, check_finite, check_number
from . import tables

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
    check_count("seed", seed, 0, 2**32 - 1)  # those that scikit-learn takes
    for word, size in (("test_size", test_size), ("validation_size", validation_size)):
        check_number(word, size)
        if not 0 < size < 1:
            raise InputError(f"{word} must lie between 0 and 1, got {size}")
    everything = np.arange(len(task.labels))
    rest, test = _draw(task, everything, test_size, seed, "test")
    train, validation = _draw(task, rest, validation_size, seed, "validation")
    rows = {"train": train, "validation": validation, "test": test}
    for part, chosen in rows.items():
        counts = np.bincount(task.labels[chosen], minlength=len(task.classes))
        if counts.min() == 0:
            raise too_few(task, int(counts.argmin()), f"none of them in the {part} part")
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
        raise too_few(task, int(counts.argmin()), f"too few to split off the {part} part")
    try:
        return train_test_split(rows, test_size=size, stratify=labels, random_state=seed)
    except ValueError as error:
        raise InputError(
            f"{task.name}: {len(rows)} rows of {len(task.classes)} classes cannot give a {part} "
            f"part of share {size}: {error}; pass more rows, or another share"
        ) from error


def too_few(task: ClassificationTask, label: int, why: str) -> InputError:
    """Return the error for a class with too few rows."""
    return InputError(
        f"{task.name}: class {task.classes[label]!r} has {int((task.labels == label).sum())} of "
        f"{len(task.labels)} rows, {why}: merge it with another class, drop it, or collect more "
        f"rows"
    )
