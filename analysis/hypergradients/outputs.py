"""The outputs of a Gaussian policy as variables, and differentials in them."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.expanding import expanded
from ..calculus.slopes import derivative
from ..calculus.stationary import solve_linear
from ..calculus.structures import Shape
from ..calculus.symbols import symbol


def argument(shape: Shape, n: int | None) -> dict[str, Any]:
    """What stands for P among the arguments of a derivation: s, L with P_ii = L_ii², or P."""
    return {shape.argument: symbol(shape.argument, n)}


def first(f: Any, at: Any, along: Any) -> Any:
    """The first differential of f."""
    return sum(derivative(f, x) * d for x, d in zip(at, along, strict=True))


def second(f: Any, at: Any, along: Any) -> Any:
    """The second differential of f."""
    return first(first(f, at, along), at, along)


def at_adjoint(J: Any, F: Any, at: Any, along: Any, adjoint: Any) -> Any:
    """d²J(adjoint, d) + dF(d) along d: 0 for every d, or it is not the adjoint."""
    held = sp.symbols(f"held_1:{len(at) + 1}", cls=sp.Dummy)  # the adjoint varies with the outputs
    slope = first(first(J, at, held), at, along) + first(F, at, along)
    return slope.xreplace(dict(zip(held, adjoint, strict=True)))


def maximiser(concave: Any, h: Any) -> Any:
    """Where a concave quadratic in h is largest."""
    equations = [expanded(derivative(concave, x)) for x in h]
    return sp.ImmutableMatrix(solve_linear(equations, list(h)))
