"""The gate: what passes, what does not, and what its message says."""

import json
import subprocess
from pathlib import Path

import pytest

from paper_checks import gate, store

CONFTEST = """
from hypothesis import settings
settings.register_profile("gate", max_examples=20, derandomize=True, deadline=None, print_blob=True)
"""
PASSES = """
import pytest
@pytest.mark.gate
def test_identity(): assert True
def test_not_of_the_gate(): assert False
"""
FAILS = """
import pytest
from hypothesis import given, strategies as st
@pytest.mark.gate
@given(lam=st.floats(0.5, 2.0))
def test_inner_solution(lam):
    solver, derived, tolerance = lam, lam / 2, 1e-10
    assert abs(solver - derived) <= tolerance, f"{solver=} {derived=} {tolerance=}"
"""
SKIPS = (
    PASSES
    + """
@pytest.mark.gate
@pytest.mark.skip(reason="no time")
def test_left_out(): pass
"""
)
EXPECTED_FAILURE = (
    PASSES
    + """
@pytest.mark.gate
@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""
)
UNEXPECTED_PASS = (
    PASSES
    + """
@pytest.mark.gate
@pytest.mark.xfail(reason="known")
def test_known(): assert True
"""
)
EMPTY = "def test_not_of_the_gate(): pass\n"
DOES_NOT_IMPORT = "import no_such_module\n" + PASSES
UNKNOWN_MARK = (
    PASSES
    + """
@pytest.mark.gaet
def test_misspelt(): pass
"""
)


WRITES = """
import pytest
import {package}
@pytest.mark.gate
def test_identity():
    with open("log", "a") as log: log.write("{n}\\n")
"""


@pytest.fixture
def checkout(tmp_path):
    """A function that makes a checkout with one test file and returns its folder."""

    def make(source: str) -> Path:
        root = tmp_path / "checkout"
        (root / "tests").mkdir(parents=True)
        (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["gate"]\n')
        (root / "tests" / "conftest.py").write_text(CONFTEST)
        (root / "tests" / "test_it.py").write_text(source)
        return root

    return make


def test_pass_is_recorded_and_reused_until_a_source_changes(checkout, tmp_path, monkeypatch):
    root, out = checkout(PASSES), tmp_path / "out"
    passed = gate.ensure(out, workers=0, root=root)
    assert passed.tests == 1
    assert json.loads((out / "gate.json").read_text())["digest"] == gate.digest(root)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", None)  # nothing may run
        assert gate.ensure(out, root=root) == passed

    (root / "solvers").mkdir()
    (root / "solvers" / "inner.py").write_text("FACTOR = 1\n")
    again = gate.ensure(out, workers=0, root=root)
    assert again.digest != passed.digest
    assert gate.recorded(out) == again


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SKIPS, r"1 of 2 cross-checks.*test_left_out.*skipped.*no time"),
        (EXPECTED_FAILURE, r"1 of 2 cross-checks.*test_known.*expected to fail.*known"),
        (UNEXPECTED_PASS, r"1 of 2 cross-checks.*test_known"),
        (EMPTY, r"empty: no test in .* is marked `gate`"),
        (DOES_NOT_IMPORT, r"test_it.*no_such_module"),
        (UNKNOWN_MARK, r"gaet"),
    ],
)
def test_all_but_a_pass_fails(checkout, tmp_path, source, message):
    root = checkout(source)
    with pytest.raises(gate.GateFailed, match=f"(?s){message}"):
        gate.run(tmp_path / "out", workers=0, root=root)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_failure_names_identity_inputs_values_and_tolerance(checkout, tmp_path, workers):
    root = checkout(FAILS)
    with pytest.raises(gate.GateFailed) as caught:
        gate.run(tmp_path / "out", workers, root)
    message = str(caught.value)
    for part in ("test_inner_solution", "lam=1.0", "solver=1.0", "derived=0.5", "tolerance=1e-10"):
        assert part in message, message


def test_only_what_imports_a_change_runs_again(checkout, tmp_path):
    """Counted by the lines each test writes; the total is of all that is verified."""
    root, out = checkout(WRITES.format(package="analysis", n=1)), tmp_path / "out"
    (root / "tests" / "test_two.py").write_text(WRITES.format(package="solvers.inner", n=2))
    for package in ("analysis", "solvers"):
        (root / package).mkdir()
        (root / package / "__init__.py").write_text("")
    (root / "analysis" / "__init__.py").write_text("from . import deep\n")
    for name in ("analysis/deep.py", "solvers/inner.py", "solvers/unused.py"):
        (root / name).write_text("FACTOR = 1\n")

    def ran() -> list[str]:
        passed = gate.ensure(out, workers=0, root=root)
        assert passed.tests == 2
        assert passed.digest == gate.digest(root)
        (log := root / "log").touch()
        found = log.read_text().split()
        log.unlink()
        return sorted(found)

    assert ran() == ["1", "2"]
    assert ran() == []
    (root / "solvers" / "unused.py").write_text("FACTOR = 2\n")
    assert ran() == []
    (root / "solvers" / "inner.py").write_text("FACTOR = 2\n")
    assert ran() == ["2"]
    (root / "analysis" / "deep.py").write_text("FACTOR = 2\n")
    assert ran() == ["1"]
    (root / "tests" / "conftest.py").write_text(CONFTEST + "# a comment\n")
    assert ran() == ["1", "2"]


def test_a_failed_gate_keeps_no_file_for_passed(checkout, tmp_path):
    root, out = checkout(PASSES), tmp_path / "out"
    (root / "tests" / "test_two.py").write_text(FAILS)
    for _ in range(2):
        with pytest.raises(gate.GateFailed, match="1 of 2 cross-checks"):
            gate.run(out, workers=0, root=root)
    assert not out.exists()


@pytest.mark.parametrize(
    "entry", [None, {}, {"digest": "other", "tests": 1}, {"digest": 1}, {"tests": 1}, []]
)
def test_a_record_that_is_not_of_this_file_runs_it_again(checkout, tmp_path, entry):
    root, out = checkout(PASSES), tmp_path / "out"
    right = gate.digests(root)
    assert gate.run(out, workers=0, root=root).tests == 1
    files = json.loads((out / gate.FILES).read_text())
    assert files == {
        "files": {"tests/test_it.py": {"digest": right["tests/test_it.py"], "tests": 1}}
    }
    (out / gate.FILES).write_text(json.dumps({"files": {"tests/test_it.py": entry}}))
    gate.run(out, workers=0, root=root)
    assert json.loads((out / gate.FILES).read_text()) == files


def test_a_damaged_record_of_files_is_an_error(checkout, tmp_path, monkeypatch):
    (tmp_path / gate.FILES).write_text('{"files": ')
    monkeypatch.setattr(subprocess, "run", None)  # nothing may run
    with pytest.raises(store.StoreError, match=r"gate-files\.json .*move or delete it"):
        gate.run(tmp_path, root=checkout(PASSES))


def test_the_first_failure_ends_the_run(checkout, tmp_path):
    root = checkout(FAILS + "\n@pytest.mark.gate\ndef test_later(): assert False\n")
    with pytest.raises(gate.GateFailed, match="1 of 1 cross-checks that ran") as caught:
        gate.run(tmp_path / "out", workers=0, root=root)
    assert "test_later" not in str(caught.value)


def test_environment_cannot_hollow_the_gate(checkout, tmp_path, monkeypatch):
    root = checkout(PASSES + FAILS)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--deselect tests/test_it.py::test_inner_solution")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    with pytest.raises(gate.GateFailed, match="1 of 2 cross-checks"):
        gate.run(tmp_path / "out", workers=0, root=root)


def test_configuration_outside_the_digest_is_not_read(checkout, tmp_path):
    root = checkout(PASSES + FAILS)
    (root / "pytest.ini").write_text("[pytest]\naddopts = --deselect tests/test_it.py\n")
    (root / "conftest.py").write_text("collect_ignore = ['tests/test_it.py']\n")
    with pytest.raises(gate.GateFailed, match="1 of 2 cross-checks"):
        gate.run(tmp_path / "out", workers=0, root=root)


def test_an_installation_without_tests_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)  # nothing may run
    with pytest.raises(gate.GateFailed, match=r"no tests: .* is no checkout .*pip install -e"):
        gate.run(tmp_path / "out", workers=0, root=tmp_path)


def test_sources_edited_meanwhile_are_noticed(checkout, tmp_path):
    root = checkout(PASSES)
    (root / "tests" / "test_it.py").write_text(
        "import pytest\n@pytest.mark.gate\ndef test_edit():\n"
        "    with open('pyproject.toml', 'a') as stream: stream.write('#')\n"
    )
    with pytest.raises(gate.GateFailed, match="changed while the gate was running"):
        gate.run(tmp_path / "out", workers=0, root=root)


@pytest.mark.parametrize("content", ["", "{}", '{"digest": 1}', "[]", "null", '{"dig', "\0"])
def test_a_damaged_or_foreign_record_is_named_and_kept(checkout, tmp_path, content, monkeypatch):
    record = tmp_path / "gate.json"
    record.write_text(content)
    with pytest.raises(store.StoreError, match=r"gate\.json .*damaged, or not of this project"):
        gate.recorded(tmp_path)
    monkeypatch.setattr(subprocess, "run", None)  # nothing may run
    with pytest.raises(store.StoreError, match="move or delete it"):
        gate.run(tmp_path, root=checkout(PASSES))
    assert record.read_text() == content


def test_a_record_that_is_a_folder_is_named(tmp_path):
    (tmp_path / "gate.json").mkdir()
    with pytest.raises(store.StoreError, match=r"gate\.json cannot be read .*move or delete"):
        gate.recorded(tmp_path)
    assert gate.recorded(tmp_path / "none") is None


def test_long_reports_are_trimmed():
    report = "\n".join(f"E   line {i}" for i in range(1000))
    essence = gate._essence(report).splitlines()
    assert len(essence) == 41
    assert essence[0] == "line 0"
    assert essence[-1] == "line 999"
