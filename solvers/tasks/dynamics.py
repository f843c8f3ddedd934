"""Transitions of MuJoCo's environments: predict the next observation from observation and action.

They are read from datasets in Minari's format: Minari's own, or collected here by
`python -m solvers.tasks.collect`, under the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import InputError, check_choice, check_count, check_precision
from .minari_files import QUALITIES, MalformedDataError, NoDataError, Piece, find, pieces
from .simulators import SIMULATORS, MissingExtraError

ENVIRONMENTS = tuple(SIMULATORS)

__all__ = [
    "ENVIRONMENTS",
    "QUALITIES",
    "MalformedDataError",
    "MissingExtraError",
    "NoDataError",
    "Split",
    "Transitions",
    "load",
    "split",
]


@dataclass(frozen=True)
class Transitions:
    """Steps of one dataset, in the order of the episodes.

    Attributes:
        observation: before the step, `(N, n)`.
        action: `(N, a)`.
        next_observation: after the step, `(N, n)`.
        episode: number of the step's episode, from 0, `(N,)`.
        step: number of the step within its episode, from 0, `(N,)`.
        terminated: the environment ended the episode with this step, `(N,)`.
        truncated: a limit of time ended it, `(N,)`; the dynamics go on as they were.
    """

    observation: Float[Tensor, "N n"]
    action: Float[Tensor, "N a"]
    next_observation: Float[Tensor, "N n"]
    episode: Int[Tensor, "N"]
    step: Int[Tensor, "N"]
    terminated: Bool[Tensor, "N"]
    truncated: Bool[Tensor, "N"]

    def rows(self, index: Int[Tensor, "B"]) -> Transitions:
        """Return the steps `index`."""
        return Transitions(*(field[index] for field in vars(self).values()))

    def __len__(self) -> int:
        """Return the number of steps `N`."""
        return len(self.episode)


@dataclass(frozen=True)
class Split:
    """One random split, made by `split`; each part keeps the order of the steps."""

    train: Transitions
    validation: Transitions
    test: Transitions


def load(
    environment: str,
    quality: str,
    *,
    root: Path | None = None,
    download: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Transitions:
    """Return all steps of `mujoco/{environment}/{quality}-v0`.

    Args:
        environment: one of `ENVIRONMENTS`.
        quality: one of `QUALITIES`, of the controller that acted.
        root: folder of datasets; None: `$MINARI_DATASETS_PATH`, else Minari's own.
        download: let Minari fetch the dataset where it is not there.
        dtype: of observations and actions, float32 or float64.

    Raises:
        InputError: unknown environment, quality or dtype.
        NoDataError: no such dataset in the folder, or no download; names the command to run.
        MissingExtraError: Minari or h5py is not installed.
        MalformedDataError: as `minari_files.find` and `pieces`.
    """
    check_precision("dtype", dtype)
    path = find(environment, quality, root, download=download)
    return join([transitions(piece, dtype) for piece in pieces(path)])


def transitions(piece: Piece, dtype: torch.dtype) -> Transitions:
    """Return the steps of one piece of an episode."""
    observation = torch.from_numpy(piece.observation).to(dtype)
    T = len(piece.action)
    return Transitions(
        observation[:-1],
        torch.from_numpy(piece.action).to(dtype),
        observation[1:],
        torch.full((T,), piece.episode),
        torch.arange(piece.first, piece.first + T),
        torch.from_numpy(piece.terminated),
        torch.from_numpy(piece.truncated),
    )


def join(parts: Sequence[Transitions]) -> Transitions:
    """Return steps one after the other."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Transitions(*(torch.cat(column) for column in columns))


def split(
    transitions: Transitions,
    *,
    seed: int,
    fractions: tuple[float, float, float] = (0.5, 0.2, 0.3),
    by: Literal["episode", "transition"] = "episode",
    rows: int | None = None,
) -> Split:
    """Split steps at random into training, validation and test.

    Args:
        transitions: of one dataset.
        seed: of all draws; the same seed gives the same bits.
        fractions: shares of the steps, positive, with sum 1.
        by: "episode" keeps every episode on one side. Whole episodes, in random order, fill the
            parts in turn, and the borders lie where the shares are met most closely with at least
            one episode in each part. "transition" draws single steps, as published: then one
            episode lies on both sides, and a test step has neighbours in training.
        rows: a random subset of that size is taken first; None: all. Published: 10 % of the steps,
            1 % in one experiment. By episodes, the subset is of the steps of each, and an episode
            without any plays no part.

    Raises:
        InputError: a wrong seed, fractions, `by` or `rows`, fewer than three episodes, or than
            three steps.
    """
    check_count("seed", seed, 0)
    check_choice("by", by, ("episode", "transition"))
    _check_fractions(fractions)
    N = len(transitions)
    rng = np.random.default_rng(np.random.SeedSequence([seed, N]))
    kept = np.arange(N)
    if rows is not None:
        check_count("rows", rows, 3)
        if rows > N:
            raise InputError(f"rows is {rows}, and there are {N}: pass at most {N}, or None")
        kept = np.sort(rng.choice(N, rows, replace=False))
    episode = transitions.episode.numpy()[kept]
    units = episode if by == "episode" else np.arange(len(kept))
    names, unit = np.unique(units, return_inverse=True)
    if len(names) < 3:
        raise InputError(
            f"{len(names)} {by}s cannot fill training, validation and test: pass at least 3"
            + (", or by='transition'" if by == "episode" else "")
        )
    order = rng.permutation(len(names))
    ends = np.cumsum(np.bincount(unit)[order])
    borders = _borders(ends, fractions)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    part = np.searchsorted(borders, rank[unit], side="right")
    return Split(*(transitions.rows(torch.from_numpy(kept[part == p])) for p in range(3)))


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise InputError(
            f"fractions is {fractions}: pass three positive shares with sum 1, for training, "
            f"validation and test"
        )


def _borders(ends: Int[np.ndarray, "E"], fractions: tuple[float, float, float]) -> tuple[int, int]:
    """Return after how many units training ends, and validation.

    Args:
        ends: steps of the units up to and with each, cumulated.
        fractions: shares of the steps.
    """
    N, E = ends[-1], len(ends)
    first = 1 + int(np.abs(ends[: E - 2] - fractions[0] * N).argmin())
    wanted = (fractions[0] + fractions[1]) * N
    second = first + 1 + int(np.abs(ends[first : E - 1] - wanted).argmin())
    return first, second
