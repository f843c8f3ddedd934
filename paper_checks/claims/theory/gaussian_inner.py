"""Witnesses of the inner problem and of divergences: search, autograd, quadrature, torch's KL.

A witness takes a derivation and a problem and returns how far the stated formula, evaluated by
`Derivation.at`, is from a number that shares no closed form with it.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import integrate, stats
from torch.distributions import MultivariateNormal, kl_divergence

from analysis import gaussian, rules
from analysis.derivation import Derivation

from ...conformance import witnesses
from ...conformance.strategies import Problem
from . import numerics
from .numerics import relative_error, square, tensor
from .proposition import DIFFERENCES, EXACT, SEARCH, Check, Proposition


def _size(problem: Problem) -> float:
    """Size of the terms of J, which may cancel."""
    spread = np.linalg.norm(problem.P) + np.linalg.norm(problem.Sigma)
    return float(np.linalg.norm(problem.U) * (spread + np.sum((problem.m - problem.mu) ** 2)))


def _objective(problem: Problem, U: np.ndarray) -> float:
    t = problem.tensors()
    L = torch.linalg.cholesky(t["P"])
    value = witnesses.inner_objective(t["m"], L, tensor(U), t["mu"], t["Sigma"], t["lam"])
    return float(value)


def objective(d: Derivation, problem: Problem) -> float:
    """J by cubature of the definition."""
    got = d.at("stated", **problem.pick("m", "P", "mu", "Sigma", "U", "lam"))
    return relative_error(got, _objective(problem, problem.U), _size(problem))


def _slopes(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """∂J/∂m and the symmetric ∂J/∂P by autograd on the definition."""
    t = problem.tensors()
    m, P = t["m"].requires_grad_(), t["P"].requires_grad_()
    L = torch.linalg.cholesky(P)
    J = witnesses.inner_objective(m, L, t["U"], t["mu"], t["Sigma"], t["lam"])
    in_m, in_P = torch.autograd.grad(J, [m, P])
    return in_m.numpy(), ((in_P + in_P.mT) / 2).numpy()


def mean_gradient(d: Derivation, problem: Problem) -> float:
    """∇_m J by autograd."""
    got = np.atleast_1d(d.at("stated", **problem.pick("m", "mu", "U")))
    return relative_error(got, _slopes(problem)[0])


def covariance_gradient(d: Derivation, problem: Problem) -> float:
    """∇_P J by autograd."""
    got = square(d.at("stated", **problem.pick("P", "U", "lam")), problem.n)
    scale = float(np.linalg.norm(problem.U))
    return relative_error(got, _slopes(problem)[1], scale)


def inner_solution(d: Derivation, problem: Problem) -> float:
    """The argmax (m*, P*) of J by search."""
    structure = str(d.key.variant)
    theta = numerics.search(problem, problem.U, structure)
    m, L = witnesses.unpack(theta, problem.n, structure)
    got = square(d.at("stated", **problem.pick("U", "lam")), problem.n)
    return max(relative_error(got, numerics.product(L)), relative_error(problem.mu, m.numpy()))


def gibbs_gap(d: Derivation, problem: Problem) -> float:
    """J(p*) - J(p), p* found by search; for n = 1 also for a Laplace density, by quadrature."""
    theta = numerics.search(problem, problem.U)
    t, (m, L) = problem.tensors(), witnesses.unpack(theta, problem.n, "full")
    top = float(witnesses.inner_objective(m, L, t["U"], t["mu"], t["Sigma"], t["lam"]))
    got = d.at("stated", **problem.pick("m", "P", "mu", "U", "lam"))
    error = relative_error(got, top - _objective(problem, problem.U), _size(problem))
    if problem.n > 1:
        return error
    best = stats.norm(float(m[0]), float(L[0, 0]))
    return max(error, _laplace_gap(problem, top, best))


def _laplace_gap(problem: Problem, top: float, best: stats.rv_continuous) -> float:
    """How far `J(p*) - J(p)` is from `λ KL(p ‖ p*)` for a density p that is not Gaussian."""
    u, mu, centre, Sigma, scale = (
        float(np.asarray(value).reshape(()))
        for value in (problem.U, problem.mu, problem.m, problem.Sigma, problem.P)
    )
    p = stats.laplace(centre, np.sqrt(scale))
    reward = -u * ((p.mean() - mu) ** 2 + p.var() + Sigma)

    def integrand(y: float) -> float:
        return float(p.pdf(y) * (p.logpdf(y) - best.logpdf(y)))

    ends = (centre - 60 * p.std(), centre, centre + 60 * p.std())
    kl = sum(
        integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-10, limit=200)[0]
        for a, b in ((ends[0], ends[1]), (ends[1], ends[2]))
    )
    gap = top - (reward + problem.lam * p.entropy())
    return relative_error(gap, problem.lam * kl, _size(problem))


def _torch_kl(m: np.ndarray, P: np.ndarray, mu: np.ndarray, Sigma: np.ndarray) -> float:
    p, q = MultivariateNormal(tensor(m), tensor(P)), MultivariateNormal(tensor(mu), tensor(Sigma))
    return float(kl_divergence(p, q))


def kl(d: Derivation, problem: Problem) -> float:
    """KL(N(m, P) ‖ N(μ, Σ)) by torch."""
    want = _torch_kl(problem.m, problem.P, problem.mu, problem.Sigma)
    return relative_error(d.at("stated", **problem.pick("m", "P", "mu", "Sigma")), want, 1.0)


def gaussian_cost(d: Derivation, problem: Problem) -> float:
    """The likelihood lost against the best fit found by search; the forward KL by torch."""
    t = problem.tensors()
    here = float(
        witnesses.log_likelihood(t["m"], torch.linalg.cholesky(t["P"]), t["mu"], t["Sigma"])
    )
    got = d.at("stated", **problem.pick("m", "P", "mu", "Sigma"))
    forward = _torch_kl(problem.mu, problem.Sigma, problem.m, problem.P)
    lost = numerics.best_fit(problem)[0] - here
    return max(relative_error(got, lost, 1.0), relative_error(got, forward, 1.0))


def reverse_kl(d: Derivation, problem: Problem) -> float:
    """J at a U* found by search; -λ KL by torch and its constant."""
    got = d.at("stated", **problem.pick("m", "P", "mu", "Sigma", "lam"))
    U = numerics.best_reward(problem, "full")
    J = _objective(problem, U)
    kl = _torch_kl(problem.m, problem.P, problem.mu, problem.Sigma)
    volume = np.linalg.slogdet(2 * np.pi * problem.Sigma)[1]
    want = -problem.lam * kl + problem.lam / 2 * (volume - problem.n)
    scale = problem.lam * (1 + kl)
    return max(relative_error(got, J, scale), relative_error(got, want, scale))


def log_det_gradient(d: Derivation, problem: Problem) -> float:
    """∇ log det by central differences."""
    step = 1e-4 * float(np.linalg.eigvalsh(problem.U)[0])
    want = witnesses.central_difference(lambda U: float(np.linalg.slogdet(U)[1]), problem.U, step)
    return relative_error(square(d.at("stated", **problem.pick("U")), problem.n), want)


PROPOSITIONS = (
    Proposition(
        "objective",
        "J = -(m-μ)ᵀU(m-μ) - Tr(UP) - Tr(UΣ) + (λ/2) log det P + const, from two moments of y",
        "paper; new for data that are not Gaussian",
        (
            Check(gaussian.inner.objective, objective, EXACT),
            Check(gaussian.inner.mean_gradient, mean_gradient, EXACT),
            Check(gaussian.inner.covariance_gradient, covariance_gradient, EXACT),
        ),
        solver="solvers.training.objectives:PolicyGradient",
    ),
    Proposition(
        "inner_solution.full",
        "m* = μ, P* = (λ/2) U⁻¹: the only maximum of J",
        "paper",
        (Check(gaussian.inner.solution, inner_solution, EXACT, "full"),),
        solver="solvers.training.inner:closed_form",
    ),
    Proposition(
        "inner_solution.isotropic",
        "m* = μ, P* = λn/(2 Tr U) I for an isotropic policy",
        "paper",
        (Check(gaussian.inner.solution, inner_solution, EXACT, "isotropic"),),
        solver="solvers.training.inner:closed_form",
    ),
    Proposition(
        "inner_solution.diagonal",
        "m* = μ, P*_ii = λ/(2U_ii) for a diagonal policy",
        "new",
        (Check(gaussian.inner.solution, inner_solution, EXACT, "diagonal"),),
        solver="solvers.training.inner:closed_form",
    ),
    Proposition(
        "gibbs_gap",
        "J(p*) - J(p) = λ KL(p ‖ N(μ, (λ/2)U⁻¹)) for any density p: no loss in being Gaussian",
        "new",
        (Check(gaussian.inner.gibbs_gap, gibbs_gap, EXACT),),
    ),
    Proposition(
        "reverse_kl",
        "J(m,P;U*) = -λ KL(N(m,P) ‖ N(μ,Σ)) + const: policy gradient minimises the reverse KL",
        "paper",
        (
            Check(gaussian.divergences.kl, kl, EXACT),
            Check(gaussian.divergences.reverse_kl, reverse_kl, SEARCH),
        ),
    ),
    Proposition(
        "forward_kl",
        "maximum likelihood minimises the forward KL(N(μ,Σ) ‖ N(m,P))",
        "paper",
        (Check(gaussian.divergences.gaussian_cost, gaussian_cost, EXACT),),
        solver="solvers.training.objectives:NLL",
    ),
    Proposition(
        "log_det",
        "∇_U log det U = U⁻¹, and d U⁻¹ = -U⁻¹ dU U⁻¹: what the calculus differentiates by",
        "new",
        (Check(rules.log_det_gradient, log_det_gradient, DIFFERENCES),),
    ),
)
