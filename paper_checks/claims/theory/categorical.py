"""Witnesses of the categorical derivations: enumerated classes, policies found by search.

See `proposition` for what a witness is.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from analysis.categorical import costs, diagonal, estimators, inner, near_uniform, outer
from analysis.categorical import scalar as scalars
from analysis.derivation import Derivation

from ...conformance import witnesses
from ...conformance.class_problems import ClassProblem
from . import categorical_numerics as numerics
from .categorical_numerics import likelihood, policy, scalar
from .numerics import relative_error, tensor
from .proposition import DIFFERENCES, EXACT, SEARCH, Check, Proposition

BASELINE = -0.3  # any constant
MARGIN = 0.03
REFUTED = float("inf")  # the error where a part of the statement that is no equation fails


def _at(d: Derivation, problem: ClassProblem, **others: Any) -> Any:
    """The formula's value at the problem, with other values for some arguments."""
    values = {**vars(problem), **others}
    return d.at("stated", **{name: values[name] for name in d.arguments})


def _uneven(problem: ClassProblem) -> np.ndarray:
    """Probabilities of the data where no class has ½ and not all are alike: formulas degenerate."""
    squares = np.arange(1.0, problem.C + 1) ** 2
    candidates = (problem.pi, problem.p, squares / squares.sum())
    return next(pi for pi in candidates if np.abs(pi - 0.5).min() > MARGIN and np.ptp(pi) > MARGIN)


def _objective(p: np.ndarray | Tensor, pi: np.ndarray, U: np.ndarray, lam: float) -> float:
    return float(numerics.objective(tensor(p), tensor(pi), tensor(U), lam))


# --- the inner problem ---


def inner_solution(d: Derivation, problem: ClassProblem) -> float:
    """The argmax of J."""
    return relative_error(_at(d, problem), policy(problem.pi, problem.U, problem.lam))


def gibbs_gap(d: Derivation, problem: ClassProblem) -> float:
    """J at its maximum less J at another policy."""
    inner = problem.pi, problem.U, problem.lam
    best, other = (_objective(p, *inner) for p in (policy(*inner), problem.p))
    return relative_error(_at(d, problem), best - other, abs(best) + abs(other))


def scalar_solution(d: Derivation, problem: ClassProblem) -> float:
    """The argmax of J for U = uI."""
    want = policy(problem.pi, scalar(problem.u, problem.C), problem.lam)
    return relative_error(_at(d, problem), want)


def argmax_preserved(d: Derivation, problem: ClassProblem) -> float:
    """Log-ratios of the argmax of J for U = uI, whose classes are ordered as those of the data."""
    pi = _uneven(problem)
    p = policy(pi, scalar(problem.u, problem.C), problem.lam).numpy()
    order = np.argsort(pi)
    rises = (pi[b] == pi[a] or p[b] > p[a] for a, b in pairwise(order))
    ratios = np.log(p[:, None] / p[None])
    return relative_error(_at(d, problem, pi=pi), ratios) if all(rises) else REFUTED


def binary_logit(d: Derivation, problem: ClassProblem) -> float:
    """The log-ratio of the two probabilities of the argmax of J."""
    pi = _uneven(problem)
    p = policy(pi, problem.U, problem.lam)
    scale = float(np.abs(problem.U).max()) / problem.lam  # of the terms that cancel
    return relative_error(_at(d, problem, pi=pi), float((p[0] / p[1]).log()), scale)


# --- the outer problem ---


def outer_objective(d: Derivation, problem: ClassProblem) -> float:
    """F at the argmax of J."""
    return relative_error(_at(d, problem), likelihood(problem.pi, problem.U, problem.lam))


def hypergradient(d: Derivation, problem: ClassProblem) -> float:
    """Central differences of F, with a search for the policy on either side."""
    lam = problem.lam

    def error(pi: np.ndarray) -> float:
        F = partial(likelihood, pi, lam=lam)
        want = witnesses.central_difference(F, problem.U, numerics.MOVE * lam)
        return relative_error(_at(d, problem, pi=pi), want, 1 / lam)

    return max(error(pi) for pi in (problem.pi, _uneven(problem)))


def implicit_hypergradient(d: Derivation, problem: ClassProblem) -> float:
    """The implicit function theorem at the argmax of J, its derivatives by autograd."""
    U, lam = problem.U, problem.lam
    return max(
        relative_error(_at(d, problem, pi=pi), numerics.slope(pi, U, lam), 1 / lam)
        for pi in (problem.pi, _uneven(problem))
    )


