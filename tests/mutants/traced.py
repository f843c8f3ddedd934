"""Which lines of the rooms each test runs: collected once per test file, while it stands as it is.

By coverage.py, a test a context, in a process of its own that derives everything itself, as the
mutants of `analysis` find it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from .mutant import ROOMS


@dataclass(frozen=True)
class Trace:
    """What the tests of a file run.

    Attributes:
        file: the test file.
        digest: of it and all it stands on.
        tests: seconds of processor time, by test, in the order in which they run.
        ran: by module and line, the numbers of the tests that run it; -1 for the import.
    """

    file: str
    digest: str
    tests: dict[str, float]
    ran: dict[str, dict[str, list[int]]]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tests, by their number."""
        return tuple(self.tests)

    def running(self, path: str, lines: range) -> set[str]:
        """Return the tests that run one of the lines; all, if the import of the file does alone."""
        of_module = self.ran.get(path, {})
        numbers = {number for line in lines for number in of_module.get(str(line), ())}
        if numbers == {-1}:
            return set(self.names)
        return {self.names[number] for number in numbers if number >= 0}


class Tracer:
    """Plugin of pytest: notes the lines that each test runs, and how long it takes."""

    def __init__(self, checkout: Path, note: Path) -> None:
        self.checkout, self.note = checkout, note
        self.tests: dict[str, float] = {}
        source = [str(checkout / room) for room in ROOMS]
        self.coverage: Any = import_module("coverage").Coverage(
            data_file=None, source=source, config_file=False, messages=False
        )
        # a room that a test does not import is no mistake
        quiet = ["module-not-imported", "module-not-measured", "no-data-collected"]
        self.coverage.set_option("run:disable_warnings", quiet)
        self.coverage.start()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note what a test runs under its name."""
        began = time.process_time()
        self.coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.coverage.switch_context("")
            self.tests[item.nodeid] = round(time.process_time() - began, 3)

    def write(self, code: int) -> None:
        """Leave a note of it for the process that waits."""
        self.coverage.stop()
        data = self.coverage.get_data()
        number = {name: i for i, name in enumerate(self.tests)} | {"": -1}
        ran = {
            Path(name).relative_to(self.checkout).as_posix(): {
                str(line): sorted(number[context] for context in contexts)
                for line, contexts in data.contexts_by_lineno(name).items()
            }
            for name in data.measured_files()
        }
        said = {"code": code, "trace": {"tests": self.tests, "ran": ran}}
        self.note.write_text(json.dumps(said | {"tests": len(self.tests)}))


def line(trace: Trace) -> str:
    """Return the line of the file that keeps it."""
    return json.dumps(asdict(trace), ensure_ascii=False, separators=(",", ":")) + "\n"


def read(path: Path) -> dict[str, Trace]:
    """Return what a file keeps, by test file, the latest; a last line cut off is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    found = [Trace(**json.loads(text)) for text in lines if text.endswith("\n")]
    return {trace.file: trace for trace in found}
