"""Expressions as terminal text and as LaTeX."""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter, translate
from sympy.printing.pretty.pretty import PrettyPrinter
from sympy.printing.pretty.pretty_symbology import pretty_use_unicode
from sympy.printing.pretty.stringpict import prettyForm, stringPict

from .general_n import is_general

_TEX = {  # signs that are neither letters nor set higher or lower
    "∇": r"\nabla ",
    "∂": r"\partial ",
    "ℓ": r"\ell ",
    "‖": r"\,\|\,",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "⌊": r"\lfloor ",
    "⌋": r"\rfloor ",
    "·": r"\cdot ",
    "×": r"\times ",
    "→": r"\to ",
    "∞": r"\infty ",
    "≤": r"\leq ",
    "≥": r"\geq ",
    "≠": r"\neq ",
    "≺": r"\prec ",
    "⪰": r"\succeq ",
    "∝": r"\propto ",
    "√": r"\sqrt{}",
    "…": r"\ldots ",
    "ᵀ": r"^{\top}",
}
_ACCENTS = {"\u0302": r"\hat", "\u0304": r"\bar", "\u0307": r"\dot"}
_FUNCTIONS = {
    "log": r"\log ",
    "exp": r"\exp ",
    "det": r"\det ",
    "lim": r"\lim ",
    "max": r"\max ",
    "min": r"\min ",
    "sup": r"\sup ",
    "argmin": r"\operatorname{argmin} ",
}
_LARGE = 500  # nodes of a sum in which logarithms are not looked at
_STAR = "\u2217"
_WORDS = r"(?:[A-Za-z]{3,}|KL|ML|NLL|PG|Tr)"  # others are letters, side by side


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
    """SymPy's LaTeX, with diag(X) for the diagonal part of X, ψ for the digamma function.

    Words stand upright, as names and below, and x_hat is x with a hat.
    """

    def _print_Symbol(self, expr: Any, style: str = "plain") -> str:
        hat = re.fullmatch(r"([A-Za-z]+)_hat(?:_?(\w+))?", expr.name)
        if hat is not None:
            below = f"_{{{hat[2]}}}" if hat[2] else ""
            return rf"\hat{{{translate(hat[1])}}}{below}"
        parts = expr.name.split("_")
        if any(map(_is_word, parts)) and all(parts) and len(parts) <= 2:
            above, *below = (rf"\mathrm{{{x}}}" if _is_word(x) else translate(x) for x in parts)
            return above + "".join(f"_{{{x}}}" for x in below)
        return re.sub(r"(?<!\\)([%$&#])", r"\\\1", super()._print_Symbol(expr, style))

    def _print_polygamma(self, expr: Any, exp: Any = None) -> str:
        order, at = map(self._print, expr.args)
        name = r"\psi" if expr.args[0] == 0 else rf"\psi^{{\left({order}\right)}}"
        form = rf"{name}{{\left({at} \right)}}"
        return form if exp is None else rf"\left({form}\right)^{{{exp}}}"

    def _print_DiagonalMatrix(self, expr: Any) -> str:
        return rf"\operatorname{{diag}}\left({self._print(expr.args[0])}\right)"


def _is_word(name: str) -> bool:
    """Whether a part of a symbol's name is a word, and not a letter of some alphabet."""
    return bool(re.fullmatch("[A-Za-z]{3,}", name)) and translate(name) == name


def _shown(expression: Any) -> Any:
    """The expression with whole numbers and logarithms cancelled.

    It is λ/(U + V) for 2λ/(2U + 2V), and 0 for log(1/U) + log U.
    """
    if isinstance(expression, sp.MatrixBase):
        return expression.applyfunc(_shown)
    if is_general(expression):
        return expression
    return _fewer_logs(expression).replace(_shares_a_number, _cancelled)


def _fewer_logs(f: Any) -> Any:
    """A sum with the logarithms of products written out, where fewer are left."""
    large = next(islice(sp.preorder_traversal(f), _LARGE, None), None) is not None
    before = len(f.atoms(sp.log)) if f.is_Add and not large else 0
    if before < 2:
        return f
    other = sp.expand_log(f)
    return other if len(other.atoms(sp.log)) < before else f


def _denominators(term: Any) -> list[Any]:
    """Sums to negative whole powers among the factors."""
    return [
        x
        for x in term.args
        if x.is_Pow and x.base.is_Add and x.exp.is_Integer and x.exp.is_negative
    ]


def _shares_a_number(term: Any) -> bool:
    if not term.is_Mul:
        return False
    above = term.as_coeff_Mul()[0]
    return above.is_Rational and any(
        sp.gcd(above.p, x.base.primitive()[0].p) > 1 for x in _denominators(term)
    )


