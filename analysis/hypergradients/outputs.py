"""The outputs of a Gaussian policy as variables: P within its structure, and differentials."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import diagonal_part, identity
from ..calculus.stationary import solve_linear
from ..calculus.structures import free_entries, restrict
from ..calculus.symbols import symbol, symbols


def in_factor(X: Any, n: int) -> Any:
    """X with P_ii = L_ii²: positive symbols that are no entries of an SPD matrix."""
    P, L = symbols("P L", n)
    return X.xreplace({P[i, i]: L[i, i] ** 2 for i in range(n)})


def covariance(structure: str, n: int) -> tuple[Any, Any]:
    """P and a direction H within the structure, in symbols."""
    H = restrict(structure, symbol("H", n))
    if structure == "isotropic":
        return symbol("s") * sp.ImmutableMatrix.eye(n), H
    return restrict(structure, symbol("P", n)), H


def general_covariance(structure: str) -> Any:
    """P of general size within the structure, in the symbols of `argument`."""
    if structure == "full":
        return symbol("P", None)
    factor = diagonal_part(symbol("L", None))
    return factor * factor if structure == "diagonal" else symbol("s") * identity(factor)


def argument(structure: str, n: int | None) -> dict[str, Any]:
    """What stands for P among the arguments of a derivation: s, L with P_ii = L_ii², or P."""
    name = {"isotropic": "s", "diagonal": "L", "full": "P"}[structure]
    return {name: symbol(name, n)}


def within(structure: str, slopes: list[Any], n: int) -> Any:
    """G within the structure with df = Tr(G H), from the slopes in the free entries of H."""
    if structure == "full":
        value = dict(zip(free_entries(symbol("H", n)), slopes, strict=True))
        return symbol("H", n).applyfunc(lambda x: value[x]).multiply_elementwise(_half(n))
    if structure == "diagonal":
        return sp.ImmutableMatrix.diag(*slopes)
    return slopes[0] / n * sp.ImmutableMatrix.eye(n)


def _half(n: int) -> Any:
    return sp.ImmutableMatrix(n, n, lambda i, j: sp.S.One if i == j else sp.Rational(1, 2))


def expanded(X: Any) -> Any:
    """X with every entry expanded."""
    return X.applyfunc(sp.expand)


def first(f: Any, at: Any, along: Any) -> Any:
    """The first differential of f."""
    return sum(sp.diff(f, x) * d for x, d in zip(at, along, strict=True))


def second(f: Any, at: Any, along: Any) -> Any:
    """The second differential of f."""
    return first(first(f, at, along), at, along)


def maximiser(concave: Any, h: Any) -> tuple[list[Any], Any]:
    """The equations for the maximiser of a quadratic in h, and the maximiser."""
    equations = [sp.expand(sp.diff(concave, x)) for x in h]
    return equations, sp.ImmutableMatrix(solve_linear(equations, list(h)))
