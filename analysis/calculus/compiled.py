"""Numbers from expressions: correctly rounded for explicit entries, by LAPACK for general n.

The entries of an inverse, written out, lose all digits in floating point where the matrix is
ill-conditioned, and leave its range where det does. So explicit entries are evaluated with more and
more bits until the nearest double no longer changes, which costs no accuracy at any condition.
Expressions of general size are evaluated by matrix factorisations in double precision.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from typing import Any

import sympy as sp
from mpmath.ctx_mp import MPContext
from sympy.printing.numpy import NumPyPrinter
from sympy.printing.pycode import MpmathPrinter

from ..errors import ArgumentError
from .general_n import is_general
from .symbols import DIMENSION

_local = threading.local()
_CONTEXT = sp.Symbol("mpmath")  # printed code reads `mpmath.log(x)`: the context is an argument
_DEGREE = 4  # of the polynomials in the arguments that the first attempt holds exactly


class _GeneralPrinter(NumPyPrinter):
    """NumPy code for the traces, inverses and log dets of general n."""

    def _print_Trace(self, expr: Any) -> str:
        return f"trace({self._print(expr.args[0])})"

    def _print_Inverse(self, expr: Any) -> str:
        return f"inverse({self._print(expr.args[0])})"

    def _print_LogDet(self, expr: Any) -> str:
        return f"log_det({self._print(expr.args[0])})"

    def _print_Identity(self, expr: Any) -> str:
        return f"eye({self._print(expr.shape[0])})"

    def _print_DiagonalMatrix(self, expr: Any) -> str:
        return f"diagonal_part({self._print(expr.args[0])})"


class _ExplicitPrinter(MpmathPrinter):
    """mpmath code, with the digamma function that SymPy's printer lacks."""

    def _print_polygamma(self, expr: Any) -> str:
        order, at = map(self._print, expr.args)
        return f"mpmath.psi({order}, {at})"


@cache
def compiled(arguments: tuple[Any, ...], expression: Any) -> Callable[..., Any]:
    """A function of floats and arrays, one for each argument, to a float or an array.

    Args:
        arguments: scalar symbols, explicit matrices of symbols, or MatrixSymbols.
        expression: scalar or (immutable) matrix in these symbols, and in n for general size.
    Returns:
        Callable taking one float or array per argument; for general n the dimension comes first.
        It raises ArgumentError where a matrix cannot be inverted in double precision, and gives NaN
        where the formula divides by 0.
    """
    if is_general(expression) or any(isinstance(s, sp.MatrixSymbol) for s in arguments):
        printer = _GeneralPrinter({"fully_qualified_modules": False, "inline": True})
        rules = {"inverse": inverse, "log_det": log_det, "diagonal_part": _diagonal_part}
        flat = [DIMENSION, *arguments]
        return sp.lambdify(flat, expression, modules=[rules, "numpy"], printer=printer, cse=True)
    return _explicit(arguments, expression)


def _explicit(arguments: tuple[Any, ...], expression: Any) -> Callable[..., Any]:
    import numpy as np

    places = [_free_places(shape) for shape in arguments]
    is_matrix = isinstance(expression, sp.MatrixBase)
    cells, shape = (list(expression), expression.shape) if is_matrix else ([expression], ())
    function = _program(_entries(arguments, places), cells)

    def call(*values: Any) -> Any:
        numbers = [float(entry) for entry in _entries(values, places)]
        return np.reshape(_rounded(function, numbers, len(cells)), shape)

    return call


def _program(symbols: list[Any], cells: list[Any]) -> Callable[..., list[Any]]:
    """A function of an mpmath context and of numbers in it, to the values of the cells.

    Every subexpression is evaluated once. (`lambdify` with cse takes ten times as long to build.)
    """
    places: dict[Any, int] = {symbol: i for i, symbol in enumerate(symbols)}
    steps: list[tuple[Callable[..., Any], list[int]]] = []

    def place(node: Any) -> int:
        if node not in places:
            operation, parts = _operation(node)
            steps.append((operation, [place(part) for part in parts]))
            places[node] = len(symbols) + len(steps) - 1
        return places[node]

    results = [place(cell) for cell in cells]

    def function(context: Any, *numbers: Any) -> list[Any]:
        values = list(numbers)
        for operation, parts in steps:
            values.append(operation(context, *[values[part] for part in parts]))
        return [values[result] for result in results]

    return function


