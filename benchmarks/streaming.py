"""Peak memory of a process that streams a million transitions: `python -m benchmarks.streaming D`.

`D` is a folder that holds the dataset, in Minari's layout. It is synthetic, with the columns of the
half-cheetah: what is measured is the reading.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Record, process
from benchmarks.memory import peak_gib
from solvers.tasks import dynamics
from solvers.tasks.minari_writer import Episode, write
from solvers.tasks.simulators import extra

EPISODES, STEPS, COLUMNS, ACTIONS = 1000, 1000, 17, 6
BATCH = 4096
GIB = 1e9 / 2**30  # 1 GB


@dataclass(frozen=True)
class Streamed:
    """What the process read and needed.

    Attributes:
        gib: peak resident memory of the whole process, in GiB.
        rows: that were read.
        seconds: of reading them, and of taking their moments.
    """

    gib: float
    rows: int
    seconds: float


def stream_million_gib() -> Record:
    """Peak memory of a process that reads a million transitions and takes their moments."""
    with tempfile.TemporaryDirectory() as folder:
        synthetic(Path(folder), EPISODES, STEPS)
        found = Streamed(**json.loads(process("-m", "benchmarks.streaming", folder)))
    note = (
        f"whole process; {found.rows} rows of {COLUMNS} + {ACTIONS} columns, {BATCH} at a time, "
        f"and their moments, in {found.seconds:.2g} s"
    )
    return Record(found.gib, "GiB", GIB, note=note)


def synthetic(top: Path, count: int, steps: int) -> Path:
    """Write a dataset of `count` episodes of `steps` steps each under the name of a real one."""
    box = extra("gymnasium.spaces").Box
    return write(
        top,
        "mujoco/halfcheetah/simple-v0",
        _walks(count, steps),
        observations=box(-np.inf, np.inf, (COLUMNS,), np.float64),
        actions=box(-1, 1, (ACTIONS,), np.float32),
        spec=None,
        algorithm="none",
        description="Random walks, for benchmarks.",
    )


def _walks(count: int, steps: int) -> Iterator[Episode]:
    rng = np.random.default_rng(0)
    last = np.arange(steps) == steps - 1
    for seed in range(count):
        observation = rng.standard_normal((steps + 1, COLUMNS)).cumsum(0)
        action = rng.uniform(-1, 1, (steps, ACTIONS)).astype(np.float32)
        yield Episode(seed, observation, action, observation[1:, 0], np.zeros_like(last), last)


def read(top: Path) -> Streamed:
    """Stream the dataset in `top`."""
    start = time.perf_counter()
    steps = dynamics.stream("halfcheetah", "simple", batch=BATCH, root=top)
    found = dynamics.moments(steps)
    return Streamed(peak_gib(), found.count, time.perf_counter() - start)


def main(folder: str) -> None:
    """Print what it takes to stream the dataset in `folder`, as JSON."""
    torch.set_num_threads(1)
    print(json.dumps(asdict(read(Path(folder)))))


ALL: dict[str, Callable[[], Record]] = {"stream_million_gib": stream_million_gib}


if __name__ == "__main__":
    main(sys.argv[1])
