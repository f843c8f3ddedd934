"""The one gate from a user's values to SymPy: expressions and numbers, alone or in nested lists.

`sympify` evaluates strings as Python code, also those inside lists, arrays, tuples, sets and dicts,
and inside the last three even if it is strict. So nothing but what is named here is given to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Number
from typing import Any

import sympy as sp

from ..errors import RewardTypeError


def expression(value: Any, what: str) -> Any:
    """A SymPy expression, a number, or the number in an array without axes, as SymPy has it.

    Raises:
        RewardTypeError: for a string, and whatever else is neither expression nor number.
    """
    array = _array(value, what)
    if array is not None and array.shape == ():
        value = array[()]
    if isinstance(value, (str, bytes, bytearray)):
        raise RewardTypeError(
            f"{what} is the string {value!r}, which SymPy would have to evaluate; pass a SymPy "
            "expression in the symbols of outcome(n)"
        )
    if isinstance(value, sp.Basic):
        return value
    if isinstance(value, Number) and not isinstance(value, Iterable):
        try:
            return sp.sympify(value, strict=True)
        except ValueError:  # SymPy converts a NaN of every precision but the single one
            return sp.nan
    raise RewardTypeError(
        f"{what} is {value!r} of type {type(value).__name__}; pass a SymPy expression"
    )


def matrix(value: Any, what: str) -> Any:
    """A matrix, an array or a nested list, every entry through `expression`.

    Raises:
        RewardTypeError: for whatever else, at any depth, and for rows of several lengths.
    """
    entries = _entries(value, what)
    try:
        return sp.ImmutableMatrix(entries)
    except (TypeError, ValueError, ZeroDivisionError) as error:  # the last for [[], 1]
        raise RewardTypeError(f"{what} is {value!r}, which is no matrix; pass one") from error


def _entries(value: Any, what: str) -> Any:
    if isinstance(value, sp.MatrixBase):
        return value
    array = _array(value, what)
    if isinstance(value, sp.NDimArray):
        value = value.tolist()
    elif array is not None and array.shape != ():
        value = list(array)
    if isinstance(value, (list, tuple, sp.Tuple)):
        return [_entries(entry, f"an entry of {what}") for entry in value]
    return expression(value, what)


def _array(value: Any, what: str) -> Any:
    """An array, or what converts to one by itself, such as a tensor; None for the rest."""
    import numpy as np

    if isinstance(value, (sp.Basic, sp.MatrixBase)) or not hasattr(type(value), "__array__"):
        return None
    if np.ma.is_masked(value):
        raise RewardTypeError(f"{what} is a masked array; fill or leave out the masked entries")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RewardTypeError(f"{what} is {value!r}: {error}") from error
