"""The gate: verify, then draw.

The cross-check property tests (``pytest -m gate``) run in a process of their own before any figure
is drawn. They pass if at least one ran and none failed, was skipped or was expected to fail; the
first that does ends the run. A pass is written to ``gate.json`` and reused while code, tests and
installed versions are unchanged.

Where something changed, only the test files run again that import it: ``gate-files.json`` holds,
for each file that passed, the digest of itself and all it imports. SymPy's proofs import `analysis`
alone, so that no change elsewhere has them proved again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from . import checkout, imports, store

# This file is in: a stricter gate must not reuse the passes of a laxer one.
SOURCES = (
    "analysis",
    "solvers",
    "tests",
    "paper_checks",
    "pyproject.toml",
)
# Every test file stands on these, whatever it imports.
SHARED = ("tests/conftest.py", "paper_checks/gate.py", "paper_checks/imports.py")
CONFIGURATION = "pyproject.toml"
LIBRARIES = (*store.NUMERICS, "hypothesis", "jaxtyping", "pytest", "pytest-xdist")
FILES = "gate-files.json"
_SHOWN = 5
_LINES = 40
_WIDTH = 400


class GateFailed(RuntimeError):
    """The cross-checks did not all run and pass; the message shows each failing identity."""


@dataclass(frozen=True)
class GateResult:
    """A passed gate: what it covers, its number of tests, how long those that ran took, and when.

    Tests whose files and all they import are as they were when they passed are not run again.
    """

    digest: str
    tests: int
    seconds: float
    date: str


@dataclass(frozen=True)
class PassedFile:
    """A test file whose tests of the gate passed: what it stood on, and how many they were."""

    digest: str
    tests: int


def digest(root: Path = store.ROOT) -> str:
    """Return the SHA-256 of all the gate depends on: sources, tests, installed versions, Python."""
    return _digest(root, SOURCES)


def digests(root: Path = store.ROOT) -> dict[str, str]:
    """Return, for every test file of the gate, the SHA-256 of all that this file depends on.

    Raises:
        SyntaxError: a file is not Python.
    """
    shared = [path for name in SHARED if (path := root / name).is_file()]
    files = [
        path
        for path in sorted((root / "tests").rglob("test_*.py"))
        if "mark.gate" in path.read_text(encoding="utf-8")
    ]
    read: dict[Path, tuple[Path, ...]] = {}
    needed = {path: imports.closure(root, [path, *shared], read) for path in files}
    names = {
        path: [
            found.relative_to(root).as_posix() for found in (*needed[path], root / CONFIGURATION)
        ]
        for path in files
    }
    return {path.relative_to(root).as_posix(): _digest(root, names[path]) for path in files}


def _digest(root: Path, names: Iterable[str]) -> str:
    parts = {"sources": store.digest_files(root, names), "versions": store.versions(LIBRARIES)}
    return store.fingerprint(parts)


def ensure(out: Path, workers: int = 2, root: Path = store.ROOT) -> GateResult:
    """Return the recorded pass in `out` if nothing changed since, else run the gate.

    Raises:
        GateFailed, ForeignRoom, StoreError: as `run`.
    """
    passed = recorded(out)
    return passed if passed and passed.digest == digest(root) else run(out, workers, root)


def recorded(out: Path) -> GateResult | None:
    """Return the pass recorded in `out`, or None if there is none.

    Raises:
        StoreError: ``gate.json`` there is damaged, or not of this project.
    """
    kinds = {"digest": str, "tests": int, "seconds": float, "date": str}
    record = store.read_record(out / "gate.json", kinds)
    return None if record is None else GateResult(**{key: record[key] for key in kinds})


def run(out: Path, workers: int = 2, root: Path = store.ROOT) -> GateResult:
    """Run the gate tests of the checkout `root` and record a pass in ``out/gate.json``.

    Raises:
        GateFailed: a test failed, was skipped or expected to fail; none ran; sources changed; or
            there are no tests, as in an installation without the checkout.
        ForeignRoom: a folder of the user's own stands before one of the rooms.
        StoreError: a record cannot be written, or is not of this project.
    """
    checkout.check()
    recorded(out)  # what is not of the gate is not overwritten
    if not (root / "tests").is_dir():
        raise GateFailed(
            f"The gate has no tests: {root} is no checkout of the project. Get the sources and "
            f"install them with pip install -e, or skip the gate (--unverified)."
        )
    before, start = digest(root), time.monotonic()
    try:
        files = digests(root)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise GateFailed(f"The gate could not run: a file is not Python: {error}") from error
    kept = {
        path: passed for path, passed in _passed(out).items() if passed.digest == files.get(path)
    }
    ran = _run_files(root, [path for path in files if path not in kept], workers)
    if not ran and not kept:
        raise GateFailed(
            f"The gate is empty: no test in {root / 'tests'} is marked `gate`: nothing is verified."
        )
    if digest(root) != before:
        raise GateFailed(
            "Sources changed while the gate was running, so its verdict means nothing; run again."
        )
    passed = kept | {path: PassedFile(files[path], ran[path]) for path in files if path not in kept}
    record = {path: asdict(passed[path]) for path in files}
    store.write_text(out / FILES, json.dumps({"files": record}, indent=2) + "\n")
    date = datetime.now(UTC).isoformat(timespec="seconds")
    count, taken = sum(file.tests for file in passed.values()), time.monotonic() - start
    result = GateResult(before, count, round(taken, 2), date)
    store.write_text(out / "gate.json", json.dumps(asdict(result), indent=2) + "\n")
    return result


def _passed(out: Path) -> dict[str, PassedFile]:
    """Return the test files that passed, as recorded in `out`; what is no such record is left out.

    Raises:
        StoreError: ``gate-files.json`` there is damaged, or not of this project.
    """
    record = store.read_record(out / FILES, {"files": dict}) or {"files": {}}
    return {
        path: PassedFile(entry["digest"], entry["tests"])
        for path, entry in record["files"].items()
        if isinstance(entry, dict) and isinstance(entry.get("tests"), int) and "digest" in entry
    }


def _run_files(root: Path, files: list[str], workers: int) -> Counter[str]:
    """Run the gate tests in these files of the checkout `root`; return how many passed in each.

    Raises:
        GateFailed: a test failed, was skipped or expected to fail, or could not run.
    """
    if not files:
        return Counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "gate.xml"
        command = [sys.executable, "-m", "pytest", *files, "-m", "gate", "-n", str(workers)]
        command += ["--hypothesis-profile=gate", "-p", "no:cacheprovider", "--strict-markers"]
        # A worker keeps to its part, where it derives what is shared once, until it is through.
        command += ["--dist=worksteal", "--maxfail=1"]
        # Configuration comes from files in the digest, not from a pytest.ini or conftest.py above.
        command += ["-c", CONFIGURATION, "--rootdir=.", "--confcutdir=tests"]
        # An expected failure that passes would look like a pass in the report: make it fail.
        command += ["-o", "xfail_strict=true", "--tb=short", "-q", f"--junitxml={report}"]
        done = subprocess.run(
            command,
            cwd=root,
            env=_environment() | {"GATE_STOP": str(Path(folder) / "stop")},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    faults = [fault for case in cases if (fault := _fault(case))]
    if faults:
        raise GateFailed(_message(faults, len(cases)))
    if done.returncode not in ((0,) if cases else (0, 5)):  # 5: pytest collected nothing
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LINES:])
        raise GateFailed(
            f"The gate could not run (pytest ended with status {done.returncode}):\n{tail}"
        )
    modules = {path.removesuffix(".py").replace("/", "."): path for path in files}
    return Counter(modules[case.get("classname", "")] for case in cases)


def _environment() -> dict[str, str]:
    """Return the environment without what could hollow the gate: deselection, stripped asserts."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("PYTEST_") and k != "PYTHONOPTIMIZE"
    }
    return {**kept, "MPLBACKEND": "Agg"}


