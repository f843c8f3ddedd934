"""The SymPy derivations evaluated at a random problem, for any n and every structure.

Always the *derived* side: what was computed from objective, entropy and log-likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis import gaussian
from analysis.calculus import symbols
from analysis.calculus.symbols import Structure
from analysis.derivation import Derivation

from .strategies import Problem

EXPLICIT = symbols.EXPLICIT  # implicit and functional forms exist up to this n

Builder = Callable[[Any, Any], Derivation]


def derived(build: Builder, structure: str, problem: Problem, *names: str) -> np.ndarray:
    """Return a derived matrix or scalar of the outer or inner problem, for any n."""
    values = problem.pick("lam", *names)
    return np.asarray(build(structure, problem.n).at(side="derived", **values))


def square(value: Any, n: int) -> np.ndarray:
    """Return a matrix result as `(n, n)`, also where n = 1 made it a float."""
    return np.asarray(value, float).reshape(n, n)


def inner_solution(problem: Problem, structure: Structure) -> np.ndarray:
    """Return `P*`, shape `(n, n)`."""
    return square(derived(gaussian.inner.solution, structure, problem, "U"), problem.n)


def hypergradient(problem: Problem, structure: Structure) -> np.ndarray:
    """Return `∇_U F`, the derivative of `F` at the inner solution, shape `(n, n)`."""
    return square(
        derived(gaussian.outer.hypergradient, structure, problem, "U", "Sigma"), problem.n
    )


def implicit_hypergradient(problem: Problem, structure: Structure) -> np.ndarray:
    """Return `-(∂²_{Uθ}J)(∂²_{θθ}J)⁻¹ ∂_θF`, shape `(n, n)`; explicit n only."""
    build = gaussian.outer.implicit_hypergradient
    return square(derived(build, structure, problem, "U", "Sigma"), problem.n)


def optimal_reward(problem: Problem, structure: Structure) -> np.ndarray:
    """Return `U*`, shape `(n, n)`."""
    return square(derived(gaussian.outer.optimal_reward, structure, problem, "Sigma"), problem.n)


@dataclass(frozen=True, eq=False)
class PolicyGradient:
    """A gradient in the mean and in the Cholesky factor of the policy.

    Attributes:
        m: in the mean, `(n,)`.
        L: in the factor, lower triangle `(n, n)`.
    """

    m: np.ndarray
    L: np.ndarray

    def __add__(self, other: PolicyGradient) -> PolicyGradient:
        return PolicyGradient(self.m + other.m, self.L + other.L)

    def __rmul__(self, factor: float) -> PolicyGradient:
        return PolicyGradient(factor * self.m, factor * self.L)


def policy_gradient(problem: Problem) -> tuple[PolicyGradient, PolicyGradient]:
    """Return the derived gradients of `E r` and of `λH`, whose sum is that of `J`.

    The derivations give `∂J/∂m` and the symmetric `∂J/∂P`; in the Cholesky factor `L`, `P = LLᵀ`,
    the gradient is the lower triangle of `2 (∂J/∂P) L`.
    """
    L = np.linalg.cholesky(problem.P)
    values = problem.pick("m", "P", "mu", "U", "lam")

    def at(build: Derivation, lam: float) -> np.ndarray:
        chosen = {k: v for k, v in {**values, "lam": lam}.items() if k in build.arguments}
        return np.asarray(build.at(side="derived", **chosen))

    in_mean = at(gaussian.inner.mean_gradient(problem.n), problem.lam).reshape(problem.n)
    # J is affine in λ: two evaluations separate the entropy from the reward
    in_covariance = gaussian.inner.covariance_gradient(problem.n)
    once, twice = (square(at(in_covariance, k * problem.lam), problem.n) for k in (1, 2))
    reward = PolicyGradient(in_mean, np.tril(2 * (2 * once - twice) @ L))
    return reward, PolicyGradient(0 * in_mean, np.tril(2 * (twice - once) @ L))
