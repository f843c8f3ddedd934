"""Witnesses of an entropy weight λ(x) per input, and of β-NLL as one of its family.

The input takes two values, the first with probability w. Of the problem, the data at the first are
N(μ, Σ), at the second N(m, P); the rewards U and M; the features of the shared mean m(x) = θ a(x)
the first rows of M and U. See `proposition` for what a witness is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor
from torch.distributions import Normal

from analysis.derivation import Derivation
from analysis.gaussian import temperature

from ...conformance import witnesses
from ...conformance.strategies import Problem
from . import numerics
from .numerics import relative_error, square, tensor
from .proposition import DIFFERENCES, EXACT, SEARCH, Check, Proposition

_SOURCES = {
    "mu_a": "mu", "mu_b": "m", "Sigma_a": "Sigma", "Sigma_b": "P", "P_a": "Sigma", "P_b": "P",
    "U_a": "U", "U_b": "M",
}  # fmt: skip


def _values(problem: Problem, *names: str) -> dict[str, Any]:
    """The named arguments of a derivation with two inputs."""
    lam, n = problem.lam, problem.n
    known: dict[str, Any] = {
        "w": lam / (1 + lam), "lam_a": lam, "lam_b": 1 / (1 + lam), "power": 1 / (1 + lam),
        "a": problem.M[0], "b": problem.U[0],
    }  # fmt: skip
    known |= {name: getattr(problem, source) for name, source in _SOURCES.items()}
    chosen = {name: known[name] for name in names}
    return chosen if n > 1 else {k: float(np.reshape(v, ())) for k, v in chosen.items()}


def _inputs(problem: Problem) -> list[tuple[float, Tensor, Tensor, Tensor]]:
    """Probability, feature, mean and covariance of the data at each input."""
    t, w = problem.tensors(), problem.lam / (1 + problem.lam)
    return [(w, t["M"][0], t["mu"], t["Sigma"]), (1 - w, t["U"][0], t["m"], t["P"])]


def _solution(problem: Problem) -> tuple[float, np.ndarray]:
    """θ* and P*(x) at the first input, found by search for all parameters of J at once."""
    n, free = problem.n, problem.n * (problem.n + 1) // 2
    t = problem.tensors()
    weights = ((t["U"], t["lam"]), (t["M"], 1 / (1 + t["lam"])))

    def factor(raw: Tensor) -> Tensor:
        return witnesses.unpack(torch.cat([torch.zeros(n), raw]), n, "full")[1]

    def J(theta: Tensor) -> Tensor:
        values = [
            p * witnesses.inner_objective(theta[0] * a, factor(raw), U, mu, Sigma, lam)
            for (p, a, mu, Sigma), (U, lam), raw in zip(
                _inputs(problem), weights, theta[1:].split(free), strict=True
            )
        ]
        return values[0] + values[1]

    # θ = 0 and each covariance of an unrestricted mean, which a shared one does not change much
    apart = [
        numerics.climb(
            lambda theta, at=at: witnesses.inner_objective(
                *witnesses.unpack(theta, n, "full"), at[0], t["mu"], t["Sigma"], at[1]
            ),
            n,
        )[n:]
        for at in weights
    ]
    theta = numerics.maximise(J, torch.cat([torch.zeros(1), *apart]))
    return float(theta[0]), numerics.product(factor(theta[1 : 1 + free]))


def covariance(d: Derivation, problem: Problem) -> float:
    """P at the first input where a search for θ and both covariances ends."""
    got = square(d.at("stated", **_values(problem, "U_a", "lam_a")), problem.n)
    return relative_error(got, _solution(problem)[1])


def mean(d: Derivation, problem: Problem) -> float:
    """θ where the same search ends."""
    got = d.at("stated", **_values(problem, "w", "mu_a", "mu_b", "a", "b", "U_a", "U_b"))
    return relative_error(got, _solution(problem)[0])


def optimal_reward(d: Derivation, problem: Problem) -> float:
    """What a search finds for this reward is what one finds for the largest likelihood."""
    U = square(d.at("stated", **_values(problem, "Sigma_a", "lam_a")), problem.n)
    return relative_error(numerics.inner_covariance(problem, U), numerics.best_fit(problem)[1])


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of the mean, the variances, and outcomes `(S, n)`, by dimension."""


def _root(problem: Problem, loss: Loss) -> float:
    """θ where autograd's slope of a loss, linear in θ, is 0; variances those of the data."""
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    total = torch.zeros((), dtype=torch.float64)
    for p, a, mu, Sigma in _inputs(problem):
        y = witnesses.cubature(mu, torch.linalg.cholesky(Sigma))
        total = total + p * loss(theta * a, Sigma.diagonal(), y).sum(-1).mean()
    (slope,) = torch.autograd.grad(total, theta, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, theta)
    return -float(slope.detach() / curvature)


def beta_nll(d: Derivation, problem: Problem) -> float:
    """The root of the slope of torch's density, times `v^β`."""
    power = 1 / (1 + problem.lam)

    def loss(m: Tensor, v: Tensor, y: Tensor) -> Tensor:
        return -(v**power) * Normal(m, v.sqrt()).log_prob(y)

    names = ("w", "mu_a", "mu_b", "a", "b", "P_a", "P_b", "power")
    return relative_error(d.at("stated", **_values(problem, *names)), _root(problem, loss))


