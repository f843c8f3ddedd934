"""jaxopt: `implicit_diff.custom_root` around the solution, and its unrolled gradient descent."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.league.libraries import Call, Effort, _jax
from benchmarks.league.problems import Problem

PACKAGES = ("jaxopt", "jax")
jaxopt: Any = importlib.import_module("jaxopt")


def implicit(problem: Problem, effort: Effort) -> Call:
    """Its conjugate gradients, compiled."""

    def objective(theta: Any, phi: Any, data: Any) -> Any:
        return problem.inner(_jax.xp, theta, phi, data)

    def cg(product: Any, right: Any) -> Any:
        return jaxopt.linear_solve.solve_cg(
            product, right, tol=effort.tolerance, maxiter=effort.limit(problem)
        )

    @jaxopt.implicit_diff.custom_root(_jax.jax.grad(objective), solve=cg)
    def solution(start: Any, phi: Any, data: Any) -> Any:
        return start  # it is given

    return _jax.compiled(problem, solution)


def unrolled(problem: Problem) -> Call:
    """`GradientDescent` without acceleration, differentiated step by step."""

    def objective(theta: Any, phi: Any, data: Any) -> Any:
        return problem.inner(_jax.xp, theta, phi, data)

    solver = jaxopt.GradientDescent(
        objective, maxiter=problem.steps, stepsize=problem.rate, acceleration=False, tol=0.0,
        implicit_diff=False, unroll=True,
    )  # fmt: skip
    return _jax.compiled(problem, lambda start, *rest: solver.run(start, *rest).params)
