"""Shape checks, off for long runs: they take half of the time of a training loop."""

from collections.abc import Generator
from contextlib import contextmanager

import jaxtyping


@contextmanager
def unchecked() -> Generator[None]:
    """Run without the shape checks of `conftest.py`, which a shorter run of the same code has had.

    For tables that are made to be looked at: a loop only repeats the shapes of its first steps.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
