"""Which structure of the reward to learn on a table of N rows, and whether that advice is right.

A linear mean and `U*` of a structure are learned from N rows. What they lose on new rows is known
without any: the loss on the N rows plus the derived optimism (`samples.linear.optimism`), with
estimates in place of what is not known. `run` holds the advice to rows that it has not seen, on ten
tables made of the data sets that come with scikit-learn, beside the advice of cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn import datasets
from torch import Tensor

from analysis import samples
from analysis.calculus.symbols import STRUCTURES, Structure
from solvers.arguments import checked
from solvers.errors import InputError, check_finite
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
        structure: to learn; None where N is too small for any, or the table has a fault.
        over: the next best; None where there is none.
        nats: per row and outcome, by which it is better than the next best; infinite where that
            one cannot be learned from N rows.
        fault: why no reward is best, and what to do about it; empty where N decides.
    """

    rows: int
    structure: Structure | None
    over: Structure | None
    nats: float
    fault: str = ""

    @property
    def name(self) -> str:
        """Of the structure, for tables."""
        return "none" if self.structure is None else NAMES[self.structure]

    def __str__(self) -> str:
        if self.fault:
            return f"at N = {self.rows} no reward is best: {self.fault}"
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


@checked
def advise(x: Float[Tensor, "N d"], y: Float[Tensor, "N n"], names: Sequence[str] = ()) -> Advice:
    """Return the advice for a table of inputs and outcomes.

    Args:
        x: inputs; in any units, and collinear or constant if need be.
        y: outcomes. A common unit does not matter; units of their own matter to a scalar reward.
        names: of the outcomes, for what is said of them; none means their numbers.
    Raises:
        InputError: another number of names.
        NonFiniteError: a number that is none.
    """
    N, n = y.shape
    if names and len(names) != n:
        raise InputError(f"names has {len(names)} entries, y {n} columns: pass a name for each")
    seen = _Residuals.of(x, y)
    fault = seen.fault(names or [f"outcome {i + 1}" for i in range(n)])
    if fault:
        return Advice(N, None, None, math.nan, fault)
    losses = seen.expected()
    best, *others = sorted(STRUCTURES, key=lambda arm: losses[arm])
    if not math.isfinite(losses[best]):
        return Advice(N, None, None, math.nan)
    if n == 1:  # all structures are one, and rounding would decide
        return Advice(N, "isotropic", None, 0.0)
    return Advice(N, best, others[0], (losses[others[0]] - losses[best]) / n)


@checked
def expected(x: Float[Tensor, "N d"], y: Float[Tensor, "N n"]) -> Losses:
    """Return the expected NLL per new row by structure, infinite where N is too small for it.

    Loss on the rows of the fit plus the derived optimism, exact for Gaussian data and inputs (of a
    scalar reward: by two moments), at the estimated covariance. It is infinite, too, of every
    structure where an outcome has no noise, and of a full reward where outcomes are collinear.

    Args:
        x: inputs.
        y: outcomes, in whose units it is.
    Raises:
        NonFiniteError: a number that is none.
    """
    return _Residuals.of(x, y).expected()


