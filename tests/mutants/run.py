"""Mutants against their tests: each in a copy of the checkout, in a process of its own.

The processes are forked from this one, which has the libraries imported, so that a mutant costs
the import of the project alone. One that takes too long is stopped, and counts as noticed.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from .mutant import ROOMS, Mutant
from .nearest import BUDGET, FOLDERS, SHARE, Round, Selection, closeness
from .traced import Tracer

COPIED = ("analysis", "solvers", "paper_checks", "figures", "tests", "benchmarks", "docs")
BESIDE = ("pyproject.toml", "constraints.txt", "Makefile", "README.md", "CITATION.cff", "LICENSE")
LIBRARIES = ("torch", "sympy", "scipy.sparse.linalg", "scipy.optimize", "scipy.stats", "pandas")
LIBRARIES += ("hypothesis.strategies", "rich.console", "jaxtyping", "torch.func")
KEPT = Path(".pytest_cache", "derivations")

PER_TEST = 60  # seconds of processor time; more than any test takes that is not marked slow
IMPORT = 60  # seconds of processor time to import and collect all tests
WALL = 8  # times the limits on processor time: for waiting, and for a busy machine
TRACE = 900  # seconds of processor time for the tests of a file that are traced, or to compile all
MEMORY = 12 * 2**30  # bytes of addresses

How = Literal["", "compiled", "traced"]  # what a process is for; meeting a mutant, if empty


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        verdict: "killed", "timed out", "survived", or "void": its tests did not run.
        by: the test that noticed it, or ran when time was up; the file, where that cannot be
            imported; "import", where it fails before any file is, as every run imports it.
        tests: how many tests ran.
        seconds: of processor time.
        trace: what the tests ran, where they were traced.
    """

    verdict: str
    by: str
    tests: int
    seconds: float
    trace: dict[str, Any] | None = None


class Nearest:
    """Plugin of pytest: the tests of a round in their order, a limit for each, and a note."""

    def __init__(self, tests: Selection, note: Path) -> None:
        self.words, self.chosen, self.note = tests.words, tests.rounds[0].tests, note
        self.tests, self.failed, self.running, self.began = 0, "", "", 0.0
        self.spent = 0.0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen tests, all if some are not there; where none are, put near ones first.

        Near are those that say most words of the mutant's place.
        """
        place = {name: i for i, name in enumerate(self.chosen)}
        if place:
            if len(found := [item for item in items if item.nodeid in place]) == len(place):
                items[:] = found
            items.sort(key=lambda item: place.get(item.nodeid, len(place)))
        else:
            items.sort(key=lambda item: -closeness(item.nodeid + _source(item), self.words))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Give a test its time, where its round has some left, or has the test by name."""
        if self.spent > SHARE and not self.chosen:
            return True
        self.tests, self.running, self.began = self.tests + 1, item.nodeid, time.process_time()
        self.write()
        limit = int(self.began) + PER_TEST
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        return None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None]:
        """Note what a test took."""
        yield
        self.spent += time.process_time() - self.began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the test that failed."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note the file that cannot be imported."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that a room fails where `conftest.py` imports it; other errors are of pytest."""
        rooms = [Path.cwd() / room for room in ROOMS]
        through = (Path(entry.path) for entry in excinfo.traceback)
        if not self.failed and any(room in path.parents for path in through for room in rooms):
            self.failed = "import"

    def write(self, code: int | None = None) -> None:
        """Leave a note for the process that waits."""
        now = {"tests": self.tests, "failed": self.failed, "running": self.running, "code": code}
        self.note.write_text(json.dumps(now | {"seconds": time.process_time()}))


@contextmanager
def template(root: Path) -> Generator[Path]:
    """A copy of the checkout to take further copies from, with its compiled files.

    Raises:
        RuntimeError: the tests of the checkout cannot be collected.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "template"
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, copy / name)
        for name in BESIDE:
            if (root / name).is_file():
                shutil.copy2(root / name, copy / name)
        every = Round(tuple(folder for folder in FOLDERS if (copy / folder).is_dir()))
        compiled = _wait(start(root, copy, None, Selection((every,)), how="compiled"))
        if compiled.verdict != "survived":
            raise RuntimeError(f"the tests cannot be collected, without a mutant: {compiled.by}")
        # what was derived meanwhile, else no test that is traced would be seen to derive it
        shutil.rmtree(copy / KEPT.parent, ignore_errors=True)
        yield copy


