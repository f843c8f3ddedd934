"""Witnesses of the outer problem: likelihoods of inner solutions that were searched for.

See `gaussian_witnesses` for what a witness is.
"""

from __future__ import annotations

import numpy as np
from scipy import integrate
from torch import Tensor

from analysis.derivation import Derivation

from ..conformance import witnesses
from ..conformance.strategies import Problem
from . import numerics
from .numerics import relative_error, square

HORIZON = 1.0  # of the flow: it has then covered 39 % of its way
ODE = 1e-8  # relative tolerance asked of the integrator for each step


def _step(problem: Problem) -> float:
    """A step of differences in U that moves no eigenvalue by more than 1e-4 of itself."""
    return 1e-4 * float(np.linalg.eigvalsh(problem.U)[0])


def _slope_scale(problem: Problem) -> float:
    """Size of the two terms that cancel in ∇F."""
    pull = np.linalg.norm(problem.Sigma) / problem.lam
    return float(np.linalg.norm(np.linalg.inv(problem.U)) + pull)


def objective(d: Derivation, problem: Problem, structure: str) -> float:
    """F(U): the likelihood of an inner solution found by search."""
    want = numerics.likelihood(problem, problem.U, structure)
    return relative_error(d.at("stated", **problem.pick("U", "Sigma", "lam")), want, 1.0)


def hypergradient(d: Derivation, problem: Problem, structure: str) -> float:
    """∇F by central differences of the likelihood of inner solutions found by search."""
    want = witnesses.central_difference(
        lambda U: numerics.likelihood(problem, U, structure), problem.U, _step(problem)
    )
    got = square(d.at("stated", **problem.pick("U", "Sigma", "lam")), problem.n)
    return relative_error(got, want, _slope_scale(problem))


def implicit_hypergradient(d: Derivation, problem: Problem, structure: str) -> float:
    """The implicit-function form at an inner solution found by search, derivatives by autograd."""
    got = square(d.at("stated", **problem.pick("U", "Sigma", "lam")), problem.n)
    want = numerics.slope(problem, problem.U, structure)
    return relative_error(got, want, _slope_scale(problem))


def optimal_reward(d: Derivation, problem: Problem, structure: str) -> float:
    """What F determines of a maximiser found by search: U, its diagonal, or its trace."""
    n = problem.n
    found = numerics.best_reward(problem, structure)
    stated = square(d.at("stated", **problem.pick("Sigma", "lam")), n)
    if structure == "full":
        return relative_error(stated, found)
    if structure == "diagonal":
        return relative_error(stated, np.diag(np.diag(found)))
    return relative_error(stated, np.trace(found) / n * np.eye(n))


def concavity(d: Derivation, problem: Problem) -> float:
    """d²F(U; H, H), H = P - M, by central differences of the slope."""
    H = problem.P - problem.M
    step = _step(problem) / float(np.linalg.norm(H))
    ends = [np.sum(numerics.slope(problem, problem.U + s * step * H) * H) for s in (1, -1)]
    names = {"U": problem.U, "H": H}
    got = d.at("stated", **{k: v if problem.n > 1 else float(v[0, 0]) for k, v in names.items()})
    return relative_error(got, (ends[0] - ends[1]) / (2 * step))


def bilevel_solution(d: Derivation, problem: Problem) -> float:
    """P*(U*) and the maximum-likelihood covariance, all three found by search."""
    got = square(d.at("stated", **problem.pick("Sigma")), problem.n)
    trained = numerics.inner_covariance(problem, numerics.best_reward(problem, "full"))
    fitted = numerics.best_fit(problem)[1]
    return max(relative_error(got, trained), relative_error(got, fitted))


def optimal_scale(d: Derivation, problem: Problem) -> float:
    """c*: where the slope along the ray, found by search, changes sign."""
    got = d.at("stated", **problem.pick("M", "Sigma", "lam"))
    return relative_error(got, numerics.best_scale(problem))


def ray_loss(d: Derivation, problem: Problem) -> float:
    """The likelihood lost by the best reward on the ray."""
    here = numerics.likelihood(problem, numerics.best_scale(problem) * problem.M)
    want = numerics.best_fit(problem)[0] - here
    return relative_error(d.at("stated", **problem.pick("M", "Sigma")), want, 1.0)


def rescaling_regret(d: Derivation, problem: Problem) -> float:
    """The likelihood lost when the best scale is missed by the factor k = λ of the problem."""
    c, k = numerics.best_scale(problem), problem.lam
    top, here = (numerics.likelihood(problem, scale * problem.M) for scale in (c, k * c))
    return relative_error(d.at(k=k), top - here, 1.0)


def flow(d: Derivation, problem: Problem) -> float:
    """P(t) at the end of the outer flow, integrated with numerical slopes.

    Integrated is V = U⁻¹: as V̇ = -U⁻¹ U̇ U⁻¹, the flow U̇ = U (∇F) U reads V̇ = -∇F. U can fall by
    orders of magnitude at once, for which an integrator needs many more steps.
    """
    n = problem.n
    theta: Tensor | None = None  # every search for θ* may start where the one before ended

    def rate(_: float, raw: np.ndarray) -> np.ndarray:
        nonlocal theta
        V = raw.reshape(n, n)
        _, G, theta = numerics.evaluate(problem, _symmetric_inverse(V), start=theta)
        return -G.ravel()

    V0 = np.linalg.inv(problem.U)
    path = integrate.solve_ivp(
        rate,
        (0, HORIZON),
        V0.ravel(),
        method="DOP853",
        first_step=HORIZON,  # refused, and halved, where that is too long
        rtol=ODE,
        atol=ODE * np.abs(V0).max(),
    )
    if not path.success:
        raise numerics.SearchError(f"the flow could not be integrated: {path.message}")
    start = numerics.inner_covariance(problem, problem.U)
    end = numerics.inner_covariance(problem, _symmetric_inverse(path.y[:, -1].reshape(n, n)))
    P0, Sigma = (X if n > 1 else float(X[0, 0]) for X in (start, problem.Sigma))
    return relative_error(square(d.at(P0=P0, Sigma=Sigma, t=HORIZON), n), end)


def _symmetric_inverse(V: np.ndarray) -> np.ndarray:
    U = np.linalg.inv(V)
    return (U + U.T) / 2


def mean_field_shrinkage(d: Derivation, problem: Problem) -> float:
    """A diagonal policy trained, by search, on the best reward of a full one."""
    U = numerics.best_reward(problem, "full")
    want = numerics.inner_covariance(problem, U, "diagonal")
    return relative_error(square(d.at("stated", **problem.pick("Sigma")), problem.n), want)


def mean_field_cost(d: Derivation, problem: Problem) -> float:
    """The likelihood it loses against the best diagonal fit."""
    U = numerics.best_reward(problem, "full")
    lost = numerics.best_fit(problem, "diagonal")[0] - numerics.likelihood(problem, U, "diagonal")
    return relative_error(d.at("stated", **problem.pick("Sigma")), lost, 1.0)