def _cancelled(term: Any) -> Any:
    for x in _denominators(term):
        number, rest = x.base.primitive()
        term = term / x * number**x.exp * rest**x.exp
    return term


def _is_negative(term: Any) -> bool:
    return bool(term.as_coeff_mmul()[0].could_extract_minus_sign())


def terminal(expression: Any) -> str:
    """Return the expression as lines of Unicode text."""
    # SymPy decides once, by the stdout it is imported under, whether Greek letters are Unicode.
    before = pretty_use_unicode(True)
    try:
        return _Terminal({"use_unicode": True}).doprint(_shown(expression))
    finally:
        pretty_use_unicode(before)


def equation(label: str, expression: Any) -> str:
    """Return lines of Unicode text that say `label = expression`."""
    before = pretty_use_unicode(True)
    try:
        form = _Terminal({"use_unicode": True})._print(_shown(expression))
        return prettyForm(*stringPict.next(f"{label} = ", form)).render(wrap_line=False)
    finally:
        pretty_use_unicode(before)


def latex(expression: Any) -> str:
    """LaTeX of an expression."""
    return str(_Latex().doprint(_shown(expression)))


def latex_of_text(text: str) -> str:
    """LaTeX of a short Unicode label such as "∇_U F", "P*⁻¹" or "P(ζ)", in ASCII.

    Words that are no function stand upright, several of them with their spaces.
    """
    labelled = re.sub(rf"(_?)({_WORDS}(?:,? {_WORDS})*)", _words, _decomposed(text))
    return _signs(labelled.replace("*", _STAR))


def _decomposed(text: str) -> str:
    """The text with accents apart from the letters that they stand over."""
    return unicodedata.normalize("NFD", text).replace("=\u0338", "≠")


def _words(found: re.Match[str]) -> str:
    """LaTeX of words: names of functions, or text."""
    below, text = found.groups()
    parts = text.split()
    if len(parts) == 1 or any(part in _FUNCTIONS for part in parts):
        inside = "".join(_FUNCTIONS.get(part, rf"\mathrm{{{part}}}") for part in parts)
        return f"_{{{inside}}}" if below else inside
    return rf"{below}\text{{ {text}}}"


def _signs(text: str) -> str:
    """LaTeX of what is not ASCII in a decomposed text."""
    text = re.sub(
        f"(.)([{''.join(_ACCENTS)}])",
        lambda found: f"{_ACCENTS[found[2]]}{{{_sign(found[1]).strip()}}}",
        text,
    )
    raised = re.sub("[\u2217⁰¹²³⁴-⁹⁻⁺ⁿᵝ]+", lambda found: f"^{{{_raised(found[0])}}}", text)
    lowered = re.sub("[₀-₉]+", lambda found: f"_{{{_plain(found[0])}}}", raised)
    return "".join(map(_sign, lowered))


def _raised(signs: str) -> str:
    star, rest = signs.count(_STAR), _signs(_plain(signs.replace(_STAR, ""))).strip()
    return " ".join([*[r"\star"] * star, *([rest] if rest else [])])


def _plain(signs: str) -> str:
    """Signs on the line that were set higher or lower."""
    return unicodedata.normalize("NFKD", signs).replace("\u2212", "-")


def _sign(sign: str) -> str:
    """LaTeX of one sign; one that is not known stays."""
    if sign in _TEX or sign.isascii():
        return _TEX.get(sign, sign)
    name = unicodedata.name(sign, "")
    if name.startswith(("GREEK SMALL LETTER ", "GREEK CAPITAL LETTER ")):
        letter = name.rpartition(" ")[2].lower().replace("lamda", "lambda")
        letter = "varsigma" if "FINAL SIGMA" in name else letter
        return rf"\{letter.capitalize() if 'CAPITAL' in name else letter} "
    if unicodedata.decomposition(sign).startswith("<fraction>"):
        above, below = _plain(sign).split("\u2044")
        return rf"\tfrac{{{above}}}{{{below}}}"
    return sign


def words_in_latex(line: str) -> str:
    r"""A line of words within a formula, with what \text does not take everywhere beside it.

    `_` needs a backslash that MathJax prints inside \text, braces have to match, and signs are
    LaTeX commands: what shows them may have no such letters.
    """
    beside = f"((?:.[{''.join(_ACCENTS)}]|[^\x00-\x7f])+|[_{{}}])"
    parts = re.split(beside, _decomposed(line))
    beside_text = {"_": r"\_", "{": r"\{", "}": r"\}"}
    return "".join(
        beside_text.get(part) or _signs(part) if place % 2 else rf"\text{{{part}}}"
        for place, part in enumerate(parts)
        if part
    )
