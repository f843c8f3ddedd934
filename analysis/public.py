"""What `dir` and tab completion show of a module here: what it offers, not what it imports."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

from .result import Result


def names(module: ModuleType) -> list[str]:
    """The results of a module, or the modules of a package that have some; else all it exports.

    Helpers, definitions and stated sides can be imported: for the proofs, not for the prompt.

    >>> from analysis import gaussian
    >>> names(gaussian.mean_field)
    ['cost', 'shrinkage']
    """
    listed = getattr(module, "__all__", None)
    if listed is not None:
        families = [name for name in listed if _results(getattr(module, name))]
        return sorted(families if "DERIVATIONS" in listed else listed)
    return sorted(
        _results(module)
        or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (inspect.isroutine(value) or inspect.isclass(value))
            and value.__module__ == module.__name__
        ]
    )


def _results(module: object) -> list[str]:
    """The names of a module's own results."""
    if not isinstance(module, ModuleType):
        return []
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, Result) and value.__module__ == module.__name__
    ]


def show_only_public(package: str) -> None:
    """Let `dir` of every loaded module of the package answer with its public names (PEP 562)."""
    for name, module in list(sys.modules.items()):
        if name == package or name.startswith(f"{package}."):
            vars(module)["__dir__"] = lambda module=module: names(module)
