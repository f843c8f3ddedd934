"""Second-order conditions: d²J and d²F are minus sums of squares that vanish only together at 0."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions
from ..calculus.conditions import Condition, zero
from ..calculus.ldl import ldl_factors
from ..calculus.matrices import gradient, quadratic, replace, second_differential
from ..calculus.squares import negative_by_squares, trace_squares
from ..calculus.structures import Shape, free_entries
from ..calculus.symbols import symbol, symbols
from . import stated


def inner_concavity(shape: Shape, n: int) -> tuple[Condition, ...]:
    """d²J in (m, P) at any (m, P) of the shape is minus a sum of squares."""
    m, P, mu, Sigma, U, h, H = symbols("m P mu Sigma U h H", n)
    lam = symbol("lam")
    C, D = shape.factors("P", n)
    A, E = ldl_factors("U", n)
    direction = shape.restrict(H)
    J = definitions.objective(m, P, mu, Sigma, U, lam)
    curvature = second_differential(J, (m, h), (P, direction))
    curvature = replace(curvature, P, C * D * C.T)
    mean_forms = A.T * h
    mean_squares = [(2 * E[i, i], mean_forms[i]) for i in range(n)]
    squares = [(lam / 2 * w, form) for w, form in trace_squares(C, D, direction)]
    cross = (
        curvature
        - curvature.xreplace(dict.fromkeys(h, 0))
        - curvature.xreplace(dict.fromkeys(free_entries(H), 0))
    )
    return (
        zero("d²J has no term mixing mean and covariance", cross),
        *negative_by_squares(
            "d²J along the mean",
            curvature.xreplace(dict.fromkeys(free_entries(H), 0)),
            mean_squares,
            list(h),
        ),
        *negative_by_squares(
            "d²J along the covariance",
            curvature.xreplace(dict.fromkeys(h, 0)),
            squares,
            free_entries(direction),
        ),
    )


def general_inner_concavity(J: Any, lam: Any) -> tuple[Condition, ...]:
    """General n: d²J = -2hᵀUh, and -(λ/2)‖KHK‖² with P⁻¹ = K² (K symmetric, invertible)."""
    m, P, U, h, H = symbols("m P U h H", None)
    K = sp.MatrixSymbol("K", *P.shape)
    along_mean = second_differential(J, (m, h))
    along_covariance = second_differential(J, (P, H)).xreplace({sp.Inverse(P): K * K})
    square = K * H * K
    return (
        zero("∇_m J = 0 at m* = μ", gradient(J, m).xreplace({m: symbol("mu", None)})),
        zero("d²J along the mean = -2hᵀUh", along_mean + 2 * quadratic(U, h)),
        zero(
            "d²J along P = -(λ/2)‖KHK‖²", along_covariance + lam / 2 * sp.Trace(square * square.T)
        ),
    )


def general_outer_concavity(curvature: Any, part: Any, along: Any) -> tuple[Condition, ...]:
    """General n: d²F = -½‖KHK‖² with X⁻¹ = K² (K symmetric, invertible).

    Args:
        curvature: d²F.
        part: X, what F depends on: U, or its diagonal part.
        along: the same part of the direction H.
    """
    K = sp.MatrixSymbol("K", *part.shape)
    square = K * along * K
    value = curvature.xreplace({sp.Inverse(part): K * K})
    return (zero("d²F = -½‖KHK‖², U⁻¹ = K²", value + sp.Trace(square * square.T) / 2),)


def outer_maximum(shape: Shape, n: int, F: Any, best: Any) -> tuple[Condition, ...]:
    """F is strictly concave within the structure, and constant in all other directions."""
    U, H, Sigma = symbols("U H Sigma", n)
    direction = shape.restrict(H)
    C, D = shape.factors("U", n)
    curvature = second_differential(F, (U, direction))
    squares = [(w / 2, form) for w, form in trace_squares(C, D, direction)]
    concave = negative_by_squares(
        "d²F", replace(curvature, U, C * D * C.T), squares, free_entries(direction)
    )
    proof = (*concave, *shape.off(gradient(F, U)))
    if not shape.shared:
        return proof
    target = stated.optimal_trace(Sigma, symbol("lam"), n)
    return (*proof, zero("Tr U* = λn²/(2 Tr Σ)", best.trace() - target))
