"""Identities of the outer problem: `F`, its hypergradient, its optimum, the cost of missing it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import gaussian
from paper_checks.conformance import derived, identities
from paper_checks.conformance.derived import EXPLICIT, square
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.data import TwoMoments
from solvers.families.gaussian import Structure
from solvers.rewards import mahalanobis
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import inner


def outer_objective(problem: Problem, structure: Structure) -> None:
    """`F(U) = E_y log N(y; m*, P*)`: the NLL of the solver's inner solution."""
    got = -outer_loss(problem.tensors(), structure)
    want = derived.derived(gaussian.outer.objective, structure, problem, "U", "Sigma")
    rtol = closed_form(problem.U)
    agree(f"F(U), {structure}", got, want, rtol=rtol, scale=1.0, inputs=problem)


def outer_loss(t: dict[str, Tensor], structure: Structure) -> Tensor:
    """Return `-F(U)` with the solvers, differentiable in `U`."""
    reward = MahalanobisReward(torch.linalg.cholesky(t["U"]))
    law = inner.closed_form(reward, t["lam"], t["mu"], structure).value
    return law.cross_entropy(TwoMoments(t["mu"], t["Sigma"]))


def slope(
    U: np.ndarray, Sigma: np.ndarray, lam: float, structure: Structure = "full"
) -> np.ndarray:
    """Return `∇_U F` by autograd through the solver's inner solution, as a plain function."""
    variable = torch.tensor(U, requires_grad=True)
    t = {
        "U": variable,
        "Sigma": torch.as_tensor(Sigma),
        "lam": torch.tensor(lam, dtype=torch.float64),
        "mu": torch.zeros(len(U), dtype=torch.float64),
    }
    (raw,) = torch.autograd.grad(-outer_loss(t, structure), variable)
    return ((raw + raw.T) / 2).numpy()


def hypergradient(problem: Problem, structure: Structure) -> None:
    """`∇_U F`: autograd through the solver's inner solution, direct and implicit derivation."""
    identities.SLOPE_IS_DERIVED(slope, problem, structure)
    if problem.n <= EXPLICIT:
        identities.SLOPE_IS_IMPLICIT(slope, problem, structure)


def hypergradient_by_search(problem: Problem, structure: Structure) -> None:
    """`∇_U F` is the slope of the likelihood of numerically found inner solutions."""
    identities.SLOPE_IS_MEASURED(slope, problem, structure)
    # with this, the derivation is held against the differences, too
    identities.SLOPE_IS_DERIVED(slope, problem, structure)


def optimal_reward(problem: Problem, structure: Structure) -> None:
    """`U*`: the solver's formula, the derivation, and a vanishing hypergradient."""
    t = problem.tensors()
    U = mahalanobis.optimal_reward(t["Sigma"], t["lam"], structure).U
    want = derived.optimal_reward(problem, structure)
    rtol = closed_form(problem.Sigma)
    agree(f"U*, {structure}", U, want, rtol=rtol, inputs=problem)
    at_optimum = replace(problem, U=U.numpy())
    gradient = derived.hypergradient(at_optimum, structure)
    name = f"∇F(U*) = 0, {structure}"
    identities.vanishes(name, lambda *_: gradient, at_optimum, structure)


def bilevel_is_maximum_likelihood(problem: Problem) -> None:
    """Training on `U*` gives the covariance of the data back."""
    t = problem.tensors()
    reward = mahalanobis.optimal_reward(t["Sigma"], t["lam"])
    law = inner.closed_form(reward, t["lam"], t["mu"]).value
    rtol = closed_form(problem.Sigma)
    agree("P*(U*) = Σ", law.covariance, problem.Sigma, rtol=rtol, inputs=problem)


