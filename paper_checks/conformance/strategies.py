"""Random problems for the property tests; tested themselves in `tests/checks/test_strategies.py`.

SPD matrices come from log-uniform eigenvalues and random rotations, so that their condition
number is bounded and no draw has to be thrown away. Everything is float64 NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

GROUPS = ((1, 2), (1, 3), (1, 4), (2, 2), (3, 2))  # (n, M) of at most 576 nodes of noise
CONDITION = 1e3  # bound on the condition number of every SPD matrix drawn here


def spd(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return an SPD matrix with condition number at most `CONDITION`, of random size."""
    half = np.log10(CONDITION) / 2
    eigenvalues = 10 ** rng.uniform(-half, half, n)
    rotation, _ = np.linalg.qr(rng.standard_normal((n, n)))
    scaled = (rotation * eigenvalues) @ rotation.T
    return (scaled + scaled.T) / 2


@dataclass(frozen=True, eq=False)
class Problem:
    """One Gaussian inner and outer problem, with a policy and a second weight matrix.

    Attributes:
        lam: entropy weight.
        U: reward weight, SPD.
        Sigma: data covariance, SPD.
        mu: data mean.
        m: policy mean.
        P: policy covariance, SPD.
        M: direction of a ray of rewards, SPD.
    """

    lam: float
    U: np.ndarray
    Sigma: np.ndarray
    mu: np.ndarray
    m: np.ndarray
    P: np.ndarray
    M: np.ndarray

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return len(self.mu)

    def tensors(self) -> dict[str, Tensor]:
        """Return every field as a float64 tensor."""
        return {k: torch.as_tensor(v, dtype=torch.float64) for k, v in vars(self).items()}

    def pick(self, *names: str) -> dict[str, object]:
        """Return the named fields for `Derivation.at`: floats where n = 1."""
        values = {name: getattr(self, name) for name in names}
        if self.n > 1:
            return values
        return {k: float(np.asarray(v).reshape(())) for k, v in values.items()}

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={np.asarray(v).tolist()}" for k, v in vars(self).items())
        return f"Problem({fields})"


def make_problem(n: int, seed: int) -> Problem:
    """Return the problem of a seed."""
    rng = np.random.default_rng([n, seed])
    return Problem(
        lam=float(10 ** rng.uniform(-1.5, 1)),
        U=spd(rng, n),
        Sigma=spd(rng, n),
        mu=rng.normal(0, 2, n),
        m=rng.normal(0, 2, n),
        P=spd(rng, n),
        M=spd(rng, n),
    )


def seeds() -> st.SearchStrategy[int]:
    """Seeds of problems."""
    return st.integers(0, 2**32 - 1)


def problems(max_n: int = 5) -> st.SearchStrategy[Problem]:
    """Problems of dimension 1 to `max_n`."""
    return st.builds(make_problem, st.integers(1, max_n), seeds())


@dataclass(frozen=True)
class Group:
    """A problem by its seed, and how many generations an estimator gets for one data point.

    Attributes:
        n: outcome dimension.
        M: number of generations.
        seed: of the problem; its `μ` is the data point.
    """

    n: int
    M: int
    seed: int

    @property
    def problem(self) -> Problem:
        """The problem."""
        return make_problem(self.n, self.seed)


def groups(sizes: Sequence[tuple[int, int]] = GROUPS) -> st.SearchStrategy[Group]:
    """Groups with `(n, M)` among `sizes`; the default ones are small enough for quadrature."""

    def build(size: tuple[int, int], seed: int) -> Group:
        return Group(*size, seed)

    return st.builds(build, st.sampled_from(sizes), seeds())


@dataclass(frozen=True)
class Sizes:
    """Sizes that all differ, so that swapped axes cannot go unnoticed.

    Attributes:
        members: ensemble members `b`.
        rows: inputs `N`.
        samples: outcomes per input `S`.
        generations: generations per outcome `M`.
        inputs: input dimension `d`.
        n: outcome dimension.
    """

    members: int
    rows: int
    samples: int
    generations: int
    inputs: int
    n: int


def sizes() -> st.SearchStrategy[Sizes]:
    """Six distinct sizes between 1 and 8, at least two generations; n = 1 included."""

    def order(n: int, others: list[int]) -> Sizes:
        rest = [k for k in others if k != n]
        generations = next(k for k in rest if k > 1)
        rest.remove(generations)
        return Sizes(rest[0], rest[1], rest[2], generations, rest[3], n)

    return st.builds(order, st.integers(1, 5), st.permutations(range(1, 9)))


def one_in(k: int) -> settings:
    """Fewer examples for a costly test: one in `k` of the active profile's."""
    return settings(max_examples=max(1, settings().max_examples // k))
