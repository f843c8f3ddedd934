"""Faults of code, by the operators of cosmic-ray: another operator or number, a loop not run.

They reach half of all statements (`reach`); the others call and assign without a number, an
operator or a condition. mutmut 3 changes functions only, and runs all tests before the first one.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from .mutant import Mutant, Position, mute, span

# They only take a cache, a type or a property away, or need names to be given.
_LEFT_OUT = ("core/RemoveDecorator", "core/VariableReplacer", "core/VariableInserter")


@dataclass(frozen=True)
class Place:
    """A place in a module, and the operators that have a fault for it: name, which of theirs."""

    path: str
    at: Position
    faults: tuple[tuple[str, int], ...]


@cache
def _operators() -> dict[str, Any]:
    plugins = import_module("cosmic_ray.plugins")
    names = [name for name in plugins.operator_names() if name not in _LEFT_OUT]
    return {name: plugins.get_operator(name)() for name in names}


@cache
def places(path: str, text: str) -> list[Place]:
    """Return the places of a module that have faults, in the order of its text."""
    trees = import_module("cosmic_ray.ast")
    lines = text.splitlines()
    silent = [span(lines, node) for node in mute(ast.parse(text))]
    found: dict[Position, list[tuple[str, int]]] = {}
    count: Counter[str] = Counter()
    for node in trees.ast_nodes(trees.get_ast(text)):
        for name, operator in _operators().items():
            for start, _ in operator.mutation_positions(node):
                occurrence = count[name]
                count[name] += 1
                if not any(first <= start < last for first, last in silent):
                    found.setdefault(start, []).append((name, occurrence))
    return [Place(path, at, tuple(faults)) for at, faults in sorted(found.items())]


def mutant(place: Place, which: int, text: str) -> Mutant | None:
    """Return the mutant of a place by one of its faults; None if it is no Python."""
    name, occurrence = place.faults[which]
    mutate = import_module("cosmic_ray.mutating").mutate_code
    try:
        changed = mutate(text, _operators()[name], occurrence)
    except AttributeError:  # it looks for a name in `except`, and there is a dotted one
        return None
    assert changed is not None
    try:
        same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text))
    except SyntaxError:
        return None
    operator = name.removeprefix("core/")
    return None if same else Mutant(place.path, "code", operator, place.at, changed)


def reach(path: str, text: str) -> tuple[int, int]:
    """Return how many statements of a module have a place of a fault, and how many there are."""
    lines, tree = text.splitlines(), ast.parse(text)
    silent = {id(inside) for node in mute(tree) for inside in ast.walk(node)}
    kinds = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)
    tests = [node.test for node in ast.walk(tree) if isinstance(node, ast.If | ast.While)]
    statements = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    spans = [span(lines, node) for node in (*statements, *tests) if id(node) not in silent]
    at = [place.at for place in places(path, text)]
    return sum(any(first <= p < last for p in at) for first, last in spans), len(spans)
