"""Which tests a mutant meets: those that run its line, or without traces that name its place."""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from paper_checks import imports

from .mutant import Mutant, Position, statement
from .traced import Trace

FOLDERS = ("tests/analysis", "tests/solvers", "tests/gate", "tests/checks", "tests/fuzz")
# Every result is held to what is stated and to its witness there, whoever derives it.
EVERY_RESULT = ("tests/analysis/test_derivations.py", "tests/checks/test_claims.py")
FILES = 4  # that a mutant meets before it is asked which tests run it
SHARE = 12.0  # seconds of processor time for a file, before what it has left waits for the others
BUDGET = 120.0  # seconds of processor time for a mutant, in all
START = 3.0  # seconds of processor time until the first test of a file
SHARED = ("tests/conftest.py", "pyproject.toml")


@dataclass(frozen=True)
class Round:
    """What a mutant meets in one process, in which no test sees what another round left.

    Attributes:
        paths: test files or folders.
        tests: those to run, in this order; of all that there are, what `SHARE` allows, if empty.
    """

    paths: tuple[str, ...]
    tests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """What a mutant meets.

    Attributes:
        rounds: the nearest first.
        words: what near tests name.
        left: how many tests run its line and are not met, for want of time.
    """

    rounds: tuple[Round, ...]
    words: tuple[str, ...] = ()
    left: int = 0

    @property
    def files(self) -> list[str]:
        """The test files of all rounds."""
        return list(dict.fromkeys(path for one in self.rounds for path in one.paths))

    @property
    def rest(self) -> Selection:
        """All but the first round."""
        return replace(self, rounds=self.rounds[1:])


@dataclass(frozen=True)
class Checkout:
    """The test files of a checkout, and what each stands on."""

    root: Path

    @cached_property
    def tests(self) -> dict[str, str]:
        """The text of each test file, with those of the helpers in `tests` that it imports."""
        return {
            path: "\n".join(
                (self.root / file).read_text(encoding="utf-8")
                for file in self.closure(path)
                if file.startswith("tests/") and not file.endswith("conftest.py")
            )
            for folder in FOLDERS
            for path in self._names((self.root / folder).rglob("test_*.py"))
        }

    @cached_property
    def _imported(self) -> dict[str, tuple[str, ...]]:
        return {}

    @cached_property
    def _contents(self) -> dict[str, bytes]:
        return {}

    def closure(self, path: str) -> list[str]:
        """Return a file and all of the project that it imports, at any depth, sorted."""
        found, waiting = set[str](), [path]
        while waiting:
            if (file := waiting.pop()) not in found:
                found.add(file)
                if file not in self._imported:
                    standing = imports.imported(self.root, self.root / file)
                    self._imported[file] = tuple(self._names(standing))
                waiting += self._imported[file]
        return sorted(found)

    def digest(self, files: Iterable[str]) -> str:
        """Return the SHA-256 of test files and all they stand on."""
        needed = {name for file in files for name in self.closure(file)} | set(SHARED)
        total = hashlib.sha256()
        for name in sorted(needed):
            if name not in self._contents:
                content = (self.root / name).read_bytes()
                self._contents[name] = hashlib.sha256(content).digest()
            total.update(name.encode() + b"\0" + self._contents[name])
        return total.hexdigest()

    def _names(self, paths: Iterable[Path]) -> list[str]:
        return sorted({path.relative_to(self.root).as_posix() for path in paths})

    def reaching(self, path: str) -> list[str]:
        """Return the test files that import a module, at any depth."""
        return [file for file in self.tests if path in self.closure(file)]

    def selection(
        self, mutant: Mutant, traces: Mapping[str, Trace], noticed: str = ""
    ) -> Selection:
        """Return the tests that run the line of a mutant, and beside them what time allows.

        First a test that noticed the same fault in an earlier state of the module. Then of each
        file what `SHARE` allows, then what is left, all within `BUDGET`; in a file those that run
        the line before those that may use what these left in a cache. Without traces, or if no
        test runs the line, the files that are nearest by name, whatever they run.
        """
        if not traces:
            return self.near(mutant, noticed)
        files, words = self.nearest(mutant)
        lines = statement((self.root / mutant.path).read_text(encoding="utf-8"), mutant.at[0])
        running = {
            file: traces[file].running(mutant.path, lines) for file in files if file in traces
        }
        first, second, wanted = list[Round](), list[Round](), 0
        for file in files:
            if file not in traces:
                first.append(Round((file,)))
            elif running[file]:
                soon, later = _parts(traces[file], running[file], words)
                first.append(Round((file,), soon))
                second += [Round((file,), later)] if later else []
                wanted += len(running[file])
        if not first:
            return self.near(mutant, noticed)
        spent, rounds, met = 0.0, list[Round](), 0
        for one in (*_before(noticed, files), *first, *second):
            known = traces[one.paths[0]].tests if one.paths[0] in traces else {}
            seconds = {name: known.get(name, SHARE) for name in one.tests}
            spent += START
            tests = tuple(name for name in one.tests if (spent := spent + seconds[name]) <= BUDGET)
            if tests or (not one.tests and spent <= BUDGET):
                rounds.append(replace(one, tests=tests))
                met += len(running.get(one.paths[0], set()) & set(tests))
        return Selection(tuple(rounds), words, wanted - met)

    def near(self, mutant: Mutant, noticed: str = "") -> Selection:
        """Return the test files that are nearest by name, whatever they run.

        Before them a test that noticed the same fault in an earlier state of the module.
        """
        files, words = self.nearest(mutant)
        rounds = *_before(noticed, files), *(Round((file,)) for file in files[:FILES])
        return Selection(rounds, words)

    def nearest(self, mutant: Mutant) -> tuple[list[str], tuple[str, ...]]:
        """Return the test files that import the module, the nearest first, and what these name.

        Those of the module's own name, or of its package's if there are none, are nearest. A word
        counts the more, the fewer files have it; those around the mutant count most.
        """
        text = (self.root / mutant.path).read_text(encoding="utf-8")
        around, others = names(text, mutant.at)
        path = Path(mutant.path)
        places = [*(part for part in path.parent.parts[1:]), path.stem]
        weights = dict.fromkeys(others, 1.0) | dict.fromkeys(places, 1.0)
        weights |= dict.fromkeys(around, 3.0)
        reach = {file: self.tests[file] for file in self.reaching(mutant.path)}
        score = dict.fromkeys(reach, 0.0)
        for word, weight in weights.items():
            having = [file for file, text in reach.items() if re.search(rf"\b{word}\b", text)]
            for file in having:
                score[file] += weight * math.log((1 + len(reach)) / len(having))
        for file in reach:
            score[file] += 2 * sum(place in Path(file).stem for place in places)
        ranked = sorted(reach, key=lambda file: (-score[file], file))
        first = [file for file in EVERY_RESULT if mutant.room == "analysis" and file in reach]
        own = [f for f in ranked if path.stem in Path(f).stem]
        own = own or [f for f in ranked if path.parent.name in Path(f).stem]
        words = tuple(dict.fromkeys([*around, *reversed(places)]))
        order = [*first[:1], *own[:2], *ranked[:2], *first, *ranked[2:]]
        return list(dict.fromkeys(order)), words


