"""Identities of `analysis.derive`: a policy trained on a user's reward ends at the derived θ*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

import solvers as so
from analysis import KL, Derived, Gaussian, Moments, derive, outcome
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree
from paper_checks.user_reward import torch_reference, torch_reward

TRAINED = 1e-6  # of a search that stops at a rounded gradient
NODES = 12  # exact for polynomials of degree < 24


@dataclass(frozen=True)
class Quadrature:
    """E_ŷ E_y r by Gauss-Hermite nodes of a scalar policy: an estimator without noise."""

    def __call__(self, law: Any, data: Any, reward: Any, noise: Any) -> Tensor:
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        e, w = torch.as_tensor(nodes), torch.as_tensor(weights / weights.sum())
        bell = law.distribution
        generated = bell.mean + e[:, None, None] * bell.stddev  # (K, N, 1)
        return (w[:, None] * reward(generated[:, :, None], data.y).mean(-1)).sum(0)


class Bell(torch.nn.Module):
    """N(m, e^{2t}), the same at every input."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.m = torch.nn.Parameter(torch.tensor(mean, dtype=torch.float64))
        self.t = torch.nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.m.expand(len(x), 1), self.t.exp().expand(len(x), 1))


def quartic(regulariser: KL | None = None) -> Derived:
    """r = -a(ŷ - y)⁴ - b(ŷ - y)² for data of any law: no closed form."""
    a, b = sp.symbols("a b", positive=True)
    y_hat, y = outcome(1)
    return derive(-a * (y_hat - y) ** 4 - b * (y_hat - y) ** 2, Gaussian(1), regulariser, Moments())


def trained_policy(problem: Problem, derived: Derived) -> None:
    """Training on the reward in torch, beside a reference or not, ends at the derived θ*."""
    y = np.array([-1.0, 0.1, 0.4, 1.3]) + problem.mu[0] / 4
    parameters = {"a": 0.2 + problem.P[0, 0] ** 0.25, "b": 0.1 + problem.U[0, 0] ** 0.25}
    centred = y - y.mean()
    moments = {"mu": y.mean(), "Sigma": (centred**2).mean()}
    moments |= {f"mu_{k}": (centred**k).mean() for k in (3, 4)}
    known = {"m0": problem.mu[0] / 2, "P0": problem.P[0, 0] ** 0.5}
    constants = {name: known[name] for name in derived.constants if name != "lam"}
    found = derived.solve(lam=problem.lam, **parameters, **moments, **constants).policy
    data = so.Dataset.of(
        torch.zeros(1, 1, dtype=torch.float64), torch.as_tensor(y).reshape(1, 4, 1)
    )
    model = so.policy(Bell(float(y.mean())))
    reward = torch_reward(derived, **parameters)
    reference = torch_reference(derived, model, **constants) if constants else None
    objective = so.PolicyGradient(reward, problem.lam, Quadrature(), reference=reference)
    theta = so.fit(model, data, objective, params=model.start()).value
    got = [float(theta["m"]), float(torch.exp(2 * theta["t"]))]
    agree("θ* of a quartic reward", got, [found["m"], found["P"]], rtol=TRAINED, inputs=problem)
