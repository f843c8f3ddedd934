"""Identities of the inner problem: `J`, its maximiser, the reverse KL."""

from __future__ import annotations

import numpy as np
import torch

from analysis import gaussian
from paper_checks.conformance import identities, witnesses
from paper_checks.conformance.derived import EXPLICIT
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.families.gaussian import Structure
from solvers.rewards import mahalanobis
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import inner, objectives
from solvers.training.estimators import Analytic
from tests.gate.identities.common import data_with_moments, policy_law


def covariance(U: np.ndarray, lam: float, structure: Structure = "full") -> np.ndarray:
    """Return `P*` of the solver, as a plain function."""
    reward = MahalanobisReward.full(torch.as_tensor(U))
    mu = torch.zeros(len(U), dtype=torch.float64)
    law = inner.closed_form(reward, torch.tensor(lam, dtype=torch.float64), mu, structure).value
    return law.covariance.numpy()


def inner_solution(problem: Problem, structure: Structure) -> None:
    """`P* = (λ/2) U⁻¹`, `m* = μ`: solver against derivation."""
    t = problem.tensors()
    solution = inner.closed_form(MahalanobisReward.full(t["U"]), t["lam"], t["mu"], structure)
    P = solution.value.covariance.numpy()
    identities.INNER_IS_DERIVED(lambda *_: P, problem, structure)
    agree("m* = μ", solution.value.mean, problem.mu, rtol=0, inputs=problem)
    assert solution.converged, f"stationarity {solution.stationarity} at the closed form: {problem}"


def inner_solution_by_search(problem: Problem, structure: Structure) -> None:
    """The maximiser of the definition of `J`, found numerically, is the closed form."""
    identities.INNER_MAXIMISES(covariance, problem, structure)
    # with this, the derivation is held against the search, too
    identities.INNER_IS_DERIVED(covariance, problem, structure)


def inner_objective(problem: Problem) -> None:
    """`J(m, P; U)`: training objective, derivation and definition agree."""
    t = problem.tensors()
    law, data = policy_law(problem), data_with_moments(problem)
    objective = objectives.PolicyGradient(MahalanobisReward.full(t["U"]), t["lam"], Analytic())
    J = -float(objective(law, data))
    build = gaussian.inner.objective(problem.n if problem.n <= EXPLICIT else None)
    want = build.at(side="derived", **problem.pick("m", "P", "mu", "Sigma", "U", "lam"))
    rtol, scale = closed_form(problem.P, problem.Sigma), 1.0
    agree("J = E r + λH", J, want, rtol=rtol, scale=scale, inputs=problem)
    defined = witnesses.inner_objective(t["m"], law.scale[0], t["U"], t["mu"], t["Sigma"], t["lam"])
    agree("J by cubature of its definition", J, defined, rtol=rtol, scale=scale, inputs=problem)


def reverse_kl(problem: Problem) -> None:
    """`J(m, P; U*)` falls short of its maximum by `λ KL(N(m,P) || N(μ,Σ))`, torch's KL."""
    t = problem.tensors()
    n = problem.n if problem.n <= EXPLICIT else None
    law, data = policy_law(problem), data_with_moments(problem)
    reward = mahalanobis.optimal_reward(t["Sigma"], t["lam"])
    J = -objectives.PolicyGradient(reward, t["lam"], Analytic())(law, data)
    rtol = closed_form(problem.P, problem.Sigma)
    policy = torch.distributions.MultivariateNormal(t["m"], t["P"])
    target = torch.distributions.MultivariateNormal(t["mu"], t["Sigma"])
    kl = torch.distributions.kl_divergence(policy, target)
    values = problem.pick("m", "P", "mu", "Sigma")
    derived_kl = gaussian.divergences.kl(n).at(side="derived", **values)
    scale = 1.0 + float(kl)
    agree("KL", derived_kl, kl, rtol=rtol, scale=scale, inputs=problem)
    maximum = problem.lam / 2 * (np.linalg.slogdet(2 * np.pi * problem.Sigma)[1] - problem.n)
    agree("J = -λ KL + max", J, maximum - problem.lam * kl, rtol=rtol, scale=scale, inputs=problem)
    want = gaussian.divergences.reverse_kl(n).at(side="derived", lam=problem.lam, **values)
    agree("J(m, P; U*), derived", J, want, rtol=rtol, scale=scale, inputs=problem)
