"""Error against cost: how long each library takes to a given error, in turns."""

from __future__ import annotations

import bisect
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from benchmarks.league.failures import RAISED
from benchmarks.league.libraries import Call, Effort, Library
from benchmarks.league.problems import Problem

ERROR = 1e-6  # relative, to be reached
EFFORTS = tuple(Effort(10 ** (-k / 2), round(4 * 1.25**k)) for k in range(28))
ROUNDS, SECONDS = (3, 101), 12.0  # of all libraries in turns: as many as fit, within these limits
FLOOR = "(products alone)"


@dataclass(frozen=True)
class Row:
    """One library on one problem.

    Attributes:
        problem: its name.
        size: number of inner variables.
        library: its name.
        error: relative error reached; None where the library does not run.
        gradients: calls of `torch.autograd.grad` that took, products included; None if compiled.
        seconds: median, least, most; None where the error is not reached.
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
    build: Callable[[Problem, Effort], Call] = library.implicit
    tried: dict[int, tuple[Call, float]] = {}
    raised: list[Exception] = []

    def reached(k: int) -> bool:
        if k not in tried:
            call = build(problem, EFFORTS[k])
            try:
                tried[k] = call, problem.error(call())
            except RAISED as error:  # some do where a limit comes before the tolerance
                raised.append(error)
                tried[k] = call, math.inf
        return tried[k][1] <= ERROR

    efforts = range(len(EFFORTS))
    k = bisect.bisect_left(efforts, True, key=reached)
    if k == len(efforts):  # not all are better the longer they go on
        k = next((k for k in efforts if reached(k)), k)
    best = tried[k] if k in tried else min(tried.values(), key=lambda found: _finite(found[1]))
    if best[1] == math.inf:
        raise raised[-1]
    return best


def _finite(error: float) -> float:
    return error if math.isfinite(error) else math.inf


def gradients(call: Call) -> int | None:
    """Return how often a call asks torch for a gradient; None if it does not."""
    right = torch.autograd.grad
    with mock.patch.object(torch.autograd, "grad", side_effect=right) as counted:
        call()
    return counted.call_count or None


def run(name: str, problem: Problem, libraries: Sequence[Library]) -> list[Row]:
    """Return a row for each library, and for torch's matrix products alone where known."""
    rows: dict[str, Row] = {}
    calls: dict[str, Call] = {}
    asks = "unrolled" if problem.steps is not None else "implicit"
    # they warn below the tolerances that they would choose themselves
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library in libraries:
            row = Row(name, problem.size, library.name)
            if getattr(library, asks) is None:
                rows[library.name] = _noted(row, f"offers no {asks} hypergradient")
                continue
            try:
                call, error = cheapest(problem, library)
            except RAISED as raised:
                text = " ".join(str(raised).split())
                rows[library.name] = _noted(row, f"{type(raised).__name__}: {text[:80]}")
                continue
            rows[library.name] = Row(name, problem.size, library.name, error, gradients(call))
            if error <= ERROR:
                calls[library.name] = call
            else:
                rows[library.name] = _noted(rows[library.name], f"does not reach {ERROR:g}")
        products = rows["plain"].gradients if "plain" in rows else None
        if problem.product is not None and products is not None and products > 3:
            # all but two first derivatives and the mixed one are products with the Hessian
            calls[FLOOR] = _repeated(problem.product, products - 3)
            rows[FLOOR] = Row(name, problem.size, FLOOR, gradients=products - 3)
        times = _in_turns(calls)
    first = times.get("bimle")
    return [_timed(row, times[key], first) if key in times else row for key, row in rows.items()]


def _repeated(product: Callable[[], Any], count: int) -> Call:
    def call() -> None:
        for _ in range(count):
            product()

    return call


def _in_turns(calls: dict[str, Call]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    least, most = ROUNDS
    until, done = time.perf_counter() + SECONDS, 0
    while done < least or (done < most and time.perf_counter() < until):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
        done += 1
    return times


def _noted(row: Row, note: str) -> Row:
    return Row(row.problem, row.size, row.library, row.error, row.gradients, note=note)


def _timed(row: Row, spent: list[float], first: list[float] | None) -> Row:
    ratios = None if first is None else [a / b for a, b in zip(spent, first, strict=True)]
    return Row(
        row.problem, row.size, row.library, row.error, row.gradients, _three(spent),
        None if ratios is None else _three(ratios), len(spent), row.note,
    )  # fmt: skip


def _three(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)
