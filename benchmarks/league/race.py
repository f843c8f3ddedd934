"""Error against cost: how long each library takes to a given error, in turns.

Times are those of the processor, of all threads: what else the machine does counts less in them
than in those of the clock.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from unittest import mock

import torch

from benchmarks.league.failures import RAISED
from benchmarks.league.libraries import Call, Effort, Library
from benchmarks.league.problems import Problem

ERROR = 1e-6  # relative, to be reached
EFFORTS = tuple(Effort(10 ** (-k / 2), round(4 * 1.25**k)) for k in range(4, 26))
ROUNDS, SECONDS = (3, 101), 8.0  # of all libraries in turns: as many as fit, within these limits
FLOOR, SLOPES = "(products alone)", "(slopes alone)"  # of torch, see `floors`


@dataclass(frozen=True)
class Row:
    """One library on one problem.

    Attributes:
        problem: its name.
        size: number of inner variables.
        library: its name.
        error: relative error reached; None where the library does not run.
        gradients: calls of `torch.autograd.grad` that took, products included; None if compiled.
        seconds: of the processor, median, least, most; None where the error is not reached.
        ratio: to `bimle` in the same round: median, least, most.
        rounds: number of rounds.
        note: why a number is missing.
    """

    problem: str
    size: int
    library: str
    error: float | None = None
    gradients: int | None = None
    seconds: tuple[float, float, float] | None = None
    ratio: tuple[float, float, float] | None = None
    rounds: int = 0
    note: str = ""


def cheapest(problem: Problem, library: Library) -> tuple[Call, float]:
    """Return the call of least effort that reaches `ERROR`, or the best one, and its error."""
    if problem.steps is not None:
        assert library.unrolled is not None
        call = library.unrolled(problem)
        return call, problem.error(call())
    assert library.implicit is not None
    best: tuple[Call, float] | None = None
    raised: Exception | None = None
    for effort in EFFORTS:
        call = library.implicit(problem, effort)
        try:
            error = problem.error(call())
        except RAISED as reason:  # some do where a limit comes before the tolerance
            raised = reason
            continue
        if best is None or error < best[1]:
            best = call, error
        # more effort is not always better: without a tolerance, rounding takes over in the end
        if best[1] <= ERROR or not error < 10 * best[1]:
            break
    if best is None:
        assert raised is not None
        raise raised
    return best


def gradients(call: Call) -> int | None:
    """Return how often a call asks torch for a gradient; None if it does not."""
    right = torch.autograd.grad
    with mock.patch.object(torch.autograd, "grad", side_effect=right) as counted:
        call()
    return counted.call_count or None


def run(name: str, problem: Problem, libraries: Sequence[Library]) -> list[Row]:
    """Return a row for each library, and for the floors of torch (see `floors`)."""
    rows: dict[str, Row] = {}
    calls: dict[str, Call] = {}
    asks = "unrolled" if problem.steps is not None else "implicit"
    # they warn below the tolerances that they would choose themselves
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library in libraries:
            row = Row(name, problem.size, library.name)
            if getattr(library, asks) is None:
                rows[library.name] = replace(row, note=f"offers no {asks} hypergradient")
                continue
            try:
                call, error = cheapest(problem, library)
            except RAISED as raised:
                text = " ".join(str(raised).split())
                rows[library.name] = replace(row, note=f"{type(raised).__name__}: {text[:80]}")
                continue
            rows[library.name] = row = replace(row, error=error, gradients=gradients(call))
            if error <= ERROR:
                calls[library.name] = call
            else:
                rows[library.name] = replace(row, note=f"does not reach {ERROR:g}")
        for floor, call in floors(problem, rows.get("plain")).items():
            calls[floor] = call
            rows[floor] = Row(name, problem.size, floor, gradients=gradients(call))
        times = _in_turns(calls)
    first = times.get("bimle")
    return [_timed(row, times[key], first) if key in times else row for key, row in rows.items()]


def floors(problem: Problem, plain: Row | None) -> dict[str, Call]:
    """Return what no hypergradient in torch can do without.

    `SLOPES`: both losses and their gradients, that of the inner one with its graph; the linear
    system comes on top. `FLOOR`: the matrix products of as many Hessian-vector products as plain
    conjugate gradients took to the same error, without automatic differentiation.
    """
    if problem.steps is not None:
        return {}
    inner, outer = problem.in_torch()

    def slopes() -> object:
        theta = tuple(leaf.detach().requires_grad_() for leaf in problem.theta)
        phi = problem.phi.detach().requires_grad_()
        torch.autograd.grad(outer(theta, phi), (*theta, phi), materialize_grads=True)
        return torch.autograd.grad(inner(theta, phi), theta, create_graph=True)

    found: dict[str, Call] = {SLOPES: slopes}
    product, taken = problem.product, None if plain is None else plain.gradients
    if product is not None and taken is not None:
        count = taken - 3  # two gradients and the mixed derivative are no products

        def products() -> None:
            for _ in range(count):
                product()

        found[FLOOR] = products
    return found


def _in_turns(calls: dict[str, Call]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    least, most = ROUNDS
    until, done = time.perf_counter() + SECONDS, 0
    while done < least or (done < most and time.perf_counter() < until):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
        done += 1
    return times


def _timed(row: Row, spent: list[float], first: list[float] | None) -> Row:
    ratios = None if first is None else [a / b for a, b in zip(spent, first, strict=True)]
    ratio = None if ratios is None else _three(ratios)
    return replace(row, seconds=_three(spent), ratio=ratio, rounds=len(spent))


def _three(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)
