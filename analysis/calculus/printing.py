"""Expressions as terminal text and as LaTeX."""

from __future__ import annotations

import re
from typing import Any

from sympy.printing.latex import LatexPrinter
from sympy.printing.pretty.pretty import PrettyPrinter
from sympy.printing.pretty.pretty_symbology import pretty_use_unicode
from sympy.printing.pretty.stringpict import prettyForm, stringPict

_TEX = {
    "log det": r"\log\det",
    "∇": r"\nabla ",
    "Σ": r"\Sigma ",
    "λ": r"\lambda ",
    "μ": r"\mu ",
    "∂": r"\partial ",
    "Δ": r"\Delta ",
    "*⁻¹": r"^{\star -1}",
    "*": r"^{\star}",
    "²": "^2",
    "⁻¹": "^{-1}",
    "‖": r"\,\|\,",
    "κ": r"\kappa ",
}


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

    def _print_DiagonalMatrix(self, expr: Any) -> prettyForm:
        inner = prettyForm(*self._print(expr.args[0]).parens())
        return prettyForm(*inner.left("diag"))


class _Latex(LatexPrinter):
    """SymPy's LaTeX, with diag(X) for the diagonal part of X."""

    def _print_DiagonalMatrix(self, expr: Any) -> str:
        return rf"\operatorname{{diag}}\left({self._print(expr.args[0])}\right)"


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


def equation(label: str, expression: Any) -> str:
    """Return lines of Unicode text that say `label = expression`."""
    before = pretty_use_unicode(True)
    try:
        form = _Terminal({"use_unicode": True})._print(expression)
        return prettyForm(*stringPict.next(f"{label} = ", form)).render(wrap_line=False)
    finally:
        pretty_use_unicode(before)


def latex(expression: Any) -> str:
    """LaTeX of an expression."""
    return str(_Latex().doprint(expression))


def latex_of_text(text: str) -> str:
    """LaTeX of a short Unicode label such as "∇_U F" or "P*"."""
    for plain, tex in _TEX.items():
        text = text.replace(plain, tex)
    return text


def words_in_latex(line: str) -> str:
    r"""A line of words within a formula, with what \text does not take everywhere beside it.

    `_` needs a backslash that MathJax prints inside \text, KaTeX refuses `≠` there, and braces
    have to match.
    """
    parts = re.split("([_≠{}])", line)
    return "".join(_BESIDE_TEXT.get(part, rf"\text{{{part}}}") for part in parts if part)


_BESIDE_TEXT = {"_": r"\_", "≠": r"\neq ", "{": r"\{", "}": r"\}"}
