"""Sweeps: one function at many cells, on this machine or a Ray cluster, each result kept at once.

A sweep that is killed and started again with the same `Kept` computes only what is missing. Where
a cell is computed does not change its result: every job runs on one thread, draws from generators
of its own, and passes through the same code.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import joblib
import torch

from .errors import InputError

Arguments = tuple[Any, ...]
Job = tuple[str, Arguments]
WAIT = 10.0  # seconds, for the head of a cluster to answer


@runtime_checkable
class Kept(Protocol):
    """Results that outlive a sweep, by the names of its cells."""

    def get(self, cell: str) -> Any:
        """Return the result of a cell, or None if it is not there."""
        ...

    def put(self, cell: str, result: Any) -> None:
        """Keep a result, whole or not at all."""
        ...


@dataclass(frozen=True)
class Threads:
    """Threads of this process, one per core: for jobs that spend their time inside torch."""

    def results(self, run: Callable[..., Any], jobs: list[Job]) -> Iterator[tuple[str, Any]]:
        """Yield the name and result of every job, as they come."""
        with one_thread_per_job() as pool:
            futures = {pool.submit(run, *arguments): name for name, arguments in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()


@dataclass(frozen=True)
class Processes:
    """Processes of this machine, one per core.

    They take seconds to start, but do not wait for each other's Python: worth it for minutes of
    short operations.
    """

    def results(self, run: Callable[..., Any], jobs: list[Job]) -> Iterator[tuple[str, Any]]:
        """Yield the name and result of every job, as they come."""
        with joblib.parallel_config("loky", n_jobs=os.cpu_count(), inner_max_num_threads=1):
            pool = joblib.Parallel(return_as="generator_unordered")
            yield from pool(joblib.delayed(_named)(run, *job) for job in jobs)


@dataclass(frozen=True)
class Ray:
    """The workers of a Ray cluster; a job whose worker or node dies is done again elsewhere.

    Attributes:
        address: of the cluster's head, such as "auto", "10.0.0.1:6379" or "ray://10.0.0.1:10001".
            Without one a cluster is started on this machine and stopped after the sweep. A
            connection that the program has opened itself is used as it is.
        code: folder of the code that the jobs need, sent to the workers: the nodes need the same
            Python and packages, but no checkout.

    Source: `ray.init`.
    """

    address: str | None = None
    code: Path | None = None

    def results(self, run: Callable[..., Any], jobs: list[Job]) -> Iterator[tuple[str, Any]]:
        """Yield the name and result of every job, as they come.

        Raises:
            InputError: Ray is not installed, or there is no cluster at the address.
        """
        ray = _ray()
        own = not ray.is_initialized()
        if own:
            self._connect(ray)
        remote = ray.remote(max_retries=-1, num_cpus=1)(_named)
        waiting: list[Any] = []
        try:
            waiting = [remote.remote(run, *job) for job in jobs]
            while waiting:
                (done,), waiting = ray.wait(waiting, num_returns=1)
                yield ray.get(done)
        finally:
            for left in waiting:
                ray.cancel(left, force=True)
            if own:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        try:
            self._knock()
        except OSError as error:
            raise self._nobody(error) from error
        environment: dict[str, Any] = {}
        if self.code is not None:
            # what git ignores is not sent either
            environment = {"working_dir": str(self.code), "excludes": [".git", "tests"]}
        try:
            ray.init(
                address=self.address or "local",
                runtime_env=environment,
                log_to_driver=False,
                logging_level="ERROR",
                **({} if self.address else {"include_dashboard": False}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise self._nobody(error) from error

    def _knock(self) -> None:
        """Raise `OSError` if nothing listens at the address: Ray itself waits for minutes."""
        host, colon, port = (self.address or "").removeprefix("ray://").rpartition(":")
        if colon and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT).close()

    def _nobody(self, error: Exception) -> InputError:
        return InputError(
            f"no Ray cluster at address {self.address!r} ({error}): start one with `ray start "
            f"--head`, or leave the address out to use this machine"
        )


Engine = Threads | Processes | Ray


def sweep(
    run: Callable[..., Any],
    cells: Mapping[str, Arguments],
    *,
    engine: Engine = Threads(),
    kept: Kept | None = None,
    done: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Return `run(*arguments)` of every cell, in the order of `cells`.

    Args:
        run: a pure function; one of a module, for processes and clusters. It must not return None.
        cells: arguments by name. A kept result is found by the name, which has to stand for
            everything that determines it.
        engine: where cells are computed.
        kept: where results are kept, as soon as they are there, and taken from.
        done: called with the name of every cell that is there, in the order in which they come.

    Raises:
        Exception: what `run` raises, at once; cells that were done before are kept.
    """
    found: dict[str, Any] = {}

    def note(name: str, result: Any) -> None:
        found[name] = result
        if done is not None:
            done(name)

    for name in cells:
        if kept is not None and (result := kept.get(name)) is not None:
            note(name, result)
    missing = [(name, arguments) for name, arguments in cells.items() if name not in found]
    if missing:
        for name, result in engine.results(run, missing):
            if kept is not None:
                kept.put(name, result)
            note(name, result)
    return {name: found[name] for name in cells}


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


def _named(run: Callable[..., Any], name: str, arguments: Arguments) -> tuple[str, Any]:
    """Return the name of a job and its result, computed on one thread of a worker."""
    torch.set_num_threads(1)
    return name, run(*arguments)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed: pip install -e '.[cluster]'") from error
    return ray
