"""Derivations kept on disk are those that would be derived: proved, of the same code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis import Derivation, gaussian, kept
from analysis.calculus.symbols import Structure
from tests.planting import derived_anew


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    """A folder to keep derivations in, while nothing is derived yet."""
    with derived_anew():
        kept.keep_in(tmp_path)
        yield tmp_path


def forget() -> None:
    gaussian.inner.solution.made.clear()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_kept_is_what_was_derived(folder: Path) -> None:
    first = gaussian.inner.solution("full", 2)
    assert files(folder)
    forget()
    again = gaussian.inner.solution("full", 2)
    assert again is not first
    assert (again.key, again.stated, again.derived) == (first.key, first.stated, first.derived)
    assert again.verify() is again


def test_each_key_has_its_own(folder: Path) -> None:
    asked: list[tuple[Structure, int | None]] = [
        ("full", 2),
        ("diagonal", 2),
        ("full", 1),
        ("full", None),
    ]
    before = [gaussian.inner.solution(*arguments) for arguments in asked]
    forget()
    after = [gaussian.inner.solution(*arguments) for arguments in asked]
    assert [found.key for found in after] == [found.key for found in before]
    assert len({found.key for found in after}) == len(asked)


def test_what_is_not_proved_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Derivation, "failure", "planted")
    gaussian.inner.solution("full", 2)
    assert not files(folder)


def test_a_fault_planted_in_memory_is_derived(folder: Path) -> None:
    gaussian.inner.solution("full", 2)
    forget()
    with kept.nothing_kept():
        assert kept._place.get() is None
        gaussian.inner.solution("full", 2)
    with derived_anew():
        assert kept._place.get() is None
    assert kept._place.get() is not None


def test_a_change_of_the_code_derives_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    room = tmp_path_factory.mktemp("code") / "analysis"
    shutil.copytree(kept.ROOM, room)
    monkeypatch.setattr(kept, "ROOM", room)
    kept.keep_in(folder)
    gaussian.inner.solution("full", 2)
    (before,) = folder.iterdir()
    changed = room / "gaussian" / "stated.py"
    changed.write_text(changed.read_text() + "\n# changed\n")
    forget()
    gaussian.inner.solution("full", 1)  # touched since the folder was opened
    assert len(files(folder)) == 1
    kept.keep_in(folder)
    assert not before.exists()
    gaussian.inner.solution("full", 2)
    (after,) = folder.iterdir()
    assert after.name != before.name
