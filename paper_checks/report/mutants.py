"""Which planted faults were noticed, by claim: from what `make mutants` keeps, here or on record.

A mutant belongs to a claim if it lies in a module that derives, states or solves one of its
results. The first test that fails ends a mutant, so that most are noticed by one test of many.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.source import ROOT, Place

from .. import store

KEPT = "mutants.jsonl"
RECORD = ROOT / "tests/mutants/record.jsonl"
REASONS = ROOT / "tests/mutants/survivors.toml"
MATHEMATICAL = "mathematical"
NOTICED = ("killed", "timed out")
FIELDS = {"key": str, "path": str, "kind": str, "operator": str, "verdict": str, "by": str}


@dataclass(frozen=True)
class Subject:
    """What a claim stands on.

    Attributes:
        claim: its name.
        modules: paths of the modules that derive, state or solve its results.
        names: words in the names of its own tests: its own, and those of its results.
    """

    claim: str
    modules: frozenset[str]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """Mutants of a claim.

    Attributes:
        claim: its name.
        met: how many were planted, by kind of fault.
        noticed: how many of these a test noticed.
        own: how many of these were noticed by a test named after the claim or its results.
    """

    claim: str
    met: Mapping[str, int]
    noticed: Mapping[str, int]
    own: int


@dataclass(frozen=True)
class Survivor:
    """A mutant that no test noticed.

    Attributes:
        at: where it was planted.
        before, after: the lines that differ.
        reason: why none could, or empty.
    """

    at: Place
    before: str
    after: str
    reason: str


@dataclass(frozen=True)
class Matrix:
    """All that is kept.

    Attributes:
        kinds: of mathematical faults, then "code".
        rows: of the claims that met a mutant.
        verdicts: how many mutants ended so, by "mathematical" or "code" and verdict.
        survivors: in the order of their places.
        left_out: how many are of lines that are no longer there, or have not met all tests that
            run them: they count nowhere else.
        source: the name of the file.
    """

    kinds: tuple[str, ...]
    rows: tuple[Row, ...]
    verdicts: Mapping[str, Mapping[str, int]]
    survivors: tuple[Survivor, ...]
    left_out: int
    source: str


def kept(folder: Path) -> Path:
    """Return the file of a run that keeps its results in `folder`; without one, the record."""
    path = folder / KEPT
    return path if path.exists() else RECORD


def matrix(path: Path, subjects: Iterable[Subject]) -> Matrix | None:
    """Return the matrix of what a file keeps; None if there is none.

    Raises:
        StoreError: the file is damaged.
    """
    if not path.exists():
        return None
    every = list(read(path).values())
    found = [one for one in every if one["verdict"] != "open" and _is_there(one)]
    rows = (_row(subject, found) for subject in subjects)
    return Matrix(
        kinds=(*sorted({_kind(one) for one in found} - {"code"}), "code"),
        rows=tuple(row for row in rows if row.met),
        verdicts={
            kind: Counter(one["verdict"] for one in found if one["kind"] == kind)
            for kind in sorted({one["kind"] for one in found}, reverse=True)
        },
        survivors=_survivors(one for one in found if one["verdict"] == "survived"),
        left_out=len(every) - len(found),
        source=path.name,
    )


def reasons() -> dict[tuple[str, str, str], str]:
    """Return the stated reasons of survivors, by module and the lines that differ."""
    entries: list[dict[str, Any]] = tomllib.loads(REASONS.read_text(encoding="utf-8"))["survivor"]
    return {(e["path"], e["before"], e["after"]): e["reason"] for e in entries}


def _survivors(found: Iterable[Mapping[str, Any]]) -> tuple[Survivor, ...]:
    why = reasons() if REASONS.exists() else {}
    survivors = list[Survivor]()
    for one in found:
        path, before, after = one["path"], one.get("before", ""), one.get("after", "")
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        first = before.partition("\n")[0]
        line = next((i for i, text in enumerate(lines, 1) if text.strip() == first), 1)
        reason = why.get((path, before, after), "")
        survivors.append(Survivor(Place(path, line), before, after, reason))
    return tuple(sorted(survivors, key=lambda one: (one.at.path, one.at.line, one.after)))


def _row(subject: Subject, found: Iterable[Mapping[str, Any]]) -> Row:
    met = [one for one in found if one["path"] in subject.modules]
    noticed = [one for one in met if one["verdict"] in NOTICED]
    own = sum(any(name in one["by"] for name in subject.names) for one in noticed)
    return Row(subject.claim, Counter(map(_kind, met)), Counter(map(_kind, noticed)), own)


def _kind(one: Mapping[str, Any]) -> str:
    return one["operator"] if one["kind"] == MATHEMATICAL else "code"


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the latest of each mutant by its key; a last line that was cut off is left out.

    Raises:
        StoreError: the file is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        try:
            one = json.loads(line)
            ill = [name for name, kind in FIELDS.items() if not isinstance(one[name], kind)]
        except (ValueError, KeyError, TypeError) as error:
            raise store.StoreError(f"{path}:{number} is no mutant ({error}): remove it") from error
        if ill:
            raise store.StoreError(f"{path}:{number} has no text as {ill[0]}: remove it")
        found[one["key"]] = one
    return found


def _is_there(one: Mapping[str, Any]) -> bool:
    """Whether the lines that the mutant changed are in its module."""
    module = ROOT / one["path"]
    if not module.is_file():
        return False
    lines = {line.strip() for line in module.read_text(encoding="utf-8").splitlines()}
    return set(one.get("before", "").splitlines()) <= lines