def concavity(d: Derivation, problem: ClassProblem) -> float:
    """Central differences along H of the slope of F by implicit differentiation."""
    pi, lam, size = _uneven(problem), problem.lam, float(np.linalg.norm(problem.H))
    step = numerics.MOVE * lam / size
    up, down = (numerics.slope(pi, problem.U + t * problem.H, lam) for t in (step, -step))
    want = float(((up - down) * problem.H).sum()) / (2 * step)
    return relative_error(_at(d, problem, pi=pi), want, (size / lam) ** 2)


# --- scalar and diagonal rewards ---


def scalar_stationarity(d: Derivation, problem: ClassProblem) -> float:
    """The slope of F in u by central differences; and the formula at the best u, where it is 0."""
    pi, lam, u, step = _uneven(problem), problem.lam, problem.u, problem.u * numerics.MOVE
    up, down = (likelihood(pi, scalar(v, problem.C), lam) for v in (u + step, u - step))
    want = (up - down) / (2 * step)
    at_best = _at(d, problem, pi=pi, u=numerics.best_scalar(pi, lam))
    return max(
        relative_error(_at(d, problem, pi=pi), want, 1 / lam),
        relative_error(at_best, 0.0, 1 / lam),
    )


def binary_scalar(d: Derivation, problem: ClassProblem) -> float:
    """The u where F(uI) is stationary."""
    pi = _uneven(problem)
    return relative_error(_at(d, problem, pi=pi), numerics.best_scalar(pi, problem.lam))


def heuristic_scale(d: Derivation, problem: ClassProblem) -> float:
    """The u that would be best for an isotropic Gaussian policy."""
    want = numerics.best_gaussian_scalar(problem.pi, problem.lam)
    return relative_error(_at(d, problem), want)


def heuristic_ratio(d: Derivation, problem: ClassProblem) -> float:
    """The best u of a categorical policy over that of a Gaussian one: ½ at most."""
    pi, lam = _uneven(problem), problem.lam
    want = numerics.best_scalar(pi, lam) / numerics.best_gaussian_scalar(pi, lam)
    return relative_error(_at(d, problem, pi=pi), want) if want <= 0.5 else REFUTED


def near_uniform_scale(d: Derivation, problem: ClassProblem) -> float:
    """The best u for nearly uniform data, extrapolated."""
    want = numerics.limit_at_uniform(
        lambda pi: numerics.best_scalar(pi, problem.lam), _uneven(problem)
    )
    return relative_error(_at(d, problem), want)


def binary_scalar_limit(d: Derivation, problem: ClassProblem) -> float:
    """The same for two classes."""
    return near_uniform_scale(d, problem)


def near_uniform_ratio(d: Derivation, problem: ClassProblem) -> float:
    """The best u of a Gaussian policy over that of a categorical one, extrapolated."""
    lam = problem.lam
    want = numerics.limit_at_uniform(
        lambda pi: numerics.best_gaussian_scalar(pi, lam) / numerics.best_scalar(pi, lam),
        _uneven(problem),
    )
    return relative_error(_at(d, problem), want)


def scalar_gap(d: Derivation, problem: ClassProblem) -> float:
    """The largest likelihood of any policy, by search, less that of the argmax of J for U = uI."""
    pi, lam = _uneven(problem), problem.lam
    top, reached = numerics.ceiling(pi), likelihood(pi, scalar(problem.u, problem.C), lam)
    return relative_error(_at(d, problem, pi=pi), top - reached, abs(top) + abs(reached))


def _loss(pi: np.ndarray, u: float, lam: float) -> tuple[float, float]:
    """F at the best u less F at another, two classes; and the size of the terms that cancel."""
    best, other = (likelihood(pi, scalar(v, 2), lam) for v in (numerics.best_scalar(pi, lam), u))
    return best - other, abs(best) + abs(other)


def binary_gap(d: Derivation, problem: ClassProblem) -> float:
    """F at the best u less F at another."""
    pi = _uneven(problem)
    return relative_error(_at(d, problem, pi=pi), *_loss(pi, problem.u, problem.lam))


def heuristic_gap(d: Derivation, problem: ClassProblem) -> float:
    """F at the best u less F at once and twice the u that is best for a Gaussian policy."""
    pi, lam = _uneven(problem), problem.lam
    heuristic = numerics.best_gaussian_scalar(pi, lam)
    return max(
        relative_error(_at(d, problem, pi=pi, k=k), *_loss(pi, k * heuristic, lam))
        for k in (1.0, 2.0)
    )


