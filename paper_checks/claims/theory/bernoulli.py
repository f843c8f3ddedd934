"""Witnesses of the results on independent bits: enumeration of the 2ⁿ outcomes, autograd, searches.

Probabilities of the data are those of the problem's mean under the logistic function.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from analysis.bernoulli import inner, outer
from analysis.derivation import Derivation

from ...conformance.strategies import Problem
from .numerics import relative_error, tensor
from .proposition import EXACT, Check, Proposition

NEWTON = 60  # steps, from ψ = ½: of a strictly concave function of each bit alone


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def _data(problem: Problem) -> np.ndarray:
    return _probabilities(problem.mu)


def _policy(problem: Problem) -> np.ndarray:
    return _probabilities(problem.m)


def _J(z: Tensor, problem: Problem, U: Tensor) -> Tensor:
    """J of logits, by enumeration; the data of mean ρ and covariance Σ enter through moments."""
    points = tensor(list(product((0.0, 1.0), repeat=problem.n)))
    log_p = (points * torch.nn.functional.logsigmoid(z)).sum(-1)
    log_p = log_p + ((1 - points) * torch.nn.functional.logsigmoid(-z)).sum(-1)
    e = points - tensor(_data(problem))
    reward = -((e @ U) * e).sum(-1) - (U * tensor(problem.Sigma)).sum()
    return (log_p.exp() * (reward - problem.lam * log_p)).sum()


def _maximum(problem: Problem, weights: np.ndarray) -> np.ndarray:
    """The logits that maximise J for U = diag(u), by Newton's method on each bit."""
    U, z = tensor(np.diag(weights)), torch.zeros(problem.n, dtype=torch.float64)
    for _ in range(NEWTON):
        z = z.requires_grad_()
        slope = torch.autograd.grad(_J(z, problem, U), z, create_graph=True)[0]
        curve = torch.stack([torch.autograd.grad(s, z, retain_graph=True)[0] for s in slope])
        # Where J is not concave in z, it still rises along its slope: limited steps get there.
        bend = curve.diagonal().abs().clamp(min=1e-3)
        z = (z + (slope / bend).clamp(-1, 1)).detach()
    return z.numpy()


def objective(d: Derivation, problem: Problem) -> float:
    """J by enumeration."""
    z = tensor(problem.m)
    bits = {"psi": _policy(problem), "rho": _data(problem)}
    values = bits | {"U": problem.U, "Sigma": problem.Sigma, "lam": problem.lam}
    return relative_error(d.at("stated", **values), float(_J(z, problem, tensor(problem.U))), 1.0)


def solution(d: Derivation, problem: Problem) -> float:
    """The logits that a search finds."""
    want = _maximum(problem, _moderate(problem))
    got = d.at("stated", U=np.diag(_moderate(problem)), rho=_data(problem), lam=problem.lam)
    return relative_error(np.ravel(got), want, 1.0)


def _moderate(problem: Problem) -> np.ndarray:
    """Weights of about λ, at which no bit is all but certain."""
    weights = np.diag(problem.U)
    return problem.lam * weights / (1 + weights)


def hypergradient(d: Derivation, problem: Problem) -> float:
    """dF/du by the implicit function theorem on J by enumeration."""
    u = tensor(_moderate(problem)).requires_grad_()
    z = tensor(_maximum(problem, _moderate(problem))).requires_grad_()
    rho = tensor(_data(problem))
    slope = torch.autograd.grad(_J(z, problem, torch.diag(u)), z, create_graph=True)[0]
    hessian = torch.stack([torch.autograd.grad(s, z, retain_graph=True)[0] for s in slope])
    F = (rho * torch.nn.functional.logsigmoid(z)).sum()
    F = F + ((1 - rho) * torch.nn.functional.logsigmoid(-z)).sum()
    v = torch.linalg.solve(-hessian, torch.autograd.grad(F, z)[0])
    want = torch.autograd.grad(slope @ v.detach(), u)[0].numpy()
    got = d.at(
        "stated", psi=_probabilities(z.detach().numpy()), rho=_data(problem), lam=problem.lam
    )
    return relative_error(np.ravel(got), want, 1.0)


def optimal_reward(d: Derivation, problem: Problem) -> float:
    """At u* the search for the policy ends at the data."""
    u = np.ravel(d.at("stated", rho=_data(problem), lam=problem.lam))
    return relative_error(_probabilities(_maximum(problem, u)), _data(problem), 1.0)


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
