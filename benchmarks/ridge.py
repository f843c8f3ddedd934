"""Ridge regression by `implicit` and by jaxopt, hypergradients: `python -m benchmarks.ridge 100`.

The problem, its closed form and jaxopt's call are those of the league. Both sides get the same
numbers and the same exact `w*`, and return `dF/dφ` from them: building what they differentiate is
part of a call, compiling is not.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.league import problems
from benchmarks.league.libraries import Call, Effort
from benchmarks.league.problems import Problem
from solvers.hypergradients.implicit import implicit

EFFORT = Effort(tolerance=1e-10)  # of both sides
ROUNDS, SECONDS = (5, 301), 10.0  # calls of each side: as many as fit, within these limits


@dataclass(frozen=True)
class Comparison:
    """What was measured: medians in seconds, relative errors; None without jaxopt.

    Attributes:
        ours: time of `implicit`.
        error: of `implicit`.
        products: Hessian-vector products `implicit` took, 0 for the dense method.
        rounds: calls of each side.
        theirs: time of jaxopt.
        their_error: of jaxopt.
    """

    ours: float
    error: float
    products: int
    rounds: int
    theirs: float | None
    their_error: float | None


def ours(problem: Problem) -> tuple[Callable[[], Tensor], Callable[[], int]]:
    """Return a call of `implicit` for `dF/dφ`, and one for the products it takes."""
    inner, outer = problem.in_torch()

    def call() -> Any:
        return implicit(
            lambda theta, phi: -inner(theta, phi), outer, problem.theta, problem.phi,
            tolerance=EFFORT.tolerance, strict=True,
        )  # fmt: skip

    return lambda: call().value, lambda: call().iterations


def theirs(problem: Problem) -> Call | None:
    """Return a compiled call of jaxopt for `dF/dφ`; None where it is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("jax", "jaxopt")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # jaxopt is no longer maintained
        jaxopt: Any = importlib.import_module("benchmarks.league.libraries.jaxopt")
    return jaxopt.implicit(problem, EFFORT)


def compare(problem: Problem) -> Comparison:
    """Return times and errors of both sides, called in turns."""
    mine, products = ours(problem)
    peer = theirs(problem)
    sides: list[Callable[[], Any]] = [mine] if peer is None else [mine, peer]
    errors = [problem.error(side()) for side in sides]  # and warm up
    times: list[list[float]] = [[] for _ in sides]
    least, most = ROUNDS
    until = time.perf_counter() + SECONDS
    while len(times[0]) < least or (len(times[0]) < most and time.perf_counter() < until):
        for side, spent in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            spent.append(time.perf_counter() - start)
    medians = [statistics.median(spent) for spent in times]
    none = [None] if peer is None else []
    return Comparison(
        medians[0],
        errors[0],
        products(),
        len(times[0]),
        *(medians[1:] + none),
        *(errors[1:] + none),
    )


def main(size: int) -> None:
    """Print the comparison as JSON. One processor: XLA has no other way to be held to a thread."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(json.dumps(asdict(compare(problems.ridge(size)))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