def _before(noticed: str, files: Collection[str]) -> list[Round]:
    """Return the round of a test that noticed the fault before, where it is still one of these."""
    file = noticed.partition("::")[0]
    return [Round((file,), (noticed,))] if noticed != file and file in files else []


def _parts(
    trace: Trace, running: Collection[str], words: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what `SHARE` allows of a file's tests, and which that run the line are left."""
    order = sorted(
        trace.tests,
        key=lambda name: (
            name not in running,
            -closeness(name, words),
            trace.tests[name],
        ),
    )
    soon, spent = list[str](), 0.0
    for name in order:
        spent += trace.tests[name]
        if spent > SHARE and soon:
            break
        soon.append(name)
    return tuple(soon), tuple(name for name in order[len(soon) :] if name in running)


def closeness(text: str, words: Iterable[str]) -> float:
    """Return how near a test is that says this: the first words count most."""
    return sum(1 / (1 + i) for i, word in enumerate(words) if word in text)


def names(text: str, at: Position) -> tuple[list[str], list[str]]:
    """Return the names that a module defines: those around a position, and the other public ones.

    Around are the functions and classes that it lies in, and what uses them where they are private.
    """
    tree = ast.parse(text)
    kinds = (ast.FunctionDef, ast.ClassDef)
    inside = [
        node
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.lineno <= at[0] <= (node.end_lineno or 0)
    ]
    top = [node for node in tree.body if isinstance(node, kinds)]
    around = [node.name for node in inside]
    while hidden := [
        node.name
        for node in top
        if node.name not in around and any(n.startswith("_") and n in _used(node) for n in around)
    ]:
        around += hidden
    public = [name for name in around if not name.startswith("_")]
    return public, [n.name for n in top if n.name not in around and not n.name.startswith("_")]


def _used(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
