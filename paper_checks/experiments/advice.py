"""Which structure of the reward to learn on a table of N rows, and whether that advice is right.

A linear mean and `U*` of a structure are learned from N rows. What they lose on new rows is known
without any: the loss on the N rows plus the derived optimism (`samples.linear.optimism`), with
estimates in place of what is not known. `run` holds the advice to rows that it has not seen, on ten
tables made of the data sets that come with scikit-learn, beside the advice of cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn import datasets
from torch import Tensor

from analysis import samples
from analysis.calculus.symbols import STRUCTURES, Structure
from solvers.errors import InputError
from solvers.tasks import regression
from solvers.tasks.regression import RegressionTask
from solvers.training import streams

from . import Progress
from .affine import affine, coefficients
from .how_much_data import loss

Losses = dict[Structure, float]
# Data set, and the columns to predict from the others.
TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "linnerud body": ("linnerud", ("Weight", "Waist", "Pulse")),
    "linnerud exercise": ("linnerud", ("Chins", "Situps", "Jumps")),
    "diabetes": ("diabetes", ("target", "bp", "bmi")),
    "diabetes serum": ("diabetes", ("s1", "s2", "s3", "s4", "s5", "s6")),
    "iris petals": ("iris", ("petal length (cm)", "petal width (cm)")),
    "iris sepals": ("iris", ("sepal length (cm)", "sepal width (cm)")),
    "wine looks": ("wine", ("alcohol", "color_intensity", "hue", "proline")),
    "wine phenols": (
        "wine",
        ("total_phenols", "flavanoids", "nonflavanoid_phenols", "proanthocyanins"),
    ),
    "breast cancer": (
        "breast_cancer",
        ("mean texture", "mean smoothness", "mean symmetry", "mean fractal dimension"),
    ),
    "digits": ("digits", ("pixel_3_2", "pixel_3_3", "pixel_3_4", "pixel_3_5")),
}
CLASSES = ("iris", "wine", "breast_cancer", "digits")  # whose column "target" is no number


@dataclass(frozen=True)
class Advice:
    """The structure that is expected to lose least on new rows.

    Attributes:
        rows: N.
        structure: to learn; None where N is too small for any.
        over: the next best; None where there is none.
        nats: per row and outcome, by which it is better than the next best; infinite where that
            one cannot be learned from N rows.
    """

    rows: int
    structure: Structure | None
    over: Structure | None
    nats: float

    @property
    def name(self) -> str:
        """Of the structure, for tables."""
        return "none" if self.structure is None else NAMES[self.structure]

    def __str__(self) -> str:
        if self.structure is None:
            return f"at N = {self.rows} there are too few rows for any reward"
        if self.over is None:
            return f"at N = {self.rows} all structures are one: there is one outcome"
        next_best = NAMES[self.over]
        if not math.isfinite(self.nats):
            return f"at N = {self.rows} use {self.name}, the only one with rows enough"
        by = f"{self.nats:.2g} nats per dimension over {next_best}"
        return f"at N = {self.rows} use {self.name}: {by}"


NAMES: dict[Structure, str] = {"isotropic": "scalar", "diagonal": "diagonal", "full": "full"}


def advise(x: Float[Tensor, "N d"], y: Float[Tensor, "N n"]) -> Advice:
    """Return the advice for a table of inputs and outcomes."""
    N, n = y.shape
    losses = expected(x, y)
    best, *others = sorted(STRUCTURES, key=lambda arm: losses[arm])
    if not math.isfinite(losses[best]):
        return Advice(N, None, None, math.nan)
    if n == 1:
        return Advice(N, best, None, 0.0)
    return Advice(N, best, others[0], (losses[others[0]] - losses[best]) / n)


def expected(x: Float[Tensor, "N d"], y: Float[Tensor, "N n"]) -> Losses:
    """Return the expected NLL per new row by structure, infinite where N is too small for it.

    Loss on the rows of the fit plus the derived optimism, exact for Gaussian data and inputs (of a
    scalar reward: by two moments), at the estimated covariance.
    """
    N, n = y.shape
    S = _second_moment(y - affine(x) @ coefficients(x, y, collinear=True))
    d = int(torch.linalg.matrix_rank(affine(x)))
    nu = N - d
    if nu <= 1:
        return dict.fromkeys(STRUCTURES, math.inf)
    # an intercept and d - 1 Gaussian inputs: 1/N, and (1 + 1/N) (d-1)/((N-1) - (d-1) - 1)
    h = 1 / N + (1 + 1 / N) * (d - 1) / (nu - 1)
    ratio = (1 + h) * N / nu
    effective = float(S.trace() ** 2 / (S @ S).trace()) * nu / n
    found: Losses = {}
    for arm in STRUCTURES:
        degrees = effective if arm == "isotropic" else float(nu)
        optimism = samples.linear.optimism(arm, n)
        if degrees > float(optimism.above["freedom"]) and bool(torch.linalg.matrix_rank(S) == n):
            extra = optimism.at("derived", freedom=degrees, ratio=ratio)
            found[arm] = float(loss(S, S, arm)) + extra
        else:
            found[arm] = math.inf
    return found


def _second_moment(e: Float[Tensor, "*b N n"]) -> Float[Tensor, "*b n n"]:
    return e.mT @ e / e.shape[-2]


def held_out(
    x: Float[Tensor, "N d"],
    y: Float[Tensor, "N n"],
    splits: list[tuple[Tensor, Tensor]],
) -> dict[Structure, Float[Tensor, "splits"]]:
    """Return the NLL per held-out row by structure, for splits into rows of the fit and others."""
    learned: list[Tensor] = []
    seen: list[Tensor] = []
    for fit, rest in splits:
        B = coefficients(x[fit], y[fit], collinear=True)
        learned.append(_second_moment(y[fit] - affine(x[fit]) @ B))
        seen.append(_second_moment(y[rest] - affine(x[rest]) @ B))
    S, V = torch.stack(learned), torch.stack(seen)
    return {arm: loss(S, V, arm) for arm in STRUCTURES}


def cross_validated(
    x: Float[Tensor, "N d"], y: Float[Tensor, "N n"], folds: int, generator: torch.Generator
) -> Losses:
    """Return the NLL per row held out in turn, by structure."""
    order = torch.randperm(len(y), generator=generator)
    parts = [order[fold::folds] for fold in range(folds)]
    splits = [(torch.cat(parts[:k] + parts[k + 1 :]), part) for k, part in enumerate(parts)]
    weights = torch.tensor([len(part) for part in parts], dtype=x.dtype) / len(y)
    return {arm: float(weights @ found) for arm, found in held_out(x, y, splits).items()}


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        share: of the rows of a table to learn from.
        spare: degrees of freedom beyond n, where few rows are learned from instead.
        splits: of every table, at random.
        folds: of cross-validation.
    """

    share: float = 2 / 3
    spare: int = 8
    splits: int = 30
    folds: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.spare < 2 or self.splits < 2 or self.folds < 2:
            raise InputError(
                f"share is {self.share}, spare {self.spare}, splits {self.splits}, folds "
                f"{self.folds}: pass a share between 0 and 1, and 2 or more of the others"
            )


