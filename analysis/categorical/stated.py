"""Categorical policies as stated.

This module imports no definition and no derivation. `pi` and `p` are columns of class probabilities
that sum to 1; f_c = 2(Uπ)_c - U_cc are the log-weights of the Gibbs law times λ.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import outer


def log_weights(U: Any, pi: Any) -> Any:
    """f_c = 2(Uπ)_c - U_cc; the features of class c along H are f_c with H for U."""
    return 2 * U * pi - sp.ImmutableMatrix(U.diagonal()).T


def scalar_weights(u: Any, pi: Any) -> Any:
    """f_c = 2uπ_c: those of U = uI, up to a constant."""
    return 2 * u * pi


def gibbs(f: Any, lam: Any) -> Any:
    """p*(c) = exp(f_c/λ) / Σ_k exp(f_k/λ)."""
    return sp.ImmutableMatrix([1 / _partition(f, c, lam) for c in range(f.rows)])


def log_gibbs(f: Any, lam: Any) -> Any:
    """log p*(c) = (f_c - f_C)/λ - log Σ_k exp((f_k - f_C)/λ), C the last class."""
    total = sp.log(_partition(f, f.rows - 1, lam))
    return f.applyfunc(lambda x: sp.expand((x - f[-1]) / lam) - total)


def gibbs_gap(f: Any, p: Any, lam: Any) -> Any:
    """λ KL(p ‖ p*) = λ Σ_c p_c (log p_c - log p*(c))."""
    return lam * p.dot(p.applyfunc(sp.log) - log_gibbs(f, lam))


def log_ratios(u: Any, pi: Any, lam: Any) -> Any:
    """log p*(a) - log p*(b) = 2u(π_a - π_b)/λ."""
    return sp.ImmutableMatrix(pi.rows, pi.rows, lambda a, b: 2 * u * (pi[a] - pi[b]) / lam)


def binary_logit(pi: Any, U: Any, lam: Any) -> Any:
    """log p*(1) - log p*(2) = (2π-1)(U_11 + U_22 - 2U_12)/λ."""
    return (2 * pi - 1) * (U[0, 0] + U[1, 1] - 2 * U[0, 1]) / lam


def outer_objective(f: Any, pi: Any, lam: Any) -> Any:
    """F = Σ_c π_c f_c/λ - log Σ_c exp(f_c/λ)."""
    return pi.dot(log_gibbs(f, lam))


def hypergradient(pi: Any, p: Any, lam: Any) -> Any:
    """(δπᵀ + πδᵀ - diag δ)/λ, δ = π - p, as Σ_{c<C} δ_c times its coefficient."""
    delta = _summing_to(sp.S.Zero, pi.rows)
    gradient = (outer(delta, pi) + outer(pi, delta) - sp.diag(*delta)) / lam
    at = _values(delta, pi - p)
    return gradient.applyfunc(lambda f: sp.collect(sp.expand(f), list(at)).xreplace(at))


def second_differential(features: Any, p: Any, lam: Any) -> Any:
    """-(1/λ²) Var_{c~p} φ_c, multiplied out in p_c and φ_c - φ_C, c < C."""
    weights = _summing_to(sp.S.One, p.rows)
    phi = sp.ImmutableMatrix([*sp.symbols(f"phi_1:{p.rows}"), 0])
    mean = weights.dot(phi)
    variance = weights.dot(phi.applyfunc(lambda x: (x - mean) ** 2))
    gaps = features.applyfunc(lambda x: sp.expand(x - features[-1]))
    return sp.expand(-variance / lam**2).xreplace(_values(weights, p) | _values(phi, gaps))


def scalar_slope(p: Any, pi: Any, lam: Any) -> Any:
    """dF/du = (2/λ) Σ_c (π_c - p_c) π_c, multiplied out in p_c, c < C."""
    weights = _summing_to(sp.S.One, p.rows)
    return sp.expand(2 * pi.dot(pi - weights) / lam).xreplace(_values(weights, p))


def binary_scalar(pi: Any, lam: Any) -> Any:
    """u* = λ log(π/(1-π)) / (2(2π-1))."""
    return lam * (sp.log(pi) - sp.log(1 - pi)) / (2 * (2 * pi - 1))


def binary_heuristic(pi: Any, lam: Any) -> Any:
    """β* = λ/(2π(1-π))."""
    return lam / (2 * pi * (1 - pi))


def binary_heuristic_ratio(pi: Any) -> Any:
    """u*/β* = π(1-π) log(π/(1-π)) / (2π-1)."""
    return pi * (1 - pi) * (sp.log(pi) - sp.log(1 - pi)) / (2 * pi - 1)


def heuristic_scale(pi: Any, lam: Any) -> Any:
    """β* = λC/(2(1 - Σ_c π_c²))."""
    return lam * pi.rows / (2 * (1 - pi.dot(pi)))


def scalar_gap(u: Any, pi: Any, lam: Any) -> Any:
    """KL(π ‖ p*_u) = Σ_c π_c (log π_c - log p*_u(c))."""
    return pi.dot(pi.applyfunc(sp.log) - log_gibbs(scalar_weights(u, pi), lam))


def binary_gap(pi: Any, a: Any) -> Any:
    """π log π + (1-π) log(1-π) - πa + log(1 + e^a): KL(π ‖ p) where logit p = a."""
    entropy = pi * sp.log(pi) + (1 - pi) * sp.log(1 - pi)
    return entropy - pi * a + sp.log(1 + sp.exp(sp.expand(a)))


def heuristic_logit(pi: Any, k: Any) -> Any:
    """The logit k(2π-1)/(π(1-π)) of U = kβ*I, signed as SymPy orders a denominator π² - π."""
    return k * (1 - 2 * pi) / (pi * (pi - 1))


def binary_scalar_limit(lam: Any) -> Any:
    """lim u* = λ at π = ½."""
    return lam


def near_uniform_scale(n: int, lam: Any) -> Any:
    """lim u* = λC/2 at π = 1/C."""
    return lam * n / 2


def near_uniform_ratio(n: int) -> Any:
    """lim β*/u* = C/(C - 1) at π = 1/C."""
    return sp.Rational(n, n - 1)


def diagonal_reward(pi: Any, k: Any, lam: Any) -> Any:
    """u_c = λ(log π_c + k₀)/(2π_c - 1)."""
    return pi.applyfunc(lambda x: lam * (sp.log(x) + k) / (2 * x - 1))


def diagonal_offset_at_half() -> Any:
    """k₀ = log 2."""
    return sp.log(2)


def score_gradient(p: Any, r: Any) -> Any:
    """∂E r/∂z_j = p_j (r_j - E r)."""
    return (r - p.dot(r) * sp.ones(*r.shape)).multiply_elementwise(p)


def optimal_baseline(p: Any, r: Any) -> Any:
    """b_j = (1-p_j) r_j + p_j E[r | c ≠ j]."""
    return sp.ImmutableMatrix(
        [(1 - p[j]) * r[j] + p[j] * _mean_of_others(p, r, j) for j in range(p.rows)]
    )


def minimal_variance(p: Any, r: Any) -> Any:
    """p_j² (1-p_j) Var[r | c ≠ j]."""
    squares = r.applyfunc(lambda x: x**2)
    return sp.ImmutableMatrix(
        [
            p[j] ** 2
            * (1 - p[j])
            * (_mean_of_others(p, squares, j) - _mean_of_others(p, r, j) ** 2)
            for j in range(p.rows)
        ]
    )


def _mean_of_others(p: Any, x: Any, j: int) -> Any:
    """E[x | c ≠ j] = Σ_{c≠j} p_c x_c/(1 - p_j)."""
    return (p.dot(x) - p[j] * x[j]) / (1 - p[j])


def pairs(p: Any, x: Any) -> Any:
    """Var_{c~p} x_c = Σ_{c<k} p_c p_k (x_c - x_k)²."""
    return sum(p[c] * p[k] * (x[c] - x[k]) ** 2 for k in range(p.rows) for c in range(k))


def _partition(f: Any, c: int, lam: Any) -> Any:
    """Σ_k exp((f_k - f_c)/λ) = 1/p*(c), which no common constant of the f moves."""
    return sp.Add(*(sp.exp(sp.expand((x - f[c]) / lam)) for x in f))


def _summing_to(total: Any, n: int) -> Any:
    """Symbols for what sums to this, the last as what the others leave: p*, or π - p*.

    Multiplied out in them a formula stays short; in p* it would have all products of exponentials.
    """
    first = sp.symbols(f"x_1:{n}", real=True)
    return sp.ImmutableMatrix([*first, total - sp.Add(*first)])


def _values(names: Any, values: Any) -> dict[Any, Any]:
    """What the names stand for, all but the last."""
    return dict(zip(names[:-1, 0], values[:-1, 0], strict=True))
