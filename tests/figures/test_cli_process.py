"""The command line as a process: signals, and what an unchanged run imports."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from figures import catalogue, pipeline
from figures.venues import Venue
from paper_checks import gate, store

SLEEPS = """
import signal, sys, time
from types import ModuleType
from figures import __main__ as cli, catalogue
def run(settings, *, seed, progress):
    progress("sleeping", 0, 1)
    time.sleep(60)
spec = catalogue.FigureSpec("T", "", 60)
fake = sys.modules[spec.experiment] = sys.modules[spec.drawing] = ModuleType("fake")
fake.run, fake.Settings = run, lambda: spec
catalogue.CATALOGUE = (spec,)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell ran with &
cli.main()
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_with_130(tmp_path, kind):
    command = [sys.executable, "-u", "-c", SLEEPS, "T", "--unverified", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=store.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "sleeping" in process.stdout.readline()
        process.send_signal(kind)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("options", "picture"),
    [
        ([], pipeline.Picture(catalogue.find("figure-1"))),
        (
            ["--quick", "--venue", "jmlr"],
            pipeline.Picture(catalogue.find("figure-1"), quick=True, venue=Venue.jmlr),
        ),
    ],
)
def test_unchanged_run_imports_neither_torch_nor_matplotlib(tmp_path, options, picture):
    """Prepare the records of a finished run, then look at what a second one imports."""
    place = store.Store.open(tmp_path)
    written = [place.save_text(place.figures, f"{picture.name}.{e}", "") for e in ("pdf", "png")]
    record = {
        "fingerprint": pipeline.fingerprint(picture),
        "files": [path.relative_to(tmp_path).as_posix() for path in written],
    }
    place.save_text(place.figures, f"{picture.name}.json", json.dumps(record))
    passed = {"digest": gate.digest(), "tests": 1, "seconds": 1.0, "date": "today"}
    place.save_text(place.root, "gate.json", json.dumps(passed))

    arguments = ["figure-1", *options, "--out", os.fspath(tmp_path)]
    script = (
        "import sys; from figures import __main__ as cli\n"
        f"cli.app({arguments!r}, standalone_mode=False)\n"
        "print(sorted({'torch', 'matplotlib', 'pandas', 'sympy'} & set(sys.modules)))"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=store.ROOT, capture_output=True, text=True, check=True
    )
    assert "unchanged" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]", f"{done.stdout} in {time.monotonic() - start} s"
