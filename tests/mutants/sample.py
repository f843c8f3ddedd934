"""Which mutants of all: a seeded sample, of which a smaller one is the beginning."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from . import code, mathematics
from .mutant import ROOMS, Mutant

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
    every = [mutant for path, text in modules.items() for mutant in mathematics.mutants(path, text)]
    random.Random(f"mathematical {seed}").shuffle(every)
    yield from every


def of_code(modules: Texts, seed: int) -> Iterator[Mutant]:
    """Yield one code mutant for each place in the modules, in random order.

    A place is drawn first, and then what happens there: a `+` may turn into eleven other operators.
    """
    every = [place for path, text in modules.items() for place in code.places(path, text)]
    draw = random.Random(f"code {seed}")
    draw.shuffle(every)
    for place in every:
        found = code.mutant(place, draw.randrange(len(place.faults)), modules[place.path])
        if found is not None:
            yield found