def _operation(node: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How a node is computed in an mpmath context, and from which others."""
    if node.is_Add:
        return (lambda _, *terms: sum(terms)), node.args
    if node.is_Mul:
        return (lambda _, *factors: math.prod(factors)), node.args
    if node.is_Rational:
        p, q = int(node.p), int(node.q)
        return (lambda context: context.mpf(p) / q), ()
    if node.is_Pow and node.exp.is_Integer:
        exponent = int(node.exp)
        return (lambda _, base: base**exponent), (node.base,)
    if node.is_Pow:
        return (lambda _, base, exponent: base**exponent), node.args
    if isinstance(node, (sp.exp, sp.log)) and len(node.args) == 1:
        name = type(node).__name__
        return (lambda context, x: getattr(context, name)(x)), node.args
    return _printed(node)


def _printed(node: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A constant, a rarer function: as SymPy prints it for mpmath, of its symbols."""
    symbols = tuple(sorted(node.free_symbols, key=str))
    printer = _ExplicitPrinter({"fully_qualified_modules": True, "inline": True})
    return sp.lambdify([_CONTEXT, *symbols], node, modules="mpmath", printer=printer), symbols


def _rounded(function: Callable[..., Any], numbers: list[float], count: int) -> list[float]:
    """The doubles nearest to the `count` values of a function of an mpmath context and of numbers.

    Polynomials of degree 4 in the numbers are exact at once; bits are doubled until the doubles
    agree. A value that is 0 only after cancellation agrees once what is left of it underflows.
    """
    import numpy as np

    context, bits = _context(), _bits(numbers)
    last: list[float] = []
    while True:
        context.prec, bits = bits, 2 * bits
        try:
            values = function(context, *map(context.mpf, numbers))
        except ZeroDivisionError:
            return [np.nan] * count
        found = [_double(context, x) for x in values]
        if np.array_equal(found, last, equal_nan=True):
            return found
        last = found


def _context() -> Any:
    """This thread's context: making one takes as long as a small formula."""
    if not hasattr(_local, "context"):
        _local.context = MPContext()
    return _local.context


def _bits(numbers: list[float]) -> int:
    """Enough to hold products of `_DEGREE` of the numbers, and their sums, exactly."""
    import numpy as np

    exponents = np.frexp([x for x in numbers if x != 0] or [1.0])[1]
    return 64 + _DEGREE * (53 + int(exponents.max() - exponents.min()))


def _double(context: Any, x: Any) -> float:
    return float("nan") if isinstance(x, context.mpc) else float(x)


def inverse(X: Any) -> Any:
    """X⁻¹ of a symmetric positive definite X by elimination, exactly symmetric.

    Raises:
        ArgumentError: if X is singular to double precision.
    """
    import numpy as np

    _cholesky(X)  # or an error: the inverse would have no digit
    S, halves = scaled(X)
    try:
        Y = np.linalg.inv(S)
    except np.linalg.LinAlgError as error:  # where Cholesky just got through
        raise _singular(S) from error
    return np.ldexp((Y + Y.T) / 2, -halves[:, None] - halves)


def log_det(X: Any) -> float:
    """log det X of a symmetric positive definite X by Cholesky.

    Raises:
        ArgumentError: if X is singular to double precision.
    """
    import numpy as np

    factor, halves = _cholesky(X)
    return float(2 * (np.sum(np.log(np.diagonal(factor))) + np.log(2) * np.sum(halves)))


def scaled(X: Any) -> tuple[Any, Any]:
    """(S, h) with X_ij = 2^{h_i + h_j} S_ij and ½ <= S_ii < 2, for X with a positive diagonal."""
    import numpy as np

    halves = np.frexp(np.diagonal(X))[1] // 2
    # far off an SPD matrix, far below its diagonal
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(X, -halves[:, None] - halves), halves


def _cholesky(X: Any) -> tuple[Any, Any]:
    import numpy as np

    S, halves = scaled(X)
    try:
        return np.linalg.cholesky(S), halves
    except np.linalg.LinAlgError as error:
        raise _singular(S) from error


def _singular(S: Any) -> ArgumentError:
    import numpy as np

    return ArgumentError(
        f"a matrix of condition number {np.linalg.cond(S):.1e} (its diagonal scaled to 1) cannot "
        "be inverted in double precision; pass one below 1e15, or an explicit n = 1, 2, 3"
    )


def _diagonal_part(X: Any) -> Any:
    import numpy as np

    return np.diag(np.diagonal(X))


def _free_places(X: Any) -> list[tuple[int, int]] | None:
    """Where the free entries of a matrix stand, None for a scalar.

    It is the first place of each entry that is not 0: n(n+1)/2 of them in a symmetric or a lower
    triangular matrix, n in a vector.
    """
    if not isinstance(X, sp.MatrixBase):
        return None
    first: dict[Any, tuple[int, int]] = {}
    for place in product(range(X.rows), range(X.cols)):
        if X[place] != 0:
            first.setdefault(X[place], place)
    return list(first.values())


def _entries(values: Iterable[Any], places: list[list[tuple[int, int]] | None]) -> list[Any]:
    """All free entries in a row; the same for symbols as for numbers in their place."""
    entries: list[Any] = []
    for X, free in zip(values, places, strict=True):
        entries += [X] if free is None else [X[place] for place in free]
    return entries