def start(
    root: Path,
    copy: Path,
    mutant: Mutant | None,
    tests: Selection,
    before: Outcome | None = None,
    *,
    how: How = "",
) -> Running:
    """Fork a process in which a mutant meets the first round of its tests.

    Args:
        root: of the checkout.
        copy: of the checkout, from `template`.
        mutant: None for the code as it is.
        tests: what is left to meet.
        before: what became of it in the rounds before.
        how: "compiled" if the tests are only collected, in `copy` itself, to keep what is compiled
            for that; "traced" if what they run is noted.
    """
    number = len(list(copy.parent.iterdir()))
    place = Path(tempfile.mkdtemp(prefix=f"{number}-", dir=copy.parent))
    there = copy if how == "compiled" else place / "checkout"
    if how != "compiled":
        shutil.copytree(copy, there, copy_function=os.link)
    if mutant is not None:
        module = there / mutant.path
        module.unlink()  # the link, not the file it shares
        module.write_text(mutant.text, encoding="utf-8")
        # Python would take what is compiled of a file of the same size and second
        for compiled in (module.parent / "__pycache__").glob(f"{module.stem}.*.pyc"):
            compiled.unlink()
    if not how and (mutant is None or mutant.room != "analysis"):  # derived as it was
        (root / KEPT).mkdir(parents=True, exist_ok=True)
        (there / KEPT.parent).mkdir(exist_ok=True)
        (there / KEPT).symlink_to(root / KEPT, target_is_directory=True)
    note = place / "note.json"
    pid = os.fork()
    if not pid:
        _meet(there, tests, note, place / "log.txt", how)
    return Running(pid, mutant, tests, before, place, time.monotonic())


def _meet(there: Path, tests: Selection, note: Path, log: Path, how: How) -> None:
    """Run the tests in this process, a forked one, and end it."""
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        os.setsid()
        os.chdir(there)
        stream = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        gc.freeze()  # what was there before the fork is no garbage: do not look through it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        limit = int(time.process_time()) + (TRACE if how else IMPORT)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        sys.dont_write_bytecode = how != "compiled"
        for name in list(sys.modules):
            if name.partition(".")[0] in COPIED:
                del sys.modules[name]
        sys.path[:] = [str(there), *(place for place in sys.path if place)]
        plugin = Tracer(there, note) if how == "traced" else Nearest(tests, note)
        arguments = ["-q", *([] if how == "traced" else ["-x"])]
        arguments += ["-m", "not slow", "--tb=short", "--hypothesis-profile=gate"]
        arguments += ["-p", "no:cacheprovider", "-p", "no:xdist", "-c", "pyproject.toml"]
        # that Hypothesis is imported already
        arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        arguments += ["--rootdir=.", *(["--collect-only"] if how == "compiled" else [])]
        code = int(pytest.main([*arguments, *tests.rounds[0].paths], plugins=[plugin]))
        plugin.write(code)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


@dataclass(frozen=True)
class Running:
    """A process in which a mutant meets its tests."""

    pid: int
    mutant: Mutant | None
    tests: Selection
    before: Outcome | None
    place: Path
    began: float

    def outcome(self) -> Outcome | None:
        """Return the outcome once the process has ended, and clear up; None before."""
        late = time.monotonic() - self.began > WALL * (IMPORT + BUDGET + PER_TEST)
        if late:
            os.killpg(self.pid, signal.SIGKILL)
        pid, status = os.waitpid(self.pid, 0 if late else os.WNOHANG)
        if not pid:
            return None
        note = self.place / "note.json"
        said = json.loads(note.read_text()) if note.exists() else {}
        tests, seconds = said.get("tests", 0), said.get("seconds", 0.0)
        if self.before is not None:
            tests, seconds = tests + self.before.tests, seconds + self.before.seconds
        if os.WIFSIGNALED(status):
            by = said.get("running", "the import")
            slow = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
            found = Outcome("timed out" if slow else "killed", by, tests, seconds)
        elif said.get("failed"):
            found = Outcome("killed", said["failed"], tests, seconds)
        elif trace := said.get("trace"):  # also of tests that fail, because tracing takes time
            found = Outcome("survived", "", tests, seconds, trace)
        elif said.get("code") in (0, pytest.ExitCode.NO_TESTS_COLLECTED):  # all may be slow
            found = Outcome("survived", "", tests, seconds)
        else:
            log = (self.place / "log.txt").read_text(encoding="utf-8")
            found = Outcome("void", "\n".join(log.splitlines()[-5:]), tests, seconds)
        shutil.rmtree(self.place)
        return found


def outcomes(
    root: Path,
    copy: Path,
    jobs: Iterable[tuple[Mutant | None, Selection]],
    workers: int,
    how: How = "",
) -> Iterator[tuple[Mutant | None, Selection, Outcome]]:
    """Yield what becomes of each mutant, as it is known; `workers` of them meet tests at a time."""
    waiting, running = iter(jobs), list[tuple[Selection, Running]]()
    try:
        while True:
            while len(running) < workers and (job := next(waiting, None)) is not None:
                running.append((job[1], start(root, copy, *job, how=how)))
            if not running:
                return
            for whole, one in list(running):
                if (found := one.outcome()) is None:
                    continue
                running.remove((whole, one))
                if found.verdict == "survived" and one.tests.rest.rounds:
                    further = start(root, copy, one.mutant, one.tests.rest, found, how=how)
                    running.append((whole, further))
                elif found.verdict == "survived" and not found.tests:
                    yield one.mutant, whole, replace(found, verdict="void", by="no test ran")
                else:
                    yield one.mutant, whole, found
            time.sleep(0.05)
    finally:
        for _, one in running:
            os.killpg(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)


def _wait(one: Running) -> Outcome:
    while (found := one.outcome()) is None:
        time.sleep(0.05)
    return found


def _source(item: pytest.Item) -> str:
    """Return the text of a test; of a property that of what Hypothesis calls."""
    function = getattr(item, "function", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return "" if function is None else inspect.getsource(function)
