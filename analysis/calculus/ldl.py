"""LDL coordinates: X = C D Cᵀ is one-to-one from C (unit lower), D > 0 onto the SPD matrices."""

from __future__ import annotations

import re
from typing import Any

import sympy as sp

from .symbols import QUANTITIES, symbol

_ENTRY = re.compile(
    "^(" + "|".join(q.name for q in QUANTITIES.values() if q.domain == "spd") + r")_(\d)(\d)$"
)


def ldl_factors(name: str, n: int) -> tuple[Any, Any]:
    """C (unit lower triangular) and D (positive diagonal) with X = C D Cᵀ, for the SPD symbol X."""
    C = sp.ImmutableMatrix(n, n, lambda i, j: sp.S(int(i == j)) if i <= j else _c(name, i, j))
    return C, sp.ImmutableMatrix.diag(
        *(_d(name, i) if n > 1 else symbol(name, 1) for i in range(n))
    )


def ldl_from_entries(name: str, n: int) -> dict[sp.Symbol, Any]:
    """The inverse map: each LDL coordinate of X as a rational function of the entries of X."""
    X = symbol(name, n)
    values: dict[sp.Symbol, Any] = {}
    for j in range(n):
        for i in range(j, n):
            done = [
                values[_d(name, k)] * values.get(_c(name, i, k), 1) * values[_c(name, j, k)]
                for k in range(j)
            ]
            rest = sp.cancel(X[i, j] - sum(done))
            if i == j:
                values[_d(name, j)] = rest
            else:
                values[_c(name, i, j)] = sp.cancel(rest / values[_d(name, j)])
    return values


def to_coordinates(expression: Any) -> Any:
    """Write the entries of every SPD symbol in LDL coordinates."""
    replacements: dict[Any, Any] = {}
    for entry in expression.free_symbols:
        match = _ENTRY.match(entry.name)
        if match:
            name, i, j = match[1], int(match[2]) - 1, int(match[3]) - 1
            replacements[entry] = sum(
                _d(name, k) * _c(name, i, k) * _c(name, j, k) for k in range(min(i, j) + 1)
            )
    return expression.xreplace(replacements)


def from_coordinates(expression: Any) -> Any:
    """Write LDL coordinates back in the entries of their SPD symbols."""
    names = {symbol.name for symbol in expression.free_symbols}
    replacements: dict[Any, Any] = {}
    for quantity in QUANTITIES.values():
        pivots = [k for k in range(1, 10) if f"d_{quantity.name}{k}" in names]
        rows = [int(name[-2]) for name in names if re.match(rf"^c_{quantity.name}\d\d$", name)]
        if quantity.domain == "spd" and (pivots or rows):
            replacements |= ldl_from_entries(quantity.name, max([2, *pivots, *rows]))
    return expression.xreplace(replacements)


def _d(name: str, k: int) -> sp.Symbol:
    return sp.Symbol(f"d_{name}{k + 1}", positive=True)


def _c(name: str, i: int, k: int) -> Any:
    return sp.S.One if i == k else sp.Symbol(f"c_{name}{i + 1}{k + 1}", real=True)
