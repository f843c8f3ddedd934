"""A progress bar for work that turns out to be long, on terminals only."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds before the bar appears: what is quick stays silent

Tick = Callable[[int, str], None]
"""`tick(done, text)`: how many steps are done, and what is going on; cheap enough to call often."""


@contextmanager
def bar(description: str, total: int, *, silent: bool = False) -> Generator[Tick]:
    """Show a bar on standard error, once `PATIENCE` has passed, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    silent = silent or not console.is_terminal
    progress = Progress(*columns, console=console, transient=True, disable=silent)
    task = progress.add_task(description, total=total, text="")
    begun = time.monotonic()
    shown = False

    def tick(done: int, text: str) -> None:
        nonlocal shown
        if not shown and not silent and time.monotonic() - begun > PATIENCE:
            progress.start()
            shown = True
        if shown:
            progress.update(task, completed=done, text=text)

    try:
        yield tick
    finally:
        progress.stop()
