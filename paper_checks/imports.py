"""What a test file stands on: itself and all of the project that it imports, at any depth."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path


def closure(
    root: Path, start: Iterable[Path], read: dict[Path, tuple[Path, ...]] | None = None
) -> tuple[Path, ...]:
    """Return `start` and every file of `root` that these import, in order of their paths.

    Imports inside functions count, and so do the packages that a module lies in. A module whose
    name is only known when it runs does not: what imports one names it in `start`.

    Args:
        root: the checkout.
        start: files of it.
        read: by file what it imports, for files that were read before; those read now are added.

    Raises:
        SyntaxError: a file is not Python.
    """
    read = {} if read is None else read
    found: set[Path] = set()
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if path not in read:
                read[path] = tuple(imported(root, path))
            waiting += read[path]
    return tuple(sorted(found))


def imported(root: Path, path: Path) -> Iterator[Path]:
    """Yield the files of `root` that one file imports."""
    package = path.relative_to(root).parent.parts
    yield from _modules(root, package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = [*base, *(node.module or "").split(".")] if node.module else [*base]
            for alias in node.names:  # a name may be a module
                yield from _modules(root, [*module, alias.name])


def _modules(root: Path, parts: Iterable[str]) -> Iterator[Path]:
    """Yield the packages on the way to a module, and the module, as far as they are files here."""
    folder = root
    for part in parts:
        if (module := folder / f"{part}.py").is_file():
            yield module
        folder = folder / part
        if (package := folder / "__init__.py").is_file():
            yield package
