"""Derivatives of explicit scalars: SymPy's own, without its checks at every node."""

from __future__ import annotations

from typing import Any

import sympy as sp


def derivative(f: Any, x: Any) -> Any:
    """∂f/∂x of a scalar in symbols, for a symbol x; SymPy differentiates the rarer functions."""
    known: dict[Any, Any] = {x: sp.S.One}

    def of(node: Any) -> Any:
        if node not in known:
            known[node] = sp.S.Zero if node.is_Atom else rule(node)
        return known[node]

    def rule(node: Any) -> Any:
        parts = node.args
        if node.is_Add:
            return sp.Add(*(slope for part in parts if (slope := of(part)) != 0))
        if node.is_Mul:
            return sp.Add(
                *(
                    sp.Mul(slope, *parts[:i], *parts[i + 1 :])
                    for i, part in enumerate(parts)
                    if (slope := of(part)) != 0
                )
            )
        if node.is_Pow and of(parts[1]) == 0:
            base, exponent = parts
            slope = of(base)
            return slope if slope == 0 else exponent * base ** (exponent - 1) * slope
        if isinstance(node, sp.log):
            return of(parts[0]) / parts[0]
        return sp.diff(node, x)

    return of(f)
