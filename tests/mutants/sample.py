"""Which mutants of all: a seeded sample, of which a smaller one is the beginning.

The place of a mutant in it depends on its own line alone: a change elsewhere adds and takes away
mutants, and leaves the others in their order.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from . import code, mathematics
from .mutant import ROOMS, Mutant, Position

Texts = dict[str, str]


def texts(root: Path, only: str = "") -> Texts:
    """Return the modules of both rooms, path to text, whose path begins with `only`."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for room in ROOMS
        for path in sorted((root / room).rglob("*.py"))
        if path.relative_to(root).as_posix().startswith(only)
    }


def mathematical(modules: Texts, seed: int) -> Iterator[Mutant]:
    """Yield all mathematical mutants of the modules, in random order."""
    drawn: dict[int, Mutant] = {}
    for path, text in modules.items():
        draw = _Draw(f"mathematical {seed}", path, text)
        for mutant in mathematics.mutants(path, text):
            now = mutant.text.splitlines()[mutant.at[0] - 1].strip()
            drawn[draw.number(mutant.at, mutant.operator, now)] = mutant
    for number in sorted(drawn):
        yield drawn[number]


def of_code(modules: Texts, seed: int) -> Iterator[Mutant]:
    """Yield one code mutant for each place in the modules, in random order.

    A place is drawn first, and then what happens there: a `+` may turn into eleven other operators.
    """
    drawn: dict[int, code.Place] = {}
    for path, text in modules.items():
        draw = _Draw(f"code {seed}", path, text)
        for place in code.places(path, text):
            drawn[draw.number(place.at)] = place
    for number in sorted(drawn):
        place = drawn[number]
        found = code.mutant(place, number % len(place.faults), modules[place.path])
        if found is not None:
            yield found


class _Draw:
    """Random numbers for places of a module, each from the line it is in."""

    def __init__(self, seed: str, path: str, text: str) -> None:
        self.begin, self.lines = (seed, path), text.splitlines()
        self.before: Counter[tuple[str | int, ...]] = Counter()

    def number(self, at: Position, *further: str) -> int:
        """Return the number for a position, and what else tells it from others there."""
        line = self.lines[at[0] - 1]
        column = at[1] - (len(line) - len(line.lstrip()))
        key = (*self.begin, line.strip(), column, *further)
        self.before[key] += 1  # of lines that are the same, each has its own
        digest = hashlib.sha256(repr((*key, self.before[key])).encode()).digest()
        return int.from_bytes(digest, "big")
