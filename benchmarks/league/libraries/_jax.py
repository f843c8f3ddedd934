"""What the libraries on JAX share: arrays in double precision on the CPU, and a compiled call."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from benchmarks.league.problems import Problem

jax: Any = importlib.import_module("jax")
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
xp: Any = jax.numpy


def compiled(problem: Problem, solution: Callable[[Any, Any, Any], Any]) -> Callable[[], Any]:
    """Return a compiled call of the gradient of `outer(solution(θ, φ, data), φ)` in `φ`."""

    @jax.jit
    def hypergradient(phi: Any, theta: Any, data: Any) -> Any:
        def total(phi: Any) -> Any:
            return problem.outer(xp, solution(theta, phi, data), phi, data)

        return jax.grad(total)(phi)

    phi, *leaves = (xp.asarray(t.numpy()) for t in (problem.phi, *problem.theta, *problem.data))
    theta, data = tuple(leaves[: len(problem.theta)]), tuple(leaves[len(problem.theta) :])
    return lambda: hypergradient(phi, theta, data).block_until_ready()
