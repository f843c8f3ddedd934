"""What must hold of a solver, as comparisons of a plain function with derivations and witnesses.

The gate calls them with adapters around this project's solvers, `conform` with anybody's. Each
raises `AssertionError` naming the identity, the inputs, both values and the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from analysis.calculus.symbols import Structure

from . import derived, witnesses
from .derived import EXPLICIT, PolicyGradient
from .strategies import Problem
from .tolerances import FINITE_DIFFERENCE, SEARCH, agree, agree_on_average, closed_form

Inner = Callable[[np.ndarray, float, Structure], np.ndarray]
"""`(U, lam, structure) -> P*`."""

Hypergradient = Callable[[np.ndarray, np.ndarray, float, Structure], np.ndarray]
"""`(U, Sigma, lam, structure) -> ∇_U F`."""

Estimates = Callable[[np.ndarray], tuple[ArrayLike, ArrayLike]]
"""`epsilon (K, M, n) -> (g_m (K, n), g_L (K, n, n))`, the noise of K estimates."""

Check = Callable[[str, Callable[..., np.ndarray], Problem, Structure], None]


@dataclass(frozen=True)
class Identity:
    """An identity of an inner solution or of a hypergradient.

    Attributes:
        name: what should hold.
        check: raises if the function in its second argument breaks it.
        max_n: largest dimension it is checked at.
        one_in: costly ones get one in so many examples.
    """

    name: str
    check: Check
    max_n: int = 5
    one_in: int = 1

    def __call__(
        self, solve: Callable[..., np.ndarray], problem: Problem, structure: Structure
    ) -> None:
        """Raise `AssertionError` if `solve` breaks the identity at this problem."""
        self.check(f"{self.name}, {structure}", solve, problem, structure)


def shown(problem: Problem, *names: str) -> str:
    """Return the named inputs, to be pasted back into Python."""
    values = {name: np.asarray(getattr(problem, name)).tolist() for name in names}
    return ", ".join(f"{name} = {value!r}" for name, value in values.items())


def _inner_is_derived(name: str, solve: Inner, problem: Problem, structure: Structure) -> None:
    got = solve(problem.U, problem.lam, structure)
    want = derived.inner_solution(problem, structure)
    inputs = shown(problem, "U", "lam")
    agree(name, got, want, rtol=closed_form(problem.U), inputs=inputs)


def _inner_maximises(name: str, solve: Inner, problem: Problem, structure: Structure) -> None:
    t = problem.tensors()
    m, L = witnesses.solve_inner(t["U"], t["mu"], t["Sigma"], t["lam"], structure)
    rtol = SEARCH * closed_form(problem.U)
    mean = f"numerical argmax of J, mean, {structure}"
    agree(mean, m, problem.mu, rtol=rtol, scale=1.0, inputs=problem)
    got = solve(problem.U, problem.lam, structure)
    agree(name, got, L @ L.T, rtol=rtol, inputs=shown(problem, "U", "lam"))


def _inner_is_spd(name: str, solve: Inner, problem: Problem, structure: Structure) -> None:
    P = solve(problem.U, problem.lam, structure)
    inputs = shown(problem, "U", "lam")
    agree(f"{name}: P = Pᵀ", P, P.T, rtol=closed_form(problem.U), inputs=inputs)
    smallest = float(np.linalg.eigvalsh((P + P.T) / 2)[0])
    if not smallest > 0:
        raise AssertionError(
            f"{name} fails\n  got      {P.tolist()}\n  expected eigenvalues > 0, "
            f"the smallest is {smallest:.3e}\n  inputs   {inputs}"
        )


INNER_IS_SPD = Identity("P* is symmetric positive definite", _inner_is_spd)
INNER_IS_DERIVED = Identity("P* = the derived inner solution", _inner_is_derived)
INNER_MAXIMISES = Identity("P* maximises J", _inner_maximises, max_n=EXPLICIT, one_in=5)
INNER = (INNER_IS_SPD, INNER_IS_DERIVED, INNER_MAXIMISES)


def _agree_with_slope(
    name: str, slope: Hypergradient, want: np.ndarray, problem: Problem, structure: Structure
) -> None:
    """Compare with a closed form of `∇_U F = ½U⁻¹ - Σ/λ`, whose terms may cancel."""
    got = slope(problem.U, problem.Sigma, problem.lam, structure)
    rtol, scale = closed_form(problem.U), float(np.linalg.norm(problem.Sigma) / problem.lam)
    inputs = shown(problem, "U", "Sigma", "lam")
    agree(name, got, want, rtol=rtol, scale=scale, inputs=inputs)


def _slope_is_symmetric(
    name: str, slope: Hypergradient, problem: Problem, structure: Structure
) -> None:
    G = slope(problem.U, problem.Sigma, problem.lam, structure)
    _agree_with_slope(name, lambda *_: G, G.T, problem, structure)


def _slope_is_derived(
    name: str, slope: Hypergradient, problem: Problem, structure: Structure
) -> None:
    _agree_with_slope(name, slope, derived.hypergradient(problem, structure), problem, structure)


def _slope_is_implicit(
    name: str, slope: Hypergradient, problem: Problem, structure: Structure
) -> None:
    want = derived.implicit_hypergradient(problem, structure)
    _agree_with_slope(name, slope, want, problem, structure)


def _slope_is_measured(
    name: str, slope: Hypergradient, problem: Problem, structure: Structure
) -> None:
    t = problem.tensors()

    def F(U: np.ndarray) -> float:
        m, L = witnesses.solve_inner(torch.as_tensor(U), t["mu"], t["Sigma"], t["lam"], structure)
        return float(witnesses.log_likelihood(m, L, t["mu"], t["Sigma"]))

    step = 1e-4 * float(np.linalg.eigvalsh(problem.U)[0])
    want = witnesses.central_difference(F, problem.U, step)
    got = slope(problem.U, problem.Sigma, problem.lam, structure)
    # curvature error of the difference: (step/smallest eigenvalue)² of the terms that cancel
    scale = float(np.linalg.norm(np.linalg.inv(problem.U)) + np.linalg.norm(problem.Sigma))
    scale /= min(problem.lam, 1)
    inputs = shown(problem, "U", "Sigma", "lam")
    agree(name, got, want, rtol=FINITE_DIFFERENCE, scale=scale, inputs=inputs)


def vanishes(name: str, slope: Hypergradient, at_optimum: Problem, structure: Structure) -> None:
    """Raise if `∇_U F` is not 0 at `U = U*`, which `at_optimum` holds."""
    got = slope(at_optimum.U, at_optimum.Sigma, at_optimum.lam, structure)
    scale = float(np.linalg.norm(at_optimum.Sigma) / at_optimum.lam)
    rtol, inputs = closed_form(at_optimum.Sigma), shown(at_optimum, "U", "Sigma", "lam")
    agree(name, got, np.zeros_like(at_optimum.U), rtol=rtol, scale=scale, inputs=inputs)


def _slope_vanishes(
    name: str, slope: Hypergradient, problem: Problem, structure: Structure
) -> None:
    at_optimum = replace(problem, U=derived.optimal_reward(problem, structure))
    vanishes(name, slope, at_optimum, structure)


SLOPE_IS_SYMMETRIC = Identity("∇F is symmetric", _slope_is_symmetric)
SLOPE_IS_DERIVED = Identity("∇F = the derived gradient", _slope_is_derived)
SLOPE_IS_IMPLICIT = Identity("∇F = the implicit form", _slope_is_implicit, max_n=EXPLICIT)
SLOPE_IS_MEASURED = Identity(
    "∇F = finite differences of the definition", _slope_is_measured, max_n=EXPLICIT, one_in=12
)
SLOPE_VANISHES = Identity("∇F = 0 at U*", _slope_vanishes)
HYPERGRADIENT = (
    SLOPE_IS_SYMMETRIC,
    SLOPE_IS_DERIVED,
    SLOPE_IS_IMPLICIT,
    SLOPE_IS_MEASURED,
    SLOPE_VANISHES,
)


def expectation(estimate: Estimates, n: int, M: int, seed: int = 0) -> PolicyGradient:
    """Return the exact mean of an estimator over its noise, n <= 3.

    With a quadratic reward and a baseline that is linear in the rewards of the group, or made of
    the other generations only, an estimate is a polynomial of degree at most 4 in the noise of each
    generation, times anything of the others: products of rules of degree 5 are exact. What does
    something else to the noise, such as cutting it off at some size, has another mean by each seed.

    Args:
        estimate: of all nodes at once, `4^M`, `12^M` or `24^M` of them for n = 1, 2, 3.
        n: outcome dimension.
        M: number of generations.
        seed: of the rules: they reach far for some, and stay near for others.
    """
    rng = np.random.default_rng([n, M, seed])
    rules = [witnesses.noise_rule(n, rng) for _ in range(M)]
    chosen = np.indices([len(weights) for _, weights in rules]).reshape(M, -1)
    epsilon = np.stack([nodes[k] for (nodes, _), k in zip(rules, chosen, strict=True)], 1)
    K = np.prod([weights[k] for (_, weights), k in zip(rules, chosen, strict=True)], axis=0)
    in_mean, in_factor = estimate(epsilon)
    return PolicyGradient(
        np.einsum("k,k...->...", K, np.asarray(in_mean)),
        np.einsum("k,k...->...", K, np.asarray(in_factor)),
    )


def agree_on_policy_gradient(
    identity: str,
    part: Literal["m", "L"],
    got: PolicyGradient,
    want: PolicyGradient,
    problem: Problem,
    inputs: object,
) -> None:
    """Compare one part of an estimator's mean with the derived gradient."""
    g, w = (got.m, want.m) if part == "m" else (got.L, want.L)
    rtol, scale = _rounding(problem)
    agree(identity, g, w, rtol=rtol, scale=scale, inputs=inputs)


def agree_on_average_gradient(
    identity: str,
    draws: Sequence[PolicyGradient],
    want: PolicyGradient,
    problem: Problem,
    inputs: object,
) -> None:
    """Compare the mean of an estimator's draws with the derived gradient, by z-tests."""
    rtol, scale = _rounding(problem)
    for part, samples, w in (
        ("g_m", [draw.m for draw in draws], want.m),
        ("g_L", [draw.L for draw in draws], want.L),
    ):
        rounding = rtol * max(float(np.abs(w).max()), scale)
        agree_on_average(f"{identity}, {part}", samples, w, inputs=inputs, rounding=rounding)


def _rounding(problem: Problem) -> tuple[float, float]:
    """Return tolerance and scale of the terms that cancel in a policy gradient."""
    scale = float(np.linalg.norm(problem.U) * (1 + np.abs(problem.m - problem.mu).max() ** 2))
    return 10 * closed_form(problem.P), scale
