"""Witnesses of what a wrong, a conditional or an effective covariance costs.

Where x takes two values, the first with probability w, the data at the first are those of the
problem, N(μ, Σ), and at the second N(m, P); see `proposition` for what a witness is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from analysis.derivation import Derivation
from analysis.gaussian import misspecification

from ...conformance import witnesses
from ...conformance.strategies import Problem
from . import numerics
from .numerics import relative_error, square
from .proposition import DIFFERENCES, EXACT, SEARCH, Check, Proposition

CENTRES = torch.tensor([3.0, -3.0], dtype=torch.float64)  # the mean in `two_maxima`


def cost_of_covariance(d: Derivation, problem: Problem) -> float:
    """The likelihood lost by the reward that is best, by search, for the covariance P."""
    U = numerics.best_reward(_with_covariance_of_policy(problem), "full")
    lost = numerics.best_fit(problem)[0] - numerics.likelihood(problem, U)
    values = problem.pick("P", "Sigma")
    return relative_error(d.at(S=values["P"], Sigma=values["Sigma"]), lost, 1.0)


def _with_covariance_of_policy(problem: Problem) -> Problem:
    return replace(problem, Sigma=problem.P)


def _weight(problem: Problem) -> float:
    """A probability w, from the one positive number of the problem."""
    return problem.lam / (1 + problem.lam)


def _inputs(problem: Problem, *names: str) -> dict[str, object]:
    """The named arguments of a derivation with two inputs."""
    sources = {"mu_a": "mu", "mu_b": "m", "e_a": "mu", "e_b": "m", "Sigma_a": "Sigma"}
    values = problem.pick("mu", "m", "Sigma", "P")
    return {"w": _weight(problem)} | {name: values[sources.get(name, "P")] for name in names}


def _mixture(problem: Problem, f: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """E_x f(mean, covariance)."""
    t, w = problem.tensors(), _weight(problem)
    return w * f(t["mu"], t["Sigma"]) + (1 - w) * f(t["m"], t["P"])


def total_covariance(d: Derivation, problem: Problem) -> float:
    """The covariance of 4n points with the moments of the mixture."""
    t, w, n = problem.tensors(), _weight(problem), problem.n
    laws = ((t["mu"], t["Sigma"]), (t["m"], t["P"]))
    points = torch.cat([witnesses.cubature(mu, torch.linalg.cholesky(S)) for mu, S in laws])
    mass = np.repeat([w, 1 - w], 2 * n) / (2 * n)
    want = np.cov(points.numpy().T, aweights=mass, ddof=0).reshape(n, n)
    names = ("mu_a", "mu_b", "Sigma_a", "Sigma_b")
    return relative_error(square(d.at("stated", **_inputs(problem, *names)), n), want)


def _constant_fit(problem: Problem, errors: bool) -> tuple[float, np.ndarray]:
    """The best likelihood with one covariance for both inputs, and that covariance, by search.

    Args:
        problem: the two laws.
        errors: the means are wrong, by μ and m (that is, both are taken to be 0), or right.
    """
    n = problem.n

    def fit(theta: Tensor) -> Tensor:
        shift, L = witnesses.unpack(theta, n, "full")
        # θ has a mean, which is not free here: a square keeps the search regular.
        centre = -0.5 * (shift @ shift)
        return centre + _mixture(
            problem,
            lambda mu, Sigma: witnesses.log_likelihood(
                torch.zeros_like(mu) if errors else mu, L, mu, Sigma
            ),
        )

    theta = numerics.climb(fit, n)
    return float(fit(theta)), numerics.product(witnesses.unpack(theta, n, "full")[1])


def effective_covariance(d: Derivation, problem: Problem) -> float:
    """The covariance of the best policy when both means are taken to be 0: e = -μ, e = -m."""
    want = _constant_fit(problem, errors=True)[1]
    got = d.at("stated", **_inputs(problem, "e_a", "e_b", "Sigma_a", "Sigma_b"))
    return relative_error(square(got, problem.n), want)


def conditional_gain(d: Derivation, problem: Problem) -> float:
    """The likelihood that one covariance for each input gains over the best constant one."""
    w = _weight(problem)
    other = _with_covariance_of_policy(problem)
    apart = w * numerics.best_fit(problem)[0] + (1 - w) * numerics.best_fit(other)[0]
    want = apart - _constant_fit(problem, errors=False)[0]
    return relative_error(d.at("stated", **_inputs(problem, "Sigma_a", "Sigma_b")), want, 1.0)


def restricted_mean_hypergradient(d: Derivation, problem: Problem) -> float:
    """Central differences of F when m(x) = βa(x): β and P found by search for every U."""
    t, n = problem.tensors(), problem.n
    beta = _restricted_fit(problem, problem.U)[0]
    want = witnesses.central_difference(
        lambda U: _restricted_fit(problem, U)[1],
        problem.U,
        1e-4 * float(np.linalg.eigvalsh(problem.U)[0]),
    )
    errors = {"e_a": beta * t["M"][0] - t["mu"], "e_b": beta * t["U"][0] - t["m"]}
    values = {k: v.numpy() if n > 1 else float(v[0]) for k, v in errors.items()}
    covariances = _inputs(problem, "Sigma_a", "Sigma_b")
    got = d.at("stated", **problem.pick("U", "lam"), **covariances, **values)
    sizes = [float(np.linalg.norm(X)) for X in (problem.Sigma, problem.P)]
    sizes += [float(v @ v) for v in errors.values()]
    scale = float(np.linalg.norm(np.linalg.inv(problem.U))) + max(sizes) / problem.lam
    return relative_error(square(got, n), want, scale)


def _restricted_fit(problem: Problem, U: np.ndarray) -> tuple[float, float]:
    """β_U and F(U) for the mean βa(x), a(x) the first row of M at one input, of U at the other."""
    t, n, w = problem.tensors(), problem.n, _weight(problem)
    weight, features = numerics.tensor(U), (t["M"][0], t["U"][0])
    laws = ((w, features[0], t["mu"], t["Sigma"]), (1 - w, features[1], t["m"], t["P"]))

    def factor(theta: Tensor) -> Tensor:
        return witnesses.unpack(torch.cat([torch.zeros(n), theta[1:]]), n, "full")[1]

    def J(theta: Tensor) -> Tensor:
        L = factor(theta)
        values = [
            p * witnesses.inner_objective(theta[0] * a, L, weight, mu, Sigma, t["lam"])
            for p, a, mu, Sigma in laws
        ]
        return values[0] + values[1]

    # β = 0 and the covariance of an unrestricted mean, which a restricted one does not change much.
    start = torch.cat([torch.zeros(1), numerics.search(problem, U)[n:]])
    theta = numerics.maximise(J, start)
    F = [p * witnesses.log_likelihood(theta[0] * a, factor(theta), *law) for p, a, *law in laws]
    return float(theta[0]), float(F[0] + F[1])


def two_maxima(d: Derivation, problem: Problem) -> float:
    """The ends of searches for diag(U) from both sides, one shared mean: two, each other's swap."""
    lam = problem.tensors()["lam"]
    one = torch.ones(2, dtype=torch.float64)
    Sigma = torch.eye(2, dtype=torch.float64)

    def loss(logs: np.ndarray) -> float:
        U = torch.diag(lam * numerics.tensor(logs).exp())

        def J(theta: Tensor) -> Tensor:
            L = torch.diag(theta[1:].exp())
            return witnesses.inner_objective(theta[0] * one, L, U, CENTRES, Sigma, lam)

        theta = numerics.maximise(J, torch.zeros(3, dtype=torch.float64))
        L = torch.diag(theta[1:].exp())
        return -float(witnesses.log_likelihood(theta[0] * one, L, CENTRES, Sigma))

    ends = [
        lam.numpy() * np.exp(optimize.minimize(loss, start, method="BFGS", tol=1e-7).x)
        for start in ([0.0, -3.0], [-3.0, 0.0])
    ]
    best = np.diag(d.at("stated", **problem.pick("lam")))
    return max(relative_error(best, ends[0]), relative_error(best[::-1], ends[1]))


