"""What the identities share: the problem as a policy's law and as data."""

from __future__ import annotations

import torch

from paper_checks.conformance import witnesses
from paper_checks.conformance.strategies import Problem
from solvers.data import Dataset
from solvers.families.gaussian import Gaussian


def policy_law(problem: Problem) -> Gaussian:
    """Return `N(m, P)` as the law of a policy at a single input."""
    t = problem.tensors()
    return Gaussian(t["m"][None], torch.linalg.cholesky(t["P"])[None])


def data_with_moments(problem: Problem) -> Dataset:
    """Return data at a single input whose empirical moments are exactly `(μ, Σ)`."""
    t = problem.tensors()
    y = witnesses.cubature(t["mu"], torch.linalg.cholesky(t["Sigma"]))
    return Dataset.of(torch.zeros(1, 1, dtype=torch.float64), y[None])
