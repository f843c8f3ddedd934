"""The paper's experiments, one module each: frozen `Settings` and `run(settings) -> table`."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called by an experiment as `progress(description, completed, total)`."""
