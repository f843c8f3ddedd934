"""Expressions as fast functions of floats, or of whatever computes like them, by printed code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp

MODULES = ("scipy", "numpy")  # of functions in printed code


def function_of(
    arguments: Sequence[Sequence[Any]], f: Any, modules: Any = MODULES
) -> Callable[..., Any]:
    """f as a function of the values of lists of symbols, whatever these are called.

    In printed code a symbol called exp would stand for the function, so all are named anew.
    """
    every = [x for symbols in arguments for x in symbols]
    names = {x: sp.Symbol(f"value_{i}", real=True) for i, x in enumerate(every)}
    lists = [[names[x] for x in symbols] for symbols in arguments]
    parts = [part.xreplace(names) for part in f] if isinstance(f, list) else f.xreplace(names)
    return sp.lambdify(lists, parts, list(modules), cse=True)
