"""The libraries of the league, one file each.

A file of this folder offers

- `PACKAGES`, the distributions whose versions are shown,
- `implicit(problem, effort)` and `unrolled(problem)`, or one of them: a call that returns `dF/dφ`,
  an array. What is compiled or built once is built before it; what depends on `θ` and `φ` is part
  of the call.

A file that cannot be imported here is named in every table, with the reason.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any

from benchmarks.league.problems import Problem


@dataclass(frozen=True)
class Effort:
    """How far to solve the linear system: a library takes one of both limits, or both.

    Attributes:
        tolerance: on the relative residual.
        iterations: products with the Hessian at most; None leaves it to the library's file.
    """

    tolerance: float = 1e-10
    iterations: int | None = None

    def limit(self, problem: Problem) -> int:
        """Return the iterations; ten for each variable where they are left open."""
        return 10 * problem.size if self.iterations is None else self.iterations


Call = Callable[[], Any]


@dataclass(frozen=True)
class Library:
    """A library that could be imported.

    Attributes:
        name: of its file.
        version: of its distributions.
        implicit: by the implicit function theorem; None if it offers none.
        unrolled: through the steps of gradient descent; None if it offers none.
    """

    name: str
    version: str
    implicit: Callable[[Problem, Effort], Call] | None = None
    unrolled: Callable[[Problem], Call] | None = None


BROKEN = (ImportError, AttributeError, OSError, RuntimeError, TypeError, ValueError)
"""What a package may raise on import: missing, or written for other versions of its own ones."""


def load(package: ModuleType | None = None) -> tuple[list[Library], dict[str, str]]:
    """Return the libraries of a folder, `bimle` first, and why others could not be imported."""
    package = importlib.import_module(__name__) if package is None else package
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__))
    names = [name for name in names if not name.startswith("_")]
    libraries: list[Library] = []
    missing: dict[str, str] = {}
    for name in sorted(names, key=lambda name: name != "bimle"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of their age: it is the versions that are shown
                module = importlib.import_module(f"{package.__name__}.{name}")
        except BROKEN as error:
            missing[name] = f"{type(error).__name__}: {error}"
            continue
        libraries.append(
            Library(
                name,
                ", ".join(f"{package} {metadata.version(package)}" for package in module.PACKAGES),
                getattr(module, "implicit", None),
                getattr(module, "unrolled", None),
            )
        )
    return libraries, missing
