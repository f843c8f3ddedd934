"""Where things are written: lines of definitions and what they name, read without importing them.

A name is dotted and absolute, such as "analysis.gaussian.rays.loss".
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, order=True)
class Place:
    """A line of a file of the checkout.

    Attributes:
        path: relative to the root of the checkout, with slashes.
        line: counted from 1.
        name: what is defined there.
    """

    path: str
    line: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" + (f"  {self.name}" if self.name else "")


@dataclass(frozen=True)
class Module:
    """The top level of a module.

    Attributes:
        name: dotted.
        path: of its file.
        tree: its syntax.
        definitions: the statement that defines each name.
        imports: local name -> dotted name, of the imports anywhere in it.
    """

    name: str
    path: Path
    tree: ast.Module
    definitions: dict[str, ast.stmt]
    imports: dict[str, str]

    def place(self, name: str) -> Place | None:
        """Where a name is defined; None if it is not defined here."""
        node = self.definitions.get(name)
        if node is None:
            return None
        return Place(self.path.relative_to(ROOT).as_posix(), node.lineno, name)

    def names_in(self, node: ast.AST) -> Iterator[tuple[str, int]]:
        """The dotted names that the code of a node mentions, and their lines."""
        chains: list[ast.Name | ast.Attribute] = []
        bound: set[str] = set()  # by a function itself: they hide the names of the module
        for found in ast.walk(node):
            if isinstance(found, ast.Name | ast.Attribute):
                chains.append(found)
                if isinstance(found, ast.Name) and isinstance(found.ctx, ast.Store):
                    bound.add(found.id)
            elif isinstance(found, ast.arg):
                bound.add(found.arg)
        hidden = bound if isinstance(node, ast.FunctionDef) else set[str]()
        for chain in chains:
            head, _, rest = dotted(chain).partition(".")
            if not head or head in hidden:
                continue
            if head in self.imports:
                yield self.imports[head] + (f".{rest}" if rest else ""), chain.lineno
            elif head in self.definitions:
                yield f"{self.name}.{head}" + (f".{rest}" if rest else ""), chain.lineno


@cache
def read(name: str) -> Module | None:
    """The module of this dotted name in the checkout; None if there is none."""
    base = ROOT.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            return Module(name, path, tree, _definitions(tree), _imports(tree, package))
    return None


def modules(package: str) -> Iterator[Module]:
    """The modules directly in a package, by name."""
    for path in sorted(ROOT.joinpath(*package.split(".")).glob("*.py")):
        found = read(package if path.stem == "__init__" else f"{package}.{path.stem}")
        if found is not None:
            yield found


def place(name: str) -> Place | None:
    """Where a dotted name is defined; None if that is not at the top level of a module here."""
    module, _, last = name.rpartition(".")
    found = read(module) if module else None
    return None if found is None else found.place(last)


def dotted(node: ast.expr) -> str:
    """A chain of attributes as it is written, such as "gaussian.rays.loss"; else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return ""


@cache
def uses(name: str, *inside: str) -> frozenset[str]:
    """The dotted names that a definition mentions, itself or through definitions it mentions.

    Args:
        name: of the definition.
        inside: the packages whose definitions are followed.
    """
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        new = mentions(waiting.pop()) - seen
        seen |= new
        waiting += [mentioned for mentioned in new if mentioned.startswith(inside)]
    return frozenset(seen)


@cache
def mentions(name: str) -> frozenset[str]:
    """The dotted names in a definition's own code."""
    module, _, last = name.rpartition(".")
    found = read(module) if module else None
    if found is None or last not in found.definitions:
        return frozenset()
    return frozenset(mentioned for mentioned, _ in found.names_in(found.definitions[last]))


def _definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.setdefault(node.name, node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        found.setdefault(name.id, node)
    return found


def _imports(tree: ast.Module, package: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.partition(".")[0]
                found[local] = alias.name if alias.asname else local
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found[alias.asname or alias.name] = f"{base}.{alias.name}"
    return found
