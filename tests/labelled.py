"""Tables with a column of classes, for tests: numbers, mixed columns, gaps."""

import dataclasses

import numpy as np
import pandas as pd
import torch

from solvers.data import LabelledData
from solvers.tasks.splits import Part, Split

RNG = np.random.default_rng(0)
N = 60
NUMBERS = pd.DataFrame(
    {"a": RNG.standard_normal(N), "b": 100 * RNG.random(N) + 5, "c": np.arange(N) % 7}
)
FRAME = NUMBERS.assign(kind=np.array(["oak", "elm", "fir"])[np.arange(N) % 3])
MIXED = FRAME.assign(
    colour=np.array(["red", "green", "blue", "grey"])[RNG.integers(4, size=N)],
    wet=RNG.random(N) < 0.5,
)
GAPS = MIXED.astype({"wet": object})
GAPS.loc[[1, 5], "b"] = np.nan
GAPS.loc[[2, 3, 4], "colour"] = np.nan
GAPS.loc[[7, 8], "wet"] = np.nan
PARTS = ("train", "validation", "test")


def labelled_by(pi: torch.Tensor) -> LabelledData:
    """Labelled data of these probabilities, at inputs that do not matter."""
    return LabelledData(pi.new_zeros(*pi.shape[:-1], 1), pi)


def changed(column: str, row: int, value: object, frame: pd.DataFrame = FRAME) -> pd.DataFrame:
    frame = frame.astype({column: object}) if isinstance(value, str) else frame.copy()
    frame.loc[row, column] = value
    return frame


def parts(whole: Split) -> list[Part]:
    return [getattr(whole, part) for part in PARTS]


def same_bits(one: Split, other: Split) -> bool:
    return all(
        torch.equal(getattr(a, field.name), getattr(b, field.name))
        for a, b in zip(parts(one), parts(other), strict=True)
        for field in dataclasses.fields(a)
    )
