"""Jobs side by side, each on one thread."""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


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
