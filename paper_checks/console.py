"""What the command lines of this project share: how they start, and how they end early."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

import typer

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130


def stop(message: str, code: int) -> NoReturn:
    """Print one red message (plain when not on a terminal) and end with `code`."""
    typer.secho(message, fg=typer.colors.RED, err=True)
    raise typer.Exit(code)


def start(app: typer.Typer, name: str) -> None:
    """Run the command line `name`; SIGTERM ends it as cleanly as Ctrl-C.

    To be called before torch is imported. The batches are small: more threads gain nothing on an
    idle machine, and on a busy one they wait for each other (ten times slower).
    """
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app(prog_name=name)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
