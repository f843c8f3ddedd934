"""A made-up figure, a gate that passed, and the command line, for the tests of it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import Result

from paper_checks import gate
from tests import fakes


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    return fakes.install(monkeypatch)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> gate.GateResult:
    return fakes.pass_gate(monkeypatch)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def call(out: Path) -> Callable[..., Result]:
    return fakes.command_line(out)
