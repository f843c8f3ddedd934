"""Identities of sampled inner objectives under a hypergradient: right, or refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from analysis import gaussian, hypergradients
from paper_checks.conformance import witnesses
from paper_checks.conformance.derived import derived, square
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.families.gaussian import Structure
from solvers.hypergradients.implicit import HypergradientError, HypergradientWarning
from solvers.hypergradients.methods import Implicit
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training.estimators import Estimator, Pathwise, ScoreFunction
from solvers.training.objectives import PolicyGradient
from tests.draws import F64
from tests.gate.identities.common import data_with_moments
from tests.gate.identities.hypergradients import (
    HYPERGRADIENT,
    inner_point,
    law_of,
    objectives,
)

SIX = torch.tensor([-(3**0.5), 0.0, 0.0, 0.0, 0.0, 3**0.5], dtype=F64)  # equal weights, degree 5


def sampled(problem: Problem, structure: Structure, by: Estimator, nodes: Tensor) -> Any:
    """Return the package's own sampled `J(θ, φ)`, with nodes `(n, M)` of a quadrature for noise."""
    t, data = problem.tensors(), data_with_moments(problem)
    S = data.y.shape[-2]
    noise = witnesses.FixedNoise(nodes[:, :, None, None].expand(*nodes.shape, S, 1))

    def J(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        U = (phi["U"] + phi["U"].T) / 2
        objective = PolicyGradient(MahalanobisReward(torch.linalg.cholesky(U)), t["lam"], by)
        # as in `objectives`: entries of a full factor above its diagonal are no parameters
        idle = theta["lower"].triu().square().sum() if structure == "full" else 0.0
        return -objective(law_of(theta, structure), data, noise) - idle

    return J


def moving_samples(problem: Problem, structure: Structure) -> None:
    """Through pathwise samples the hypergradient is the derived one: they may be differentiated."""
    n = problem.n
    nodes = witnesses.cubature(torch.zeros(n, dtype=F64), torch.eye(n, dtype=F64)).T
    J, F = sampled(problem, structure, Pathwise(2 * n), nodes), objectives(problem, structure)[1]
    theta, phi = inner_point(problem, structure), {"U": problem.tensors()["U"]}
    found = Implicit(tolerance=1e-9, distance=1e-3)(J, F, theta, phi)
    want = square(derived(gaussian.outer.hypergradient, structure, problem, "U", "Sigma"), n)
    got = (found.value["U"] + found.value["U"].T) / 2
    scale = float(np.linalg.norm(problem.Sigma) / problem.lam)
    rtol = max(HYPERGRADIENT, closed_form(problem.U, problem.Sigma))
    name = f"∇_U F through pathwise samples, {structure}"
    agree(name, got, want, rtol=rtol, scale=scale, inputs=problem)


def held_samples(problem: Problem) -> None:
    """Through held samples it is the derived one of the wrong sign, and refused.

    Args:
        problem: scalar.
    """
    t = problem.tensors()
    theta, phi = inner_point(problem, "diagonal"), {"U": t["U"]}
    F = objectives(problem, "diagonal")[1]
    law = law_of(theta, "diagonal")
    generations = law.mean + law.scale * SIX.unsqueeze(-1)  # (M, n)
    y = witnesses.cubature(t["mu"], torch.linalg.cholesky(t["Sigma"]))

    def plain(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        moved = Normal(theta["m"], theta["log_s"].exp())
        r = witnesses.reward(generations[:, None], y[None], phi["U"]).mean(1)
        reinforced = (r * moved.log_prob(generations).sum(-1)).mean()
        return reinforced + t["lam"] * moved.entropy().sum()

    own = sampled(problem, "diagonal", ScoreFunction(len(SIX), "none"), SIX[None])
    refused("held samples of r log p", plain, F, theta, phi, problem, None)
    refused("held samples of r log p, undamped", plain, F, theta, phi, problem, 0.0)
    refused("the package's own held samples", own, F, theta, phi, problem, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)
        found = Implicit(damping=0.0, distance=1e-3)(plain, F, theta, phi)
    values = {
        "u": float(problem.U[0, 0]),
        "lam": problem.lam,
        "sigma": float(problem.Sigma[0, 0]) ** 0.5,
    }
    want = hypergradients.surrogate.hypergradient().at("derived", **values)
    scale = 1 / values["u"] + values["sigma"] ** 2 / problem.lam
    agree("∇F through held samples", found.value["U"], [[want]], rtol=1e-8, scale=scale,
          inputs=problem)  # fmt: skip


def refused(
    name: str, J: Any, F: Any, theta: Any, phi: Any, problem: Problem, damping: float | None
) -> None:
    """Assert that the hypergradient is in doubt, and an error where it must be trusted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)
        doubts = Implicit(damping=damping, distance=1e-3)(J, F, theta, phi).doubts
    if not any("strictly concave" in doubt for doubt in doubts):
        raise AssertionError(f"{name}: doubt fails to be cast, {doubts}\n  inputs   {problem}")
    try:
        Implicit(damping=damping, distance=1e-3, strict=True)(J, F, theta, phi)
    except HypergradientError:
        return
    raise AssertionError(f"{name}: strict=True fails to refuse\n  inputs   {problem}")
