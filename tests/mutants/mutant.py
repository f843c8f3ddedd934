"""What a mutant is: a module with one fault, and where in the module faults are looked for."""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

ROOMS = ("analysis", "solvers")

Position = tuple[int, int]  # line from 1, column from 0, in characters


@dataclass(frozen=True)
class Mutant:
    """A module of the project with one fault.

    Attributes:
        path: of the module, from the root of the checkout.
        kind: "mathematical" or "code".
        operator: what was done.
        at: where.
        text: the whole module with the fault.
    """

    path: str
    kind: str
    operator: str
    at: Position
    text: str

    @property
    def name(self) -> str:
        """A digest of path and text, by which a mutant is known however it came about."""
        return hashlib.sha256(f"{self.path}\0{self.text}".encode()).hexdigest()

    @property
    def room(self) -> str:
        """The room that the module lies in."""
        return self.path.partition("/")[0]

    def change(self, original: str) -> tuple[str, str]:
        """Return the lines that differ, as they were and as they are, without indentation."""
        old, new = original.splitlines(), self.text.splitlines()
        codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        changed = [(old[a:b], new[c:d]) for tag, a, b, c, d in codes if tag != "equal"]
        before, after = (
            "\n".join(line.strip() for pair in changed for line in pair[side]) for side in (0, 1)
        )
        return before, after


def position(lines: list[str], line: int, byte: int) -> Position:
    """Return a position of `ast`, which counts columns in bytes, in characters."""
    return line, len(lines[line - 1].encode()[:byte].decode())


def span(lines: list[str], node: ast.expr | ast.stmt) -> tuple[Position, Position]:
    """Return where a node begins and ends."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (
        position(lines, node.lineno, node.col_offset),
        position(lines, node.end_lineno, node.end_col_offset),
    )


def statement(text: str, line: int) -> range:
    """Return the lines of the innermost statement at a line; of one with a body, its head's."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(text)):  # outer ones first
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            body: list[ast.stmt] = getattr(node, "body", [])
            end = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno
            found = range(node.lineno, end + 1)
    return found


def mute(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield what computes nothing: messages, docstrings, annotations, decorators."""
    for node in ast.walk(tree):
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.Expr(ast.Constant()):
                yield node
            case ast.AnnAssign(annotation=ast.expr() as annotation):
                yield annotation
            case ast.arg(annotation=ast.expr() as annotation):
                yield annotation
            case ast.FunctionDef(returns=returns, decorator_list=decorators):
                yield from decorators if returns is None else (returns, *decorators)
            case ast.ClassDef(decorator_list=decorators):
                yield from decorators
            case _:
                pass
