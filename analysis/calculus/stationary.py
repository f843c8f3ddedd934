"""Solving first-order conditions in LDL coordinates, and sums of squares for the second order.

With X = C D Cᵀ (C unit lower triangular, D diagonal), a function log det X + linear(X) has
first-order conditions that are linear in each column of C, and then in each entry of D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from ..errors import FormError
from .expanding import expanded
from .matrices import inverse, lowest_terms, product
from .slopes import derivative


def solve_linear(equations: Sequence[Any], unknowns: Sequence[Any]) -> list[Any]:
    """The unique solution of equations linear in the unknowns.

    Raises:
        FormError: if an equation is not linear.
    """
    A = sp.Matrix([[derivative(equation, x) for x in unknowns] for equation in equations])
    A = A.applyfunc(expanded)
    if A.has(*unknowns):
        raise FormError(f"the equations are not linear in {list(unknowns)}")
    b = sp.Matrix([equation.subs(dict.fromkeys(unknowns, 0)) for equation in equations])
    return list(lowest_terms(-inverse(A) * b))


def solve_ldl(f: Any, C: Any, D: Any) -> dict[Any, Any]:
    """The unique stationary point of f in the free entries of C and D, column by column.

    Raises:
        FormError: if a first-order condition is not linear in its column or pivot.
    """
    solution: dict[Any, Any] = {}
    for j in range(C.rows):
        pivot = D[j, j]
        if pivot in solution:
            continue
        column = [C[i, j] for i in range(j + 1, C.rows) if C[i, j].is_Symbol]
        if column:
            equations = [expanded(derivative(f, x) / pivot) for x in column]
            solution.update(zip(column, solve_linear(equations, column), strict=True))
        slope = expanded(expanded(pivot * derivative(f, pivot)).xreplace(solution))
        solution[pivot] = solve_linear([slope], [pivot])[0]
    return solution


def ldl_product(C: Any, D: Any, solution: dict[Any, Any]) -> Any:
    """C D Cᵀ at the values of its free entries, in lowest terms."""
    unit = C.xreplace(solution)
    return product(unit, D.xreplace(solution), unit.T)
