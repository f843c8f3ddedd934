"""Independent bits as stated: this module imports no definition and no derivation."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import quadratic, trace


def objective(psi: Any, rho: Any, Sigma: Any, U: Any, lam: Any) -> Any:
    """-(ψ-ρ)ᵀU(ψ-ρ) - Σ_i U_ii ψ_i(1-ψ_i) - Tr(UΣ) + λ Σ_i h(ψ_i)."""
    spread = sum(U[i, i] * x * (1 - x) for i, x in enumerate(psi))
    entropy = sum(-x * sp.log(x) - (1 - x) * sp.log(1 - x) for x in psi)
    return -quadratic(U, psi - rho) - spread - trace(U * Sigma) + lam * entropy


def logits(weights: Any, rho: Any, lam: Any) -> Any:
    """u_i (2ρ_i - 1)/λ."""
    return sp.ImmutableMatrix([u * (2 * x - 1) / lam for u, x in zip(weights, rho, strict=True)])


def hypergradient(psi: Any, rho: Any, lam: Any) -> Any:
    """(ρ_i - ψ_i) (2ρ_i - 1)/λ."""
    pairs = zip(psi, rho, strict=True)
    return sp.ImmutableMatrix([(of_data - p) * (2 * of_data - 1) / lam for p, of_data in pairs])


def optimal_weights(rho: Any, lam: Any) -> Any:
    """λ log(ρ_i/(1-ρ_i)) / (2ρ_i - 1)."""
    return sp.ImmutableMatrix([lam * (sp.log(x) - sp.log(1 - x)) / (2 * x - 1) for x in rho])
