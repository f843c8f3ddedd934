"""All rooms come from one checkout, or nothing runs."""

import os
import subprocess
import sys
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from paper_checks import checkout, gate, store
from paper_checks.checkout import ROOMS, ForeignRoom


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder of the user's own; the checkout comes after it, as if installed."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(store.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def make_room(folder: Path, name: str, form: str) -> Path:
    if form == "module":
        (folder / f"{name}.py").write_text("")
        return folder / f"{name}.py"
    (folder / name).mkdir()
    if form == "package":
        (folder / name / "__init__.py").write_text("")
    return folder / name


def test_here_everything_is_in_place() -> None:
    checkout.check()
    assert checkout.ROOT == store.ROOT


FIGURES = ("-m", "figures", "--list")
CHECKS = ("-m", "paper_checks", "--list")
DRAW = ("-c", "import figures; figures.draw('B')")
GATE = ("-c", "from pathlib import Path; from paper_checks import gate; gate.run(Path('out'))")


@pytest.mark.parametrize("form", ["package", "module"])
@pytest.mark.parametrize(
    ("arguments", "room"),
    [
        *((FIGURES, room) for room in ("analysis", "solvers", "paper_checks")),
        *((CHECKS, room) for room in ("analysis", "solvers", "figures")),
        (DRAW, "solvers"),
        (DRAW, "paper_checks"),
        (GATE, "figures"),
        (GATE, "analysis"),
    ],
)
def test_a_folder_of_the_users_own_is_named_before_any_work(tmp_path, arguments, room, form):
    own = make_room(tmp_path, room, form)
    done = call(tmp_path, *arguments)
    last = done.stderr.strip().splitlines()[-1]
    assert f"{room} is imported from {own}" in last.replace("/__init__.py", "")
    assert str(store.ROOT) in last
    assert "another folder" in last
    if "-m" in arguments:
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_without_init_is_found_where_it_would_be_imported(tmp_path, monkeypatch) -> None:
    # Installed as editable, a room comes after any folder of the path, even a bare one.
    own = make_room(tmp_path, "solvers", "folder")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "solvers", raising=False)
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    with pytest.raises(ForeignRoom, match=rf"solvers is imported from {own}, .*rename solvers"):
        checkout.check(("solvers",))


def test_a_room_that_is_not_there_is_no_fault(tmp_path) -> None:
    checkout.check(("no_such_room",), tmp_path)


def test_the_checkout_may_be_reached_by_a_link(tmp_path) -> None:
    (tmp_path / "link").symlink_to(store.ROOT)
    done = call(tmp_path / "link", *FIGURES)
    assert done.returncode == 0, done.stderr


def test_without_the_checkout_the_gate_says_so(tmp_path) -> None:
    with pytest.raises(gate.GateFailed, match="no checkout"):
        gate.run(tmp_path / "out", root=tmp_path)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_belong_to_this_distribution_alone_and_are_typed(room: str) -> None:
    assert set(metadata.packages_distributions()[room]) == {"bimle"}
    assert (store.ROOT / room / "py.typed").is_file()
