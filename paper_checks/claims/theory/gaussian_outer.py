"""Witnesses of the outer problem: likelihoods of inner solutions that were searched for.

See `proposition` for what a witness is.
"""

from __future__ import annotations

import numpy as np
from scipy import integrate
from torch import Tensor

from analysis import dynamics, gaussian
from analysis.derivation import Derivation

from ...conformance import witnesses
from ...conformance.strategies import Problem
from . import numerics
from .numerics import relative_error, square
from .proposition import DIFFERENCES, EXACT, SEARCH, Check, Proposition

HORIZON = 1.0  # of the flow: it has then covered 39 % of its way
ODE = 1e-8  # relative tolerance asked of the integrator for each step


def _step(problem: Problem) -> float:
    """A step of differences in U that moves no eigenvalue by more than 1e-4 of itself."""
    return 1e-4 * float(np.linalg.eigvalsh(problem.U)[0])


def _slope_scale(problem: Problem) -> float:
    """Size of the two terms that cancel in ∇F."""
    pull = np.linalg.norm(problem.Sigma) / problem.lam
    return float(np.linalg.norm(np.linalg.inv(problem.U)) + pull)


def objective(d: Derivation, problem: Problem) -> float:
    """F(U): the likelihood of an inner solution found by search."""
    structure = str(d.key.variant)
    want = numerics.likelihood(problem, problem.U, structure)
    return relative_error(d.at("stated", **problem.pick("U", "Sigma", "lam")), want, 1.0)


def hypergradient(d: Derivation, problem: Problem) -> float:
    """∇F by central differences of the likelihood of inner solutions found by search."""
    structure = str(d.key.variant)
    want = witnesses.central_difference(
        lambda U: numerics.likelihood(problem, U, structure), problem.U, _step(problem)
    )
    got = square(d.at("stated", **problem.pick("U", "Sigma", "lam")), problem.n)
    return relative_error(got, want, _slope_scale(problem))


def implicit_hypergradient(d: Derivation, problem: Problem) -> float:
    """The implicit-function form at an inner solution found by search, derivatives by autograd."""
    structure = str(d.key.variant)
    got = square(d.at("stated", **problem.pick("U", "Sigma", "lam")), problem.n)
    want = numerics.slope(problem, problem.U, structure)
    return relative_error(got, want, _slope_scale(problem))


def optimal_reward(d: Derivation, problem: Problem) -> float:
    """What F determines of a maximiser found by search: U, its diagonal, or its trace."""
    structure = str(d.key.variant)
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
    size = {"n": problem.n} if "n" in d.arguments else {}
    return relative_error(d.at("stated", k=k, **size), top - here, 1.0)


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


INTEGRATED = 10 * ODE  # errors of an integrator add up over its steps

PROPOSITIONS = (
    Proposition(
        "outer_objective",
        "F(U) = ½ log det U - Tr(UΣ)/λ - (n/2) log πλ, and its restricted forms",
        "paper; diagonal new",
        (Check(gaussian.outer.objective, objective, EXACT),),
        solver="solvers.bilevel.likelihood:problem",
    ),
    Proposition(
        "hypergradient",
        "∇_U F = ½ U⁻¹ - Σ/λ, and its restricted forms",
        "paper; diagonal new",
        (Check(gaussian.outer.hypergradient, hypergradient, DIFFERENCES),),
        solver="solvers.hypergradients.implicit:implicit",
    ),
    Proposition(
        "implicit_differentiation",
        "∇_U F = -(∂²_Uθ J)(∂²_θθ J)⁻¹ ∂_θ F at the inner solution",
        "paper",
        (Check(gaussian.outer.implicit_hypergradient, implicit_hypergradient, EXACT),),
        solver="solvers.hypergradients.implicit:implicit",
    ),
    Proposition(
        "optimal_reward.full",
        "U* = (λ/2) Σ⁻¹ is the only maximum of F, which is strictly concave",
        "paper",
        (
            Check(gaussian.outer.optimal_reward, optimal_reward, SEARCH, "full"),
            Check(gaussian.outer.concavity, concavity, DIFFERENCES),
        ),
        solver="solvers.rewards.mahalanobis:optimal_reward",
    ),
    Proposition(
        "optimal_reward.isotropic",
        "for an isotropic policy U* = λn/(2 Tr Σ) I, and every U with Tr U = λn²/(2 Tr Σ)",
        "paper; the whole set new",
        (Check(gaussian.outer.optimal_reward, optimal_reward, SEARCH, "isotropic"),),
        solver="solvers.rewards.mahalanobis:isotropic_weight",
    ),
    Proposition(
        "optimal_reward.diagonal",
        "for a diagonal policy U is optimal iff U_ii = λ/(2Σ_ii)",
        "new",
        (Check(gaussian.outer.optimal_reward, optimal_reward, SEARCH, "diagonal"),),
        solver="solvers.rewards.mahalanobis:optimal_reward",
    ),
    Proposition(
        "bilevel_solution",
        "the bilevel solution is the maximum-likelihood Gaussian: P*(U*) = Σ",
        "paper",
        (Check(gaussian.outer.bilevel_solution, bilevel_solution, SEARCH),),
        solver="solvers.bilevel.loop:solve",
    ),
    Proposition(
        "ray",
        "on a ray U = cM: c* = λn/(2 Tr(MΣ)), loss ½[n log(Tr(MΣ)/n) - log det(MΣ)]",
        "new; M = I paper",
        (
            Check(gaussian.rays.optimal_scale, optimal_scale, EXACT),
            Check(gaussian.rays.loss, ray_loss, EXACT),
        ),
        solver="solvers.rewards.mahalanobis:optimal_scale",
    ),
    Proposition(
        "rescaling_regret",
        "missing the best scale (or λ) by a factor k costs (n/2)(k - 1 - log k) nats",
        "new",
        (Check(gaussian.rays.rescaling_regret, rescaling_regret, EXACT),),
    ),
    Proposition(
        "flow",
        "U̇ = U (∇F) U gives P(t) = Σ + exp(-t/2)(P₀ - Σ), whatever the conditioning",
        "new",
        (Check(dynamics.outer_flow.covariance, flow, INTEGRATED),),
    ),
    Proposition(
        "mean_field",
        "a diagonal policy on the full U* shrinks to 1/(Σ⁻¹)_ii, and what that costs",
        "new",
        (
            Check(gaussian.mean_field.shrinkage, mean_field_shrinkage, SEARCH),
            Check(gaussian.mean_field.cost, mean_field_cost, SEARCH),
        ),
        solver="solvers.training.inner:closed_form",
    ),
)
