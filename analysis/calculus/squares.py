"""Signs of second differentials, as weighted sums of squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from .conditions import Condition, positive, zero
from .expanding import expanded
from .matrices import inverse


def negative_by_squares(
    text: str,
    value: Any,
    squares: Sequence[tuple[Any, Any]],
    directions: Sequence[Any],
) -> tuple[Condition, ...]:
    """Conditions proving value < 0 for every direction but 0: value = -Σ weight · form².

    Args:
        squares: (weight, form) with forms linear in the directions, listed so that their Jacobian
            is triangular: then they vanish together only at 0.
    """
    forms = sp.Matrix([form for _, form in squares])
    jacobian = forms.jacobian(sp.Matrix(list(directions)))
    total = sum(weight * form**2 for weight, form in squares)
    triangle = jacobian - jacobian.lower_triangular()
    if any(entry != 0 for entry in triangle):
        triangle = jacobian - jacobian.upper_triangular()
    return (
        zero(f"{text} = -(sum of weighted squares)", value + total),
        positive(f"{text}: the weights are positive", sp.Matrix([weight for weight, _ in squares])),
        zero(f"{text}: the forms are triangular in the direction", triangle),
        positive(f"{text}: with a positive diagonal", jacobian.diagonal()),
    )


def trace_squares(C: Any, D: Any, H: Any) -> list[tuple[Any, Any]]:
    """Tr(X⁻¹HX⁻¹H) as weighted squares, for X = C D Cᵀ and H symmetric of the same structure."""
    inner = inverse(C)
    W = (inner * H * inner.T).applyfunc(expanded)
    squares: dict[Any, Any] = {}
    for i in range(W.rows):
        for j in range(i, W.rows):
            if W[i, j] != 0:
                weight = (1 if i == j else 2) / (D[i, i] * D[j, j])
                squares[W[i, j]] = squares.get(W[i, j], 0) + weight
    return [(weight, form) for form, weight in squares.items()]
