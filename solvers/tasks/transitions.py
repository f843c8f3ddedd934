"""Steps of a simulator: what was observed, what was done, what was observed next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .minari_files import Piece


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
        truncated: a limit of time ended it, `(N,)`; the dynamics would have gone on.
    """

    observation: Float[Tensor, "N n"]
    action: Float[Tensor, "N a"]
    next_observation: Float[Tensor, "N n"]
    episode: Int[Tensor, "N"]
    step: Int[Tensor, "N"]
    terminated: Bool[Tensor, "N"]
    truncated: Bool[Tensor, "N"]

    def rows(self, index: Int[Tensor, "B"] | slice) -> Transitions:
        """Return the steps `index`."""
        return Transitions(*(field[index] for field in vars(self).values()))

    def __len__(self) -> int:
        """Return the number of steps `N`."""
        return len(self.episode)


def of_piece(piece: Piece, dtype: torch.dtype) -> Transitions:
    """Return the steps of one piece of an episode: T of them from T + 1 observations."""
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


def batches(parts: Iterable[Transitions], batch: int) -> Iterator[Transitions]:
    """Return an iterator over the same steps, `batch` at a time; the last may be fewer."""
    held: list[Transitions] = []
    count = 0
    for part in parts:
        first = 0
        while len(part) - first >= batch - count:
            last = first + batch - count
            yield join([*held, part.rows(slice(first, last))])
            held, count, first = [], 0, last
        if first < len(part):
            held.append(part.rows(slice(first, None)))
            count += len(part) - first
    if held:
        yield join(held)
