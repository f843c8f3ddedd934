"""Random splits of steps into training, validation and test, by whole episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int

from ..errors import InputError, check_choice, check_count, check_seed
from .transitions import Transitions

Fractions = tuple[float, float, float]


@dataclass(frozen=True)
class Split:
    """One random split, made by `split`; each part keeps the order of the steps."""

    train: Transitions
    validation: Transitions
    test: Transitions


def split(
    transitions: Transitions,
    *,
    seed: int,
    fractions: Fractions = (0.5, 0.2, 0.3),
    by: Literal["episode", "transition"] = "episode",
    rows: int | None = None,
) -> Split:
    """Split steps at random into training, validation and test.

    Args:
        transitions: of one dataset.
        seed: of all draws; the same seed gives the same bits.
        fractions: shares of the steps, positive, with sum 1.
        by: "episode" keeps every episode on one side. Whole episodes, in random order, fill the
            parts in turn; the borders lie where the shares are met most closely with at least one
            episode in each part. "transition" draws single steps, as published: then one episode
            lies on both sides, and a step of the test has its neighbours in training.
        rows: a random subset of so many steps is taken first; None: all. Published: 10 % of them,
            1 % in one experiment. By episodes, it is the rest of each episode that is split, and
            an episode of which nothing is left plays no part.

    Raises:
        InputError: a seed, fractions, `by` or `rows` out of range, fewer than three episodes (or
            steps, by transition) to fill three parts.
    """
    check_seed(seed)
    check_choice("by", by, ("episode", "transition"))
    if len(fractions) != 3 or not min(fractions) > 0 or not abs(sum(fractions) - 1) < 1e-9:
        raise InputError(
            f"fractions is {fractions}: pass three positive shares with sum 1, for training, "
            f"validation and test"
        )
    rng = np.random.default_rng(seed)
    kept = _subset(len(transitions), rows, rng)
    # Units stay whole: episodes, or single steps.
    units = transitions.episode.numpy()[kept] if by == "episode" else kept
    names, unit = np.unique(units, return_inverse=True)
    if len(names) < 3:
        raise InputError(
            f"{len(names)} {by}(s) cannot fill training, validation and test: pass 3 or more"
            + (", or by='transition'" if by == "episode" else "")
        )
    order = rng.permutation(len(names))
    first, second = _borders(np.cumsum(np.bincount(unit)[order]), fractions)
    part = np.empty(len(names), dtype=np.int64)
    part[order[:first]], part[order[first:second]], part[order[second:]] = 0, 1, 2
    chosen = [torch.from_numpy(kept[part[unit] == number]) for number in range(3)]
    return Split(*(transitions.rows(index) for index in chosen))


def _subset(N: int, rows: int | None, rng: np.random.Generator) -> Int[np.ndarray, "_"]:
    """Return the numbers of the steps that are kept, in order."""
    if rows is None:
        return np.arange(N)
    check_count("rows", rows)
    if rows > N:
        raise InputError(f"rows is {rows}, of {N} steps: pass at most {N}, or None for all")
    return np.sort(rng.choice(N, rows, replace=False))


def _borders(ends: Int[np.ndarray, "E"], fractions: Fractions) -> tuple[int, int]:
    """Return after how many units training ends, and validation.

    Args:
        ends: steps of all units up to each, and with it.
        fractions: shares of the steps.
    """
    wanted = np.cumsum(fractions) * ends[-1]
    first = 1 + int(np.abs(ends[:-2] - wanted[0]).argmin())
    second = first + 1 + int(np.abs(ends[first:-1] - wanted[1]).argmin())
    return first, second
