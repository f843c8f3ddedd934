"""Scalar quadratics J = -½κθ² + γφθ (inner), F = -½ν(θ-τ)² + dφ (outer), and what follows.

Several inner variables add no new case: gradient ascent separates in the eigenvectors of the
Hessian of J (with F isotropic), a penalty in a basis that makes both Hessians diagonal.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.stationary import solve_linear
from ..calculus.symbols import symbol, symbols

DOMAIN = ("J = -½κθ² + γφθ, κ > 0, so that θ* = γφ/κ", "F = -½ν(θ-τ)² + dφ, ν > 0")
THETA = sp.Symbol("theta", real=True)


def inner(theta: Any) -> Any:
    """J(θ, φ)."""
    kappa, gamma, phi = symbols("kappa gamma phi")
    return -kappa * theta**2 / 2 + gamma * phi * theta


def outer(theta: Any) -> Any:
    """F(θ, φ)."""
    nu, tau, d, phi = symbols("nu tau d phi")
    return -nu * (theta - tau) ** 2 / 2 + d * phi


def solution() -> Any:
    """θ* from ∂_θJ = 0."""
    return solve_linear([sp.diff(inner(THETA), THETA)], [THETA])[0]


def implicit() -> Any:
    """∂_φF - ∂²_{φθ}J (∂²_{θθ}J)⁻¹ ∂_θF at θ*, by the implicit function theorem."""
    F, phi = outer(THETA), symbol("phi")
    slope = sp.diff(inner(THETA), THETA)
    value = sp.diff(F, phi) - sp.diff(slope, phi) / sp.diff(slope, THETA) * sp.diff(F, THETA)
    return value.xreplace({THETA: solution()})


def total(f: Any, theta: Any) -> Any:
    """df(θ(φ), φ)/dφ by the chain rule, for f in THETA and a path θ(φ)."""
    phi, at = symbol("phi"), {THETA: theta}
    return sp.diff(f, phi).xreplace(at) + sp.diff(f, THETA).xreplace(at) * sp.diff(theta, phi)
