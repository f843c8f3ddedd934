"""Mathematical faults, as one makes them by hand: a lost ½, a sign, Σ for Σ⁻¹, a sum for a mean.

Each operator takes a node and yields what may stand there instead, as source text.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from .mutant import Mutant, mute, span

Operator = Callable[[ast.expr], Iterator[ast.expr]]

# They print, store, check or load: what a formula would lose, they do not have.
NO_MATHEMATICS = (
    "analysis/__main__.py",
    "analysis/calculus/printing.py",
    "analysis/explain.py",
    "analysis/kept.py",
    "analysis/repl.py",
    "analysis/show.py",
    "analysis/source.py",
    "solvers/engine.py",
    "solvers/errors.py",
    "solvers/numerics/checkpoint.py",
    "solvers/numerics/progress.py",
    "solvers/tasks/",
)
_INVERSES = ("inverse", "inv", "cholesky_inverse", "Inverse", "pinv")
_CENTRES = ("mu", "m", "mean", "means", "centre", "fitted", "predicted", "average")
_TEXT = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp, ast.Dict, ast.Set)


def factor_two(node: ast.expr) -> Iterator[ast.expr]:
    """`x / 2`, `2 * x`, `half * x` -> x; `Rational(1, 2)` -> 1; `a + b` -> `a + b / 2`."""
    match node:
        case ast.BinOp(left, ast.Mult() | ast.Div(), right) if _is_two(right):
            yield left
        case ast.BinOp(left, ast.Mult(), right) if _is_two(left):
            yield right
        case ast.Call(ast.Attribute(attr="Rational"), [ast.Constant(1), ast.Constant(2)]):
            yield ast.Constant(1)
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right) if _is_sum(node):
            yield ast.BinOp(left, op, ast.BinOp(right, ast.Div(), ast.Constant(2)))
        case _:
            pass


def sign(node: ast.expr) -> Iterator[ast.expr]:
    """`a + b` <-> `a - b`; `-x` -> `x`."""
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right) if _is_sum(node):
            yield ast.BinOp(left, ast.Sub() if isinstance(op, ast.Add) else ast.Add(), right)
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield operand
        case _:
            pass


def dropped_term(node: ast.expr) -> Iterator[ast.expr]:
    """`a + b` -> `a` or `b`; `a - b` -> `a` or `-b`."""
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right) if _is_sum(node):
            yield left
            yield right if isinstance(op, ast.Add) else ast.UnaryOp(ast.USub(), right)
        case _:
            pass


def transpose(node: ast.expr) -> Iterator[ast.expr]:
    """`X.T`, `X.mT` -> `X`; `A @ B` -> `A.mT @ B`."""
    match node:
        case ast.Attribute(value, "T" | "mT"):
            yield value
        case ast.BinOp(left, ast.MatMult(), right):
            match left:
                case ast.Attribute(value, "T" | "mT"):
                    turned = value
                case _:
                    turned = ast.Attribute(left, "mT", ast.Load())
            yield ast.BinOp(turned, ast.MatMult(), right)
        case _:
            pass


def inverse(node: ast.expr) -> Iterator[ast.expr]:
    """Σ for Σ⁻¹: `inverse(X)`, `X.inv()`, `X**-1`, `1 / x` -> X; `solve(A, b)` -> `A @ b`."""
    match node:
        case ast.Call(function, [argument]) if _last(function) in _INVERSES:
            yield argument
        case ast.Call(ast.Attribute(value, "inv" | "inverse"), []):
            yield value
        case ast.BinOp(left, ast.Pow(), ast.UnaryOp(ast.USub(), ast.Constant(1))):
            yield left
        case ast.BinOp(ast.Constant(1 | 1.0), ast.Div(), right):
            yield right
        case ast.Call(ast.Attribute(attr="solve"), [A, b]):
            yield ast.BinOp(A, ast.MatMult(), b)
        case _:
            pass


def power(node: ast.expr) -> Iterator[ast.expr]:
    """`x**2`, `x.square()`, `x.sqrt()` -> x."""
    match node:
        case ast.BinOp(left, ast.Pow(), ast.Constant(2)):
            yield left
        case ast.Call(ast.Attribute(value, "square" | "sqrt"), []):
            yield value
        case _:
            pass


def marginal(node: ast.expr) -> Iterator[ast.expr]:
    """Marginal for residual: `y - mean` -> `y`, as in a second moment for a covariance."""
    match node:
        case ast.BinOp(left, ast.Sub(), right) if _last(right) in _CENTRES:
            yield left
        case _:
            pass


def baseline(node: ast.expr) -> Iterator[ast.expr]:
    """A dropped baseline: `r - baseline`, `r - r.mean(...)`, `r - r.amin(...)` -> `r`."""
    match node:
        case ast.BinOp(left, ast.Sub(), ast.Call(ast.Attribute(value, "mean" | "amin"))) if (
            ast.dump(left) == ast.dump(value)
        ):
            yield left
        case ast.BinOp(left, ast.Sub(), right) if "baseline" in (_last(right) or ""):
            yield left
        case _:
            pass


def mean_for_sum(node: ast.expr) -> Iterator[ast.expr]:
    """`x.mean(...)` <-> `x.sum(...)`."""
    match node:
        case ast.Call(ast.Attribute(value, "mean" | "sum" as name), arguments, keywords):
            other = "sum" if name == "mean" else "mean"
            yield ast.Call(ast.Attribute(value, other, ast.Load()), arguments, keywords)
        case _:
            pass


def stopped_gradient(node: ast.expr) -> Iterator[ast.expr]:
    """`x.detach()` -> `x`: ⌊·⌋ is lost."""
    match node:
        case ast.Call(ast.Attribute(value, "detach"), []):
            yield value
        case _:
            pass


OPERATORS: dict[str, Operator] = {
    "factor 2": factor_two,
    "sign": sign,
    "dropped term": dropped_term,
    "transpose": transpose,
    "inverse": inverse,
    "power": power,
    "marginal for residual": marginal,
    "dropped baseline": baseline,
    "mean for sum": mean_for_sum,
    "stopped gradient": stopped_gradient,
}


def mutants(path: str, text: str) -> Iterator[Mutant]:
    """Yield all mathematical mutants of a module, in the order of its text.

    Raises:
        SyntaxError: the text is not Python.
    """
    if path.startswith(NO_MATHEMATICS):
        return
    lines, tree = text.splitlines(), ast.parse(text)
    left_out = {id(inside) for node in (*mute(tree), *_places(tree)) for inside in ast.walk(node)}
    seen = {text}
    for node in ast.walk(tree):
        if not isinstance(node, ast.expr) or id(node) in left_out:
            continue
        for name, operator in OPERATORS.items():
            for new in operator(node):
                start, _ = span(lines, node)
                changed = replaced(lines, node, f"({ast.unparse(new)})")
                if changed not in seen:  # some operators meet: one mutant, once
                    seen.add(changed)
                    yield Mutant(path, "mathematical", name, start, changed)


def replaced(lines: list[str], node: ast.expr, new: str) -> str:
    """Return the text of a module with `new` where `node` stands."""
    (first, begin), (last, end) = span(lines, node)
    middle = lines[first - 1][:begin] + new + lines[last - 1][end:]
    return "\n".join([*lines[: first - 1], middle, *lines[last:]]) + "\n"


def _places(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield what says where, not how much: indices, and the arguments of reshaping."""
    moves = ("reshape", "expand", "view", "flatten", "unsqueeze", "movedim", "range", "ones")
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            yield node.slice
        elif isinstance(node, ast.Call) and _last(node.func) in (*moves, "zeros", "eye", "len"):
            yield from node.args


def _is_sum(node: ast.BinOp) -> bool:
    """Whether `+` or `-` may be of numbers: text and lists are seen to be none."""
    return not any(
        isinstance(side, _TEXT)
        or (isinstance(side, ast.Constant) and not isinstance(side.value, int | float))
        for side in (node.left, node.right)
    )


def _is_two(node: ast.expr) -> bool:
    return _last(node) == "half" or (
        isinstance(node, ast.Constant) and node.value in (2, 2.0, 0.5) and node.value is not True
    )


def _last(node: ast.expr) -> str | None:
    """Return the last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None
