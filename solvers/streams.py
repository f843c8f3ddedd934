"""Named random streams: every draw belongs to a name, so adding an arm changes no other.

A stream is addressed by a seed and stable keys (what the draw is *for*: data, initialisation
or noise; which experiment; which arm), never by a position in a list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, *keys: str | int | float) -> torch.Generator:
    """Return the torch generator of the stream `keys` under `seed`.

    Args:
        seed: the experiment's seed, a non-negative integer.
        keys: what the stream is for, e.g. `("noise", experiment, "PG", lam)`.
    """
    names = [int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8]) for key in keys]
    state = np.random.SeedSequence([seed, *names]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


@dataclass(frozen=True)
class MemberNoise:
    """Standard normal noise for a batch of members, one generator each.

    A member draws the same numbers whatever batch it is part of.

    Attributes:
        generators: one per member, in row-major order of `batch`.
        batch: the members' batch shape `*b`.
    """

    generators: Sequence[torch.Generator]
    batch: tuple[int, ...] = ()

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return fresh standard normal noise of shape `(*b, *shape)`."""
        noise = torch.empty(self.batch + shape, dtype=dtype)
        for row, member in zip(noise.view(-1, *shape), self.generators, strict=True):
            row.normal_(generator=member)
        return noise
