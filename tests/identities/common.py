"""What the identities share: derivations evaluated at a problem, and the problem as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from analysis import outer
from analysis.derivation import Derivation
from paper_checks.conformance import witnesses
from paper_checks.conformance.strategies import Problem
from solvers.data import Dataset
from solvers.gaussian import Gaussian

EXPLICIT = 3  # derivations with explicit entries exist up to this n

Builder = Callable[[Any, Any], Derivation]


def derived(build: Builder, structure: str, problem: Problem, *names: str) -> np.ndarray:
    """Return a derived matrix or scalar of the outer or inner problem, for any n.

    Beyond explicit n, the full structure has its derivation for general n. The restricted ones
    separate into scalar problems: one per diagonal entry for a diagonal policy, and `n` copies of
    the one with averaged diagonals for an isotropic policy.
    """
    n, values = problem.n, problem.pick("lam", *names)
    if n <= EXPLICIT:
        return np.asarray(build(structure, n).at(side="derived", **values))
    if structure == "full":
        return np.asarray(build("full", None).at(side="derived", **values))
    scalar = build(structure, 1)
    diagonals = np.stack([np.diag(getattr(problem, name)) for name in names])
    if structure == "isotropic":
        diagonals = np.broadcast_to(diagonals.mean(1, keepdims=True), diagonals.shape)
    entries = [
        scalar.at(
            side="derived", lam=problem.lam, **dict(zip(names, map(float, column), strict=True))
        )
        for column in diagonals.T
    ]
    return np.sum(entries) if build is outer.objective else np.diag(entries)


def square(value: Any, n: int) -> np.ndarray:
    """Return a matrix result as `(n, n)`, also where n = 1 made it a float."""
    return np.asarray(value, float).reshape(n, n)


def policy_law(problem: Problem) -> Gaussian:
    """Return `N(m, P)` as the law of a policy at a single input."""
    t = problem.tensors()
    return Gaussian(t["m"][None], torch.linalg.cholesky(t["P"])[None])


def data_with_moments(problem: Problem) -> Dataset:
    """Return data at a single input whose empirical moments are exactly `(μ, Σ)`."""
    t = problem.tensors()
    y = witnesses.cubature(t["mu"], torch.linalg.cholesky(t["Sigma"]))
    return Dataset.of(torch.zeros(1, 1, dtype=torch.float64), y[None])
