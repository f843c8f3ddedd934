"""`python -m tests.mutants`: plant a sample of mutants, print who survived, and end with 1 if any.

What is known is kept in `mutants.jsonl`, and which lines each test runs in `traces.jsonl`. Both are
reused while tests and all they stand on are unchanged, so that a run can be stopped and taken up
again, or a larger one built on a smaller. `record.jsonl` beside this file, once a whole run was
recorded, is what it found: what has changed since meets first the test that noticed it then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from paper_checks import store
from paper_checks.report.mutants import reasons

from . import code, report, run, sample, traced
from .mutant import Mutant
from .nearest import Checkout, Round, Selection

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console(soft_wrap=True, highlight=False, markup=False)


@app.command()
def mutants(
    count: Annotated[int, typer.Option(help="Mutants, half of them mathematical.", min=2)] = 500,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    workers: Annotated[int, typer.Option(help="Mutants at a time.", min=1)] = 2,
    out: Annotated[Path, typer.Option(help="Folder of what is known.")] = Path("out"),
    only: Annotated[str, typer.Option(metavar="PATH", help="Modules that begin so.")] = "",
    near: Annotated[
        bool, typer.Option("--near", help="Ask the nearest tests only, without traces.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help=f"Write what was found into {report.RECORD}.")
    ] = False,
) -> None:
    """Plant faults in analysis and solvers, one at a time, and see whether tests notice."""
    modules = sample.texts(store.ROOT, only)
    if not modules:
        raise typer.BadParameter(f"no module of analysis or solvers begins with {only!r}")
    pairs = zip_longest(  # in turns, so that a run that is stopped has met both
        islice(sample.mathematical(modules, seed), count // 2),
        islice(sample.of_code(modules, seed), count - count // 2),
    )
    chosen = [mutant for pair in pairs for mutant in pair if mutant is not None]
    with run.template(store.ROOT) as copy:
        session = Session(store.ROOT, copy, modules, out, workers)
        results = list(session.judged(chosen, near=near))
        doubtful = session.doubtful(results)
    if record:
        sound = [one for one in results if one.verdict != "void" and one.by not in doubtful]
        report.record(store.ROOT / report.RECORD, sound)
    why = reasons()
    results = [
        replace(one, reason=why.get((one.path, one.before, one.after), "")) for one in results
    ]
    for one in results:
        if one.verdict in ("survived", "open", "void"):
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


@dataclass(frozen=True)
class Session:
    """A run over mutants, which reads and adds to what is known in `out`."""

    root: Path
    copy: Path
    modules: sample.Texts
    out: Path
    workers: int

    def judged(self, chosen: list[Mutant], *, near: bool = False) -> Iterator[report.Known]:
        """Yield each mutant with its outcome, which is kept as soon as it is known.

        Each meets the tests that run its line. With `near` those that are nearest by name, which
        no trace has to be taken for; what they miss is left open.
        """
        path = self.out / "mutants.jsonl"
        recorded, here = report.read(self.root / report.RECORD), report.read(path)
        kept, checkout = recorded | here, Checkout(self.root)
        noticed = {one.fault: one.by for one in kept.values() if one.verdict == "killed"}
        explained = reasons()
        ends = ("killed", "timed out", "survived", *(["open"] if near else []))

        def stands(mutant: Mutant) -> bool:
            one = kept.get(mutant.name)
            if one is None or one.verdict not in ends:
                return False
            there = all(file in checkout.tests for file in one.files)
            return there and one.digest == checkout.digest(one.files)

        changes = {m.name: m.change(self.modules[m.path]) for m in chosen if not stands(m)}
        for mutant in chosen:
            if mutant.name not in changes and mutant.name not in here:
                _add(path, report.line(kept[mutant.name]))
        waiting = sorted(  # what has a reason to survive takes its whole time: last
            (mutant for mutant in chosen if mutant.name in changes),
            key=lambda m: (m.path, *changes[m.name]) in explained,
        )
        traces = {} if near else self.traces(checkout, {mutant.path for mutant in waiting})

        def jobs() -> Iterator[tuple[Mutant, Selection]]:
            for mutant in waiting:
                by = noticed.get((mutant.path, mutant.operator, *changes[mutant.name]), "")
                yield mutant, checkout.selection(mutant, traces, by)

        for mutant, tests, found in self._met(jobs()):
            assert mutant is not None
            one = report.known(mutant, self.modules[mutant.path], tests, found)
            verdict = "open" if one.verdict == "survived" and near else one.verdict
            one = replace(one, verdict=verdict, digest=checkout.digest(one.files))
            kept[one.key] = one
            if one.verdict != "void":
                _add(path, report.line(one))
            console.print(f"{one.verdict:9} {one.path}:{one.line} {one.operator}  {one.by}")
        yield from (kept[mutant.name] for mutant in chosen)

    def traces(self, checkout: Checkout, paths: Iterable[str]) -> dict[str, traced.Trace]:
        """Return what the tests that import one of the modules run, by test file."""
        path = self.out / "traces.jsonl"
        kept = traced.read(path)
        files = sorted({file for module in paths for file in checkout.reaching(module)})
        digests = {file: checkout.digest([file]) for file in files}
        known = {f: kept[f] for f in files if f in kept and kept[f].digest == digests[f]}
        jobs = ((None, Selection((Round((file,)),))) for file in files if file not in known)
        for _, tests, found in self._met(jobs, "traced"):
            [file] = tests.files
            if found.trace is None:
                console.print(f"not traced, whole as near ones: {file}  {found.verdict} {found.by}")
                continue
            known[file] = traced.Trace(file, digests[file], **found.trace)
            _add(path, traced.line(known[file]))
            console.print(f"traced    {file}  {sum(known[file].tests.values()):.0f} s")
        return known

    def doubtful(self, results: list[report.Known]) -> list[str]:
        """Return what fails of the tests that noticed a mutant when there is none."""
        by_file: dict[str, set[str]] = {}
        for one in results:
            if one.verdict in ("killed", "timed out") and "::" in one.by:
                by_file.setdefault(one.by.partition("::")[0], set()).add(one.by)
        jobs = (
            (None, Selection((Round((file,), tuple(sorted(names))),)))
            for file, names in sorted(by_file.items())
        )
        return [found.by for _, _, found in self._met(jobs) if found.verdict != "survived"]

    def _met(
        self, jobs: Iterable[tuple[Mutant | None, Selection]], how: run.How = ""
    ) -> Iterator[tuple[Mutant | None, Selection, run.Outcome]]:
        return run.outcomes(self.root, self.copy, jobs, self.workers, how)


def _add(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


if __name__ == "__main__":
    app(prog_name="python -m tests.mutants")
