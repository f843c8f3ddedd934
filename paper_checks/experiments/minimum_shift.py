"""Where training settles when every reward is shifted by the minimum of its group, as published.

Subtracting `b(ŷ_1..ŷ_M)` from every reward of a group makes the expected gradient that of
`E r - E b / M` (analysis.estimators). For the reward `-u‖ŷ - y‖²`, `b = -u max_k ‖ŷ_k - y‖²`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import optimize, stats


@cache
def stationary_scale(n: int, M: int) -> float:
    """Return the standard deviation at which training on `U* = λ/(2σ²) I` settles, in units of σ.

    With `D(s) = E max_k ‖sε_k - z‖²`, `ε_k` and `z` standard normal in n dimensions, it is the
    root `s` of `s² - s D'(s)/(2nM) = 1`: every generation is compared with one data point
    `y ~ N(μ, σ²I)`, as in the published code. (Compared with all of them on average, `z = 0`; see
    `estimator_variance.settles`.)

    Args:
        n: outcome dimension.
        M: generations per data point, at least 2.
    """

    def excess(s: float) -> float:
        step = 1e-4 * s
        slope = (_expected_maximum(s + step, n, M) - _expected_maximum(s - step, n, M)) / (2 * step)
        return s**2 - s * slope / (2 * n * M) - 1

    return float(optimize.brentq(excess, 1.0, 10.0, xtol=1e-8))


def _expected_maximum(s: float, n: int, M: int) -> float:
    """Return `E max_k ‖sε_k - z‖²`: given `‖z‖ = ρ`, `‖sε - z‖²/s²` is noncentral χ²."""
    upper = stats.chi2.isf(1e-14, n)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    squares = upper * (nodes + 1) / 2  # ρ²
    mass = weights * upper / 2 * stats.chi2.pdf(squares, n)
    if n == 1:  # the density of χ²_1 is infinite at 0: integrate over ρ instead
        rho = np.sqrt(upper) * (nodes + 1) / 2
        squares, mass = rho**2, weights * np.sqrt(upper) * stats.norm.pdf(rho)
    far = (np.sqrt(upper) * (1 + 1 / s)) ** 2
    x = far * (nodes[:, None] + 1) / 2
    survival = 1 - stats.ncx2.cdf(x, n, squares / s**2) ** M
    inner = (weights[:, None] * survival).sum(0) * far / 2
    return float(s**2 * (mass * inner).sum())