@dataclass(frozen=True)
class _Residuals:
    """What a linear mean leaves of the outcomes: their covariance, in deviations.

    Squares of the outcomes' own units may lie beyond floating point, and what is small in one unit
    is not in another: so every column is in units of its own.

    Attributes:
        N: rows.
        d: coefficients of the mean, per outcome: the rank of the inputs, with a column of ones.
        level: which outcomes are constant.
        share: deviation of the residuals over the largest distance of the outcome from its mean.
        rounding: the share below which it is rounding, as both columns are stored.
        logs: log of the residuals' deviation, `-∞` where there are none.
        R: their correlations.
    """

    N: int
    d: int
    level: Tensor
    share: Tensor
    rounding: Tensor
    logs: Tensor
    R: Float[Tensor, "n n"]

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> _Residuals:
        """Fit the mean."""
        check_finite("x", x)
        check_finite("y", y)
        (x, _, worst, _), (y, unit, lost, level) = _in_units(x), _in_units(y)
        e = y - affine(x) @ coefficients(x, y, collinear=True)
        share = e.square().mean(0).sqrt()
        R = _second_moment(e / torch.where(share > 0, share, 1))
        d = int(torch.linalg.matrix_rank(affine(x)))
        rounding = len(y) * (lost + worst.max())
        return cls(len(y), d, level, share, rounding, unit + share.log(), R)

    @property
    def nu(self) -> int:
        """Degrees of freedom."""
        return self.N - self.d

    def collinear(self) -> Tensor:
        """Return which outcomes depend on each other, those with enough rows to tell."""
        n = len(self.R)
        if self.nu < n:
            return torch.zeros(n, dtype=torch.bool)
        w, Q = torch.linalg.eigh(self.R)
        # of the correlations themselves, and of residuals that are small differences
        lost = 8 * n * torch.finfo(w.dtype).eps * w[-1] + (self.rounding / self.share).amax() ** 2
        return (Q[:, w <= lost].abs() > INVOLVED).any(1)

    def fault(self, names: Sequence[str]) -> str:
        """Return why no reward is best, naming the columns; nothing where N decides."""
        silent = ~self.level & (self.share <= self.rounding)
        if bool(self.level.any()):
            return f"{_listed(names, self.level)} constant: leave out what does not vary"
        if self.nu < 1:
            return ""  # the mean fits whatever it is
        if bool(silent.any()):
            return f"{_listed(names, silent)} linear in the inputs, without noise: leave that out"
        dependent = self.collinear()
        if bool(dependent.any()):
            return f"{_listed(names, dependent)} collinear: leave out what follows from the others"
        return ""

    def expected(self) -> Losses:
        """Return the expected NLL per new row by structure, as `expected` does."""
        N, d, nu, n = self.N, self.d, self.nu, len(self.R)
        if nu <= 1 or bool((self.share <= self.rounding).any()):
            return dict.fromkeys(STRUCTURES, math.inf)
        # an intercept and d - 1 Gaussian inputs: 1/N, and (1 + 1/N) (d-1)/((N-1) - (d-1) - 1)
        h = 1 / N + (1 + 1 / N) * (d - 1) / (nu - 1)
        ratio = (1 + h) * N / nu
        s = (self.logs - self.logs.max()).exp()
        S = s * self.R * s[:, None]
        effective = float(s.square().sum() ** 2 / S.square().sum()) * nu / n
        one = torch.eye(n, dtype=s.dtype)
        # the loss in units in which every deviation is 1; of a scalar reward, their mean square
        log_unit = n * self.logs.max() + n / 2 * s.square().mean().log()
        parts = {
            "isotropic": (one, float(log_unit), effective),
            "diagonal": (one, float(self.logs.sum()), float(nu)),
            "full": (self.R, float(self.logs.sum()), float(nu)),
        }
        found: Losses = {}
        for arm in STRUCTURES:
            S, units, degrees = parts[arm]
            optimism = samples.linear.optimism(arm, n)
            known = degrees > float(optimism.above["freedom"])
            if not known or (arm == "full" and bool(self.collinear().any())):
                found[arm] = math.inf
                continue
            extra = optimism.at("derived", freedom=degrees, ratio=ratio)
            found[arm] = float(loss(S, S, arm)) + units + extra
        return found


INVOLVED = 1e-4  # weight of a column in a combination that vanishes: below, it is rounding


def _in_units(columns: Float[Tensor, "N k"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return columns less their means, in units of the largest entry.

    Returns:
        The columns; log of the units; what rounding leaves of a column, in them; which are level.
    """
    eps, size = 8 * torch.finfo(columns.dtype).eps, columns.abs().amax(0)
    scaled = columns / torch.where(size > 0, size, 1)
    level = scaled.amax(0) - scaled.amin(0) <= eps
    centred = torch.where(level, 0, scaled - scaled.mean(0))
    spread = torch.where(level, 1, centred.abs().amax(0))
    return centred / spread, size.log() + spread.log(), eps / spread, level


def _listed(names: Sequence[str], which: Tensor) -> str:
    """Return `a is`, `a and b are` of the names of these columns."""
    *before, last = [name for name, chosen in zip(names, which.tolist(), strict=True) if chosen]
    return f"{', '.join(before)} and {last} are" if before else f"{last} is"


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
