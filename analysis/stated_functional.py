"""The stated side, continued: the functional hypergradient, with P(x) and m(x) free at every input.

This module imports no definition and no derivation. Throughout e = m - μ is the error of the mean.
"""

from __future__ import annotations

from typing import Any

from .matrix_calculus import diagonal_part, identity, inverse, outer, trace


def mean_adjoint(e: Any, P: Any, U: Any) -> Any:
    """a = (2U)⁻¹ ∂_mF = -½ U⁻¹P⁻¹e."""
    return -inverse(U) * inverse(P) * e / 2


def covariance_adjoint(structure: str, e: Any, P: Any, Sigma: Any, lam: Any) -> Any:
    """A = (Σ + eeᵀ - P)/λ (full), its diagonal (diagonal), its mean diagonal entry (isotropic)."""
    return restrict(structure, Sigma + outer(e, e) - P) / lam


def hypergradient(structure: str, e: Any, P: Any, U: Any, Sigma: Any, lam: Any) -> Any:
    """∇_U F = ½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹) + (P - Σ - eeᵀ)/λ, the second term restricted."""
    return mean_part(e, P, U) + restrict(structure, P - Sigma - outer(e, e)) / lam


def at_solution(structure: str, U: Any, Sigma: Any, lam: Any) -> Any:
    """½U⁻¹ - Σ/λ (full), diag(1/(2U_ii) - Σ_ii/λ), (n/(2 Tr U) - Tr Σ/(λn)) I (isotropic)."""
    n = U.rows
    if structure == "full":
        return inverse(U) / 2 - Sigma / lam
    if structure == "diagonal":
        return inverse(diagonal_part(U)) / 2 - diagonal_part(Sigma) / lam
    return (n / (2 * trace(U)) - trace(Sigma) / (lam * n)) * identity(U)


def restricted_mean_gap(w: Any, e_a: Any, e_b: Any, lam: Any) -> Any:
    """(2/λ) E eeᵀ."""
    return 2 / lam * (w * outer(e_a, e_a) + (1 - w) * outer(e_b, e_b))


def mean_part(e: Any, P: Any, U: Any) -> Any:
    """½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹)."""
    return _symmetric(inverse(U) * inverse(P) * outer(e, e))


def restrict(structure: str, X: Any) -> Any:
    """The matrix itself (full), its diagonal (diagonal), its mean diagonal entry (isotropic)."""
    if structure == "full":
        return X
    return diagonal_part(X) if structure == "diagonal" else trace(X) / X.rows * identity(X)


def _symmetric(X: Any) -> Any:
    return (X + X.T) / 2
