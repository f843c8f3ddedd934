"""SymPy to NumPy callables (common subexpressions shared), terminal text and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

import sympy as sp
from sympy.printing.numpy import NumPyPrinter
from sympy.printing.pretty.pretty import PrettyPrinter
from sympy.printing.pretty.pretty_symbology import pretty_use_unicode
from sympy.printing.pretty.stringpict import prettyForm, stringPict

from analysis.symbols import DIMENSION
from analysis.words import is_general

_TEX = {
    "log det": r"\log\det",
    "∇": r"\nabla",
    "Σ": r"\Sigma ",
    "λ": r"\lambda ",
    "μ": r"\mu ",
    "∂": r"\partial ",
    "Δ": r"\Delta ",
    "*": r"^{\star}",
    "²": "^2",
    "⁻¹": "^{-1}",
    "‖": r"\,\|\,",
    "κ": r"\kappa ",
}


class _GeneralPrinter(NumPyPrinter):
    """NumPy code for the traces and log dets of general n."""

    def _print_Trace(self, expr: Any) -> str:
        return f"trace({self._print(expr.args[0])})"

    def _print_LogDet(self, expr: Any) -> str:
        return f"linalg.slogdet({self._print(expr.args[0])})[1]"


def compile_numpy(arguments: Mapping[str, Any], expression: Any) -> Callable[..., Any]:
    """A NumPy function of the named arguments (floats and arrays, in the order of the mapping).

    Args:
        arguments: name -> scalar symbol, explicit matrix of symbols, or MatrixSymbol.
        expression: scalar or matrix in these symbols (and the symbol n for general size).
    Returns:
        Callable taking one float or array per argument; for general n the dimension comes first.
    """
    if isinstance(expression, sp.MatrixBase):
        expression = sp.Matrix(expression)
    if is_general(expression) or any(isinstance(s, sp.MatrixSymbol) for s in arguments.values()):
        flat = [DIMENSION, *arguments.values()]
        printer = _GeneralPrinter({"fully_qualified_modules": False, "inline": True})
        return sp.lambdify(flat, expression, modules="numpy", printer=printer, cse=True)
    places = [_free_places(shape) for shape in arguments.values()]
    flat = _entries(arguments.values(), places)
    function = sp.lambdify(flat, expression, modules="numpy", cse=True)

    def call(*values: Any) -> Any:
        return function(*(float(entry) for entry in _entries(values, places)))

    return call


class _Terminal(PrettyPrinter):
    """SymPy's terminal form, with the signs between matrix terms that SymPy 1.14 loses."""

    def _print_MatAdd(self, expr: Any) -> prettyForm:
        form: Any = None
        for term in sorted(expr.args, key=_is_negative):
            sign = " - " if _is_negative(term) else " + "
            printed = self._print(-term if _is_negative(term) else term)
            if form is not None:
                form = prettyForm(*stringPict.next(form, sign, printed))
            else:
                form = prettyForm(*stringPict.next("-", printed)) if sign == " - " else printed
        return form


def _is_negative(term: Any) -> bool:
    return bool(term.as_coeff_mmul()[0].could_extract_minus_sign())


def terminal(expression: Any) -> str:
    """Return the expression as lines of Unicode text."""
    # SymPy decides once, by the stdout it is imported under, whether Greek letters are Unicode.
    before = pretty_use_unicode(True)
    try:
        return _Terminal({"use_unicode": True}).doprint(expression)
    finally:
        pretty_use_unicode(before)


def latex(expression: Any) -> str:
    """LaTeX of an expression."""
    return str(sp.latex(expression))


def latex_of_text(text: str) -> str:
    """LaTeX of a short Unicode label such as "∇_U F" or "P*"."""
    for plain, tex in _TEX.items():
        text = text.replace(plain, tex)
    return text


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
