"""Random categorical problems for the property tests, with the cases where formulas change form.

Class probabilities may tie, one may be exactly ½, dominate, or all be nearly uniform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from .strategies import spd

KINDS = ("generic", "tie", "half", "dominant", "near uniform")


@dataclass(frozen=True, eq=False)
class ClassProblem:
    """One categorical inner and outer problem, with a policy and a direction.

    Attributes:
        lam: entropy weight.
        U: reward weight on one-hot vectors, SPD.
        pi: class probabilities of the data, positive.
        p: class probabilities of a policy, positive.
        u: scalar weight, positive.
        H: symmetric direction.
        r: expected reward of every class, any numbers.
    """

    lam: float
    U: np.ndarray
    pi: np.ndarray
    p: np.ndarray
    u: float
    H: np.ndarray
    r: np.ndarray

    @property
    def C(self) -> int:
        """Number of classes."""
        return len(self.pi)

    def tensors(self) -> dict[str, Tensor]:
        """Return every field as a float64 tensor."""
        return {k: torch.as_tensor(v, dtype=torch.float64) for k, v in vars(self).items()}

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={np.asarray(v).tolist()}" for k, v in vars(self).items())
        return f"ClassProblem({fields})"


def probabilities(rng: np.random.Generator, C: int, kind: str = "generic") -> np.ndarray:
    """Return positive class probabilities of a kind of `KINDS`, in random order."""
    if kind == "half":
        pi = np.append(_normalised(rng.uniform(0.2, 1, C - 1)) / 2, 0.5)
    elif kind == "dominant":
        largest = rng.uniform(0.6, 0.95)
        pi = np.append(_normalised(rng.uniform(0.2, 1, C - 1)) * (1 - largest), largest)
    elif kind == "near uniform":
        pi = _normalised(1 + 1e-2 * rng.uniform(-1, 1, C))
    else:
        weights = rng.uniform(0.2, 1, C)
        if kind == "tie":
            weights[1] = weights[0]
        pi = _normalised(weights)
    return rng.permutation(pi)


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def make_class_problem(C: int, seed: int) -> ClassProblem:
    """Return the problem of a seed."""
    rng = np.random.default_rng([C, seed])
    lam = float(10 ** rng.uniform(-0.5, 0.5))
    # Rewards of a few λ at most: laws that are not, in floating point, on one class alone.
    U = spd(rng, C)
    H = rng.standard_normal((C, C))
    return ClassProblem(
        lam=lam,
        U=lam * U / np.trace(U),
        pi=probabilities(rng, C, str(rng.choice(KINDS))),
        p=probabilities(rng, C),
        u=float(lam * 10 ** rng.uniform(-0.5, 0.5)),
        H=H + H.T,
        r=rng.standard_normal(C),
    )


def class_problems(most: int = 10) -> st.SearchStrategy[ClassProblem]:
    """Problems of 2 to `most` classes."""
    return st.builds(make_class_problem, st.integers(2, most), st.integers(0, 2**32 - 1))
