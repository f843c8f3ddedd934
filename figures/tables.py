"""Tables of numbers as text: Markdown for reading, LaTeX for a paper."""

from __future__ import annotations

import math
import re
import unicodedata

import pandas as pd


class NoLatexForm(ValueError):
    """A character of a table has no LaTeX form here; the message names it."""


TEXT = {  # what LaTeX would read as a command, or print as something else
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
    "\n": " ",
    "\u00a0": "~",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "’": "'",
    "…": r"\dots{}",
    "`": r"\textasciigrave{}",
    "°": r"\textdegree{}",
    "µ": r"\textmu{}",
    "€": r"\texteuro{}",
    "£": r"\pounds{}",
    "§": r"\S{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
MATH = {
    "α": r"\alpha",
    "β": r"\beta",
    "γ": r"\gamma",
    "δ": r"\delta",
    "ε": r"\varepsilon",
    "ζ": r"\zeta",
    "η": r"\eta",
    "θ": r"\theta",
    "ι": r"\iota",
    "κ": r"\kappa",
    "λ": r"\lambda",
    "μ": r"\mu",
    "ν": r"\nu",
    "ξ": r"\xi",
    "π": r"\pi",
    "ρ": r"\rho",
    "σ": r"\sigma",
    "τ": r"\tau",
    "υ": r"\upsilon",
    "φ": r"\varphi",
    "χ": r"\chi",
    "ψ": r"\psi",
    "ω": r"\omega",
    "Γ": r"\Gamma",
    "Δ": r"\Delta",
    "Θ": r"\Theta",
    "Λ": r"\Lambda",
    "Ξ": r"\Xi",
    "Π": r"\Pi",
    "Σ": r"\Sigma",
    "Υ": r"\Upsilon",
    "Φ": r"\Phi",
    "Ψ": r"\Psi",
    "Ω": r"\Omega",
    # Capitals that look like Latin ones have no command, and omicron neither.
    **{
        greek: rf"\mathrm{{{latin}}}"
        for greek, latin in zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True)
    },
    "ο": "o",
    "ς": r"\varsigma",
    "★": r"\star",
    "±": r"\pm",
    "−": "-",
    "×": r"\times",
    "·": r"\cdot",
    "√": r"\surd",
    "∂": r"\partial",
    "∇": r"\nabla",
    "∝": r"\propto",
    "≤": r"\leq",
    "≥": r"\geq",
    "≠": r"\neq",
    "≈": r"\approx",
    "∞": r"\infty",
    "∈": r"\in",
    "→": r"\to",
    "½": r"\tfrac{1}{2}",
    "‖": r"\|",
    "ᵀ": r"{}^{\top}",
    "⁻": "{}^{-}",
    **{character: f"{{}}^{{{digit}}}" for digit, character in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{character: f"{{}}_{{{digit}}}" for digit, character in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}
ACCENTS = {  # in math
    "\u0302": "hat",
    "\u0304": "bar",
    "\u0303": "tilde",
    "\u0307": "dot",
    "\u0301": "acute",
    "\u0308": "ddot",
}
MARKS = {  # of Latin letters in words
    "\u0300": "`",
    "\u0301": "'",
    "\u0306": "u",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
    "\u0328": "k",
}
# A letter with the accents on it, or any other character.
CHARACTER = re.compile(f".[{''.join(ACCENTS | MARKS)}]*", re.DOTALL)
MARKUP = re.compile(r"[\\`*$<|~&]|(?<![^\W_])_|_(?![^\W_])")
MINUS = re.compile(r"(?<![\w.)-])-(?=[\d.])")


def markdown(data: pd.DataFrame) -> str:
    """Return a table as Markdown, floats with four significant digits, what is missing empty."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if math.isnan(value) else f"{value:.4g}"
        # Escaped is what Markdown would take for emphasis, code, links to HTML, formulas, cells.
        return "" if value is None else MARKUP.sub(r"\\\g<0>", " ".join(str(value).splitlines()))

    rows = [[text(value) for value in row] for row in data.itertuples(index=False, name=None)]
    lines = [[text(name) for name in data.columns], ["---"] * len(data.columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latex(data: pd.DataFrame) -> str:
    """Return a table as a LaTeX tabular, for the package booktabs.

    Floats have four significant digits, what is missing is empty, numbers stand on the right.

    Raises:
        NoLatexForm: a character has none here.
    """
    kinds = ["r" if pd.api.types.is_numeric_dtype(kind) else "l" for kind in data.dtypes]
    names = [escape(str(name)) for name in data.columns]
    rows = [[_cell(value) for value in row] for row in data.itertuples(index=False, name=None)]
    body = [" & ".join(row) + r" \\" for row in rows]
    head = [f"\\begin{{tabular}}{{{''.join(kinds)}}}", r"\toprule", " & ".join(names) + r" \\"]
    return "\n".join([*head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        # A minus and not a hyphen before a number, within text too.
        return escape(MINUS.sub("−", str(value)))
    if math.isnan(value):
        return ""
    digits, _, exponent = f"{value:.4g}".partition("e")
    number = digits.replace("inf", r"\infty")
    return f"${number} \\times 10^{{{int(exponent)}}}$" if exponent else f"${number}$"


def escape(text: str) -> str:
    """Return text as LaTeX prints it: Greek letters and signs in math, commands as characters.

    Raises:
        NoLatexForm: a character has none here.
    """
    # "ŷ" may be one character or two: always two here, so that one rule takes both. Only then:
    # others, such as half, would come apart or change.
    pairs = (unicodedata.normalize("NFD", character) for character in text)
    decomposed = "".join(
        pair if set(pair) & set(ACCENTS | MARKS) else character
        for character, pair in zip(text, pairs, strict=True)
    )
    printed = "".join(_character(found) for found in CHARACTER.findall(decomposed))
    return re.sub("-(?=-)", "-{}", printed)  # two hyphens would print as a dash


def _character(character: str) -> str:
    base, accents = character[0], character[1:]
    letter = base.isascii() and base.isalpha()
    if not accents and (base in TEXT or (base.isascii() and base.isprintable())):
        return TEXT.get(base, base)
    if letter and set(accents) <= set(MARKS):
        return _accented(base, [MARKS[accent] for accent in accents])
    if set(accents) <= set(ACCENTS) and (base in MATH or (accents and letter)):
        return f"${_accented(MATH.get(base, base), [ACCENTS[accent] for accent in accents])}$"
    names = ", ".join(f"{unicodedata.name(c, 'unnamed')}, U+{ord(c):04X}" for c in character)
    raise NoLatexForm(
        f"no LaTeX form for {character!r} ({names}): write it otherwise, or add it to "
        f"figures.tables.MATH"
    )


def _accented(form: str, commands: list[str]) -> str:
    for command in commands:
        form = f"\\{command}{{{form}}}"
    return form
