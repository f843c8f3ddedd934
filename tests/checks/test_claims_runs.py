"""Claims and figures share their tables."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest

from figures import catalogue, pipeline
from paper_checks import store
from paper_checks.claims import runs
from paper_checks.claims.pictures import full_covariance as claims
from paper_checks.experiments import full_covariance
from paper_checks.store import Store

SMALL = replace(
    full_covariance.AS_PUBLISHED, experiments=2, epochs=1, recorded=(0, 1), generations=2
)
same = partial(pd.testing.assert_frame_equal, check_exact=True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of all runs of a small experiment, in place of the published one."""
    seen: list[int] = []
    run = full_covariance.run

    def counted(settings, *, seed, progress=None):
        seen.append(seed)
        return run(settings, seed=seed, progress=progress)

    monkeypatch.setattr(full_covariance, "run", counted)
    monkeypatch.setattr(full_covariance, "AS_PUBLISHED", SMALL)
    return seen


@pytest.mark.parametrize("figure_first", [True, False])
def test_what_a_figure_or_a_claim_has_run_the_other_does_not(calls, tmp_path, figure_first) -> None:
    place = Store(tmp_path)
    picture = pipeline.Picture(catalogue.find("full-covariance-as-published"), seed=4)

    def drawn() -> pd.DataFrame:
        return pipeline.table(place, picture, pipeline.UNVERIFIED)

    def judged() -> pd.DataFrame:
        with runs.kept_in(place):
            return runs.once(full_covariance.run, SMALL, seed=4)

    first, second = (drawn, judged) if figure_first else (judged, drawn)
    same(first(), second())
    assert calls == [4]


def test_runs_of_many_seeds_are_one_table(calls, tmp_path) -> None:
    alone = runs.repeated(full_covariance.run, SMALL, (1, 2))
    with runs.kept_in(Store(tmp_path)):
        first, again = (runs.repeated(full_covariance.run, SMALL, (1, 2)) for _ in range(2))
    assert calls == [1, 2, 1, 2]
    same(first, alone)
    same(again, alone)
    assert alone.groupby("run").size().tolist() == [len(alone) / 2] * 2
    (path,) = (tmp_path / "results").glob("*.parquet")
    record = store.read(path)[1]
    assert (record["name"], record["seed"]) == ("full-covariance-claims", [1, 2])
    assert record["gate"] == runs.GATE
    runs.once(full_covariance.run, SMALL, seed=1)  # outside, nothing is kept
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_a_claim_judged_again_runs_nothing(calls, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(claims, "PUBLISHED", SMALL)
    monkeypatch.setattr(claims, "RUNS", 2)
    found: list[pd.DataFrame] = []
    for _ in range(2):
        claims.published_runs.cache_clear()
        with runs.kept_in(Store(tmp_path)):
            found.append(claims.published_runs(5))
    claims.published_runs.cache_clear()
    same(*found)
    assert len(calls) == 2
