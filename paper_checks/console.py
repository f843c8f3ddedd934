"""What the command lines of this project share: how they start, and how they end early."""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from types import FrameType
from typing import Annotated, NoReturn

import typer

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130


class EngineName(StrEnum):
    """Where sweeps run: see `solvers.engine`."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="Where long experiments run: here, or on Ray.")
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="Of a Ray cluster, such as auto; none: one started here."),
]


def check_engine(engine: EngineName, address: str | None) -> None:
    """Raise `typer.BadParameter` if an address is given without the engine that has one."""
    if address is not None and engine is not EngineName.ray:
        raise typer.BadParameter(f"--address {address} is of a Ray cluster: add --engine ray")


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
