"""Solving first-order conditions in LDL coordinates, and sums of squares for the second order.

With X = C D Cᵀ (C unit lower triangular, D diagonal), a function log det X + linear(X) has
first-order conditions that are linear in each column of C, and then in each entry of D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from .derivation import Condition, positive, zero
from .matrix_calculus import inverse, lowest_terms, product
from .symbols import ldl_factors


def covariance(structure: str, name: str, n: int) -> tuple[Any, Any]:
    """Factors (C, D) of a covariance of this structure: C D Cᵀ with free entries.

    Returns:
        C: unit lower triangular, the identity unless the structure is full.
        D: diagonal, one shared entry if the structure is isotropic.
    """
    C, D = ldl_factors(name, n)
    if structure == "full":
        return C, D
    if structure == "diagonal":
        return sp.ImmutableMatrix.eye(n), D
    return sp.ImmutableMatrix.eye(n), D[0, 0] * sp.ImmutableMatrix.eye(n)


def solve_linear(equations: Sequence[Any], unknowns: Sequence[Any]) -> list[Any]:
    """The unique solution of equations linear in the unknowns.

    Raises:
        ValueError: if an equation is not linear.
    """
    A = sp.Matrix([[sp.diff(equation, x) for x in unknowns] for equation in equations])
    A = A.applyfunc(sp.expand)
    if A.has(*unknowns):
        raise ValueError(f"the equations are not linear in {list(unknowns)}")
    b = sp.Matrix([equation.subs(dict.fromkeys(unknowns, 0)) for equation in equations])
    return list(lowest_terms(-inverse(A) * b))


def solve_ldl(f: Any, C: Any, D: Any) -> dict[Any, Any]:
    """The unique stationary point of f in the free entries of C and D, column by column.

    Raises:
        ValueError: if a first-order condition is not linear in its column or pivot.
    """
    solution: dict[Any, Any] = {}
    for j in range(C.rows):
        pivot = D[j, j]
        if pivot in solution:
            continue
        column = [C[i, j] for i in range(j + 1, C.rows) if C[i, j].is_Symbol]
        if column:
            equations = [sp.expand(sp.diff(f, x) / pivot) for x in column]
            solution.update(zip(column, solve_linear(equations, column), strict=True))
        slope = sp.expand(sp.expand(pivot * sp.diff(f, pivot)).xreplace(solution))
        solution[pivot] = solve_linear([slope], [pivot])[0]
    return solution


def ldl_product(C: Any, D: Any, solution: dict[Any, Any]) -> Any:
    """C D Cᵀ at the values of its free entries, in lowest terms."""
    unit = C.xreplace(solution)
    return product(unit, D.xreplace(solution), unit.T)


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
    W = (inner * H * inner.T).applyfunc(sp.expand)
    squares: dict[Any, Any] = {}
    for i in range(W.rows):
        for j in range(i, W.rows):
            if W[i, j] != 0:
                weight = (1 if i == j else 2) / (D[i, i] * D[j, j])
                squares[W[i, j]] = squares.get(W[i, j], 0) + weight
    return [(weight, form) for form, weight in squares.items()]


def restrict(structure: str, H: Any) -> Any:
    """A symmetric direction within the structure."""
    n = H.rows
    if structure == "full":
        return H
    if structure == "diagonal":
        return sp.ImmutableMatrix.diag(*H.diagonal())
    return H[0, 0] * sp.ImmutableMatrix.eye(n)


def free_entries(H: Any) -> list[Any]:
    """The distinct symbols of a symmetric matrix, row by row."""
    entries = [H[i, j] for i in range(H.rows) for j in range(i, H.rows)]
    return list(dict.fromkeys(entry for entry in entries if entry != 0))