PROPOSITIONS = (
    Proposition(
        "wrong_covariance",
        "U = (λ/2) S⁻¹ with a wrong S costs ½[log det(SΣ̄⁻¹) + Tr(S⁻¹Σ̄) - n] nats",
        "new",
        (
            Check(misspecification.cost_of_covariance, cost_of_covariance, SEARCH),
            Check(misspecification.total_covariance, total_covariance, EXACT),
        ),
    ),
    Proposition(
        "effective_covariance",
        "one constant U sees Σ̄ + E e eᵀ, the residual covariance plus mean errors",
        "new",
        (Check(misspecification.effective_covariance, effective_covariance, EXACT),),
        solver="solvers.bilevel.likelihood:second_moment",
    ),
    Proposition(
        "conditional_gain",
        "U*(x) = (λ/2) Σ(x)⁻¹ gains ½[log det Σ̄ - E log det Σ(x)] nats over a constant",
        "new",
        (Check(misspecification.conditional_gain, conditional_gain, EXACT),),
        solver="solvers.rewards.learnable:InputReward",
    ),
    Proposition(
        "restricted_mean",
        "∇_U F = ½ U⁻¹ - (Σ̄ + E e_U e_Uᵀ)/λ when the mean is restricted",
        "new",
        (
            Check(
                misspecification.restricted_mean_hypergradient,
                restricted_mean_hypergradient,
                DIFFERENCES,
            ),
        ),
        solver="solvers.hypergradients.implicit:implicit",
    ),
    Proposition(
        "two_maxima",
        "with diagonal P and one shared mean F is not concave: two maxima at μ = (3,-3), Σ = I",
        "new",
        (Check(misspecification.two_maxima, two_maxima, DIFFERENCES),),
    ),
)