def diagonal_reward(d: Derivation, problem: ClassProblem) -> float:
    """The argmax of J for U = diag(u) is π, and k, which gives u > 0, is the offset of `_reached`.

    π and k together determine u.
    """
    pi, lam = _uneven(problem), problem.lam
    likeliest, next_one = -np.log(np.sort(pi)[::-1][:2])
    k = (likeliest + next_one) / 2 if pi.max() > 0.5 else likeliest - 0.5
    u = np.asarray(_at(d, problem, pi=pi, offset=k))
    if np.any(u <= 0):
        return REFUTED
    reached = _reached(pi, u, lam)
    return max(relative_error(reached[0], pi), relative_error(reached[1], k))


def _reached(pi: np.ndarray, u: np.ndarray, lam: float) -> tuple[np.ndarray, float]:
    """The argmax of J for U = diag(u), and (max J - E_y r(0, y))/λ."""
    U, one = np.diag(u), torch.eye(len(pi), dtype=torch.float64)
    p = policy(pi, U, lam)
    origin = float(witnesses.reward(torch.zeros_like(one), one, tensor(U)) @ tensor(pi))
    return p.numpy(), (_objective(p, pi, U, lam) - origin) / lam


def diagonal_reward_at_half(d: Derivation, problem: ClassProblem) -> float:
    """The offset of u > 0, found by search, that give π = (½, ..) for two values of u_1."""
    others = problem.p[1:] / problem.p[1:].sum() / 2
    pi, lam = np.append(0.5, others), problem.lam
    found = [_matched(pi, first, lam) for first in (problem.u, 3 * problem.u)]
    return max(relative_error(_at(d, problem), _reached(pi, u, lam)[1]) for u in found)


def _matched(pi: np.ndarray, first: float, lam: float) -> np.ndarray:
    """The positive diagonal whose argmax of J is π, given its first entry."""

    def weights(log_u: np.ndarray) -> np.ndarray:
        return np.append(first, lam * np.exp(log_u))

    def gap(log_u: np.ndarray) -> np.ndarray:
        return np.log(_reached(pi, weights(log_u), lam)[0] / pi)[1:]

    found = optimize.root(gap, np.zeros(len(pi) - 1), tol=1e-12)
    if not np.abs(found.fun).max() < 1e-9:
        raise numerics.SearchError(f"no diagonal reward was found for π = {pi.tolist()}")
    return weights(found.x)


# --- estimators: one generation, its moments by enumeration ---


def _scores(p: np.ndarray) -> Tensor:
    """∂log p_c/∂z_j, row c and column j, by autograd."""
    scores = torch.autograd.functional.jacobian(lambda z: z.log_softmax(0), tensor(np.log(p)))
    assert isinstance(scores, Tensor)
    return scores


def score_gradient(d: Derivation, problem: ClassProblem) -> float:
    """E (r_c - b) ∂log p_c/∂z for some constant b, and the slope of E r."""
    p, r = tensor(problem.p), tensor(problem.r)
    estimate = (p * (r - BASELINE)) @ _scores(problem.p)
    slope = torch.autograd.functional.jacobian(lambda z: z.softmax(0) @ r, p.log())
    assert isinstance(slope, Tensor)
    return max(relative_error(_at(d, problem), want) for want in (estimate, slope))


def _variances(problem: ClassProblem, b: Tensor) -> Tensor:
    """Variances of the entries (r_c - b_j) ∂log p_c/∂z_j."""
    p, r = tensor(problem.p), tensor(problem.r)
    entries = (r[:, None] - b) * _scores(problem.p)
    return p @ (entries - p @ entries) ** 2


def _best_baselines(problem: ClassProblem) -> Tensor:
    """The b_j of least variance: vertices of parabolas through three points."""
    unit = tensor(np.abs(problem.r).max())
    low, middle, high = (_variances(problem, b * unit) for b in (-1, 0, 1))
    return unit * (low - high) / (2 * (low - 2 * middle + high))


def optimal_baseline(d: Derivation, problem: ClassProblem) -> float:
    """The baselines at which the variances are least."""
    return relative_error(_at(d, problem), _best_baselines(problem))


def minimal_variance(d: Derivation, problem: ClassProblem) -> float:
    """The least variances."""
    want = _variances(problem, _best_baselines(problem))
    # for two classes it is 0: what cancels is the variance without a baseline
    scale = float(_variances(problem, torch.zeros(problem.C, dtype=want.dtype)).max())
    return relative_error(_at(d, problem), want, scale)


