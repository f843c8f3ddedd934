"""Witnesses of the results on independent bits: enumeration of the 2ⁿ outcomes, autograd, searches.

Probabilities of the data are those of the problem's mean under the logistic function.
"""

from __future__ import annotations

import numpy as np

from analysis.bernoulli import inner, outer
from analysis.derivation import Derivation

from ...conformance.bits import J, implicit_slope, maximum, probabilities
from ...conformance.strategies import Problem
from .numerics import relative_error, tensor
from .proposition import EXACT, Check, Proposition


def _data(problem: Problem) -> np.ndarray:
    return probabilities(problem.mu)


def _policy(problem: Problem) -> np.ndarray:
    return probabilities(problem.m)


def objective(d: Derivation, problem: Problem) -> float:
    """J by enumeration."""
    z = tensor(problem.m)
    bits = {"psi": _policy(problem), "rho": _data(problem)}
    values = bits | {"U": problem.U, "Sigma": problem.Sigma, "lam": problem.lam}
    return relative_error(
        d.at("stated", **values),
        float(J(z, _data(problem), tensor(problem.U), problem.lam, problem.Sigma)),
        1.0,
    )


def solution(d: Derivation, problem: Problem) -> float:
    """The logits that a search finds."""
    want = maximum(_moderate(problem), _data(problem), problem.lam)
    got = d.at("stated", U=np.diag(_moderate(problem)), rho=_data(problem), lam=problem.lam)
    return relative_error(np.ravel(got), want, 1.0)


def _moderate(problem: Problem) -> np.ndarray:
    """Weights of about λ, at which no bit is all but certain."""
    weights = np.diag(problem.U)
    return problem.lam * weights / (1 + weights)


def hypergradient(d: Derivation, problem: Problem) -> float:
    """dF/du by the implicit function theorem on J by enumeration."""
    u, rho = _moderate(problem), _data(problem)
    z = maximum(u, rho, problem.lam)
    want = implicit_slope(z, u, rho, problem.lam)
    got = d.at("stated", psi=probabilities(z), rho=rho, lam=problem.lam)
    return relative_error(np.ravel(got), want, 1.0)


def optimal_reward(d: Derivation, problem: Problem) -> float:
    """At u* the search for the policy ends at the data."""
    u = np.ravel(d.at("stated", rho=_data(problem), lam=problem.lam))
    return relative_error(
        probabilities(maximum(u, _data(problem), problem.lam)), _data(problem), 1.0
    )


PROPOSITIONS = (
    Proposition(
        "bernoulli.objective",
        "J of independent bits is the Gaussian expression with their mean and covariance",
        "new",
        (Check(inner.objective, objective, EXACT),),
        solver="solvers.rewards.mahalanobis:MahalanobisReward",
    ),
    Proposition(
        "bernoulli.inner_solution",
        "for U = diag(u) the inner solution has the logits u_i(2ρ_i - 1)/λ",
        "new",
        (Check(inner.solution, solution, EXACT),),
        solver="solvers.families.bernoulli:inner_solution",
    ),
    Proposition(
        "bernoulli.optimal_reward",
        "u*_i = λ log(ρ_i/(1-ρ_i))/(2ρ_i - 1) gives ψ* = ρ; ∂F/∂u_i = (ρ_i - ψ_i)(2ρ_i - 1)/λ",
        "new",
        (
            Check(outer.hypergradient, hypergradient, EXACT),
            Check(outer.optimal_reward, optimal_reward, EXACT),
        ),
        solver="solvers.bilevel.maximum_likelihood:solve",
    ),
)
