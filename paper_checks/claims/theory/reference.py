"""Witnesses of the results on a reference policy, on GRPO's division and on embeddings.

Inner solutions are searched for on J by cubature, slopes of the likelihood come from the implicit
function theorem by autograd, expectations from quadrature. See `numerics`.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import torch
from scipy import integrate, stats
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from analysis.derivation import Derivation
from analysis.reference import embeddings, group_deviation, inner, outer

from ...conformance import witnesses
from ...conformance.strategies import Problem
from . import numerics
from .numerics import relative_error, square, tensor
from .proposition import EXACT, SEARCH, Check, Proposition

FAR = 1e10  # a variance beside which a distance of about 1 is nothing


def _reference(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return m₀ and P₀: of about the data's place and size."""
    return problem.mu + (problem.m - problem.mu) / 4, problem.M + problem.Sigma


def _pull(problem: Problem) -> np.ndarray:
    """Return a = P₀⁻¹(m₀ - μ)."""
    m0, P0 = _reference(problem)
    return np.linalg.solve(P0, m0 - problem.mu)


def _values(problem: Problem, *names: str, **others: Any) -> dict[str, Any]:
    """Return arguments of a derivation by name, as numbers where n = 1."""
    m0, P0 = _reference(problem)
    known = {**vars(problem), "m0": m0, "P0": P0, "a": _pull(problem), **others}
    given = {name: known[name] for name in [*names, *others]}
    if problem.n > 1:
        return given
    return {name: float(np.asarray(value).reshape(())) for name, value in given.items()}


def _J(problem: Problem, m: Tensor, L: Tensor, U: Tensor) -> Tensor:
    """E r - λ KL(N(m, LLᵀ) ‖ p₀), by cubature of densities."""
    t, (m0, P0) = problem.tensors(), map(tensor, _reference(problem))
    J = witnesses.inner_objective(m, L, U, t["mu"], t["Sigma"], t["lam"])
    p0 = MultivariateNormal(m0, P0)
    return J + t["lam"] * p0.log_prob(witnesses.cubature(m, L)).mean()


@cache
def _solved(problem: Problem, key: str) -> tuple[Tensor, Tensor]:
    """Return U by name, and the θ* that a search finds for it."""
    lam, n = problem.lam, problem.n
    U = {
        "own": problem.U,
        "none": np.zeros((n, n)),
        "entropy": lam / 2 * np.linalg.inv(problem.Sigma),
    }[key]
    return tensor(U), _search(problem, tensor(U))


def _search(problem: Problem, U: Tensor) -> Tensor:
    n = problem.n
    return numerics.climb(lambda theta: _J(problem, *witnesses.unpack(theta, n, "full"), U), n)


