"""Runs of experiments for the claims: from the store of the figures, or into it.

The store changes when a table is computed, never what is in it. Hence it is no argument of claims,
but what `kept_in` says; outside of it tables are computed and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import pandas as pd

from ..store import Store, provenance


class Run(Protocol):
    """The function of an experiment."""

    def __call__(self, settings: Any, /, *, seed: int) -> pd.DataFrame: ...


_STORE: ContextVar[Store | None] = ContextVar("store", default=None)
GATE = "not asked for by the claims"


@contextmanager
def kept_in(store: Store) -> Generator[None]:
    """Keep the tables of runs in a store, and take from there what it has."""
    token = _STORE.set(store)
    try:
        yield
    finally:
        _STORE.reset(token)


def once(run: Run, settings: Any, *, seed: int) -> pd.DataFrame:
    """Return the table of one run."""
    return _kept(lambda: run(settings, seed=seed), settings, seed)


def repeated(run: Run, settings: Any, seeds: Sequence[int]) -> pd.DataFrame:
    """Return the tables of a run per seed in one, with a column `run` that counts them from 0."""

    def all_of_them() -> pd.DataFrame:
        tables = [run(settings, seed=seed).assign(run=i) for i, seed in enumerate(seeds)]
        return pd.concat(tables, ignore_index=True)

    return _kept(all_of_them, settings, seeds)


def _kept(
    compute: Callable[[], pd.DataFrame], settings: Any, seed: int | Sequence[int]
) -> pd.DataFrame:
    store = _STORE.get()
    if store is None:
        return compute()
    experiment = type(settings).__module__.rpartition(".")[2].replace("_", "-")
    record = {**provenance(), "gate": GATE}
    return store.load_or_run(
        f"{experiment}-claims", settings, compute, seed=seed, provenance=record
    )