def faithful(d: Derivation, problem: Problem) -> float:
    """The root of the slope of half the squared error and torch's density at a detached mean."""

    def loss(m: Tensor, v: Tensor, y: Tensor) -> Tensor:
        return (y - m) ** 2 / 2 - Normal(m.detach(), v.sqrt()).log_prob(y)

    names = ("w", "mu_a", "mu_b", "a", "b")
    return relative_error(d.at("stated", **_values(problem, *names)), _root(problem, loss))


def power_slope(d: Derivation, problem: Problem) -> float:
    """Central differences in β of what a search for θ and both variances attains."""
    lam = tensor(problem.lam)
    (w, _, mu_a, P_a), (rest, _, mu_b, P_b) = _inputs(problem)
    inputs = ((w, mu_a, P_a), (rest, mu_b, P_b))

    def attained(power: float) -> float:
        def J(theta: Tensor) -> Tensor:
            values = [
                p * witnesses.inner_objective(
                    theta[:1], torch.diag(log_s.exp()), lam / 2 * v ** (power - 1), mu, v,
                    lam * v[0, 0] ** power,
                )
                for (p, mu, v), log_s in zip(inputs, theta[1:].split(1), strict=True)
            ]  # fmt: skip
            return values[0] + values[1]

        start = torch.cat([torch.zeros(1), *(v[0].log() / 2 for _, _, v in inputs)])
        theta = numerics.maximise(J, start)
        if d.key.variant == "error":
            return sum(p * float((mu - theta[0]) ** 2) for p, mu, _ in inputs)
        return sum(
            p * float(witnesses.log_likelihood(theta[:1], torch.diag(log_s.exp()), mu, v))
            for (p, mu, v), log_s in zip(inputs, theta[1:].split(1), strict=True)
        )

    power, step = 1 / (1 + problem.lam), 1e-4
    want = (attained(power + step) - attained(power - step)) / (2 * step)
    got = d.at("stated", **_values(problem, "w", "mu_a", "mu_b", "P_a", "P_b", "power"))
    return relative_error(got, want)


def density_ratio(d: Derivation, problem: Problem) -> float:
    """The ratio of entropy weights at which a search for θ has the mean of a fit to outer inputs.

    The outer level has the first input with probability 1/2.
    """
    held = 0.5
    inputs = [(p, mu, v) for p, _, mu, v in _inputs(problem)]

    def centre(shares: tuple[float, float], log_ratio: float) -> float:
        """θ of J with λ_a/λ_b given and U = ½ λ(x) P⁻¹; that of likelihood where it is 1."""
        weights = (float(np.exp(log_ratio)), 1.0)

        def J(theta: Tensor) -> Tensor:
            values = [
                p * witnesses.inner_objective(
                    theta, torch.linalg.cholesky(v), lam / 2 / v, mu, v, tensor(lam)
                )
                for p, lam, (_, mu, v) in zip(shares, weights, inputs, strict=True)
            ]  # fmt: skip
            return values[0] + values[1]

        return float(numerics.maximise(J, torch.zeros(1, dtype=torch.float64))[0])

    w = inputs[0][0]
    want = centre((held, 1 - held), 0.0)
    found = optimize.brentq(lambda x: centre((w, 1 - w), x) - want, -20.0, 20.0, xtol=1e-10)
    return relative_error(d.at("stated", w=w, w_held=held), float(np.exp(found)))


PROPOSITIONS = (
    Proposition(
        "temperature",
        "λ(x): P*(x) = (λ(x)/2) U(x)⁻¹, the mean is least squares weighted by U(x), and "
        "U*(x) = ½ λ(x) Σ(x)⁻¹",
        "new",
        (
            Check(temperature.covariance, covariance, SEARCH),
            Check(temperature.mean, mean, SEARCH),
            Check(temperature.optimal_reward, optimal_reward, SEARCH),
        ),
        solver="solvers.training.objectives:PolicyGradient",
    ),
    Proposition(
        "beta_nll",
        "λ(x) = P(x)^β: the mean is that of β-NLL; β = 0 likelihood, β = 1 squared error",
        "new",
        (Check(temperature.beta_nll, beta_nll, EXACT),),
        solver="solvers.training.objectives:BetaNLL",
    ),
    Proposition(
        "faithful",
        "faithful regression has the mean of β = 1, and the variances of likelihood there",
        "new",
        (Check(temperature.faithful, faithful, EXACT),),
        solver="solvers.training.objectives:Faithful",
    ),
    Proposition(
        "temperature_as_outer_variable",
        "where a shared mean misses μ(x), a larger β in (0, 1) lowers likelihood and mean error",
        "new",
        (Check(temperature.power_slope, power_slope, DIFFERENCES),),
        solver="solvers.rewards.tempered:TemperedReward",
    ),
    Proposition(
        "temperature_of_other_inputs",
        "an outer level with other inputs than the inner one learns λ(x) ∝ p'(x)/p(x)",
        "new",
        (Check(temperature.density_ratio, density_ratio, SEARCH),),
        solver="solvers.rewards.tempered:TemperedReward",
    ),
)
