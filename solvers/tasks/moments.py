"""Mean and standard deviation of every column of a dataset, from one pass over its batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, check_finite
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

    Columns are summed in units of a power of two about their largest number so far, so that
    squares neither overflow nor vanish, whatever the units of the data.

    Args:
        parts: as `dynamics.stream` yields them, or a list of one.

    Raises:
        InputError: no steps.
        NonFiniteError: a number that is NaN or infinite, or a change that is beyond float64.

    Source: Chan, Golub, LeVeque (1979), the pairwise update.
    """
    count = 0
    largest = mean = squares = torch.zeros(())  # of all columns: sums of squared deviations
    widths: tuple[int, ...] = ()
    for part in parts:
        if len(part) == 0:
            continue
        observation, action = part.observation.double(), part.action.double()
        tables = {"observation": observation, "action": action}
        tables["change"] = part.next_observation.double() - observation
        for name, table in tables.items():
            check_finite(name, table)
        widths = tuple(table.shape[1] for table in tables.values())
        values, new = torch.cat(list(tables.values()), 1), len(part)
        before, largest = _unit(largest), torch.maximum(largest, values.abs().amax(0))
        unit = _unit(largest)
        ratio = (before / unit).clamp(max=1)  # units grow, but from those of a column of zeros
        mean, squares = mean * ratio, squares * ratio.square()
        values = values / unit
        centre = values.mean(0)
        gap, count = centre - mean, count + new
        squares = squares + (values - centre).square().sum(0)
        squares = squares + gap.square() * ((count - new) * new / count)
        mean = mean + gap * (new / count)
    if count == 0:
        raise InputError("parts hold no step: pass transitions, or a stream of them")
    unit = _unit(largest)
    std = (squares / count).sqrt() * unit
    scales = map(Scale, (mean * unit).split(widths), std.split(widths))
    return Moments(count, *scales)


def _unit(largest: Tensor) -> Tensor:
    """Return the power of two above a number, within what float64 and its inverse hold."""
    exponent = torch.frexp(largest.double()).exponent
    return torch.ldexp(torch.ones_like(largest, dtype=torch.float64), exponent.clamp(-1000, 1000))
