"""Every public callable of the rooms: functions, classes, and the methods of classes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import analysis
import solvers as so
from solvers import arguments

HERE = arguments.__file__  # of the function that `@checked` puts around another


def of_solvers() -> dict[str, Any]:
    """Return what users of the solvers call, by its address.

    That is what `import solvers as so` offers, by its name there, and every other function of a
    module that checks its arguments as what is public does.
    """
    found: dict[str, Any] = {}
    for name in so.__all__:
        thing = getattr(so, name)
        if inspect.isclass(thing):
            if not issubclass(thing, BaseException):
                found[name] = thing
                found |= {f"{name}.{own}": method for own, method in methods(thing)}
        else:
            found[name] = thing
    offered = set(map(id, found.values()))
    return found | {name: f for name, f in checked() if id(f) not in offered}


RETURNED = {"Condition", "Derivation", "Derived", "Entry", "Key", "Result", "Step"}
"""Classes of `analysis` that its functions return: of these the methods are called."""

WITHIN = {
    *("Derivation.of_size", "Result.key", "Result.of", "Result.statement"),
    *("Derived.number", "Derived.read", "Derived.unjudged"),
}
"""Methods that the package itself calls, with what it has checked."""


def of_analysis() -> set[str]:
    """Return the names of what users of the theory call with arguments."""
    found: set[str] = set()
    for name in analysis.__all__:
        thing = getattr(analysis, name)
        if inspect.isfunction(thing):
            found.add(name)
        elif inspect.isclass(thing) and not issubclass(thing, BaseException | Warning):
            if name not in RETURNED:
                found.add(name)
            found |= {f"{name}.{own}" for own, method in methods(thing) if takes(method)}
    return found - WITHIN


def takes(method: Any) -> bool:
    """Whether a method has parameters besides the object that it belongs to."""
    return len(inspect.signature(method).parameters) > 1


def checked() -> Iterator[tuple[str, Any]]:
    """Yield the functions of all modules that are under `@checked`, by module and name."""
    for info in pkgutil.walk_packages(so.__path__, "solvers."):
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            own = inspect.isfunction(thing) and thing.__module__ == info.name
            if own and hasattr(thing, "__wrapped__") and thing.__code__.co_filename == HERE:
                yield f"{info.name.removeprefix('solvers.')}.{name}", thing


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