PROPOSITIONS = (
    Proposition(
        "categorical.gibbs",
        "p*(c) ∝ exp((2(Uπ)_c - U_cc)/λ), and J(p*) - J(p) = λ KL(p ‖ p*) for any policy p",
        "new",
        (
            Check(inner.solution, inner_solution, EXACT),
            Check(inner.gibbs_gap, gibbs_gap, EXACT),
            Check(inner.scalar_solution, scalar_solution, EXACT),
            Check(inner.binary_logit, binary_logit, EXACT),
        ),
        solver="solvers.rewards.between_classes:gibbs",
    ),
    Proposition(
        "categorical.hypergradient",
        "∇_U F = (δπᵀ + πδᵀ - diag δ)/λ, δ = π - p*; d²F = -Var_{p*} φ_c/λ² <= 0",
        "new; implicit differentiation paper",
        (
            Check(outer.objective, outer_objective, EXACT),
            Check(outer.hypergradient, hypergradient, DIFFERENCES),
            Check(outer.implicit_hypergradient, implicit_hypergradient, EXACT),
            Check(outer.concavity, concavity, DIFFERENCES),
        ),
        solver="solvers.bilevel.likelihood:problem",
    ),
    Proposition(
        "categorical.scalar_reward",
        "dF/du = (2/λ) Σ (π_c - p*_c) π_c for U = uI, which costs KL(π ‖ p*_u) nats",
        "new",
        (
            Check(scalars.stationarity, scalar_stationarity, DIFFERENCES),
            Check(costs.scalar_gap, scalar_gap, EXACT),
        ),
        solver="solvers.rewards.between_classes:exact_scale",
    ),
    Proposition(
        "categorical.binary_optimum",
        "two classes: u* = λ log(π/(1-π)) / (2(2π-1)), which is λ at π = ½ in the limit",
        "new",
        (
            Check(scalars.binary, binary_scalar, EXACT),
            Check(scalars.binary_limit, binary_scalar_limit, EXACT),
            Check(costs.binary_gap, binary_gap, EXACT),
        ),
        solver="solvers.rewards.between_classes:exact_scale",
    ),
    Proposition(
        "categorical.published_scale",
        "for one-hot outcomes the published β* = λC/(2 Tr Σ) is λC/(2(1 - Σ π_c²))",
        "paper; its value here new",
        (Check(scalars.heuristic_scale, heuristic_scale, SEARCH),),
        solver="solvers.rewards.between_classes:heuristic_scale",
    ),
    Proposition(
        "categorical.heuristic",
        "two classes: u*/β* = π(1-π) log(π/(1-π)) / (2π-1) <= ½, and what β* and 2β* cost",
        "new",
        (
            Check(scalars.heuristic_ratio, heuristic_ratio, SEARCH),
            Check(costs.heuristic_gap, heuristic_gap, SEARCH),
        ),
        solver="solvers.rewards.between_classes:heuristic_scale",
    ),
    Proposition(
        "categorical.near_uniform",
        "u* -> λC/2 and β*/u* -> C/(C-1) as π -> 1/C",
        "new",
        (
            Check(near_uniform.scale, near_uniform_scale, EXACT),
            Check(near_uniform.ratio, near_uniform_ratio, SEARCH),
        ),
        solver="solvers.rewards.between_classes:exact_scale",
    ),
    Proposition(
        "categorical.diagonal_reward",
        "U = diag(u), u_c = λ(log π_c + k₀)/(2π_c - 1) > 0, gives p* = π; k₀ = log 2 if a π_c = ½",
        "new",
        (
            Check(diagonal.reward, diagonal_reward, EXACT),
            Check(diagonal.reward_at_half, diagonal_reward_at_half, SEARCH),
        ),
        solver="solvers.rewards.between_classes:exact_diagonal",
    ),
    Proposition(
        "categorical.argmax",
        "log p*(a)/p*(b) = 2u(π_a - π_b)/λ for U = uI: accuracy cannot rank scalar rewards",
        "new",
        (Check(inner.argmax_preserved, argmax_preserved, EXACT),),
    ),
    Proposition(
        "categorical.estimators",
        "E (r_c - b)(1[c=j] - p_j) = ∂E r/∂z_j; best b_j = (1-p_j) r_j + p_j E[r | c ≠ j]",
        "new",
        (
            Check(estimators.score_gradient, score_gradient, EXACT),
            Check(estimators.optimal_baseline, optimal_baseline, EXACT),
            Check(estimators.minimal_variance, minimal_variance, EXACT),
        ),
        solver="solvers.training.estimators:ScoreFunction",
    ),
)
