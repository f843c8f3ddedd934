"""Shape checks, off: where the solvers' own are tested, and for long runs.

They take half of the time of a training loop.
"""

from collections.abc import Generator
from contextlib import contextmanager

import jaxtyping


@contextmanager
def unchecked() -> Generator[None]:
    """Run without the shape checks of `conftest.py`, as users do.

    Also for tables that are made to be looked at, where a shorter run of the same code has had the
    checks: a loop only repeats the shapes of its first steps.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
