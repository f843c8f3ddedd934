"""This project: it maximises the inner objective, which is the inner loss with its sign turned."""

from __future__ import annotations

import math

from benchmarks.league.libraries import Call, Effort
from benchmarks.league.problems import Problem
from solvers.hypergradients.implicit import implicit as by_theorem
from solvers.hypergradients.unrolled import SGD
from solvers.hypergradients.unrolled import unrolled as by_steps

PACKAGES = ("bimle",)


def implicit(problem: Problem, effort: Effort) -> Call:
    """With its defaults: dense up to 200 inner variables, else conjugate gradients."""
    inner, outer = problem.in_torch()
    return lambda: by_theorem(
        lambda theta, phi: -inner(theta, phi), outer, problem.theta, problem.phi,
        tolerance=effort.tolerance, max_iterations=effort.iterations,
    ).value  # fmt: skip


def unrolled(problem: Problem) -> Call:
    """Ask for the hypergradient of the steps, however far they are from a solution."""
    inner, outer = problem.in_torch()
    assert problem.steps is not None
    count, optimiser = problem.steps, SGD(problem.rate)
    return lambda: by_steps(
        lambda theta, phi: -inner(theta, phi), outer, problem.theta, problem.phi,
        optimiser=optimiser, steps=count, tolerance=math.inf, distance=math.inf,
    ).value  # fmt: skip
