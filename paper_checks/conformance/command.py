"""``python -m paper_checks conform package.module:function``: test a solver of your own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import BAD_USAGE, FAILED, stop
from . import EXAMPLES
from .foreign import where

if TYPE_CHECKING:
    from .report import Report


class TargetError(ValueError):
    """What was named is not a function that can be imported."""


def conform_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE.MODULE:FUNCTION", help="Your solver; the current folder is searched."
        ),
    ],
    examples: Annotated[int, typer.Option(min=1, help="Random problems per identity.")] = EXAMPLES,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random problems.")] = 0,
) -> None:
    """Hold a solver of your own against the derivations: which identities fail, and where?"""
    from .harness import conform
    from .signatures import UnknownSignature, recognise

    try:
        function = load(target)
        kind = recognise(function).signature
    except (TargetError, UnknownSignature) as error:
        stop(str(error), BAD_USAGE)
    typer.echo(f"checking {target} as {kind.kind} {kind.text} ...")
    report = conform(function, examples=examples, seed=seed)
    _print(report)
    if not report.passed:
        raise typer.Exit(FAILED)


def load(target: str) -> Callable[..., Any]:
    """Return the function that `package.module:function` names.

    Raises:
        TargetError: it cannot be imported or called; the message says what to pass.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise TargetError(f"{target!r} names no function: pass package.module:function")
    if (here := os.getcwd()) not in sys.path:  # as `python -m` does, for other ways to start
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises
        lines = [
            f"importing {module_name} raised {type(error).__name__}: {error}",
            where(error),
            "pass package.module:function, importable from the current folder",
        ]
        raise TargetError("\n".join(filter(None, lines))) from error
    try:
        function: Any = reduce(getattr, path.split("."), module)
    except AttributeError as error:
        own = [name for name, value in vars(module).items() if callable(value)]
        public = ", ".join(name for name in own if not name.startswith("_")) or "none"
        raise TargetError(f"{error}: pass one of its functions ({public})") from error
    if not callable(function):
        raise TargetError(f"{target} is {type(function).__name__}, not a function: pass one")
    return function


def _print(report: Report) -> None:
    """Print a table of the rows, then what failed."""
    from rich.console import Console
    from rich.table import Table

    table = Table("identity", "covariance", "examples", "result")
    for row in report.rows:
        verdict = "[green]holds[/]" if row.passed else "[red]FAILS[/]"
        table.add_row(row.identity, row.structure, str(row.examples), verdict)
    Console().print(table)
    if not report.passed:
        typer.echo(f"\n{report.because}")
    for row in report.failures:
        typer.echo(f"\n{row.message}")
