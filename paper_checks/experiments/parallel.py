"""Jobs side by side, each on one thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import joblib
import pandas as pd
import torch

from . import Progress

Arm = TypeVar("Arm", bound=str)
Experiment = TypeVar("Experiment")


@contextmanager
def one_thread_per_job() -> Generator[ThreadPoolExecutor]:
    """Yield a pool with a thread per core, and keep torch's operators on one thread meanwhile.

    Jobs in parallel beat operators in parallel: these are short, and waiting for each other on a
    busy machine costs more than they gain.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt drops what has not begun
        torch.set_num_threads(before)


def run_arms(
    run: Callable[[Arm, Sequence[Experiment]], pd.DataFrame],
    arms: Sequence[Arm],
    experiments: Sequence[Experiment],
    chunk: int,
    progress: Progress | None,
    *,
    processes: bool = False,
) -> pd.DataFrame:
    """Return the tables of `run(arm, experiments)`, `chunk` experiments at a time, in one.

    Args:
        run: trains one arm on some experiments.
        arms: the arms.
        experiments: the experiments.
        chunk: how many are given to `run` at once.
        progress: called as `progress(arm, chunks done, chunks)`.
        processes: run in processes instead of threads. They take seconds to start, but do not wait
            for each other's Python: worth it for minutes of short operations.
    """
    chunks = [experiments[k : k + chunk] for k in range(0, len(experiments), chunk)]
    jobs = [(arm, done, part) for arm in arms for done, part in enumerate(chunks)]
    results = _in_processes(run, jobs) if processes else _in_threads(run, jobs)
    tables: list[pd.DataFrame] = []
    for (arm, done, _), table in zip(jobs, results, strict=True):
        tables.append(table)
        if progress is not None:
            progress(arm, done + 1, len(chunks))
    return pd.concat(tables, ignore_index=True)


def _in_threads(run: Callable[..., Any], jobs: Sequence[tuple[Any, int, Any]]) -> Iterator[Any]:
    with one_thread_per_job() as pool:
        yield from pool.map(run, [arm for arm, *_ in jobs], [part for *_, part in jobs])


def _in_processes(run: Callable[..., Any], jobs: Sequence[tuple[Any, int, Any]]) -> Iterator[Any]:
    """Yield results from one process per core, each on one thread."""
    with joblib.parallel_config("loky", n_jobs=os.cpu_count(), inner_max_num_threads=1):
        pool = joblib.Parallel(return_as="generator")
        yield from pool(joblib.delayed(run)(arm, part) for arm, _, part in jobs)
