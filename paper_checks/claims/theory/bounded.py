"""Witnesses of the bounded reward exp(-‖ŷ - y‖²/ω): quadrature, its slopes by autograd.

See `proposition` for what a witness is. ω, β and s are taken from the problem but kept
where Gauss-Hermite quadrature resolves the bump.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize
from torch import Tensor
from torch.distributions import Normal

from analysis.bounded import inner
from analysis.derivation import Derivation

from ...conformance import witnesses
from ...conformance.strategies import Problem
from .numerics import relative_error, tensor
from .proposition import SEARCH, Check, Proposition

NODES = 96
WIDE = 1e40  # a variance at which a bounded reward is 0 to machine precision


@dataclass(frozen=True)
class Bump:
    """The width ω of the reward, the spread β of the data and a variance s of the policy."""

    omega: float
    beta: float
    s: float


def _bump(problem: Problem) -> Bump:
    omega, beta2, s = (
        float(np.clip(X[0, 0], low, high))
        for X, low, high in (
            (problem.U, 4.0, 8.0),
            (problem.Sigma, 0.2, 1.0),
            (problem.P, 0.2, 1.0),
        )
    )
    return Bump(omega, beta2**0.5, s)


def _size(d: Derivation, problem: Problem) -> dict[str, int]:
    """n, where the derivation takes it as a number."""
    return {"n": problem.n} if "n" in d.arguments else {}


def _coordinate(omega: Tensor, s: Tensor, beta: float, gap: float = 0.0) -> Tensor:
    """E exp(-(ŷ - y)²/ω) in one coordinate: ŷ - y is normal, a sum of independent noises."""
    noise, weights = witnesses.gauss_hermite_grid(1, NODES)
    spread = (s + beta**2).sqrt()
    return (weights * torch.exp(-((gap + spread * noise[:, 0]) ** 2) / omega)).sum()


def _reward(omega: Tensor, s: Tensor, beta: float, n: int) -> Tensor:
    """E r at m = μ: the coordinates are independent."""
    return _coordinate(omega, s, beta) ** n


def _pull(omega: Tensor, s: Tensor, beta: float, n: int) -> Tensor:
    """h: the λ at which E r + λ(n/2) log s is stationary in s."""
    (slope,) = torch.autograd.grad(_reward(omega, s, beta, n), s, create_graph=True)
    return -slope * 2 * s / n


def _free(value: float) -> Tensor:
    return tensor(value).requires_grad_()


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """The root of f between two positive numbers, by bisection of their logarithm."""
    log_root = optimize.brentq(
        lambda log_x: f(float(np.exp(log_x))), np.log(low), np.log(high), xtol=1e-13
    )
    return float(np.exp(log_root))


def _peak(b: Bump, n: int) -> tuple[float, float]:
    """The s where h is largest, and h there."""

    def slope(s: float) -> float:
        level = _free(s)
        (rate,) = torch.autograd.grad(_pull(tensor(b.omega), level, b.beta, n), level)
        return float(rate)

    s = _root(slope, 1e-2, 20.0)
    return s, float(_pull(tensor(b.omega), _free(s), b.beta, n).detach())


def log_expected_kernel(d: Derivation, problem: Problem) -> float:
    """log E exp(-zᵀWz), z ~ N(m - μ, S)."""
    n = problem.n
    S, W = (X / np.linalg.norm(X) for X in (problem.P, problem.U))
    m, mu = problem.m / 4, problem.mu / 4
    noise, weights = witnesses.gauss_hermite_grid(n, NODES)
    z = tensor(m - mu) + noise @ torch.linalg.cholesky(tensor(S)).mT
    want = float((weights * witnesses.reward(z, torch.zeros_like(z), tensor(W)).exp()).sum().log())
    values = {"m": m, "mu": mu, "S": S, "W": W}
    got = d.at("stated", **{k: v if n > 1 else float(v.reshape(())) for k, v in values.items()})
    return relative_error(got, want)


def expected_reward(d: Derivation, problem: Problem) -> float:
    """E r away from the mean, a product over the coordinates."""
    b = _bump(problem)
    m, mu = problem.m / 4, problem.mu / 4
    parts = [_coordinate(tensor(b.omega), tensor(b.s), b.beta, float(gap)) for gap in m - mu]
    means = {"m": m, "mu": mu}
    values = {k: v if problem.n > 1 else float(v[0]) for k, v in means.items()}
    return relative_error(d.at("stated", **values, **vars(b)), float(torch.stack(parts).prod()))


def slope(d: Derivation, problem: Problem) -> float:
    """dJ/ds by autograd through the quadrature and the entropy."""
    b, n, lam = _bump(problem), problem.n, problem.lam
    s = _free(b.s)
    entropy = Normal(0.0, s.sqrt()).entropy() * n
    J = _reward(tensor(b.omega), s, b.beta, n) + lam * entropy
    (want,) = torch.autograd.grad(J, s)
    got = d.at("stated", **vars(b), lam=lam, **_size(d, problem))
    return relative_error(got, float(want), n * lam / b.s)


def peak_variance(d: Derivation, problem: Problem) -> float:
    """The s where h, by quadrature, is largest."""
    b = _bump(problem)
    got = d.at("stated", omega=b.omega, beta=b.beta, **_size(d, problem))
    return relative_error(got, _peak(b, problem.n)[0])


def critical_weight(d: Derivation, problem: Problem) -> float:
    """The largest h."""
    b = _bump(problem)
    got = d.at("stated", omega=b.omega, beta=b.beta, **_size(d, problem))
    return relative_error(got, _peak(b, problem.n)[1])


def reachable_weight(d: Derivation, problem: Problem) -> float:
    """The largest h(β²) over ω."""
    b, n = _bump(problem), problem.n
    level = b.beta**2

    def rate(omega: float) -> float:
        width = _free(omega)
        (found,) = torch.autograd.grad(_pull(width, _free(level), b.beta, n), width)
        return float(found)

    omega = _root(rate, 0.5 * level, 100 * level)
    want = float(_pull(tensor(omega), _free(level), b.beta, n).detach())
    return relative_error(d.at("stated", **_size(d, problem)), want)


def growth(d: Derivation, problem: Problem) -> float:
    """The slope of J against log s where the reward has died out."""
    b, n, lam = _bump(problem), problem.n, problem.lam
    J = [
        _reward(tensor(b.omega), tensor(s), b.beta, n)
        + lam * n * Normal(0.0, tensor(s).sqrt()).entropy()
        for s in (WIDE, 10 * WIDE)
    ]
    return relative_error(d.at(lam=lam), float(J[1] - J[0]) / np.log(10))


def inner_variance(d: Derivation, problem: Problem) -> float:
    """The root of λ = h below the peak, at λ = q λ_c."""
    b, q = _bump(problem), problem.lam / (1 + problem.lam)
    top, critical = _peak(b, 2)

    def gap(s: float) -> float:
        return float(_pull(tensor(b.omega), _free(s), b.beta, 2).detach()) - q * critical

    return relative_error(d.at(omega=b.omega, beta=b.beta, q=q), _root(gap, 1e-4, top))


PROPOSITIONS = (
    Proposition(
        "bounded_reward.expected",
        "the expectation of exp(-zᵀWz), and of exp(-‖ŷ - y‖²/ω), under Gaussian laws",
        "new",
        (
            Check(inner.log_expected_kernel, log_expected_kernel, SEARCH),
            Check(inner.expected_reward, expected_reward, SEARCH),
        ),
        solver="solvers.rewards.bounded:BoundedReward",
    ),
    Proposition(
        "bounded_reward.maximum",
        "with a bounded reward J has a local maximum iff λ < λ_c, and never a global one",
        "new",
        (
            Check(inner.slope, slope, SEARCH),
            Check(inner.peak_variance, peak_variance, SEARCH),
            Check(inner.critical_weight, critical_weight, SEARCH),
            Check(inner.reachable_weight, reachable_weight, SEARCH),
            Check(inner.growth, growth, SEARCH),
            Check(inner.inner_variance, inner_variance, SEARCH),
        ),
        solver="solvers.rewards.bounded:inner_solution",
    ),
)
