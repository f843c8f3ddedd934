"""Text as sequences: the poem that Python ships, and any text as windows of symbols.

Characters are put into a few groups, so that all windows can be enumerated: then the law of the
data is exact, and so is what every reward can teach of it.
"""

from __future__ import annotations

import ast
import codecs
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from ..data import Dataset
from ..errors import InputError, check_count, check_instance, check_precision

VOWELS, CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"
GROUPS = (VOWELS, CONSONANTS)  # and anything else: spaces, line breaks, punctuation


def zen() -> str:
    """Return "The Zen of Python" by Tim Peters, from the source of `this`: importing it prints.

    Raises:
        InputError: this Python does not come with the source of its standard library.
    """
    spec = importlib.util.find_spec("this")
    path = Path(spec.origin) if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise InputError("the source of the module `this` is missing: pass a text of your own")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            return codecs.decode(str(node.value.value), "rot13")
    raise InputError("the module `this` holds no text: pass a text of your own")


def symbols(text: str, groups: Sequence[str] = GROUPS) -> Int[Tensor, "length"]:
    """Return the group of every character, in lower case; `len(groups)` of those in none.

    Raises:
        InputError: no text, or a letter in several groups (upper and lower case are one).
    """
    check_instance("text", text, str, "a text; `bytes.decode()` makes one of bytes")
    number: dict[str, int] = {}
    for g, letters in enumerate(groups):
        for letter in letters.lower():
            if number.setdefault(letter, g) != g:
                raise InputError(
                    f"groups[{number[letter]}] and groups[{g}] both hold {letter!r}: pass groups "
                    f"that have no letter in common, in lower case"
                )
    found = [number.get(letter, len(groups)) for letter in text.lower()]
    return torch.tensor(found, dtype=torch.int64)


def windows(
    text: str, T: int, groups: Sequence[str] = GROUPS, dtype: torch.dtype = torch.float64
) -> Dataset:
    """Return every window of `T` characters, by their groups, as outcomes at one input.

    Args:
        text: of at least `T` characters.
        T: length of the windows, which overlap.
        groups: letters of the symbols `0, 1, …`; all other characters are the last symbol.
        dtype: of the data.

    Raises:
        InputError: the text is too short, a letter is in several groups, or a setting out of its
            range.
    """
    check_count("T", T)
    check_precision("dtype", dtype)
    found = symbols(text, groups)
    if len(found) < T:
        raise InputError(f"the text has {len(found)} characters: pass at least T = {T}")
    return of_sequences(found.unfold(0, T, 1), dtype)


def of_sequences(y: Int[Tensor, "S T"], dtype: torch.dtype = torch.float64) -> Dataset:
    """Return sequences of symbols as outcomes at one input."""
    return Dataset.of(torch.ones(1, 1, dtype=dtype), y.to(dtype).unsqueeze(0))
