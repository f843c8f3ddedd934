"""Proved derivations kept in a folder, for processes and runs that would derive the same again.

Off unless a process asks for it: the tests do. What is kept is named by a digest of every file of
this package, of SymPy's version and of Python's, so that a change of any derives all anew. Only
what `verify` accepts is kept.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import mpmath
import sympy as sp

from .derivation import Derivation, Key

ROOM = Path(__file__).parent


@dataclass(frozen=True)
class Place:
    """A folder of derivations, and the files it was opened for: path, time of change, size."""

    folder: Path
    files: tuple[tuple[str, int, int], ...]


_place: ContextVar[Place | None] = ContextVar("place of kept derivations", default=None)


def keep_in(folder: Path) -> None:
    """Keep derivations in `folder`, from now on; those of another state of this package go."""
    name = _digest()
    for other in folder.glob("*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)
    _place.set(Place(folder / name, _files()))


@contextmanager
def nothing_kept() -> Generator[None]:
    """Inside, everything is derived here: for faults planted in memory, which no digest sees."""
    before = _place.get()
    _place.set(None)
    try:
        yield
    finally:
        _place.set(before)


def once(key: Key, build: Callable[[], Derivation]) -> Derivation:
    """Return the derivation kept under `key`, else the one that `build` returns, and keep it.

    It is kept if it is proved, and if no file of this package was touched meanwhile.
    """
    place = _place.get()
    if place is None:
        return build()
    path = place.folder / hashlib.sha256(repr(key).encode()).hexdigest()
    try:
        return pickle.loads(path.read_bytes())
    except FileNotFoundError:
        found = build()
    if found.failure is None and place is _place.get() and _files() == place.files:
        place.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.tmp")
        part.write_bytes(pickle.dumps(found))
        part.replace(path)  # other processes see all of it or nothing
    return found


def _files() -> tuple[tuple[str, int, int], ...]:
    found = [(str(path), path.stat()) for path in sorted(ROOM.rglob("*.py"))]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def _digest() -> str:
    total = hashlib.sha256(
        repr([platform.python_version(), sp.__version__, mpmath.__version__]).encode()
    )
    for path in sorted(ROOM.rglob("*.py")):
        content = path.read_bytes()
        total.update(f"{path.relative_to(ROOM).as_posix()} {len(content)}\n".encode() + content)
    return total.hexdigest()
