"""Hypergradients: time and error against jaxopt and the closed form, and memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial

from benchmarks.measure import Record, process
from benchmarks.memory import Peak
from benchmarks.ridge import Comparison

RATIOS = {100: 10.0, 1000: 1.0, 5000: 1.0}  # time of ours over jaxopt's, at most
ERROR, GROWTH, MILLION = 1e-9, 1.05, 2.0


def ridge_vs_jaxopt(size: int) -> Record:
    """Time of a hypergradient of ridge regression, over that of jaxopt's."""
    found, target = _ridge(size), RATIOS[size]
    if found.theirs is None or found.their_error is None:
        return Record(None, "", target, note="jaxopt is not installed: `make bench` installs it")
    note = (
        f"ours {1000 * found.ours:.3g} ms; medians of {found.rounds} in turns, one processor; "
        f"error of jaxopt {found.their_error:.1g}"
    )
    ratio = found.ours / found.theirs
    return Record(ratio, "", target, found.theirs, 1 / ratio, note)


def ridge_error(size: int) -> Record:
    """Relative error of the same hypergradient against the closed form."""
    found = _ridge(size)
    method = f"CG, {found.products} products" if found.products else "dense"
    return Record(found.error, "", ERROR, note=f"relative, to the closed form; {method}")


def memory_1000_vs_10_steps() -> Record:
    """Peak memory of a process with 1000 inner steps, over that with 10."""
    short, long = _peak("10"), _peak("1000")
    note = f"whole processes of {long.gib:.3g} and {short.gib:.3g} GiB"
    return Record(long.gib / short.gib, "", GROWTH, note=note)


def million_gib() -> Record:
    """Peak memory of a process that takes the hypergradient of a million parameters."""
    peak = _peak("million")
    note = (
        f"whole process; {peak.parameters} parameters in float64, CG, {peak.products} products "
        f"in {peak.seconds:.2g} s"
    )
    return Record(peak.gib, "GiB", MILLION, note=note)


@cache
def _ridge(size: int) -> Comparison:
    return Comparison(**json.loads(process("-m", "benchmarks.ridge", str(size))))


def _peak(case: str) -> Peak:
    return Peak(**json.loads(process("-m", "benchmarks.memory", case)))


ALL: dict[str, Callable[[], Record]] = {
    **{f"hypergradient_ridge_{n}_vs_jaxopt": partial(ridge_vs_jaxopt, n) for n in RATIOS},
    **{f"hypergradient_ridge_{n}_error": partial(ridge_error, n) for n in RATIOS},
    "hypergradient_memory_1000_vs_10_steps": memory_1000_vs_10_steps,
    "hypergradient_million_gib": million_gib,
}
