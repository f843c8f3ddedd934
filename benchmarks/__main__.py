"""`python -m benchmarks`: measure, print a table, write `bench.json`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import names, unit
from benchmarks.measure import Record, to_json
from paper_checks import store

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
# A file is as wide as the table; a terminal folds what does not fit and cuts nothing.
console = Console(width=None if sys.stdout.isatty() else 120)


@app.command()
def benchmarks(
    out: Annotated[Path, typer.Option(help="Folder for bench.json.")] = Path("out"),
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Repeat for more.")
    ] = None,
) -> None:
    """Measure the numbers the project promises, and write them to `bench.json`."""
    chosen = list(dict.fromkeys(only or names.ALL))
    if unknown := [name for name in chosen if name not in names.ALL]:
        raise typer.BadParameter(f"no benchmark {unknown[0]!r}; there are: {', '.join(names.ALL)}")
    try:
        store.Store.open(out)
    except store.StoreError as error:
        raise typer.BadParameter(str(error)) from error
    # As the figures: one thread unless asked otherwise.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    begun = time.perf_counter()
    with console.status("measuring the unit ..."):
        one = unit.seconds()
    console.print(f"unit: {_number(one)} s", highlight=False)
    records: dict[str, Record] = {}
    for name in chosen:
        with console.status(f"measuring {name} ..."):
            records[name] = _measure(name)
        value = records[name].value
        console.print(f"{name}: {'failed' if value is None else _number(value)}", highlight=False)
    store.write_text(out / "bench.json", to_json(records, one))
    console.print(_table(records, one, time.perf_counter() - begun))
    if any(record.value is None for record in records.values()):
        raise typer.Exit(1)


def _measure(name: str) -> Record:
    """Run one benchmark; one that cannot run says why and leaves the others their turn."""
    try:
        return names.ALL[name]()
    except RuntimeError as error:  # a process or the gate failed
        return Record(None, "", note=str(error))


def _table(records: dict[str, Record], unit: float, spent: float) -> Table:
    versions = ", ".join(f"{name} {version}" for name, version in store.versions().items())
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    table = Table(
        caption=f"times in seconds, and in units of {_number(unit)} s, as their targets are; "
        f"measured in {spent / 60:.1f} min\n"
        f"load {load}; {os.cpu_count()} CPUs, {torch.get_num_threads()} torch threads\n"
        f"{versions}",
    )
    for heading in ("name", "value", "units", "target", "peer", "how"):
        numeric = heading in ("value", "units", "target", "peer")
        table.add_column(
            heading, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
        )
    for name, record in records.items():
        style = {True: "green", False: "red", None: ""}[record.met(unit)]
        bound = "≥" if record.unit == "x" else "≤"
        target = "" if record.target is None else f"{bound} {_number(record.target)}"
        peer = "" if record.peer is None else f"{_number(record.peer)} s"
        value = "-" if record.value is None else f"{_number(record.value)} {record.unit}"
        units = "" if (share := record.units(unit)) is None else _number(share)
        table.add_row(name, value, units, target, peer, record.note, style=style)
    return table


def _number(value: float) -> str:
    return f"{value:.3g}"


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
