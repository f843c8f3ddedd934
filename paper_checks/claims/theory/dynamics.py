"""Witnesses of the inner flows: autograd on the definitions, integrated by SciPy.

See `proposition` for what a witness is. The numbers are taken from the problem but kept
where a flow neither stiffens nor crawls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import integrate
from torch import Tensor

from analysis.derivation import Derivation
from analysis.dynamics import inner_flow

from ...conformance import witnesses
from ...conformance.strategies import Problem
from . import numerics
from .numerics import relative_error, tensor
from .proposition import EXACT, Check, Proposition

ODE = 1e-9  # relative tolerance asked of the integrator for each step
INTEGRATED = 1e3 * ODE  # errors add up over its steps, and a path may magnify them
HORIZON = 1.5  # covers a good part of every way
LATE = 10.0  # times the slowest decay: nothing is left that the tolerance would show
STEPS, SHARE = 5, 0.7  # of ascent; of the largest step


@dataclass(frozen=True)
class Scalar:
    """The numbers of a scalar policy N(μ + δ₀, v₀), reward -u(ŷ - y)², data N(μ, σ²), μ = 0."""

    u: float
    lam: float
    sigma: float
    delta_0: float
    v_0: float

    def pick(self, d: Derivation, **more: float) -> dict[str, float]:
        """The arguments that a derivation takes."""
        values = {**vars(self), "delta": self.delta_0, "s": self.v_0**0.5, **more}
        return {name: values[name] for name in d.arguments}

    def objective(self, name: str) -> Callable[[Tensor], Tensor]:
        """J or the log-likelihood as a function of (δ, log s), from the definition."""
        mu, Sigma, U = (tensor(x) for x in ([0.0], [[self.sigma**2]], [[self.u]]))

        def f(theta: Tensor) -> Tensor:
            m, L = witnesses.unpack(theta, 1, "full")
            if name == "PG":
                return witnesses.inner_objective(m, L, U, mu, Sigma, tensor(self.lam))
            return witnesses.log_likelihood(m, L, mu, Sigma)

        return f

    @property
    def start(self) -> Tensor:
        """(δ₀, log s₀)."""
        return tensor([self.delta_0, np.log(self.v_0) / 2])


def _scalar(problem: Problem) -> Scalar:
    u, lam, variance, delta, v = (
        float(np.clip(x, low, high))
        for x, low, high in (
            (problem.U[0, 0], 0.3, 3.0),
            (problem.lam, 0.3, 3.0),
            (problem.Sigma[0, 0], 0.4, 2.0),
            (abs(problem.m[0] - problem.mu[0]), 0.2, 1.5),
            (problem.P[0, 0], 0.1, 4.0),
        )
    )
    return Scalar(u, lam, variance**0.5, delta, v)


def _slope(f: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    free = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(free), free)
    return slope


def _path(
    f: Callable[[Tensor], Tensor], start: Tensor, T: float, until: float | None = None
) -> tuple[float, Tensor]:
    """Time and (δ, log s) after the time T of the flow, or where log δ = `until`.

    Integrated in (log δ, log s): a mean error that dies out keeps its digits.
    """

    def rate(_: float, raw: np.ndarray) -> list[float]:
        delta = float(np.exp(raw[0]))
        slope = _slope(f, tensor([delta, raw[1]]))
        return [float(slope[0]) / delta, float(slope[1])]

    def gap(_: float, raw: np.ndarray) -> float:
        return 1.0 if until is None else raw[0] - until

    gap.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    begin = [float(start[0].log()), float(start[1])]
    found: Any = integrate.solve_ivp(
        rate, (0, T), begin, method="DOP853", rtol=ODE, atol=ODE, events=gap
    )
    if not found.success or (until is not None and found.status != 1):
        raise numerics.SearchError(f"the flow could not be integrated: {found.message}")
    return float(found.t[-1]), tensor([np.exp(found.y[0, -1]), found.y[1, -1]])


def velocity(d: Derivation, problem: Problem) -> float:
    """The slope in (m, log s)."""
    v = _scalar(problem)
    want = _slope(v.objective(str(d.key.variant)), v.start)
    return relative_error(d.at("stated", **v.pick(d)), want.numpy(), v.lam)


def mean_error(d: Derivation, problem: Problem) -> float:
    """δ after a while of policy gradient."""
    v = _scalar(problem)
    t, end = _path(v.objective("PG"), v.start, HORIZON)
    return relative_error(d.at("stated", **v.pick(d, t=t)), float(end[0]))


def precision(d: Derivation, problem: Problem) -> float:
    """1/v after a while of policy gradient."""
    v = _scalar(problem)
    t, end = _path(v.objective("PG"), v.start, HORIZON)
    return relative_error(d.at("stated", **v.pick(d, t=t)), float((-2 * end[1]).exp()))


def orbit(d: Derivation, problem: Problem) -> float:
    """1/v where NLL is after a while."""
    v = _scalar(problem)
    _, end = _path(v.objective("NLL"), v.start, HORIZON)
    got = d.at("stated", **v.pick(d, delta_t=float(end[0])))
    return relative_error(got, float((-2 * end[1]).exp()))


def clock(d: Derivation, problem: Problem) -> float:
    """The time it took to get there."""
    v = _scalar(problem)
    t, end = _path(v.objective("NLL"), v.start, HORIZON)
    values = v.pick(d, delta_t=float(end[0]), v_t=float((2 * end[1]).exp()))
    return relative_error(d.at("stated", **values), t)


def lead(d: Derivation, problem: Problem) -> float:
    """Time of NLL, run until nothing is left to do, minus that of PG(U*) to the same error."""
    v = _scalar(problem)
    # A mean that decays faster than the variance has no digits left when the variance is there.
    v = replace(v, sigma=max(v.sigma, 1.0))
    T = LATE * v.sigma**2
    slow, end = _path(v.objective("NLL"), v.start, T)
    best = Scalar(1 / (2 * v.sigma**2), 1.0, v.sigma, v.delta_0, v.v_0)
    fast, _ = _path(best.objective("PG"), best.start, 2 * T, until=float(end[0].log()))
    return relative_error(d.at("stated", **v.pick(d)), slow - fast, T)


def _hessian(v: Scalar, name: str) -> np.ndarray:
    """Of J or the log-likelihood at the maximum found by search."""
    f = v.objective(name)
    found = torch.autograd.functional.hessian(f, numerics.climb(f, 1))
    assert isinstance(found, Tensor)
    return found.numpy()


def linearisation(d: Derivation, problem: Problem) -> float:
    """The Hessian at the optimum."""
    v = _scalar(problem)
    return relative_error(d.at("stated", **v.pick(d)), _hessian(v, str(d.key.variant)))


def largest_step(d: Derivation, problem: Problem) -> float:
    """2 over its eigenvalues, along (m, log s)."""
    v = _scalar(problem)
    want = 2 / np.abs(np.diag(_hessian(v, str(d.key.variant))))
    return relative_error(d.at("stated", **v.pick(d)), want)


def mean_error_after(d: Derivation, problem: Problem) -> float:
    """δ after some steps of ascent, from a variance away from the optimum."""
    v = _scalar(problem)
    eta, theta = SHARE / max(v.u, v.lam), v.start  # beyond 1/λ the variance may collapse
    for _ in range(STEPS):
        theta = theta + eta * _slope(v.objective("PG"), theta)
    got = d.at("stated", **v.pick(d, eta=eta, steps=STEPS))
    return relative_error(got, float(theta[0]))


PROPOSITIONS = (
    Proposition(
        "inner_flow.policy_gradient",
        "under the flow of J mean and variance are decoupled: δ₀e^{-2ut}, v∞/(1+(v∞/v₀-1)e^{-2λt})",
        "new",
        (
            Check(inner_flow.velocity, velocity, EXACT),
            Check(inner_flow.mean_error, mean_error, INTEGRATED),
            Check(inner_flow.precision, precision, INTEGRATED),
        ),
        solver="solvers.training.ensemble:gradient_descent",
    ),
    Proposition(
        "inner_flow.likelihood",
        "under NLL they are coupled: 1/v = e^D D^{σ²}[C + Γ(-σ², D)] along D = δ², and the time",
        "new",
        (
            Check(inner_flow.orbit, orbit, INTEGRATED),
            Check(inner_flow.clock, clock, INTEGRATED),
        ),
        solver="solvers.training.ensemble:gradient_descent",
    ),
    Proposition(
        "inner_flow.who_is_faster",
        "PG(U*) has the mean sooner than NLL iff v₀ > σ²e^{-δ₀²}: by ½(δ₀² - log(σ²/v₀)), λ = 1",
        "new",
        (Check(inner_flow.lead, lead, INTEGRATED),),
        solver="solvers.training.ensemble:gradient_descent",
    ),
    Proposition(
        "inner_flow.steps",
        "rates at the optimum 2u, 2λ (J) and 1/σ², 2 (likelihood), and the largest stable steps",
        "new",
        (
            Check(inner_flow.linearisation, linearisation, EXACT),
            Check(inner_flow.largest_step, largest_step, EXACT),
            Check(inner_flow.mean_error_after, mean_error_after, EXACT),
        ),
        solver="solvers.training.ensemble:gradient_descent",
    ),
)
