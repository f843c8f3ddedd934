"""`python -m benchmarks.league`: print both tables, write `league.json` and `tables/league.md`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.league import failures, libraries, problems, race
from benchmarks.league.failures import Outcome
from benchmarks.league.race import Row
from figures import tables
from paper_checks import store

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 140)


@app.command()
def league(
    out: Annotated[Path, typer.Option(help="Folder for league.json and tables/league.md.")] = Path(
        "out"
    ),
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PROBLEM", help="Repeat for more.")
    ] = None,
) -> None:
    """Measure hypergradients of several libraries against closed forms, and where they fail."""
    chosen = list(dict.fromkeys(only or problems.ALL))
    if unknown := [name for name in chosen if name not in problems.ALL]:
        raise typer.BadParameter(f"no problem {unknown[0]!r}; there are: {', '.join(problems.ALL)}")
    try:
        place = store.Store.open(out)
    except store.StoreError as error:
        raise typer.BadParameter(str(error)) from error
    # One processor for all, before a library counts them: XLA has no other way to be held to it.
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found, missing = libraries.load()
    for name, reason in missing.items():
        console.print(f"{name}: not imported, {reason}", highlight=False)
    outcomes = [failures.judge(case, library) for case in failures.cases() for library in found]
    rows: list[Row] = []
    for name in chosen:
        with console.status(f"racing on {name} ..."):
            rows += race.run(name, problems.ALL[name](), found)
        console.print(_shown(name, race_table([row for row in rows if row.problem == name])))
    silent = failure_table(outcomes)
    console.print(_shown("what each library makes of the smallest failing inputs", silent))
    versions = {library.name: library.version for library in found}
    load = os.getloadavg()
    store.write_text(out / "league.json", _json(rows, outcomes, versions, missing, load))
    head = [*(f"- {name}: {version}" for name, version in versions.items())]
    head += [f"- {name}: not imported, {reason}" for name, reason in missing.items()]
    text = "\n".join(head) + "\n\n" + tables.markdown(race_table(rows)) + "\n"
    store.write_text(place.tables / "league.md", text + tables.markdown(silent))
    console.print(
        f"one processor; load {', '.join(f'{value:.2f}' for value in load)}; "
        + "; ".join(versions.values()),
        highlight=False,
    )


def race_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return error and cost of every library: medians, in brackets least and most."""

    def three(values: tuple[float, float, float] | None, scale: float = 1.0) -> str:
        if values is None:
            return ""
        median, least, most = (f"{scale * value:.3g}" for value in values)
        return f"{median} [{least}, {most}]"

    return pd.DataFrame(
        {
            "problem": row.problem,
            "d": row.size,
            "library": row.library,
            "error": "" if row.error is None else f"{row.error:.1e}",
            "gradients": "" if row.gradients is None else str(row.gradients),
            "ms of processor": three(row.seconds, 1e3),
            "× bimle": three(row.ratio),
            "rounds": row.rounds or "",
            "note": row.note,
        }
        for row in rows
    )


def failure_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return one row for each library, one column for each case, with its input."""
    columns = {case.name: f"{case.name}: {case.input}" for case in failures.cases()}
    names = list(dict.fromkeys(outcome.library for outcome in outcomes))
    cells = {(outcome.library, outcome.case): str(outcome) for outcome in outcomes}
    return pd.DataFrame(
        {"library": name, **{head: cells[name, case] for case, head in columns.items()}}
        for name in names
    )


def _shown(title: str, data: pd.DataFrame) -> Table:
    table = Table(*(str(column) for column in data.columns), title=title)
    for row in data.itertuples(index=False, name=None):
        table.add_row(*(str(value) for value in row))
    return table


def _json(
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    versions: dict[str, str],
    missing: dict[str, str],
    load: tuple[float, float, float],
) -> str:
    whole = {
        "versions": versions | store.versions(("numpy", "torch")),
        "missing": missing,
        "load": load,
        "race": [asdict(row) for row in rows],
        "failures": [{**asdict(one), "silent": one.silent} for one in outcomes],
    }
    return json.dumps(whole, indent=2) + "\n"


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.league")