def load(name: str) -> RegressionTask:
    """Return one of the ten tables, without columns that are constant."""
    source, targets = TABLES[name]
    if source == "linnerud" and targets[0] == "Weight":
        return regression.load("linnerud", targets)
    frame = getattr(datasets, f"load_{source}")(as_frame=True)["frame"]
    frame = frame.drop(columns=["target"]) if source in CLASSES else frame
    return regression.from_frame(name, frame.loc[:, frame.nunique() > 1], targets)


def run(settings: Settings, *, seed: int, progress: Progress | None = None) -> pd.DataFrame:
    """Advise from some rows of every table and look at the others.

    Args:
        settings: how the tables are split.
        seed: of the splits; same seed, same bits.
        progress: called as `progress(description, completed, total)`.

    Returns:
        One row per table, size ("few", "many" rows to learn from) and split: `rows` to learn from,
        the NLL per held-out row and outcome of each structure, and the structures that are advised
        by "theory" and by "cross-validation".
    """
    found: list[Mapping[str, object]] = []
    for done, name in enumerate(TABLES):
        data = load(name).data
        N, n = data.mean.shape
        d = int(torch.linalg.matrix_rank(affine(data.x)))
        many = int(settings.share * N)
        for size, rows in (("few", min(d + n + settings.spare, many)), ("many", many)):
            generator = streams.generator(seed, "data", name, rows)
            orders = [torch.randperm(N, generator=generator) for _ in range(settings.splits)]
            splits = [(order[:rows], order[rows:]) for order in orders]
            seen = held_out(data.x, data.mean, splits)
            for split, (fit, _) in enumerate(splits):
                x, y = data.x[fit], data.mean[fit]
                theory = expected(x, y)
                validated = cross_validated(x, y, settings.folds, generator)
                found.append(
                    {"table": name, "n": n, "size": size, "rows": rows, "split": split}
                    | {arm: float(seen[arm][split]) / n for arm in STRUCTURES}
                    | {"theory": min(theory, key=lambda arm: theory[arm])}
                    | {"cross-validation": min(validated, key=lambda arm: validated[arm])}
                )
        if progress is not None:
            progress("tables", done + 1, len(TABLES))
    return pd.DataFrame(found)


def regret(table: pd.DataFrame, method: str) -> pd.Series:
    """Return the NLL of what a method advised less that of the structure best on average.

    Args:
        table: of one table and size.
        method: "theory" or "cross-validation".
    """
    losses = table[list(STRUCTURES)]
    advised = losses.to_numpy()[np.arange(len(table)), losses.columns.get_indexer(table[method])]
    return pd.Series(advised - losses[losses.mean().idxmin()].to_numpy())
