"""A limit on the processor time of a test, which names the test and what it was given.

A wrong solver may have no maximum to find: solves and searches then go on and on. The limit is in
processor time, so that a busy machine fails no test.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_WIDTH = 380  # of a line: the gate's message shows 400
_TESTS = str(Path(__file__).parent)


class TimeLimitError(BaseException):
    """A test took more processor time than it may.

    No `Exception`: nothing catches it on its way, and Hypothesis does not try the example again.
    """


@contextmanager
def processor_time(seconds: float, test: str) -> Generator[None]:
    """Stop the block once it has taken `seconds` of processor time.

    Raises:
        TimeLimitError: naming the test, its inputs, and the line it had reached.
    """

    def stop(_: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code.co_name == "gc_callback":
            # Hypothesis's, called by the garbage collector, which swallows errors: a little later
            signal.setitimer(signal.ITIMER_PROF, 0.01, 1.0)
            return
        raise TimeLimitError(
            f"{test} fails: it has taken the {seconds:g} s of processor time that it may take; "
            f"what it looks for may not exist\n{_where(frame)}"
        )

    before = signal.signal(signal.SIGPROF, stop)
    # then every second, should a callback from compiled code have swallowed the error
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _where(frame: FrameType | None) -> str:
    """Return what the test function was called with, and the functions of `tests` it is in."""
    inputs, calls = "", list[str]()
    while frame is not None:
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        of_tests = code.co_filename.startswith(_TESTS)
        if of_tests and names:  # Hypothesis puts a function without arguments around a test
            inputs = ", ".join(f"{name}={frame.f_locals.get(name)!r}" for name in names)
        if not calls or (of_tests and names):
            calls.append(f"{code.co_name}, {Path(code.co_filename).name}:{frame.f_lineno}")
        frame = frame.f_back
    lines = [f"  inputs   {inputs}", *(f"  in       {call}" for call in calls)]
    return "\n".join(line[:_WIDTH] for line in lines)
