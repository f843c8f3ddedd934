"""What a cell of text stands for: a number, a number written in another way, or a word.

A column of text is one of categories, unless it looks like numbers that were not read as such: more
than half of its different cells begin like a number (a digit, after signs at most), or nine tenths
of all cells do. Different ones, so that one word in half of the rows is still one word. Then

1. *numbers with bad cells* are refused: at least one is a number, plain (`1.5`) or in another
   notation (`1,5`, `$12`, `1 234`, `8 %`), and at least one is not a plain number (`?`, `n/a`,
   `12 kg`, `1,5`);
2. *numbers as text* are refused: cells stand for fewer than five rows each on average.

So `1`, `2`, `3+` are refused, and a hundred prices or dates; `A1`, `B2`, and `1st`, `2nd`, and
`0-17`, `18-25`, and `low`, `high`, `10` are categories, and days `"1"` to `"7"` in a hundred rows.
What the rules refuse can be said to be categories, by the pandas type `category`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from numbers import Number, Real

import numpy as np
import pandas as pd

from ..errors import InputError

PLAIN = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_UNIT = r"([$€£¥₹₽₩¢%‰]|(USD|EUR|GBP|CHF|JPY)\s?)"
_DIGITS = r"(\d{1,3}([.,'’_\s]\d{3})+([.,]\d*)?|\d+([.,]\d*)?|[.,]\d+)"
_BEFORE = rf"\s*[<>≤≥~≈±]?\s*\(?\s*[+\-−]?\s*{_UNIT}?\s*[+\-−]?\s*"
NOTATION = re.compile(rf"{_BEFORE}{_DIGITS}([eEdD][+\-−]?\d+)?\s*{_UNIT}?\s*\)?\s*")
BEGINS = re.compile(rf"{_BEFORE}[.,]?\d")
DECIMAL_COMMA = re.compile(r"\s*[+\-−]?(\d{1,3}(\.\d{3})+|\d+)?,\d+\s*")
ROWS_PER_CATEGORY = 5
MOSTLY = 0.9


def is_text(kind: object) -> bool:
    """Whether a column of this type holds words, or anything at all."""
    types = pd.api.types
    declared = isinstance(kind, pd.CategoricalDtype)
    return not declared and (types.is_string_dtype(kind) or types.is_object_dtype(kind))


def check_kinds(name: str, column: pd.Series) -> None:
    """Raise `InputError` naming the first cell of a column that is no text, boolean or number."""
    if not pd.api.types.is_object_dtype(column.dtype):
        return
    for row, cell in enumerate(column.to_numpy(dtype=object)):
        usable = isinstance(cell, (str, bool, np.bool_, Real, Decimal))
        if not usable and not (pd.api.types.is_scalar(cell) and pd.isna(cell)):
            raise InputError(
                f"{name}: column {column.name!r} holds {type(cell).__name__} in row {row} (counted "
                f"from 0), {cell!r}, neither a real number nor text: convert it, or drop the column"
            )


def check_bad_cells(name: str, column: pd.Series, remedy: str) -> None:
    """Raise `InputError` if a column of text holds numbers and a few cells that are not.

    Args:
        name: of the table, for the message.
        column: of any type; others than text pass.
        remedy: what to do if the column is meant to hold words.
    """
    if not is_text(column.dtype):
        return
    present = column.dropna()
    distinct = list(dict.fromkeys(present))
    if not _mostly_begin(present, distinct) or not any(map(_is_number, distinct)):
        return
    bad = np.array([not _is_plain(cell) for cell in present], dtype=bool)
    if bad.any():
        cell = present.iloc[int(np.argmax(bad))]
        row = int(np.flatnonzero(column.notna())[np.argmax(bad)])
        raise InputError(
            f"{name}: column {column.name!r} holds numbers, but {cell!r} in row {row} (counted "
            f"from 0) is none ({int(bad.sum())} of {len(present)} cells are none): "
            f"{_correction(cell)}; {remedy}"
        )
    if any(not isinstance(cell, str) for cell in distinct):
        raise InputError(
            f"{name}: column {column.name!r} holds numbers as Python objects, e.g. "
            f"{distinct[0]!r}: make it numeric, frame.astype({{{column.name!r}: float}}); {remedy}"
        )


def check_numbers_as_text(name: str, column: pd.Series, remedy: str) -> None:
    """Raise `InputError` if a column of text begins like numbers and its cells rarely repeat.

    Arguments as of `check_bad_cells`.
    """
    if not is_text(column.dtype):
        return
    present = column.dropna()
    distinct = list(dict.fromkeys(present))
    if _mostly_begin(present, distinct) and len(present) < ROWS_PER_CATEGORY * len(distinct):
        row = int(np.argmax(column.notna().to_numpy()))
        raise InputError(
            f"{name}: column {column.name!r} is text that begins like numbers, {distinct[0]!r} in "
            f"row {row} (counted from 0), with {len(distinct)} different cells in {len(present)} "
            f"rows: make it numbers, or drop it; {remedy}"
        )


def _correction(cell: object) -> str:
    if isinstance(cell, str) and DECIMAL_COMMA.fullmatch(cell):
        return "write it with a decimal point, or pass decimal=',' where the file is read"
    if _is_number(cell):
        return "write it as a plain number"
    return (
        f"if it means that a value is missing, pass na_values=[{cell!r}] where the file is read, "
        f"else correct it"
    )


def _mostly_begin(present: pd.Series, distinct: list[object]) -> bool:
    begin = {cell: _begins(cell) for cell in distinct}
    if 2 * sum(begin.values()) > len(distinct):
        return True
    return sum(begin[cell] for cell in present) > MOSTLY * len(present)


def _begins(cell: object) -> bool:
    return BEGINS.match(cell) is not None if isinstance(cell, str) else _is_plain(cell)


def _is_number(cell: object) -> bool:
    return NOTATION.fullmatch(cell) is not None if isinstance(cell, str) else _is_plain(cell)


def _is_plain(cell: object) -> bool:
    if isinstance(cell, str):
        return PLAIN.fullmatch(cell) is not None
    return isinstance(cell, Number) and not isinstance(cell, (bool, np.bool_))
