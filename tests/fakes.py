"""A made-up figure, a gate that passed, and the command line: what the tests of it share."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner, Result

from figures import __main__ as cli
from figures import catalogue
from figures.catalogue import FigureSpec
from paper_checks import gate


class BadData(ValueError):
    """As an experiment of the project would raise it."""

    __module__ = "paper_checks.experiments.fake"


@dataclass(frozen=True)
class Settings:
    lam: float = 0.1
    data: Path | None = None
    targets: tuple[str, ...] = ()
    sep: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    na_values: tuple[str, ...] = ()
    device: str = "cpu"


def install(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a figure in the catalogue, as T and T-as-published; count its runs."""
    module = SimpleNamespace(
        runs=[],
        error=None,
        pictures=0,
        Settings=Settings,
        AS_PUBLISHED=Settings(lam=1.0),
        QUICK=Settings(lam=0.5),
        FULL=Settings(lam=2.0),
    )

    def run(settings, *, seed, progress):
        if module.error:
            raise module.error
        module.runs.append((settings, seed))
        if progress:
            progress("training", 0, 2)
            progress("training", 2, 2)
        return pd.DataFrame({"method": ["NLL"], "lam": [settings.lam]})

    def draw(table):
        module.pictures += 1
        figure = Figure()
        figure.add_subplot(title=f"{table.lam[0]}")
        return figure

    def tasks(settings):
        if settings.data and b"bad" in settings.data.read_bytes():
            raise BadData("the table is bad: mend it")

    module.run, module.draw, module.tasks = run, draw, tasks
    module.caption = lambda table: f"Caption at {table.lam[0]}."
    module.summary = lambda table: table
    for kind in ("draw", "caption", "summary"):
        setattr(module, f"{kind}_as_published", getattr(module, kind))
    specs = (
        FigureSpec("T", "A test", 1, quick=True, full=True, takes_data=True, on_device=True),
        FigureSpec("T", "Another", 100, "as-published"),
    )
    for name in (specs[0].experiment, specs[0].drawing):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(catalogue, "CATALOGUE", specs)
    return module


def pass_gate(monkeypatch: pytest.MonkeyPatch) -> gate.GateResult:
    """Let the gate have passed before."""
    result = gate.GateResult("digest-of-the-gate", 7, 1.0, "today")
    monkeypatch.setattr(gate, "recorded", lambda out: result)
    monkeypatch.setattr(gate, "ensure", lambda out: result)
    monkeypatch.setattr(gate, "digest", lambda root=None: result.digest)
    return result


def command_line(out: Path) -> Callable[..., Result]:
    """Return a function that calls the command line with ``--out``."""
    return lambda *arguments: CliRunner().invoke(cli.app, [*arguments, "--out", str(out)])


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]
