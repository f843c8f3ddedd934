"""The store: complete files or none, and a table recomputed exactly when something changed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from paper_checks import imports, store
from paper_checks.store import Store, StoreError


@dataclass(frozen=True)
class Settings:
    sigmas: tuple[float, ...] = (0.1, 2.0)
    data: Path | None = None


TABLE = pd.DataFrame({"method": ["NLL", "PG #1"], "value": [0.1 + 0.2, float("nan")], "n": [1, 2]})
PROVENANCE = {"commit": "abc", "dirty": False, "gate": "digest"}


@pytest.fixture
def place(tmp_path: Path) -> Store:
    (tmp_path / "code" / "solvers").mkdir(parents=True)
    (tmp_path / "code" / "solvers" / "inner.py").write_text("FACTOR = 2\n")
    return Store(tmp_path / "out", code=tmp_path / "code")


def load(
    place: Store, runs: list[int], settings: Settings = Settings(), **keywords
) -> pd.DataFrame:
    def run() -> pd.DataFrame:
        runs.append(1)
        return TABLE

    options: dict[str, Any] = {"seed": 0, "provenance": PROVENANCE, **keywords}
    return place.load_or_run("B", settings, run, **options)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_table_comes_back_exactly_and_is_not_computed_again(place):
    runs: list[int] = []
    first, second = load(place, runs), load(place, runs)
    assert len(runs) == 1
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert len(files(place.root)) == 2


def test_changes_of_settings_seed_code_or_data_recompute(place, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("a\n1\n")
    runs: list[int] = []
    load(place, runs, inputs=[data])
    load(place, runs, Settings(sigmas=(0.1,)), inputs=[data])
    load(place, runs, seed=1, inputs=[data])
    data.write_text("a\n2\n")
    load(place, runs, inputs=[data])
    (place.code / "solvers" / "inner.py").write_text("FACTOR = 1\n")
    load(place, runs, inputs=[data])
    assert len(runs) == 5
    load(place, runs, inputs=[data])
    assert len(runs) == 5


def test_a_table_is_found_under_any_name_but_not_of_another_experiment(place):
    @dataclass(frozen=True)
    class Other:
        sigmas: tuple[float, ...] = (0.1, 2.0)
        data: Path | None = None

    runs: list[int] = []

    def run() -> pd.DataFrame:
        runs.append(1)
        return TABLE

    for name in ("figure", "claims"):
        place.load_or_run(name, Settings(), run, seed=0, provenance=PROVENANCE)
    assert len(runs) == 1
    place.load_or_run("figure", Other(), run, seed=0, provenance=PROVENANCE)
    place.load_or_run("figure", Settings(), run, seed=(0, 1), provenance=PROVENANCE)
    assert len(runs) == 3


def test_key_covers_names_of_files_and_installed_versions(place, monkeypatch):
    keys = {place.key(Settings(), seed=0)}
    (place.code / "solvers" / "inner.py").rename(place.code / "solvers" / "outer.py")
    keys.add(place.key(Settings(), seed=0))
    monkeypatch.setattr(store.metadata, "version", lambda name: "0.0")
    keys.add(place.key(Settings(), seed=0))
    assert len(keys) == 3


def test_key_covers_all_that_experiments_compute_with():
    """`store` itself says where tables are kept, not what is in them."""
    experiments = sorted((store.ROOT / "paper_checks/experiments").rglob("*.py"))
    needed = {
        path.relative_to(store.ROOT).as_posix() for path in imports.closure(store.ROOT, experiments)
    }
    outside = {path for path in needed if not path.startswith(store.CODE)}
    assert outside == {"paper_checks/__init__.py", "paper_checks/store.py"}


def test_versions_are_of_what_is_installed():
    found = store.versions(["torch", "no-such-distribution"])
    assert found["torch"] == torch.__version__
    assert found["no-such-distribution"] is None


def test_provenance_is_in_both_files(place):
    load(place, [], seed=3)
    (parquet,) = place.results.glob("*.parquet")
    table, record = store.read(parquet)
    pd.testing.assert_frame_equal(table, TABLE)
    assert record["key"] == place.key(Settings(), seed=3)
    assert record["key"].startswith(parquet.stem.removeprefix("B-"))
    expected = PROVENANCE | {"name": "B", "seed": 3}
    assert expected.items() <= record.items()
    assert record["settings"] == {"sigmas": [0.1, 2.0], "data": None}

    csv = parquet.with_suffix(".csv")
    lines = [line[2:] for line in csv.read_text().splitlines() if line.startswith("# ")]
    assert {k: json.loads(v) for k, v in (line.split(": ", 1) for line in lines)} == record
    pd.testing.assert_frame_equal(pd.read_csv(csv, comment="#"), TABLE, check_dtype=False)


def test_equal_prefix_with_another_key_is_recomputed(place, monkeypatch):
    runs: list[int] = []
    monkeypatch.setattr(Store, "key", lambda *_, seed, **__: "0" * 12 + str(seed))
    load(place, runs, seed=0)
    load(place, runs, seed=1)
    assert len(runs) == 2


def test_interrupted_run_leaves_nothing(place):
    def interrupted() -> pd.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.load_or_run("B", Settings(), interrupted, seed=0, provenance=PROVENANCE)
    assert not place.root.exists()


def test_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    path = store.write_text(tmp_path / "caption.txt", "old")

    def interrupted() -> None:
        with store.replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files(tmp_path) == {"caption.txt"}
    assert path.read_text() == "old"


def test_interrupted_between_csv_and_parquet_does_not_look_complete(place, monkeypatch):
    runs: list[int] = []

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_parquet", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(place, runs)
    load(place, runs)
    assert len(runs) == 2


@pytest.mark.parametrize("content", [b"", b"PAR1 but not really"])
def test_damaged_table_is_named(place, content):
    load(place, [])
    (parquet,) = place.results.glob("*.parquet")
    parquet.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{parquet.name}.*delete it and run again"):
        load(place, [])


def test_foreign_table_is_refused(tmp_path):
    TABLE.to_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(StoreError, match="carries no provenance"):
        store.read(tmp_path / "foreign.parquet")


def test_settings_must_be_plain():
    @dataclass(frozen=True)
    class Odd:
        f: object = print

    with pytest.raises(TypeError, match="built-in function print"):
        store.canonical(Odd())


def test_open_makes_the_folder_and_leaves_no_trace(tmp_path):
    assert Store.open(tmp_path / "a" / "b").root.is_dir()
    assert files(tmp_path) == set()


def test_open_refuses_a_file_and_anything_below_it(tmp_path):
    (tmp_path / "taken").write_text("")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(StoreError, match=r"cannot write to .*taken.*--out"):
            Store.open(out)


def test_open_refuses_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    # For root every folder is writable, so the refusal of the system is simulated.
    def refused(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(StoreError, match=r"Permission denied.*--out"):
        Store.open(tmp_path)


def test_figure_carries_its_provenance(place):
    figure = Figure()
    figure.add_subplot().plot([0, 1])
    pdf, png = place.save_figure(figure, "B", provenance=PROVENANCE)
    assert files(place.root) == {"B.pdf", "B.png"}
    with Image.open(png) as image:
        assert json.loads(image.info["Description"]) == PROVENANCE
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b'"commit": "abc"' in pdf.read_bytes()


def test_provenance_of_this_checkout_and_of_no_checkout(tmp_path, monkeypatch):
    here = store.provenance()
    assert set(here) == {"commit", "dirty", "versions"}
    assert {"python", "torch", "numpy"} <= set(here["versions"])
    assert store.provenance(tmp_path)["commit"] == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert store.provenance()["commit"] == store.provenance()["dirty"] == "unknown"


def test_commit_of_an_enclosing_repository_is_not_claimed():
    assert store.provenance(store.ROOT / "paper_checks")["commit"] == "unknown"
