"""`python -m paper_checks conform`: its table, messages and exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from paper_checks.conformance import signatures
from paper_checks.conformance.command import conform_command

SOLVERS = """
import numpy as np

half = 0.5
not_a_function = {}

def inner(U, lam):
    return half * lam * np.linalg.inv(U)

def doubled(U, lam):
    return lam * np.linalg.inv(U)

def other(x):
    return x

class Kept:
    @staticmethod
    def inner(U, lam):
        return inner(U, lam)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with modules of solvers, forgotten afterwards."""
    (tmp_path / "my_solvers.py").write_text(SOLVERS)
    (tmp_path / "my_broken.py").write_text("import numpy\n\nnumpy.no_such_thing\n")
    (tmp_path / "my_exit.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    for name in ("my_solvers", "my_broken", "my_exit"):
        sys.modules.pop(name, None)


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(conform_command)
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("target", ["my_solvers:inner", "my_solvers:Kept.inner"])
def test_a_right_solver_ends_with_0(folder: Path, target: str) -> None:
    result = run(target, "--examples", "4")
    assert result.exit_code == 0, result.output
    assert f"checking {target} as inner solution f(U, lam, [structure]) -> P" in result.output
    rows = [line.split("│") for line in result.output.splitlines() if "│" in line]
    assert [row[-2].strip() for row in rows] == 4 * ["holds"]
    assert [row[-3].strip() for row in rows] == ["4", "4", "4", "1"]


def test_a_wrong_solver_ends_with_1(folder: Path) -> None:
    result = run("my_solvers:doubled", "--seed", "3")
    assert result.exit_code == 1
    rows = [line for line in result.output.splitlines() if "│" in line]
    failing = [row.split("│")[1].strip() for row in rows if "FAILS" in row]
    assert failing == ["P* = the derived inner solution", "P* maximises J"]
    for part in ("got      [[", "expected [[", "> tolerance", "inputs   U = [[", "lam = "):
        assert result.output.count(part) == 2
    assert "taken for the inner solution f(U, lam" in result.output


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("my_solvers", "'my_solvers' names no function: pass package.module:function"),
        (":inner", "pass package.module:function"),
        ("my_solvers:", "pass package.module:function"),
        ("my_absent:inner", "ModuleNotFoundError: No module named 'my_absent'"),
        ("my_broken:inner", "importing my_broken raised AttributeError"),
        ("my_broken:inner", "my_broken.py:3"),
        ("my_exit:inner", "importing my_exit raised SystemExit"),
        (".my_solvers:inner", "importing .my_solvers raised TypeError"),
        ("my_solvers:iner", "pass one of its functions (inner, doubled, other, Kept)"),
        ("my_solvers:not_a_function", "is dict, not a function"),
        ("my_solvers:other", "other takes (x)"),
    ],
)
def test_what_cannot_be_checked_ends_with_2(folder: Path, target: str, says: str) -> None:
    result = run(target)
    assert result.exit_code == 2
    assert says in result.output
    assert "Traceback" not in result.output


def test_an_unknown_signature_lists_the_three(folder: Path) -> None:
    output = run("my_solvers:other").output
    for signature in signatures.SIGNATURES:
        assert signature.text in output


@pytest.mark.parametrize("arguments", [["--examples", "0"], ["--seed", "-1"], []])
def test_bad_options_end_with_2(folder: Path, arguments: list[str]) -> None:
    target = ["my_solvers:inner"] if arguments else []
    assert run(*target, *arguments).exit_code == 2


AS_PROCESS = (
    "import typer; from paper_checks.conformance.command import conform_command;"
    "typer.run(conform_command)"
)


def test_as_a_process_in_another_folder(folder: Path) -> None:
    command = [sys.executable, "-P", "-c", AS_PROCESS, "my_solvers:doubled", "--examples", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("FAILS") == 2
    assert done.stderr == ""


def test_importing_the_command_is_quick() -> None:
    """`--help` of the command line it is registered in need not wait for torch and SymPy."""
    script = (
        "import sys, paper_checks.conformance.command;"
        "print(sorted({'torch', 'sympy', 'hypothesis', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
