"""Covariances of a structure: their factors, and the directions within it."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .ldl import ldl_factors


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
