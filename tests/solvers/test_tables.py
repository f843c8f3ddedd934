"""Tables as Markdown and LaTeX: numbers, what is missing, and every character in use."""

import re
import string
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figures import pipeline, tables
from figures.catalogue import CATALOGUE

MIXED = pd.DataFrame(
    {
        "arm": ["PG(2β*)", "NLL"],
        "λ": [0.5, np.nan],
        "runs": [3, 20],
        "interval": ["[-0.1, -0.02]", None],
        "99 % of α_1 | x": [-1.23456e-7, np.inf],
    }
)
WANTED = r"""\begin{tabular}{lrrlr}
\toprule
arm & $\lambda$ & runs & interval & 99 \% of $\alpha$\_1 \textbar{} x \\
\midrule
PG(2$\beta$*) & $0.5$ & 3 & [$-$0.1, $-$0.02] & $-1.235 \times 10^{-7}$ \\
NLL &  & 20 &  & $\infty$ \\
\bottomrule
\end{tabular}
"""


def test_latex_and_markdown_of_a_table_of_all_kinds() -> None:
    assert tables.latex(MIXED) == WANTED
    assert tables.markdown(MIXED) == (
        "| arm | λ | runs | interval | 99 % of α_1 \\| x |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| PG(2β\\*) | 0.5 | 3 | [-0.1, -0.02] | -1.235e-07 |\n"
        "| NLL |  | 20 |  | inf |\n"
    )


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.123456, "$0.1235$"),
        (-2.0, "$-2$"),
        (123456.0, r"$1.235 \times 10^{5}$"),
        (-np.inf, r"$-\infty$"),
        (np.nan, ""),
        (np.float64(0.25), "$0.25$"),
        (7, "7"),
        (-7, "$-$7"),
        ("half-life of 1-2 in a-3, x-2 or (-4)", "half-life of 1-2 in a-3, x-2 or ($-$4)"),
        ("two\nlines", "two lines"),
    ],
)
def test_cells(value: object, printed: str) -> None:
    (row,) = re.findall(
        r"midrule\n(.*) \\\\\n", tables.latex(pd.DataFrame({"x": [value]}, dtype=object))
    )
    assert row == printed


def back(text: str) -> str:
    """Read LaTeX as `escape` writes it, by longest match."""
    forms = {form: character for character, form in tables.TEXT.items() if character != "\n"}
    forms |= {f"${form}$": character for character, form in tables.MATH.items()}
    for mark, command in tables.MARKS.items():
        forms |= {f"\\{command}{{{letter}}}": letter + mark for letter in string.ascii_letters}
    for accent, command in tables.ACCENTS.items():
        letters = {**{c: c for c in string.ascii_letters}, **tables.MATH}
        forms |= {f"$\\{command}{{{form}}}$": base + accent for base, form in letters.items()}
    found = ""
    while text:
        form = max((f for f in forms if text.startswith(f)), key=len, default=text[0])
        found += forms.get(form, text[0])
        text = text[len(form) :]
    return found


def test_special_characters_come_back() -> None:
    for characters in (tables.TEXT, tables.MATH):
        text = "".join(character for character in characters if character != "\n")
        assert back(tables.escape(text)) == text
    words = r"50 % of #3_a & {b}^2 ~ \c$, ŷ < U* ≤ Σ̂⁻¹ ± λ½"
    assert back(tables.escape(words)) == words.replace("ŷ", unicodedata.normalize("NFD", "ŷ"))


def test_forms_are_distinct_and_balanced() -> None:
    forms = [*tables.TEXT.values(), *(f"${form}$" for form in tables.MATH.values())]
    assert len(set(forms)) == len(forms)
    for form in forms:
        bare = re.sub(r"\\[{}$]", "", form)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0


@pytest.mark.parametrize("character", ["漢", "\u0301", "\t", "ж", "\U0001f642"])
def test_a_character_without_a_form_is_named(character: str) -> None:
    with pytest.raises(tables.NoLatexForm, match=rf"U\+{ord(character):04X}.*figures\.tables"):
        tables.latex(pd.DataFrame({"a": [f"x {character}"]}))
    with pytest.raises(tables.NoLatexForm):
        tables.latex(pd.DataFrame({character: [1.0]}))


@cache
def sources() -> str:
    """Return the code that names arms, metrics and columns."""
    modules = {m.replace(".", "/") for spec in CATALOGUE for m in (spec.experiment, spec.drawing)}
    root = Path(pipeline.__file__).parents[1]
    return "\n".join((root / f"{module}.py").read_text(encoding="utf-8") for module in modules)


def test_every_sign_in_the_strings_of_our_figures_has_a_form() -> None:
    """All short strings: any of them may become a cell or a column of a summary."""
    strings = re.findall(r'(?<!")"([^"\n]{1,40})"(?!")', sources())
    signs = {character for text in strings for character in text if not character.isascii()}
    assert {"β", "λ", "σ", "±", "Δ"} <= signs
    for text in strings:
        tables.escape(re.sub("[●▲■]", "", text))  # marks in a picture, explained by its caption


@pytest.mark.parametrize("data", [MIXED, MIXED.iloc[:0], MIXED[["arm"]]])
def test_every_line_has_as_many_cells(data: pd.DataFrame) -> None:
    lines = [line for line in tables.latex(data).splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(data)
    for line in lines:
        assert len(re.findall(r"(?<!\\)&", line)) == len(data.columns) - 1


@pytest.mark.parametrize(
    "name", ["Größe", "Âge", "Ångström", "façade", "Θερμοκρασία ΑΒΧ", "ülke", "µm °C", "Łódź"]
)
def test_names_in_latin_and_greek_letters_come_back(name: str) -> None:
    text = tables.escape(name)
    assert text.isascii()
    assert unicodedata.normalize("NFC", back(text)) == name


# Without the apostrophe: ’ is printed by it, too.
@given(st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="'")))
def test_any_ascii_name_comes_back_from_latex(name: str) -> None:
    assert back(re.sub(r"-\{\}", "-", tables.escape(name))) == name


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], codec="utf-8")))
def test_any_name_comes_back_from_markdown(name: str) -> None:
    lines = tables.markdown(pd.DataFrame({"x": [name]})).splitlines()
    cell = lines[-1].removeprefix("| ").removesuffix(" |")
    assert re.sub(r"\\([^\w\s])|\\(_)", r"\1\2", cell) == name
    assert not re.search(r"(?<!\\)(\\\\)*[|*$`<]", cell)


def test_line_breaks_in_names_are_spaces_in_markdown() -> None:
    text = tables.markdown(pd.DataFrame({"a\nb": ["c\r\nd"]}))
    assert text == "| a b |\n| --- |\n| c d |\n"
