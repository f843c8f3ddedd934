"""Identities of the bilevel solvers: from any start the reward of the theory is reached."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import gaussian
from paper_checks.conformance.derived import derived, square
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree
from solvers import bilevel
from solvers.families.gaussian import Structure
from solvers.rewards.learnable import ConstantReward
from solvers.training.objectives import NLL, PolicyGradient
from tests.gate.identities.common import data_with_moments
from tests.gate.identities.hypergradients import inner_point, law_of

KINDS: dict[Structure, Any] = {"full": "full", "diagonal": "diagonal", "isotropic": "scalar"}
SLOPE = 1e-7  # where the outer loop stops; U is then right to about its square root at worst


def gaussian_problem(problem: Problem, structure: Structure) -> bilevel.Bilevel:
    """Return the paper's problem for a policy without a network: `θ` is the law itself."""
    t, data = problem.tensors(), data_with_moments(problem)
    reward = ConstantReward(problem.n, KINDS[structure])

    def J(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        objective = PolicyGradient(reward(phi, data.x), t["lam"])
        idle = theta["lower"].triu().square().sum() if structure == "full" else 0.0
        return -objective(law_of(theta, structure), data) - idle

    def F(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        return -NLL()(law_of(theta, structure), data)

    return bilevel.Bilevel(J, F)


def reaches_the_optimal_reward(problem: Problem, structure: Structure) -> None:
    """`U` goes from any SPD start to the derived `U*`, and the policy to the law of the data."""
    reward = ConstantReward(problem.n, KINDS[structure])
    found = bilevel.solve(
        gaussian_problem(problem, structure),
        inner_point(problem, structure),
        reward.start(problem.tensors()["U"]),
        optimiser=lambda tensors: torch.optim.LBFGS(
            tensors, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
        ),
        steps=20,
        tolerance=SLOPE,
    )
    name = f"bilevel solution, {structure}"
    if not found.converged:
        last = found.history[-1]
        raise AssertionError(f"{name} fails to converge: {last}\n  inputs   {problem}")
    got = reward(found.phi, torch.zeros(1, 1)).U
    want = square(derived(gaussian.outer.optimal_reward, structure, problem, "Sigma"), problem.n)
    agree(f"{name}: U", got, want, rtol=1e-5, inputs=problem)
    P = law_of(found.theta, structure).covariance[0]
    if structure == "full":
        agree(f"{name}: P = Σ", P, problem.Sigma, rtol=1e-5, inputs=problem)
    elif structure == "diagonal":
        want = np.diag(np.diag(problem.Sigma))
        agree(f"{name}: P = diag Σ", P, want, rtol=1e-5, inputs=problem)
