"""A test of the gate that never ends is stopped at its limit and named."""

import gc
import re
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ORDER, rank
from tests.limits import TimeLimitError, processor_time


def forever(lam: float) -> None:
    """A search without an end, whose steps are caught as solvers do."""
    while lam:
        try:
            sum(range(1000))
        except Exception:
            continue


def test_the_test_its_inputs_and_the_place_are_named():
    start = time.process_time()
    with (
        pytest.raises(TimeLimitError, match=r"test_reaches fails: .* the 0.2 s") as caught,
        processor_time(0.2, "test_reaches"),
    ):
        forever(lam=0.25)
    assert time.process_time() - start < 5
    assert re.search(r"in       forever, test_limits.py:\d+", str(caught.value))
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL


def test_a_drawn_example_is_tried_once_and_shown():
    tried: list[float] = []

    @settings(max_examples=10)
    @given(lam=st.floats(0.5, 2.0))
    def search(lam: float) -> None:
        tried.append(lam)
        forever(lam)

    # Before the first example Hypothesis collects garbage, in a worker full of formulas for long.
    with pytest.raises(TimeLimitError) as caught, processor_time(2.0, "search"):
        search()
    assert len(tried) == 1
    assert f"inputs   lam={tried[0]}" in str(caught.value)
    assert "in       search, test_limits.py" in str(caught.value)


def test_a_callback_of_the_garbage_collector_is_not_interrupted():
    seen: list[str] = []

    def busy(phase: str, _: dict[str, int]) -> None:
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        seen.append(phase)

    def collect() -> None:
        busy("start", {})  # as the collector calls it; finalizers of a real one swallow errors too
        forever(1.0)

    gc.disable()
    gc.callbacks.append(busy)
    try:
        with pytest.raises(TimeLimitError, match="collecting"), processor_time(0.05, "collecting"):
            collect()
    finally:
        gc.callbacks.remove(busy)
        gc.enable()
    assert seen == ["start"]


def test_what_ends_in_time_is_left_alone():
    with processor_time(60, "quick"):
        sum(range(1000))
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_the_gate_begins_with_what_names_a_fault_closely():
    files = [
        "gate/test_data.py",
        "gate/test_gaussian.py",
        "gate/test_unrolled.py",
        "solvers/test_inner.py",
        "gate/test_bilevel.py",
    ]
    ranks = [rank(f"tests/{file}::test") for file in (*files, "analysis/test_derivations.py")]
    assert ranks == sorted(set(ranks))
    assert ranks[-1] == len(ORDER) - 1
