"""Timing, and the record that every benchmark returns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paper_checks import store

REPEATS = 5
PATIENCE = 10.0  # seconds after which a slow benchmark is repeated no more


@dataclass(frozen=True)
class Record:
    """One measured number.

    Attributes:
        value: what was measured; None if it could not be.
        unit: "s", "GiB", "nats", "x" for how many times faster than the peer, or "" for a plain
            number.
        target: to be reached: at least this for "x", at most this for all else; of a time in
            seconds, as many units (`benchmarks.unit`).
        peer: the same measurement of the code compared with.
        ratio: how many times the peer takes longer.
        note: how it was measured, shown in the table.
    """

    value: float | None
    unit: str
    target: float | None = None
    peer: float | None = None
    ratio: float | None = None
    note: str = ""

    def units(self, unit: float) -> float | None:
        """Return the value, a time, divided by that of the unit workload; None for all else."""
        return None if self.value is None or self.unit != "s" else self.value / unit

    def met(self, unit: float) -> bool | None:
        """Return whether the target is reached, or None without a target.

        Args:
            unit: seconds of the unit workload on the same machine.
        """
        if self.target is None:
            return None
        if self.value is None:
            return False
        if self.unit == "x":
            return self.value >= self.target
        return (self.value / unit if self.unit == "s" else self.value) <= self.target


def seconds(run: Callable[[int], object], *, target: float, note: str = "") -> Record:
    """Return the median time of `run(0), run(1), ...`: five, fewer once `PATIENCE` has passed."""
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < PATIENCE:
        start = time.perf_counter()
        run(len(times))
        times.append(time.perf_counter() - start)
    count = f"median of {len(times)}" if len(times) > 1 else "once"
    return Record(statistics.median(times), "s", target, note=f"{count}; {note}" if note else count)


def process(*arguments: str) -> str:
    """Run this Python with `arguments` from the top of the checkout; return what it prints.

    Raises:
        RuntimeError: it failed; the message holds the end of its output.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=store.ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise RuntimeError(f"`python {' '.join(arguments)}` failed ({done.returncode}):\n{tail}")
    return done.stdout


def to_json(records: Mapping[str, Record], unit: float) -> str:
    """Return an object from name to value, unit, units, target, peer (and in units) and ratio."""
    fields: Sequence[str] = ("value", "unit", "target", "peer", "ratio")
    plain: dict[str, dict[str, Any]] = {
        "unit": {"value": unit, "unit": "s", "units": 1.0},
        **{
            name: {
                **{field: getattr(record, field) for field in fields},
                "units": record.units(unit),
                "peer_units": None if record.peer is None else record.peer / unit,
            }
            for name, record in records.items()
        },
    }
    return json.dumps(plain, indent=2) + "\n"
