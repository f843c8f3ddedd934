"""Jobs side by side, each on one thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pandas as pd
import torch

from paper_checks.experiments import Progress

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
) -> pd.DataFrame:
    """Return the tables of `run(arm, experiments)`, `chunk` experiments at a time, in one."""
    chunks = [experiments[k : k + chunk] for k in range(0, len(experiments), chunk)]
    jobs = [(arm, done, part) for arm in arms for done, part in enumerate(chunks)]
    tables: list[pd.DataFrame] = []
    with one_thread_per_job() as pool:
        results = pool.map(lambda job: run(job[0], job[2]), jobs)
        for (arm, done, _), table in zip(jobs, results, strict=True):
            tables.append(table)
            if progress is not None:
                progress(arm, done + 1, len(chunks))
    return pd.concat(tables, ignore_index=True)
