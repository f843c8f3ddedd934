"""What is known of the mutants: the file it is kept in, survivors with a reason, the table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.table import Table

from paper_checks.report import mutants

from .mutant import Mutant
from .nearest import Selection
from .run import Outcome

RECORD = Path("tests/mutants/record.jsonl")  # from the root: what the last whole run found
SHARES = {"mathematical": 1.0, "code": 0.95}  # to be noticed, at least


Fault = tuple[str, str, str, str]


@dataclass(frozen=True)
class Known:
    """A mutant and its outcome.

    Attributes:
        key: of the mutant.
        files: the test files that it met; of one that was noticed, where it was.
        digest: of these files and all they stand on.
        before, after: the lines that differ.
        left: how many tests run its line and were not met, for want of time.
        reason: why no test could notice it; empty where none is stated.
    """

    key: str
    path: str
    line: int
    kind: str
    operator: str
    before: str
    after: str
    verdict: str
    by: str
    tests: int
    seconds: float
    files: tuple[str, ...] = ()
    digest: str = ""
    left: int = 0
    reason: str = ""

    @property
    def room(self) -> str:
        """The room that the module lies in."""
        return self.path.partition("/")[0]

    @property
    def fault(self) -> Fault:
        """What is changed, and how: the same while the rest of the module changes."""
        return self.path, self.operator, self.before, self.after


def known(mutant: Mutant, original: str, tests: Selection, found: Outcome) -> Known:
    """Return what is to be kept of a mutant and its outcome, but for the digest."""
    before, after = mutant.change(original)
    where = (mutant.name, mutant.path, mutant.at[0], mutant.kind, mutant.operator, before, after)
    file = found.by.partition("::")[0]
    files = (file,) if file in tests.files else tuple(tests.files)
    left = tests.left if found.verdict == "survived" else 0
    return Known(*where, found.verdict, found.by, found.tests, found.seconds, files, left=left)


def line(one: Known) -> str:
    """Return the line of the file that keeps it."""
    return json.dumps(asdict(one), ensure_ascii=False) + "\n"


def read(path: Path) -> dict[str, Known]:
    """Return what a file keeps, by key, nothing if there is none; see `mutants.read`."""
    said = mutants.read(path) if path.exists() else {}
    return {key: replace(Known(**one), files=tuple(one["files"])) for key, one in said.items()}


def record(path: Path, results: list[Known]) -> None:
    """Write outcomes to a file, in the order of their places, for later runs and the report."""
    lines = [(one.path, one.line, one.operator, one.after, line(one)) for one in results]
    path.write_text("".join(text for *_, text in sorted(lines)), encoding="utf-8")


def unexplained(results: list[Known]) -> list[Known]:
    """Return the survivors without a reason."""
    return [one for one in results if one.verdict == "survived" and not one.reason]


def enough(results: list[Known]) -> bool:
    """Whether each kind is noticed as often as it has to be, and all else has its reason."""
    void = any(one.verdict == "void" for one in results)
    return (
        not void
        and not unexplained(results)
        and all(_share(results, k) >= s for k, s in SHARES.items())
    )


def _share(results: list[Known], kind: str) -> float:
    """Return the share noticed of the mutants that could be."""
    of_kind = [one for one in results if one.kind == kind and not one.reason]
    return sum(one.verdict in ("killed", "timed out") for one in of_kind) / max(len(of_kind), 1)


def table(results: list[Known]) -> Table:
    """Return killed, timed out and survived by kind and room."""
    shown = Table(title="mutants")
    for heading in (
        "kind",
        "room",
        "killed",
        "timed out",
        "survived",
        "of these explained",
        "open",
        "void",
    ):
        shown.add_column(heading, justify="left" if heading in ("kind", "room") else "right")
    for kind, room in sorted({(one.kind, one.room) for one in results}):
        these = [one for one in results if (one.kind, one.room) == (kind, room)]
        count = Counter(one.verdict for one in these)
        explained = sum(bool(one.reason) for one in these if one.verdict == "survived")
        ends = ("killed", "timed out", "survived", "", "open", "void")
        numbers = (explained if not verdict else count[verdict] for verdict in ends)
        shown.add_row(kind, room, *map(str, numbers))
    return shown


def told(one: Known) -> str:
    """Return a survivor in words: where it is, and what was changed."""
    old = "\n".join(f"    - {line}" for line in one.before.splitlines())
    new = "\n".join(f"    + {line}" for line in one.after.splitlines())
    left = f", {one.left} that run the line left out" if one.left else ""
    head = f"{one.path}:{one.line} {one.verdict}, {one.operator} ({one.tests} tests{left})"
    return "\n".join(part for part in (head, old, new, one.reason or one.by) if part)
