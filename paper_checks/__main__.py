"""``python -m paper_checks``: does each claim hold? And ``conform``: does a solver of yours?"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import checkout, store
from .conformance.command import conform_command
from .console import (
    BAD_USAGE,
    FAILED,
    INTERRUPTED,
    AddressOption,
    EngineName,
    EngineOption,
    check_engine,
    start,
    stop,
)
from .explain import explain_command
from .report.command import report_command

# What imports torch and SymPy is imported where it is used: after `main` has set the threads.
if TYPE_CHECKING:
    from .claims.claim import Claim, Result

WIDTH = 100  # of the table, in a pipe or a file
VERDICTS = "claims.json"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("conform")(conform_command)
app.command("explain")(explain_command)
app.command("report")(report_command)

Report = Callable[["Result"], None]


@app.callback(invoke_without_command=True)
def checks(
    context: typer.Context,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="A claim, or how its name begins; repeatable."),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Print numbers and evidence of each; --only does too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and only JSON.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of problems and experiments.")] = 0,
    list_: Annotated[bool, typer.Option("--list", help="List the claims and stop.")] = False,
    out: Annotated[
        Path, typer.Option(help="Folder of results, as for the figures; for claims.json.")
    ] = Path("out"),
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
) -> None:
    """Judge every claim of the paper and of this project; 1 if one is not as expected.

    Runs of experiments are kept in OUT/results, the verdicts on all claims in OUT/claims.json.
    """
    try:
        checkout.check()
    except checkout.ForeignRoom as error:
        stop(str(error), BAD_USAGE)
    if context.invoked_subcommand is not None:
        return
    check_engine(engine, address)
    from .claims import catalogue, runs, table
    from .experiments import parallel

    try:
        claims = catalogue.select(catalogue.all_claims(), only or [])
    except catalogue.UnknownClaim as error:
        stop(str(error), BAD_USAGE)
    if list_:
        text = "\n".join(f"{claim.name}\n    {claim.statement}" for claim in claims)
        typer.echo(table.list_json(claims) if as_json else text)
        return
    try:
        place = store.Store.open(out)
        store.read_record(out / VERDICTS, {"seed": int, "claims": list})  # only ours is replaced
        with runs.kept_in(place), parallel.on(engine, address):
            results = _run(claims, seed)
        text = table.to_json(results, seed, store.provenance())
        if not only:  # a selection must not take the place of all
            store.write_text(out / VERDICTS, text + "\n")
    except store.StoreError as error:
        stop(str(error), BAD_USAGE)
    except KeyboardInterrupt:
        stop("interrupted; every table already written is complete", INTERRUPTED)
    if as_json:
        typer.echo(text)
    else:
        _print(results, details=details or bool(only))
    if not all(result.as_expected for result in results):
        raise typer.Exit(FAILED)


def _run(claims: Sequence[Claim], seed: int) -> list[Result]:
    """Judge the claims one after the other, telling stderr how far it is."""
    from .claims.claim import Result, judge

    results: list[Result] = []
    with _progress(claims) as report:
        for claim in claims:
            start = time.monotonic()
            judgement = judge(claim, seed)
            results.append(Result(claim, judgement, time.monotonic() - start))
            report(results[-1])
    return results


@contextmanager
def _progress(claims: Sequence[Claim]) -> Generator[Report]:
    """Yield what is called with each result: a bar on a terminal, one line per claim elsewhere."""
    if not sys.stderr.isatty():

        def tell(result: Result) -> None:
            verdict = result.judgement.verdict
            typer.echo(f"{result.claim.name}: {verdict} ({result.seconds:.1f} s)", err=True)

        yield tell
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    names = [claim.name for claim in claims]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(names[0], total=len(names))
        following = dict(zip(names, [*names[1:], "done"], strict=True))

        def advance(result: Result) -> None:
            bar.update(task, advance=1, description=following[result.claim.name])

        yield advance


def _print(results: Sequence[Result], *, details: bool) -> None:
    """Print a table and a line of counts; as wide as the terminal, or 100 columns."""
    from rich.console import Console

    from .claims import table

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table.shown(results) if details else table.overview(results))
    console.print(table.summary(results), highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line."""
    start(app, "python -m paper_checks")


if __name__ == "__main__":
    main()
