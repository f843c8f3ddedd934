"""The arms of an experiment side by side, on the engine that the run was started on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import pandas as pd

from solvers import engine
from solvers.engine import Engine, Processes, Ray, Threads

from .. import store
from . import Progress

Arm = TypeVar("Arm", bound=Hashable)
Experiment = TypeVar("Experiment")

# The engine changes where and when a table is computed, never what is in it. Hence it is no
# argument of experiments, but what `on` says.
_ENGINE: ContextVar[Engine | None] = ContextVar("engine", default=None)


@contextmanager
def on(name: str, address: str | None = None) -> Generator[None]:
    """Run the arms of experiments "local", as each asks for, or on a "ray" cluster.

    Args:
        name: of the engine.
        address: of the Ray cluster; None starts one on this machine.
    """
    ray = Ray(address, code=store.ROOT if address else None) if name == "ray" else None
    token = _ENGINE.set(ray)
    try:
        yield
    finally:
        _ENGINE.reset(token)


def run_arms(
    run: Callable[[Any, int, Arm, Sequence[Experiment]], pd.DataFrame],
    settings: Any,
    seed: int,
    arms: Sequence[Arm],
    experiments: Sequence[Experiment],
    chunk: int,
    progress: Progress | None,
    *,
    processes: bool = False,
) -> pd.DataFrame:
    """Return the tables of `run(settings, seed, arm, experiments)` in one, a chunk at a time.

    While a table is computed for a store, each chunk is kept there as soon as it is done: a run
    that was killed goes on from what is there.

    Args:
        run: trains one arm on some experiments; a function of a module.
        settings: of the experiment.
        seed: of the run.
        arms: the arms; as a text, each is its name.
        experiments: the experiments.
        chunk: how many are given to `run` at once.
        progress: called as `progress(arm, chunks done, chunks)`.
        processes: on this machine, run in processes instead of threads.
    """
    parts = [experiments[k : k + chunk] for k in range(0, len(experiments), chunk)]
    cells = {
        f"{arm} {number}": (settings, seed, arm, part)
        for arm in arms
        for number, part in enumerate(parts)
    }
    finished: Counter[Arm] = Counter()

    def done(cell: str) -> None:
        arm = cells[cell][2]
        finished[arm] += 1
        if progress is not None:
            progress(str(arm), finished[arm], len(parts))

    local = Processes() if processes else Threads()
    tables = engine.sweep(
        run,
        cells,
        engine=_ENGINE.get() or local,
        kept=store.cells(settings, seed),
        done=done,
    )
    return pd.concat(list(tables.values()), ignore_index=True)