def _fault(case: ElementTree.Element) -> tuple[str, str] | None:
    """Return (identity, explanation) if the test case did anything but pass."""
    identity = "::".join(filter(None, (case.get("classname"), case.get("name"))))
    for verdict in case:
        if verdict.tag == "skipped":
            why = verdict.get("message") or verdict.text or "no reason given"
            return identity, f"skipped or expected to fail, which no test of the gate may be: {why}"
        if verdict.tag in ("failure", "error"):
            return identity, _essence(verdict.text or verdict.get("message") or "no message")
    return None


def _essence(report: str) -> str:
    """Return the lines that pytest marks with E: the assertion, Hypothesis's example."""
    every = report.splitlines()
    marked = [line[1:].removeprefix("   ") for line in every if line.startswith("E ")]
    lines = [line.rstrip()[:_WIDTH] for line in marked or every]
    if len(lines) > _LINES:
        cut = len(lines) - _LINES
        lines = [*lines[: _LINES // 2], f"[... {cut} lines ...]", *lines[-_LINES // 2 :]]
    return "\n".join(lines)


def _message(faults: list[tuple[str, str]], total: int) -> str:
    head = (
        f"The gate failed: {len(faults)} of {total} cross-checks that ran did not pass (the first "
        f"to fail ends the run); no figure is drawn."
    )
    shown = [
        f"{identity}\n" + "\n".join("    " + line for line in why.splitlines())
        for identity, why in faults[:_SHOWN]
    ]
    rest = [f"and {identity}" for identity, _ in faults[_SHOWN:]]
    return "\n\n".join([head, *shown, *rest])
