"""What `dir` and tab completion show of a module here: what it offers, not what it imports."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

from .result import Result


def names(module: ModuleType) -> list[str]:
    """The names in `__all__`, if there is one; else the results, functions and classes of its own.

    >>> from analysis import gaussian
    >>> names(gaussian.mean_field)
    ['cost', 'shrinkage']
    """
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, Result) or inspect.isroutine(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    )


def show_only_public(package: str) -> None:
    """Let `dir` of every loaded module of the package answer with its public names (PEP 562)."""
    for name, module in list(sys.modules.items()):
        if name == package or name.startswith(f"{package}."):
            vars(module)["__dir__"] = lambda module=module: names(module)
