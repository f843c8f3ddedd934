"""What the bounded reward is, and its logarithm under Gaussian laws."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import inverse, lowest_terms
from ..calculus.symbols import symbols
from ..definitions import log_density, reward


def bounded_reward(y_hat: Any, y: Any, W: Any) -> Any:
    """exp(-(ŷ - y)ᵀ W (ŷ - y)); with W = I/ω, exp(-‖ŷ - y‖²/ω)."""
    return sp.exp(reward(y_hat, y, W))


def log_integral(exponent: Any, z: Any) -> tuple[Any, Any]:
    """log ∫ exp(exponent) dz of a concave quadratic, and the gap in the completed square (0).

    With Q = -½ Hessian, b the slope at 0 and 2Qc = b, the exponent is its value at 0 plus
    ½bᵀc - (z - c)ᵀQ(z - c), and the density N(c, (2Q)⁻¹) integrates to 1.
    """
    at_zero = dict.fromkeys(z, 0)
    slopes = sp.ImmutableMatrix([sp.expand(sp.diff(exponent, x)) for x in z])
    Q, b = -sp.hessian(exponent, list(z)).as_immutable() / 2, slopes.xreplace(at_zero)
    spread = inverse(2 * Q)
    c = lowest_terms(spread * b)
    gap = [*lowest_terms(2 * Q * c - b), *(slopes - b + 2 * Q * z)]
    value = exponent.xreplace(at_zero) + b.dot(c) / 2 - log_density(c, c, spread)
    return value, sp.Matrix(gap)


def log_expected_bounded_reward(m: Any, mu: Any, omega: Any, s: Any, beta: Any) -> tuple[Any, Any]:
    """log E exp(-(ŷ - y)²/ω), ŷ ~ N(m, s), y ~ N(μ, β²), and the gap in the square (0)."""
    (y_hat, y), cell = symbols("y_hat y", 1), sp.ImmutableMatrix
    exponent = sp.log(bounded_reward(y_hat, y, cell([1 / omega])))
    exponent += log_density(y_hat, cell([m]), cell([s])) + log_density(
        y, cell([mu]), cell([beta**2])
    )
    return log_integral(exponent, cell([y_hat[0], y[0]]))