def _learned(problem: Problem, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return m* and P* of the U of that name."""
    m, L = witnesses.unpack(_solved(problem, key)[1], problem.n, "full")
    return m.numpy(), numerics.product(L)


def _slope(problem: Problem, U: Tensor, theta: Tensor) -> np.ndarray:
    """Return -(∂²_{Uθ}J)(∂²_{θθ}J)⁻¹ ∂_θF, symmetric, by autograd."""
    t, n = problem.tensors(), problem.n
    U, theta = U.clone().requires_grad_(), theta.clone().requires_grad_()

    def J(theta: Tensor, U: Tensor) -> Tensor:
        return _J(problem, *witnesses.unpack(theta, n, "full"), U)

    F = witnesses.log_likelihood(*witnesses.unpack(theta, n, "full"), t["mu"], t["Sigma"])
    (pull,) = torch.autograd.grad(F, theta)
    hessian = torch.autograd.functional.hessian(partial(J, U=U.detach()), theta)
    assert isinstance(hessian, Tensor)
    (step,) = torch.autograd.grad(J(theta, U), theta, create_graph=True)
    (G,) = torch.autograd.grad(-(step @ torch.linalg.solve(hessian, pull)), U)
    return ((G + G.mT) / 2).numpy()


def objective(d: Derivation, problem: Problem) -> float:
    """J by cubature of the definition."""
    values = _values(problem, "m", "P", "mu", "Sigma", "U", "m0", "P0", "lam")
    t = problem.tensors()
    want = float(_J(problem, t["m"], torch.linalg.cholesky(t["P"]), t["U"]))
    return relative_error(d.at("stated", **values), want, abs(want) + problem.lam)


def precision(d: Derivation, problem: Problem) -> float:
    """The covariance that a search finds."""
    got = square(d.at("stated", **_values(problem, "U", "P0", "lam")), problem.n)
    return relative_error(np.linalg.inv(got), _learned(problem, "own")[1])


def mean(d: Derivation, problem: Problem) -> float:
    """The mean that a search finds, at its covariance."""
    m, P = _learned(problem, "own")
    return relative_error(np.atleast_1d(d.at(**_values(problem, "P0", "m0", "mu", P=P))), m)


def free_centre(d: Derivation, problem: Problem) -> float:
    """J of the reward λ log(q/p₀), by cubature of the densities."""
    t, (m0, P0) = problem.tensors(), map(tensor, _reference(problem))
    L = torch.linalg.cholesky(t["P"])
    points = witnesses.cubature(t["m"], L)
    q, p0 = MultivariateNormal(t["mu"], t["Sigma"]), MultivariateNormal(m0, P0)
    p = MultivariateNormal(t["m"], scale_tril=L)
    reward = q.log_prob(points) - p0.log_prob(points)
    kl = p.log_prob(points) - p0.log_prob(points)
    want = problem.lam * float((reward - kl).mean())
    got = d.at("stated", **_values(problem, "m", "P", "mu", "Sigma", "lam"))
    return relative_error(got, want, problem.lam)


def hypergradient(d: Derivation, problem: Problem) -> float:
    """The slope by the implicit function theorem, at the covariance that a search finds."""
    want = _slope(problem, *_solved(problem, "own"))
    values = _values(problem, "Sigma", "a", "lam", S=_learned(problem, "own")[1])
    scale = float(np.linalg.norm(problem.Sigma)) / problem.lam
    return relative_error(square(d.at("stated", **values), problem.n), want, scale)


def of_error(d: Derivation, problem: Problem) -> float:
    """The same slope, at the mean and the covariance that the search finds."""
    want = _slope(problem, *_solved(problem, "own"))
    m, S = _learned(problem, "own")
    values = _values(problem, "Sigma", "mu", "lam", S=S, m=m)
    scale = float(np.linalg.norm(problem.Sigma)) / problem.lam
    return relative_error(square(d.at("stated", **values), problem.n), want, scale)


def slope_at_reference(d: Derivation, problem: Problem) -> float:
    """The same slope without a reward."""
    want = _slope(problem, *_solved(problem, "none"))
    values = _values(problem, "P0", "m0", "mu", "Sigma", "lam")
    scale = float(np.linalg.norm(problem.Sigma)) / problem.lam
    return relative_error(square(d.at("stated", **values), problem.n), want, scale)


@cache
def _best(problem: Problem) -> tuple[float, np.ndarray]:
    """Return the largest likelihood of a policy N(μ + Sa, S), and its S, by search."""
    t, n, a = problem.tensors(), problem.n, tensor(_pull(problem))

    def F(raw: Tensor) -> Tensor:
        _, L = witnesses.unpack(torch.cat([torch.zeros(n, dtype=raw.dtype), raw]), n, "full")
        m = t["mu"] + L @ (L.mT @ a)
        return witnesses.log_likelihood(m, L, t["mu"], t["Sigma"])

    rows, columns = np.tril_indices(n)
    start = torch.linalg.cholesky(t["Sigma"])
    start = start.tril(-1) + torch.diag(start.diagonal().log())
    raw = numerics.maximise(F, start[rows, columns])
    L = witnesses.unpack(torch.cat([torch.zeros(n, dtype=raw.dtype), raw]), n, "full")[1]
    return float(F(raw)), numerics.product(L)


def covariance(d: Derivation, problem: Problem) -> float:
    """The S that a search over the covariances finds."""
    got = square(d.at("stated", **_values(problem, "Sigma", "a")), problem.n)
    return relative_error(got, _best(problem)[1])


def optimal_reward(d: Derivation, problem: Problem) -> float:
    """At U* the slope by the implicit function theorem is 0, at a θ* that a search finds."""
    U = square(d.at("stated", **_values(problem, "Sigma", "P0", "a", "lam")), problem.n)
    slope = _slope(problem, tensor(U), _search(problem, tensor(U)))
    return relative_error(slope, 0 * slope, float(np.linalg.norm(problem.Sigma)) / problem.lam)


def learned_cost(d: Derivation, problem: Problem) -> float:
    """The largest likelihood of all, less that of a policy whose mean the reference pulls."""
    want = numerics.best_fit(problem)[0] - _best(problem)[0]
    return relative_error(d.at("stated", **_values(problem, "Sigma", "a")), want, 1.0)


def cost_of_entropy_reward(d: Derivation, problem: Problem) -> float:
    """The likelihood lost at the inner solution that a search finds for (λ/2)Σ⁻¹."""
    t, theta = problem.tensors(), _solved(problem, "entropy")[1]
    m, L = witnesses.unpack(theta, problem.n, "full")
    here = float(witnesses.log_likelihood(m, L, t["mu"], t["Sigma"]))
    want = numerics.best_fit(problem)[0] - here
    return relative_error(d.at("stated", **_values(problem, "Sigma", "P0", "a")), want, 1.0)


def cost_at_reference(d: Derivation, problem: Problem) -> float:
    """Halving the covariance of the best fit, which is found by search, costs this."""
    t, (top, Sigma) = problem.tensors(), numerics.best_fit(problem)
    L = torch.linalg.cholesky(tensor(Sigma) / 2)
    want = top - float(witnesses.log_likelihood(t["mu"], L, t["mu"], t["Sigma"]))
    return relative_error(d.at("stated", **({"n": problem.n} if "n" in d.arguments else {})), want)


def _group(m: Tensor, y: Tensor, s: Tensor, u: float) -> tuple[Tensor, Tensor]:
    """Return mean and variance of -u‖ŷ - y‖², ŷ ~ N(m, sI), by quadrature."""
    noise, weights = witnesses.gauss_hermite_grid(len(m), 5)
    r = -u * (m + s.sqrt() * noise - y).square().sum(-1)
    average = (weights * r).sum()
    return average, (weights * (r - average).square()).sum()


def _balance(m: Tensor, y: Tensor, s: float) -> float:
    """Return the λ at which the slope of E r over its deviation, held, balances the entropy."""
    variance = tensor(s).requires_grad_()
    average, spread = _group(m, y, variance, 0.7)
    (pull,) = torch.autograd.grad(average / spread.detach().sqrt(), variance)
    entropy = len(m) * Normal(tensor(0.0), variance.sqrt()).entropy()
    (push,) = torch.autograd.grad(entropy, variance)
    return -float(pull / push)


def group_variance(d: Derivation, problem: Problem) -> float:
    """Var r by quadrature."""
    s, u = float(problem.P[0, 0]), float(problem.U[0, 0])
    want = float(_group(tensor(problem.m), tensor(problem.mu), tensor(s), u)[1])
    return relative_error(d.at(**_values(problem, "m", y=problem.mu), s=s, u=u), want)


def entropy_weight(d: Derivation, problem: Problem) -> float:
    """The balance, by quadrature and autograd."""
    s = float(problem.P[0, 0])
    want = _balance(tensor(problem.m), tensor(problem.mu), s)
    return relative_error(d.at(**_values(problem, "m", y=problem.mu), s=s), want)


def planar_weight(d: Derivation, problem: Problem) -> float:
    """The balance, averaged over the distance of Gaussian data in the plane."""
    s, sigma = float(problem.P[0, 0]), float(problem.Sigma[0, 0]) ** 0.5

    def at(radius: float) -> float:
        balance = _balance(tensor([0.0, 0.0]), tensor([sigma * radius, 0.0]), s)
        return float(stats.rayleigh.pdf(radius)) * balance

    want = integrate.quad(at, 0, 12, epsrel=1e-10)[0]
    return relative_error(d.at(s=s, sigma=sigma), want)


def largest_weight(d: Derivation, problem: Problem) -> float:
    """The balance at a variance beside which the distance of the data is nothing."""
    n = problem.n
    want = _balance(tensor(np.zeros(n)), tensor(np.ones(n)), FAR)
    return relative_error(d.at("stated", **({"n": n} if "n" in d.arguments else {})), want)


def ranking(d: Derivation, problem: Problem) -> float:
    """The difference of two rewards averaged over data with this mean, whatever their spread."""
    t = problem.tensors()
    a, b, gap = t["m"], tensor(_pull(problem)), 0.0
    data = witnesses.cubature(t["mu"], torch.linalg.cholesky(t["Sigma"]))
    for point, sign in ((a, 1), (b, -1)):
        gap += sign * float(witnesses.reward(point, data, t["U"]).mean())
    got = d.at(**_values(problem, "mu", "U", y_hat=problem.m, y=_pull(problem)))
    size = float(torch.linalg.matrix_norm(t["U"])) * float(t["m"].norm() + t["mu"].norm()) ** 2
    return relative_error(got, gap, size)


def embedded_variance(d: Derivation, problem: Problem) -> float:
    """The variance that a search finds, all expectations by quadrature."""
    sigma, lam = float(problem.Sigma[0, 0]) ** 0.5, problem.lam
    noise, weights = witnesses.gauss_hermite_grid(1, 5)

    def embedded(x: Tensor) -> Tensor:
        return torch.stack([x, x.square()], -1)

    data = embedded(sigma * noise[:, 0])
    centred = data - weights @ data
    U = lam / 2 * torch.linalg.inv((weights[:, None] * centred).mT @ centred)

    def J(theta: Tensor) -> Tensor:
        points = embedded(theta[0] + theta[1].exp() * noise[:, 0])
        rewards = weights @ witnesses.reward(points[:, None], data[None], U) @ weights
        return rewards + lam * Normal(theta[0], theta[1].exp()).entropy()

    theta = numerics.maximise(J, tensor([0.1 * sigma, np.log(sigma)]))
    return relative_error(d.at(sigma=sigma), float((2 * theta[1]).exp()))


PROPOSITIONS = (
    Proposition(
        "reference.inner_solution",
        "with λ KL(p ‖ p₀): P*⁻¹ = P₀⁻¹ + (2/λ)U and m* = μ + P*P₀⁻¹(m₀ - μ)",
        "new",
        (
            Check(inner.objective, objective, EXACT),
            Check(inner.precision, precision, EXACT),
            Check(inner.mean, mean, EXACT),
        ),
        solver="solvers.rewards.with_reference:inner_solution",
    ),
    Proposition(
        "reference.hypergradient",
        "∇_U F = (S + S a aᵀ S - Σ)/λ, a = P₀⁻¹(m₀ - μ); (P₀ + (m₀-μ)(m₀-μ)ᵀ - Σ)/λ at U = 0",
        "new",
        (
            Check(outer.hypergradient, hypergradient, SEARCH),
            Check(outer.slope_at_reference, slope_at_reference, SEARCH),
        ),
        solver="solvers.hypergradients.functional:functional",
    ),
    Proposition(
        "reference.projection",
        "∇_U F = (S + (m-μ)(m-μ)ᵀ - Σ)/λ: U ⪰ 0 is best iff it is ⪯ 0, and 0 along U",
        "new",
        (Check(outer.of_error, of_error, SEARCH),),
        solver="solvers.rewards.with_reference:projected_reward",
    ),
    Proposition(
        "reference.optimal_reward",
        "S = Σ - bbᵀ below Σ, U* = (λ/2)(S⁻¹ - P₀⁻¹): positive definite iff S ≺ P₀",
        "new",
        (
            Check(outer.covariance, covariance, SEARCH),
            Check(outer.optimal_reward, optimal_reward, SEARCH),
        ),
        solver="solvers.rewards.with_reference:optimal_reward",
    ),
    Proposition(
        "reference.costs",
        "U* loses t - ½ log(1+t) nats, (λ/2)Σ⁻¹ more: 0.153 per dimension at P₀ = Σ, m₀ = μ",
        "new",
        (
            Check(outer.learned_cost, learned_cost, SEARCH),
            Check(outer.cost_of_entropy_reward, cost_of_entropy_reward, SEARCH),
            Check(outer.cost_at_reference, cost_at_reference, SEARCH),
        ),
    ),
    Proposition(
        "reference.free_centre",
        "the reward λ log(q/p₀), with a centre of its own, loses nothing: J = -λ KL(p ‖ q)",
        "new",
        (Check(inner.free_centre, free_centre, EXACT),),
        solver="solvers.training.reference:Reference",
    ),
    Proposition(
        "reference.group_deviation",
        "GRPO's division cancels U's scale: λ = E 1/√(n/2 + ‖m-y‖²/s), and λ >= √(2/n) diverges",
        "new",
        (
            Check(group_deviation.variance, group_variance, EXACT),
            Check(group_deviation.entropy_weight, entropy_weight, EXACT),
            Check(group_deviation.planar_weight, planar_weight, SEARCH),
            Check(group_deviation.largest_weight, largest_weight, SEARCH),
        ),
    ),
    Proposition(
        "reference.embeddings",
        "embedding rewards rank by E[φ(y)|x] alone; φ = (y, y²), U = (λ/2) Cov(φ)⁻¹ learns σ²/√3",
        "new",
        (
            Check(embeddings.ranking, ranking, EXACT),
            Check(embeddings.variance, embedded_variance, SEARCH),
        ),
    ),
)
