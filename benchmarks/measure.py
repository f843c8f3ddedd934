"""Timing, and the record that every benchmark returns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from paper_checks import store

REPEATS = 5
PATIENCE = 240.0  # seconds after which a slow benchmark is repeated no more


@dataclass(frozen=True)
class Record:
    """One measured number.

    Attributes:
        value: what was measured; None if it could not be.
        unit: "s", "GiB", "x" for how many times faster than the peer, or "" for a plain number.
        target: to be reached: at least this for "x", at most this for all else.
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

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        if self.target is None:
            return None
        if self.value is None:
            return False
        return self.value >= self.target if self.unit == "x" else self.value <= self.target


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


def to_json(records: Mapping[str, Record]) -> str:
    """Return an object from name to value, unit, target, peer and ratio."""
    fields: Sequence[str] = ("value", "unit", "target", "peer", "ratio")
    plain = {name: {f: getattr(record, f) for f in fields} for name, record in records.items()}
    return json.dumps(plain, indent=2) + "\n"
