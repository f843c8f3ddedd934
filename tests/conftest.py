"""Set-up of every test process: Hypothesis profiles, shape checks in solvers, threads, the gate."""

import importlib.util
import os
from collections.abc import Generator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests import limits, shapes

# Select another with --hypothesis-profile. Derandomised: the same code gives the same verdict.
# One bug per report, so that the message holds one set of drawn inputs.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=100,
    print_blob=True,
    report_multiple_bugs=False,
)
# It stands before the figures: the first inputs that fail are shown as they are, not simplified.
# An example may take seconds, and simplifying tries hundreds.
settings.register_profile(
    "gate",
    settings.get_profile("default"),
    max_examples=25,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
# Fresh random problems on every run, to look for what the fixed ones miss.
settings.register_profile(
    "thorough", settings.get_profile("default"), derandomize=False, max_examples=1000
)
# The same for the fuzz of public functions, whose examples are many and cheap: see `make fuzz`.
settings.register_profile(
    "fuzz", settings.get_profile("default"), derandomize=False, max_examples=2000
)
settings.load_profile("default")

# SymPy keeps 1000 results per function, fewer than a derivation takes: with more it takes a fifth
# less. Read when it is first imported, by torch or by analysis.
os.environ.setdefault("SYMPY_CACHE_SIZE", "20000")

# Workers share the cores among themselves; more threads in each would only compete.
if "PYTEST_XDIST_WORKER" in os.environ:
    import torch

    torch.set_num_threads(1)

SECONDS, PER_EXAMPLE = 15.0, 1.0  # of processor time that a test of the gate may take

# The gate goes from what is quick and names a fault closely to what is slow and sees it from afar.
ORDER = (
    "tests/gate/test_data.py",
    "tests/solvers/test_gaussian_law.py",
    "tests/solvers/test_shapes_of_laws.py",
    "tests/gate/test_gaussian.py",
    "tests/gate",
    "tests/solvers",
    "tests/checks",
    "tests/gate/test_bilevel.py",
    "tests",
)

# Where the gate's workers tell each other of a failure: xdist lets them finish what they have.
STOP = Path(os.environ["GATE_STOP"]) if "GATE_STOP" in os.environ else None


def pytest_configure(config: pytest.Config) -> None:
    """Share derivations among the workers; check the jaxtyping shapes of the solvers.

    Not the shapes in the gate alone: it compares values, whether beartype is installed or not
    (`make figures` installs none). All its tests run with checked shapes in `make test`.
    """
    # By name: test files without derivations do not stand on them (see paper_checks.imports).
    kept = import_module("analysis.kept")
    kept.keep_in(config.rootpath / ".pytest_cache" / "derivations")
    if config.option.markexpr != "gate" and importlib.util.find_spec("beartype"):
        shapes.check_shapes("solvers")


@pytest.fixture(scope="module")
def as_users_run() -> Generator[None]:
    """Without the shape checks, which would speak up before the solvers do."""
    with shapes.unchecked():
        yield


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import, for the gate alone, files that have no test of it."""
    if config.option.markexpr != "gate" or not collection_path.name.startswith("test_"):
        return None
    return "mark.gate" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the gate in its order."""
    if config.option.markexpr == "gate":
        items.sort(key=lambda item: rank(item.nodeid))


def rank(nodeid: str) -> int:
    """Return the place in `ORDER` of the longest prefix of a test's path."""
    return max(range(len(ORDER)), key=lambda i: len(ORDER[i]) * nodeid.startswith(ORDER[i]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell the other workers of the gate that a test has failed."""
    if report.failed and STOP is not None:
        STOP.touch()


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run no test of the gate after one that failed in another worker."""
    if STOP is None or not STOP.exists():
        return None
    item.session.shouldstop = "a test of another worker has failed"
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Stop a test of the gate at its limit, which grows with the number of examples."""
    if item.get_closest_marker("gate") is None:
        return (yield)
    with limits.processor_time(SECONDS + PER_EXAMPLE * settings().max_examples, item.nodeid):
        return (yield)
