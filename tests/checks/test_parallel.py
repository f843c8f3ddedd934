"""Experiments in chunks: what was killed goes on, and the table is the same to the last bit."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paper_checks import store
from paper_checks.experiments import figure_1, full_covariance, parallel, tables_1_2

SMALL = {
    "figure-1": (
        figure_1,
        replace(
            figure_1.CORRECTED,
            arms=(figure_1.NLL, figure_1.PG_OPTIMAL),
            sigma=(0.3,),
            experiments=2,
            epochs=3,
            recorded=(),
        ),
    ),
    "full-covariance": (
        full_covariance,
        replace(
            full_covariance.QUICK,
            arms=(full_covariance.NLL, full_covariance.PG_FIXED),
            experiments=3,
            epochs=2,
            recorded=(),
            chunk=2,
        ),
    ),
    "tables-1-2": (
        tables_1_2,
        replace(
            tables_1_2.QUICK,
            names=("iris",),
            arms=(tables_1_2.NLL, tables_1_2.PG_BETA),
            splits=(0, 1),
            updates=3,
            processes=False,
        ),
    ),
}


@dataclass(frozen=True)
class Settings:
    """Of an experiment of this file: numbers and texts, some of them missing."""

    scale: float = 1.0
    folder: str = ""
    dies_at: int = -1


def part(settings: Settings, seed: int, arm: str, chunk: Sequence[int]) -> pd.DataFrame:
    """Return a table of random numbers; leave a file that says that it was computed."""
    if settings.dies_at in chunk:
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.folder:
        (Path(settings.folder) / f"{arm}-{chunk[0]}-{seed}").touch(exist_ok=False)
    drawn = np.random.default_rng([seed, len(arm), *chunk]).normal(size=len(chunk))
    table = pd.DataFrame({"arm": arm, "id": list(chunk), "value": settings.scale * drawn})
    flags = pd.array([None, True][: len(chunk)], dtype="boolean")
    return table.assign(lam=[None, 0.1][: len(chunk)], converged=flags)


def run(settings: Settings, seed: int) -> pd.DataFrame:
    return parallel.run_arms(part, settings, seed, ("a", "bb"), range(6), 2, None)


def kept(place: store.Store, settings: Settings, *seeds: int) -> pd.DataFrame:
    def compute() -> pd.DataFrame:
        return pd.concat([run(settings, seed) for seed in seeds], ignore_index=True)

    return place.load_or_run("mine", settings, compute, seed=seeds, provenance={})


def refuse(*_: object) -> pd.DataFrame:
    raise AssertionError("computed again")


def cells(place: store.Store) -> list[Path]:
    return sorted(place.results.glob(".cells/*/*.parquet"))


@pytest.mark.parametrize("name", SMALL)
def test_a_table_from_kept_cells_is_the_computed_one(name, tmp_path, monkeypatch):
    experiment, settings = SMALL[name]
    want = experiment.run(settings, seed=1)

    def interrupted() -> pd.DataFrame:
        experiment.run(settings, seed=1)
        raise KeyboardInterrupt

    place = store.Store.open(tmp_path)
    keywords: dict[str, Any] = {"seed": 1, "provenance": {}}
    with pytest.raises(KeyboardInterrupt):
        place.load_or_run(name, settings, interrupted, **keywords)
    assert cells(place)
    monkeypatch.setattr(experiment, "_run_split" if name == "tables-1-2" else "_run_arm", refuse)
    found = place.load_or_run(name, settings, lambda: experiment.run(settings, seed=1), **keywords)
    pd.testing.assert_frame_equal(found, want, check_exact=True)
    assert not cells(place)


def test_only_what_is_missing_is_computed(tmp_path):
    """A run is killed with SIGKILL in its last arm, and started again."""
    marks, out = tmp_path / "marks", tmp_path / "out"
    marks.mkdir()
    settings = Settings(folder=str(marks))
    script = f"""
import time
from tests.checks.test_parallel import *
settings, place = {settings!r}, store.Store.open({str(out)!r})
def die(settings, seed, arm, chunk):
    while arm == "bb" and len(cells(place)) < 3:
        time.sleep(0.01)  # until the first arm is there
    return part(replace(settings, dies_at=2 if arm == "bb" else -1), seed, arm, chunk)
def run():
    return parallel.run_arms(die, settings, 5, ("a", "bb"), range(6), 2, None)
place.load_or_run("mine", settings, run, seed=(5,), provenance={{}})
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=store.ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    place = store.Store.open(out)
    there = len(cells(place))
    assert 3 <= there < 6
    for mark in marks.iterdir():
        mark.unlink()
    found = kept(place, settings, 5)
    assert len(list(marks.iterdir())) == 6 - there
    pd.testing.assert_frame_equal(found, run(Settings(), 5), check_exact=True)


def test_runs_of_one_table_do_not_share_cells(tmp_path):
    place = store.Store.open(tmp_path)
    found = kept(place, Settings(), 1, 2)
    want = pd.concat([run(Settings(), 1), run(Settings(), 2)], ignore_index=True)
    pd.testing.assert_frame_equal(found, want, check_exact=True)


def test_other_settings_or_code_take_no_cells_of_an_interrupted_run(tmp_path):
    (tmp_path / "code" / "solvers").mkdir(parents=True)
    place = store.Store(tmp_path / "out", code=tmp_path / "code")

    def interrupted() -> pd.DataFrame:
        run(Settings(), 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.load_or_run("mine", Settings(), interrupted, seed=(1,), provenance={})
    other = kept(place, Settings(scale=2.0), 1)
    pd.testing.assert_frame_equal(other, run(Settings(scale=2.0), 1), check_exact=True)
    (tmp_path / "code" / "solvers" / "new.py").write_text("x = 1\n")
    marks = tmp_path / "marks"
    marks.mkdir()
    kept(place, Settings(folder=str(marks)), 1)
    assert len(list(marks.iterdir())) == 6


def test_a_damaged_cell_is_an_error(tmp_path):
    place = store.Store.open(tmp_path)

    def interrupted() -> pd.DataFrame:
        run(Settings(), 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.load_or_run("mine", Settings(), interrupted, seed=(1,), provenance={})
    cells(place)[0].write_bytes(b"PAR1")
    with pytest.raises(store.StoreError, match="delete it and run again"):
        kept(place, Settings(), 1)


def test_outside_of_a_store_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(Settings(), 1)
    assert store.cells(Settings(), 1) is None
    assert not list(tmp_path.iterdir())


def test_the_engine_is_that_of_the_run(monkeypatch):
    asked: list[object] = []

    def recorded(run, cells, *, engine, **_):
        asked.append(engine)
        return {name: run(*arguments) for name, arguments in cells.items()}

    monkeypatch.setattr(parallel.engine, "sweep", recorded)
    with parallel.on("ray"):
        run(Settings(), 1)
    with parallel.on("ray", "auto"):
        run(Settings(), 1)
    with parallel.on("local"):
        run(Settings(), 1)
    run(Settings(), 1)
    here = parallel.Threads()
    assert asked == [parallel.Ray(), parallel.Ray("auto", store.ROOT), here, here]
