"""Finite samples as stated: this module imports no definition and no derivation.

ν is the number of degrees of freedom of a sample's covariance S, νS ~ Wishart(Σ, ν), ψ digamma.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import diagonal_part, inverse, logdet, trace

half = sp.Rational(1, 2)


def _digammas(n: int, nu: Any) -> Any:
    """Σ_{i=1..n} ψ((ν+1-i)/2)."""
    return sum((sp.digamma((nu + 1 - i) / 2) for i in range(1, n + 1)), sp.S.Zero)


def log_determinant(Sigma: Any, n: int, nu: Any) -> Any:
    """log det Σ + Σ_i ψ((ν+1-i)/2) - n log(ν/2)."""
    return logdet(Sigma) + _digammas(n, nu) - n * sp.log(nu / 2)


def inverse_covariance(Sigma: Any, n: int, nu: Any) -> Any:
    """ν/(ν-n-1) Σ⁻¹."""
    return nu / (nu - n - 1) * inverse(Sigma)


def trace_transform(Sigma: Any, nu: Any, t: Any) -> Any:
    """-(ν/2) log det(I + 2tΣ)."""
    return -nu / 2 * logdet(sp.ImmutableMatrix.eye(Sigma.rows) + 2 * t * Sigma)


def excess(structure: str, n: int, nu: Any) -> Any:
    """½ [Σ_i ψ((ν+1-i)/2) - n log(ν/2) + nν/(ν-n-1) - n] (full), and its scalar forms."""
    if structure == "full":
        return (_digammas(n, nu) - n * sp.log(nu / 2) + n * nu / (nu - n - 1) - n) / 2
    k = nu if structure == "diagonal" else n * nu
    return n * half * (sp.digamma(k / 2) - sp.log(k / 2) + k / (k - 2) - 1)


def leading(structure: str, n: Any) -> Any:
    """ν times the excess for many rows: n(n+1)/4, n/2, ½: half the number of parameters."""
    return {"full": n * (n + 1) * half / 2, "diagonal": n * half}.get(structure, half)


def second_order(kappa: Any, n: Any, nu: Any) -> Any:
    """(κ - n)/(4ν)."""
    return (kappa - n) / (4 * nu)


def best_scale(n: int, nu: Any) -> Any:
    """(ν-n-1)/ν."""
    return (nu - n - 1) / nu


def gain_of_scaling(n: int, nu: Any) -> Any:
    """(n/2)(c - 1 - log c), c = ν/(ν-n-1)."""
    log_c = sp.log(nu) - sp.log(nu - n - 1)
    return n * half * (nu / (nu - n - 1) - 1 - log_c)


def estimated_mean(n: int, N: Any) -> Any:
    """nν/(2N(ν-n-1)), ν = N - 1."""
    return n * (N - 1) / (2 * N * (N - n - 2))


def plug_in(n: int, N: Any) -> Any:
    """½ [n(N+1)/(N-n-2) - n + Σ_i ψ((N-i)/2) + n log(2/N)]."""
    return (n * (N + 1) / (N - n - 2) - n + _digammas(n, N - 1) + n * sp.log(2 / N)) / 2


def residual_covariance(Sigma: Any, d: Any, N: Any) -> Any:
    """Σ (1 - d/N)."""
    return Sigma * (1 - d / N)


def error_covariance(Sigma: Any, h: Any) -> Any:
    """Σ (1 + h)."""
    return Sigma * (1 + h)


def leverage(d: int, N: Any) -> Any:
    """d/(N-d-1)."""
    return d / (N - d - 1)


def overconfidence(n: int, d: Any, N: Any, h: Any) -> Any:
    """(n/2)(ρ - 1 - log ρ), ρ = (1 + h)/(1 - d/N)."""
    log_rho = sp.log(1 + h) + sp.log(N) - sp.log(N - d)
    return n * half * ((1 + h) * N / (N - d) - 1 - log_rho)


def optimism(structure: str, n: int, nu: Any, rho: Any) -> Any:
    """(n/2)[ρν/(ν-n-1) - 1] (full), ν/(ν-2) or nν/(nν-2) for the other structures."""
    growth = {"full": nu / (nu - n - 1), "diagonal": nu / (nu - 2)}
    return n * half * (rho * growth.get(structure, n * nu / (n * nu - 2)) - 1)


def in_sample(n: int, d: Any, N: Any) -> Any:
    """½ [nN(N-1)/((N-d-1)(N-d-n-1)) - n + Σ_i ψ((N-d+1-i)/2) + n log(2/N)]."""
    growth = n * N * (N - 1) / ((N - d - 1) * (N - d - n - 1))
    return (growth - n + _digammas(n, N - d) + n * sp.log(2 / N)) / 2


def rescaled(n: int, d: Any, N: Any) -> Any:
    """in_sample - (n/2)(c - 1 - log c), c = N(N-1)/((N-d-1)(N-d-n-1))."""
    c = N * (N - 1) / ((N - d - 1) * (N - d - n - 1))
    log_c = sp.log(N) + sp.log(N - 1) - sp.log(N - d - 1) - sp.log(N - d - n - 1)
    return in_sample(n, d, N) - n * half * (c - 1 - log_c)


def held_out(n: int, d: Any, N: Any, K: Any) -> Any:
    """½ Σ_{j=1..n} [ψ((N+j)/2) - ψ((N+j-d)/2)] + the excess of K rows."""
    price = sum(sp.digamma((N + j) / 2) - sp.digamma((N + j - d) / 2) for j in range(1, n + 1))
    return price / 2 + excess("full", n, K)


def effective_freedom(Sigma: Any, nu: Any) -> Any:
    """f = ν (Tr Σ)²/Tr Σ²."""
    return nu * trace(Sigma) ** 2 / trace(Sigma * Sigma)


def total(structure: str, Sigma: Any, n: int, nu: Any) -> Any:
    """The cost of the structure with the right Σ, ½ [log det D - log det Σ], plus the excess."""
    if structure == "full":
        return excess("full", n, nu)
    if structure == "diagonal":
        return (logdet(diagonal_part(Sigma)) - logdet(Sigma)) / 2 + excess("diagonal", n, nu)
    cost = (n * sp.log(trace(Sigma) / n) - logdet(Sigma)) / 2
    return cost + excess("isotropic", n, effective_freedom(Sigma, nu) / n)


def crossing(pair: str, gap: Any, Sigma: Any, n: int) -> Any:
    """n(n-1)/(4 gap) for "diagonal, full"; Tr Σ²/(Tr Σ)² enters where the smaller is isotropic."""
    if pair == "diagonal, full":
        return sp.Rational(n * (n - 1), 4) / gap
    squares = n * trace(Sigma * Sigma) / trace(Sigma) ** 2
    larger = sp.Rational(n * (n + 1), 2) if pair == "isotropic, full" else n
    return (larger - squares) / (2 * gap)
