"""The gate: verify, then draw.

The cross-check property tests (``pytest -m gate``) run in a process of their own before any figure
is drawn. They pass if at least one ran and none failed, was skipped or was expected to fail. A pass
is written to ``gate.json`` and reused while code, tests and installed versions are unchanged.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from . import checkout, store

# This file is in: a stricter gate must not reuse the passes of a laxer one.
SOURCES = (
    "analysis",
    "solvers",
    "tests",
    "paper_checks/conformance",
    "paper_checks/experiments",
    "paper_checks/checkout.py",
    "paper_checks/gate.py",
    "paper_checks/statistics.py",
    "pyproject.toml",
)
LIBRARIES = (*store.NUMERICS, "hypothesis", "jaxtyping", "mpmath", "pytest", "pytest-xdist")
_SHOWN = 5
_LINES = 40
_WIDTH = 400


class GateFailed(RuntimeError):
    """The cross-checks did not all run and pass; the message shows each failing identity."""


@dataclass(frozen=True)
class GateResult:
    """A passed gate: what it covers, how many tests ran, how long they took, and when."""

    digest: str
    tests: int
    seconds: float
    date: str


def digest(root: Path = store.ROOT) -> str:
    """Return the SHA-256 of all the gate depends on: sources, tests, installed versions, Python."""
    parts = {"sources": store.digest_files(root, SOURCES), "versions": store.versions(LIBRARIES)}
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
        StoreError: ``gate.json`` cannot be written, or is not of this project.
    """
    checkout.check()
    recorded(out)  # what is not of the gate is not overwritten
    if not (root / "tests").is_dir():
        raise GateFailed(
            f"The gate has no tests: {root} is no checkout of the project. Get the sources and "
            f"install them with pip install -e, or skip the gate (--unverified)."
        )
    before = digest(root)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "gate.xml"
        command = [sys.executable, "-m", "pytest", "tests", "-m", "gate", "-n", str(workers)]
        command += ["--hypothesis-profile=gate", "-p", "no:cacheprovider", "--strict-markers"]
        # Configuration comes from files in the digest, not from a pytest.ini or conftest.py above.
        command += ["-c", "pyproject.toml", "--rootdir=.", "--confcutdir=tests"]
        # An expected failure that passes would look like a pass in the report: make it fail.
        command += ["-o", "xfail_strict=true", "--tb=short", "-q", f"--junitxml={report}"]
        done = subprocess.run(
            command,
            cwd=root,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    faults = [fault for case in cases if (fault := _fault(case))]
    if faults:
        raise GateFailed(_message(faults, len(cases)))
    if not cases and done.returncode in (0, 5):  # 5: pytest collected nothing
        raise GateFailed(
            f"The gate is empty: no test in {root / 'tests'} is marked `gate`: nothing is verified."
        )
    if not cases or done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LINES:])
        raise GateFailed(
            f"The gate could not run (pytest ended with status {done.returncode}):\n{tail}"
        )
    if digest(root) != before:
        raise GateFailed(
            "Sources changed while the gate was running, so its verdict means nothing; run again."
        )
    date = datetime.now(UTC).isoformat(timespec="seconds")
    result = GateResult(before, len(cases), round(time.monotonic() - start, 2), date)
    store.write_text(out / "gate.json", json.dumps(asdict(result), indent=2) + "\n")
    return result


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
        f"The gate failed: {len(faults)} of {total} cross-checks did not pass; no figure is drawn."
    )
    shown = [
        f"{identity}\n" + "\n".join("    " + line for line in why.splitlines())
        for identity, why in faults[:_SHOWN]
    ]
    rest = [f"and {identity}" for identity, _ in faults[_SHOWN:]]
    return "\n\n".join([head, *shown, *rest])
