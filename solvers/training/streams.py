"""Named random streams: every draw belongs to a name, so adding an arm changes no other.

A stream is addressed by a seed and stable keys (what the draw is *for*: data, initialisation
or noise; which experiment; which arm), never by a position in a list.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..arguments import checked, checked_class
from ..errors import InputError, ShapeError, check_count, check_instance, check_precision, shown


@checked
def generator(seed: int, *keys: str | int | float) -> torch.Generator:
    """Return the torch generator of the stream `keys` under `seed`.

    Args:
        seed: the experiment's seed, a non-negative integer.
        keys: what the stream is for, e.g. `("noise", experiment, "PG", lam)`. Equal numbers of
            Python and NumPy are one key.

    Raises:
        InputError: a key is neither text nor a number.
    """
    check_count("seed", seed, 0, math.inf)
    names = [int.from_bytes(hashlib.sha256(_spelt(key).encode()).digest()[:8]) for key in keys]
    state = np.random.SeedSequence([seed, *names]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _spelt(key: object) -> str:
    key = key.item() if isinstance(key, np.generic) else key
    if not isinstance(key, str | int | float):
        raise InputError(f"a key of a stream is {shown(key)}: pass text or numbers")
    return repr(key)


@checked_class
@dataclass(frozen=True)
class MemberNoise:
    """Noise for a batch of members, one generator each.

    A member draws the same numbers whatever batch it is part of.

    Attributes:
        generators: one per member, in row-major order of `batch`.
        batch: the members' batch shape `*b`.
        device: where the noise is wanted, drawn on that of the generators: the same numbers on any.
    """

    generators: Sequence[torch.Generator]
    batch: tuple[int, ...] = ()
    device: torch.device | None = None

    def __post_init__(self) -> None:
        check_instance(
            "generators", self.generators, Sequence, "a list with a torch.Generator per member"
        )
        if len(self.generators) != math.prod(self.batch):
            raise ShapeError(
                f"{len(self.generators)} generators for the batch shape {self.batch}: pass one "
                f"per member"
            )

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return fresh standard normal noise of shape `(*b, *shape)`."""
        return self._fill(shape, dtype, Tensor.normal_)

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return fresh noise, uniform in [0, 1), of shape `(*b, *shape)`."""
        return self._fill(shape, dtype, Tensor.uniform_)

    def permutation(self, N: int) -> Tensor:
        """Return a fresh order of `N` things for every member, `(*b, N)`."""
        check_count("N", N)
        orders = [
            torch.randperm(N, generator=member, device=member.device) for member in self.generators
        ]
        return self._there(torch.stack(orders).reshape(*self.batch, N))

    def _fill(
        self, shape: tuple[int, ...], dtype: torch.dtype, draw: Callable[..., Tensor]
    ) -> Tensor:
        for place, size in enumerate(shape):
            check_count(f"shape[{place}]", size, 0)
        check_precision("dtype", dtype)
        device = self.generators[0].device if self.generators else None
        noise = torch.empty(self.batch + shape, dtype=dtype, device=device)
        members = noise.view(len(self.generators), *shape)
        for row, member in zip(members, self.generators, strict=True):
            draw(row, generator=member)
        return self._there(noise)

    def _there(self, drawn: Tensor) -> Tensor:
        return drawn if self.device is None else drawn.to(self.device)
