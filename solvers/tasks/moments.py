"""Mean and standard deviation of every column of a dataset, from one pass over its batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from .transitions import Transitions


@dataclass(frozen=True)
class Scale:
    """Of the columns of one table.

    Attributes:
        mean: `(d,)`, float64.
        std: of all rows, divided by their number, `(d,)`, float64; 0 for a constant column.
    """

    mean: Float[Tensor, "d"]
    std: Float[Tensor, "d"]


@dataclass(frozen=True)
class Moments:
    """Of `count` steps: of the observations, actions, and changes `next_observation - observation`.

    To standardise without a leak, take those of the training part: `moments([split.train])`.
    """

    count: int
    observation: Scale
    action: Scale
    change: Scale


def moments(parts: Iterable[Transitions]) -> Moments:
    """Return the moments of all steps, summed in float64 about the running mean.

    Args:
        parts: as `dynamics.stream` yields them, or a list of one.

    Raises:
        InputError: no steps.

    Source: Chan, Golub, LeVeque (1979), the pairwise update.
    """
    count = 0
    mean = squares = torch.zeros(())  # of all columns, and sums of squared deviations from it
    widths: tuple[int, ...] = ()
    for part in parts:
        if len(part) == 0:
            continue
        change = part.next_observation.double() - part.observation.double()
        tables = (part.observation.double(), part.action.double(), change)
        widths = tuple(table.shape[1] for table in tables)
        values, new = torch.cat(tables, 1), len(part)
        centre = values.mean(0)
        gap, count = centre - mean, count + new
        squares = squares + (values - centre).square().sum(0)
        squares = squares + gap.square() * ((count - new) * new / count)
        mean = mean + gap * (new / count)
    if count == 0:
        raise InputError("parts hold no step: pass transitions, or a stream of them")
    std = (squares / count).sqrt()
    scales = map(Scale, mean.split(widths), std.split(widths))
    return Moments(count, *scales)
