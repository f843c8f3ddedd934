"""optimistix: `minimise` from the given point, with its implicit adjoint by lineax's CG.

It searches from the given point on, so that part of its time is to see that it is there.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

from benchmarks.league.libraries import Call, Effort, _jax
from benchmarks.league.problems import Problem

PACKAGES = ("optimistix", "lineax", "jax")
optx: Any = importlib.import_module("optimistix")
lx: Any = importlib.import_module("lineax")
# what equinox raises inside a compiled function is logged whole, before it arrives as an exception
logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)


def implicit(problem: Problem, effort: Effort) -> Call:
    """Nonlinear CG as search, linear CG for the adjoint."""
    solver = optx.NonlinearCG(rtol=1e-9, atol=1e-9)
    linear = lx.CG(rtol=effort.tolerance, atol=0.0, max_steps=effort.limit(problem))

    def solution(start: Any, phi: Any, data: Any) -> Any:
        return optx.minimise(
            lambda theta, args: problem.inner(_jax.xp, theta, *args),
            solver,
            start,
            (phi, data),
            adjoint=optx.ImplicitAdjoint(linear),
            tags=frozenset({lx.positive_semidefinite_tag}),
            max_steps=1000,
        ).value

    return _jax.compiled(problem, solution)
