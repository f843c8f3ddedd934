"""Every public callable of the rooms: functions, classes, and the methods of classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import solvers as so


def of_solvers() -> dict[str, Any]:
    """Return what `import solvers as so` offers to be called, by its address."""
    found: dict[str, Any] = {}
    for name in so.__all__:
        thing = getattr(so, name)
        if inspect.isclass(thing):
            if not issubclass(thing, BaseException):
                found[name] = thing
                found |= {f"{name}.{own}": method for own, method in methods(thing)}
        else:
            found[name] = thing
    return found


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods that a class or its parents of this project define."""
    seen: set[str] = set()
    for parent in kind.__mro__:
        if parent.__module__.partition(".")[0] not in ("solvers", "analysis"):
            continue
        for name, method in vars(parent).items():
            own = not name.startswith("_") or name == "__call__"
            if name in seen or not own or inspect.isclass(method):
                continue
            seen.add(name)
            if isinstance(method, (classmethod, staticmethod)) or inspect.isfunction(method):
                yield name, getattr(kind, name)
