"""The experiments, one module each: frozen `Settings` and `run(settings) -> table`."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called by an experiment as `progress(description, completed, total)`."""

# Figures were once called by letters. Who still does is told the name.
FORMER = {
    "a": "figure-2",
    "b": "figure-1",
    "c": "full-covariance",
    "d": "tables-1-2",
    "f": "hypergradient-error",
    "g": "outer-paths",
    "h": "overshoot",
    "r": "wrong-covariance",
}