def ray(problem: Problem) -> None:
    """`c*` and the loss of the ray `U = cM`, against the derivations and the measured NLL.

    Beyond explicit n: `F` is stationary along the ray at `c* M`, and the loss is the derived cost
    of the covariance `(λ/2) (c* M)⁻¹`.
    """
    t = problem.tensors()
    c = mahalanobis.optimal_scale(t["M"], t["Sigma"], t["lam"])
    rtol = closed_form(problem.M, problem.Sigma)
    at_best = replace(problem, U=(c * t["M"]).numpy())
    along = float(np.sum(derived.hypergradient(at_best, "full") * problem.M))
    scale = float(np.sum(problem.M * problem.Sigma)) / problem.lam
    agree("Tr(M ∇F(c*M)) = 0", along, 0.0, rtol=rtol, scale=scale, inputs=problem)
    optimum = mahalanobis.optimal_reward(t["Sigma"], t["lam"]).U
    measured = outer_loss({**t, "U": c * t["M"]}, "full") - outer_loss({**t, "U": optimum}, "full")
    S = problem.lam / 2 * np.linalg.inv(at_best.U)
    cost = cost_of_covariance(problem, S)
    agree("loss of the ray", measured, cost, rtol=rtol, scale=1.0, inputs=problem)
    if problem.n <= EXPLICIT:
        best = gaussian.rays.optimal_scale(problem.n)
        want = best.at(side="derived", **problem.pick("M", "Sigma", "lam"))
        agree("c* of the ray, derived", c, want, rtol=rtol, inputs=problem)
        loss = gaussian.rays.loss(problem.n).at(side="derived", **problem.pick("M", "Sigma"))
        agree("loss of the ray, derived", measured, loss, rtol=rtol, scale=1.0, inputs=problem)


def cost_of_covariance(problem: Problem, S: np.ndarray) -> float:
    """Return the derived cost of using `S` for `Σ`."""
    build = gaussian.misspecification.cost_of_covariance(
        problem.n if problem.n <= EXPLICIT else None
    )
    return build.at(side="derived", S=scalar(S), **problem.pick("Sigma"))


def scalar(matrix: np.ndarray) -> Any:
    """Return a 1 x 1 matrix as a float, any other as it is."""
    return matrix if len(matrix) > 1 else float(matrix[0, 0])


def wrong_covariance(problem: Problem) -> None:
    """The NLL lost by `U = (λ/2) S⁻¹` with a wrong `S`, measured with the solvers."""
    t = problem.tensors()
    wrong = mahalanobis.optimal_reward(t["P"], t["lam"]).U
    right = mahalanobis.optimal_reward(t["Sigma"], t["lam"]).U
    measured = outer_loss({**t, "U": wrong}, "full") - outer_loss({**t, "U": right}, "full")
    predicted = cost_of_covariance(problem, problem.P)
    rtol = closed_form(problem.P, problem.Sigma)
    agree("cost of a wrong Σ", measured, predicted, rtol=rtol, scale=1.0, inputs=problem)


def mean_field(problem: Problem) -> None:
    """A diagonal policy under the full `U*` shrinks to `1/(Σ⁻¹)_ii`, at the derived cost."""
    t = problem.tensors()
    reward = mahalanobis.optimal_reward(t["Sigma"], t["lam"], "full")
    law = inner.closed_form(reward, t["lam"], t["mu"], "diagonal").value
    rtol = closed_form(problem.Sigma)
    shrunk = gaussian.mean_field.shrinkage(problem.n).at(side="derived", **problem.pick("Sigma"))
    want = square(shrunk, problem.n)
    agree("P_ii = 1/(Σ⁻¹)_ii", law.covariance, want, rtol=rtol, inputs=problem)
    best = mahalanobis.optimal_reward(t["Sigma"], t["lam"], "diagonal").U
    measured = outer_loss({**t, "U": reward.U}, "diagonal") - outer_loss(
        {**t, "U": best}, "diagonal"
    )
    cost = gaussian.mean_field.cost(problem.n).at(side="derived", **problem.pick("Sigma"))
    agree("cost of mean field", measured, cost, rtol=rtol, scale=1.0, inputs=problem)
