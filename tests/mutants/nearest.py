"""Which tests a mutant meets: those nearest to it, the likeliest to notice it first."""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from paper_checks import imports

from .mutant import Mutant, Position

FOLDERS = ("tests/analysis", "tests/solvers", "tests/gate", "tests/checks")
# Every result is held to what is stated and to its witness there, whoever derives it.
EVERY_RESULT = ("tests/analysis/test_derivations.py", "tests/checks/test_claims.py")
FILES = 7
SHARED = ("tests/conftest.py", "pyproject.toml")


@dataclass(frozen=True)
class Selection:
    """What a mutant meets: rounds of tests, the nearest first, and the words that near tests name.

    Each round, mostly of one file, is a process of its own: no test sees what another file left.
    """

    rounds: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        """The tests of all rounds."""
        return [file for files in self.rounds for file in files]

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

    def nearest(self, mutant: Mutant) -> Selection:
        """Return the test files that import the module, in the order in which they name it.

        A word counts the more, the fewer files have it; those around the mutant count most.
        """
        text = (self.root / mutant.path).read_text(encoding="utf-8")
        around, others = names(text, mutant.at)
        path = Path(mutant.path)
        places = [*(part for part in path.parent.parts[1:]), path.stem]
        weights = dict.fromkeys(others, 1.0) | dict.fromkeys(places, 1.0)
        weights |= dict.fromkeys(around, 3.0)
        reach = {f: t for f, t in self.tests.items() if mutant.path in self.closure(f)}
        score = dict.fromkeys(reach, 0.0)
        for word, weight in weights.items():
            having = [file for file, text in reach.items() if re.search(rf"\b{word}\b", text)]
            for file in having:
                score[file] += weight * math.log((1 + len(reach)) / len(having))
        for file in reach:
            score[file] += 2 * sum(place in Path(file).stem for place in places)
        ranked = sorted(reach, key=lambda file: (-score[file], file))
        first = [file for file in EVERY_RESULT if mutant.room == "analysis" and file in reach]
        chosen = list(dict.fromkeys([*first[:1], *ranked[:2], *first, *ranked[2:]]))[:FILES]
        rounds = tuple((file,) for file in chosen)
        return Selection(rounds, tuple(dict.fromkeys([*around, *reversed(places)])))


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
