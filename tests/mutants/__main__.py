"""`python -m tests.mutants`: plant a sample of mutants, print who survived, and end with 1 if any.

What is known is kept in `mutants.jsonl` and reused while module, tests and all they stand on are
unchanged, so that a run can be stopped and taken up again, or a larger one built on a smaller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from paper_checks import store

from . import code, report, sample
from .mutant import Mutant
from .nearest import Checkout, Selection
from .run import outcomes

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console(soft_wrap=True, highlight=False, markup=False)


@app.command()
def mutants(
    count: Annotated[int, typer.Option(help="Mutants, half of them mathematical.", min=2)] = 500,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    workers: Annotated[int, typer.Option(help="Mutants at a time.", min=1)] = 2,
    out: Annotated[Path, typer.Option(help="Folder for mutants.jsonl.")] = Path("out"),
    only: Annotated[str, typer.Option(metavar="PATH", help="Modules that begin so.")] = "",
) -> None:
    """Plant faults in analysis and solvers, one at a time, and see whether tests notice."""
    modules = sample.texts(store.ROOT, only)
    if not modules:
        raise typer.BadParameter(f"no module of analysis or solvers begins with {only!r}")
    chosen = chain(
        islice(sample.mathematical(modules, seed), count // 2),
        islice(sample.of_code(modules, seed), count - count // 2),
    )
    results = list(_judged(chosen, modules, out / "mutants.jsonl", workers))
    doubtful = _doubtful(results, workers)
    for one in results:
        if one.verdict in ("survived", "void"):
            console.print(report.told(one))
    console.print(report.table(results))
    within, statements = map(
        sum, zip(*(code.reach(*item) for item in modules.items()), strict=True)
    )
    console.print(f"faults of code reach {within} of {statements} statements")
    for said in doubtful:
        console.print(f"fails without a mutant, so that its kills count for nothing: {said}")
    if doubtful or not report.enough(results):
        raise typer.Exit(1)


def _judged(
    chosen: Iterable[Mutant], modules: sample.Texts, path: Path, workers: int
) -> Iterator[report.Known]:
    """Yield each mutant with its outcome, which is kept in `path` as soon as it is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept, why, checkout = report.read(path), report.reasons(), Checkout(store.ROOT)
    keys: dict[str, str] = {}

    def jobs() -> Iterator[tuple[Mutant, Selection]]:
        for mutant in chosen:
            tests = checkout.nearest(mutant)
            keys[mutant.name] = key = _key(mutant, checkout.digest(tests.files))
            if key not in kept:
                yield mutant, tests

    with path.open("a", encoding="utf-8") as file:
        for mutant, found in outcomes(store.ROOT, jobs(), workers):
            assert mutant is not None
            one = report.known(keys[mutant.name], mutant, modules[mutant.path], found)
            kept[one.key] = one
            if one.verdict != "void":
                file.write(report.line(one))
                file.flush()
            console.print(f"{one.verdict:9} {one.path}:{one.line} {one.operator}  {one.by}")
    for key in keys.values():
        one = kept[key]
        yield replace(one, reason=why.get((one.path, one.before, one.after), ""))


def _key(mutant: Mutant, tests: str) -> str:
    return hashlib.sha256(f"{mutant.name} {tests}".encode()).hexdigest()


def _doubtful(results: list[report.Known], workers: int) -> list[str]:
    """Return what fails of the tests that noticed a mutant when there is none."""
    by_file: dict[str, set[str]] = {}
    for one in results:
        if one.verdict in ("killed", "timed out") and one.by.startswith("tests/"):
            by_file.setdefault(one.by.partition("::")[0], set()).add(one.by)
    jobs = ((None, Selection((tuple(sorted(names)),))) for _, names in sorted(by_file.items()))
    return [
        found.by for _, found in outcomes(store.ROOT, jobs, workers) if found.verdict != "survived"
    ]


if __name__ == "__main__":
    app(prog_name="python -m tests.mutants")
