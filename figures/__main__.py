"""``python -m figures``: verify, then draw."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import check_rooms

try:
    check_rooms()
except ImportError as error:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(2) from error

from paper_checks import gate, store
from paper_checks.console import (
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
from paper_checks.experiments import Progress

from . import catalogue, pipeline, venues
from .venues import Venue

# What the project itself raises on bad input; anything else is a bug and keeps its traceback.
OWN_PACKAGES = {"analysis", "solvers", "paper_checks", "figures"}

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Format(StrEnum):
    """File formats of a picture."""

    pdf = "pdf"
    png = "png"


@app.command()
def figures(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMES]...", help="Figures to draw; none: all.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results and figures.")] = Path("out"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the experiments.")] = 0,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="Repeat for more; none: both.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the figures and stop.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller experiments, for a first look; marked as such.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Longer protocols: tables-1-2, table-3.")
    ] = False,
    venue: Annotated[Venue, typer.Option(help="Where to appear: text width, font sizes.")] = (
        venues.DEFAULT
    ),
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Skip the gate; adds a watermark.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Your own CSV table, for wrong-covariance."),
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Columns of --data to predict, cut at commas: a,b")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="One such column, commas and all; repeat for more."),
    ] = None,
    sep: Annotated[str, typer.Option(help="Between cells of --data; '\\t' is a tab.")] = ",",
    encoding: Annotated[str, typer.Option(help="Of --data.")] = "utf-8",
    decimal: Annotated[str, typer.Option(help="Decimal sign of --data: . or ,")] = ".",
    na_values: Annotated[
        list[str] | None,
        typer.Option(help="A cell that means missing, besides the empty one; repeat for more."),
    ] = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    device: Annotated[
        str | None, typer.Option(help="Of torch, to train the networks of table-3 on: cuda.")
    ] = None,
) -> None:
    """Verify formulas and solvers against each other, then draw; what is unchanged is reused."""
    if list_:
        for spec in catalogue.CATALOGUE:
            typer.echo(f"{spec.name:<30}{spec.title} ({spec.time})")
        return
    chosen = [entry.value for entry in dict.fromkeys(formats or Format)]
    check_engine(engine, address)
    try:
        if "MPLBACKEND" in os.environ:
            pipeline.check_backend()
        specs = _chosen(names, data)
        if device is not None:
            _check_device(specs, device)
        sep = sep.replace("\\t", "\t")
        columns = _targets(data, targets, target or [], sep, encoding)
        own = None
        if data is not None:
            missing = tuple(na_values or ())
            own = pipeline.OwnTable(data, columns, sep, encoding, decimal, missing)
        elif (sep, encoding, decimal) != (",", "utf-8", ".") or na_values:
            raise typer.BadParameter("--sep, --encoding, --decimal, --na-values are about --data")
        if quick and full:
            raise typer.BadParameter("pass --quick or --full, not both")
        pictures = [
            pipeline.Picture(spec, seed, own, not unverified, quick, venue, full, device or "cpu")
            for spec in specs
        ]
        place = store.Store.open(out)
        for picture in pictures:
            pipeline.check(place, picture, chosen)
        verdict = pipeline.UNVERIFIED if unverified else _verify(place)
        for picture in pictures:
            _make(place, picture, verdict, chosen, (engine, address))
    except gate.GateFailed as error:
        stop(str(error), FAILED)
    except store.StoreError as error:
        stop(str(error), BAD_USAGE)
    except (ValueError, TypeError) as error:
        if type(error).__module__.partition(".")[0] not in OWN_PACKAGES:
            raise
        stop(str(error), BAD_USAGE)
    except KeyboardInterrupt:
        stop("interrupted; every file already written is complete", INTERRUPTED)


def _chosen(names: list[str] | None, data: Path | None) -> Sequence[catalogue.FigureSpec]:
    """Return the figures, after checking them against the catalogue."""
    try:
        specs = (
            [catalogue.find(name) for name in dict.fromkeys(names)]
            if names
            else catalogue.CATALOGUE
        )
    except catalogue.UnknownFigure as error:
        raise typer.BadParameter(str(error)) from error
    if data is not None and (len(specs) != 1 or not specs[0].takes_data):
        able = ", ".join(spec.name for spec in catalogue.CATALOGUE if spec.takes_data)
        raise typer.BadParameter(
            f"--data is for one figure alone that takes a table of your own: {able}"
        )
    return specs


def _check_device(specs: Sequence[catalogue.FigureSpec], device: str) -> None:
    if not all(spec.on_device for spec in specs):
        able = ", ".join(spec.name for spec in catalogue.CATALOGUE if spec.on_device)
        raise typer.BadParameter(f"--device is for figures that train networks: {able}")
    pipeline.check_device(device)


def _targets(
    data: Path | None, text: str | None, named: list[str], sep: str, encoding: str
) -> tuple[str, ...]:
    """Return the columns to predict: `named` as they are, or `text` cut at commas.

    Where a column has a comma in its name, a text with that name in it has two meanings.
    """
    if text is not None and named:
        raise typer.BadParameter("pass --targets a,b or --target a --target b, not both")
    cut = [name.strip() for name in text.split(",") if name.strip()] if text else []
    if (data is None) != (not cut and not named):
        raise typer.BadParameter(
            "--data FILE.csv and --targets a,b go together: the table and the columns to predict"
        )
    if data is not None and len(cut) > 1:
        from solvers.tasks import tables  # torch: only for a table of the user's own

        for column in tables.column_names(data, sep=sep, encoding=encoding):
            pieces = [piece.strip() for piece in column.split(",")]
            starts = range(len(cut) - len(pieces) + 1)
            if len(pieces) > 1 and any(cut[i : i + len(pieces)] == pieces for i in starts):
                raise typer.BadParameter(
                    f"--targets {text} may mean the column {column!r} or {pieces}: name each "
                    f"column by a --target of its own"
                )
    return tuple(cut or named)


def _verify(place: store.Store) -> str:
    """Pass the gate and return its digest."""
    passed = gate.recorded(place.root)
    if passed is None or passed.digest != gate.digest():
        typer.echo("verifying: cross-checks of formulas and solvers ...")
        passed = gate.run(place.root)
        typer.echo(f"verified: {passed.tests} cross-checks passed in {passed.seconds:.0f} s")
    else:
        typer.echo(f"verified before, nothing changed: {passed.tests} cross-checks ({passed.date})")
    return passed.digest


def _make(
    place: store.Store,
    picture: pipeline.Picture,
    verdict: str,
    formats: list[str],
    engine: tuple[EngineName, str | None],
) -> None:
    """Bring one picture up to date."""
    mark = pipeline.fingerprint(picture)
    if files := pipeline.current(place, picture, mark, formats):
        typer.echo(f"{picture.name}: unchanged: {', '.join(str(path) for path in files)}")
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from paper_checks.experiments import parallel  # torch: only where something is computed

    with _progress(picture.name) as progress, parallel.on(*engine):
        table = pipeline.table(place, picture, verdict, progress)
    caption, files = pipeline.save(
        place, picture, table, mark=mark, verdict=verdict, formats=formats
    )
    typer.echo(f"{picture.name}: {', '.join(str(path) for path in files)}\n{caption}")


@contextmanager
def _progress(name: str) -> Generator[Progress]:
    """Yield a progress callback: bars on a terminal, one line per stage elsewhere."""
    if not sys.stdout.isatty():
        seen: set[str] = set()

        def report(description: str, completed: int, total: int) -> None:
            if description not in seen:
                seen.add(description)
                typer.echo(f"{name}: {description} ({completed}/{total}) ...")

        yield report
        return

    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(description: str, completed: int, total: int) -> None:
            if description not in tasks:
                tasks[description] = bars.add_task(f"{name}: {description}", total=total)
            bars.update(tasks[description], completed=completed, total=total)

        yield advance


def main() -> None:
    """Run the command line."""
    start(app, "python -m figures")


if __name__ == "__main__":
    main()
