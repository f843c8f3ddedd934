"""The Gaussian problem as stated: every formula, written down without deriving it.

This module imports no definition and no derivation. All functions take explicit matrices of
symbols or, where `inverse`, `trace` and `logdet` suffice, matrix expressions of general size n.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.matrices import (
    bilinear,
    diagonal_part,
    identity,
    inverse,
    logdet,
    outer,
    quadratic,
    trace,
)

half = sp.Rational(1, 2)


def objective(m: Any, P: Any, mu: Any, Sigma: Any, U: Any, lam: Any, n: Any) -> Any:
    """J = -(m-μ)ᵀU(m-μ) - Tr(UP) - Tr(UΣ) + (λ/2) log det P + (λn/2) log 2πe."""
    reward = -quadratic(U, m - mu) - trace(U * P) - trace(U * Sigma)
    return reward + lam / 2 * logdet(P) + lam * n / 2 * sp.log(2 * sp.pi * sp.E)


def mean_gradient(m: Any, mu: Any, U: Any) -> Any:
    """∇_m J = -2U(m - μ)."""
    return -2 * U * (m - mu)


def covariance_gradient(P: Any, U: Any, lam: Any) -> Any:
    """∇_P J = -U + (λ/2) P⁻¹."""
    return -U + lam / 2 * inverse(P)


def inner_solution(structure: str, U: Any, lam: Any) -> Any:
    """P*: (λ/2) U⁻¹ (full), diag(λ/(2U_ii)) (diagonal), λn/(2 Tr U) I (isotropic)."""
    if structure == "full":
        return lam / 2 * inverse(U)
    if structure == "diagonal":
        return lam / 2 * inverse(diagonal_part(U))
    return lam * U.rows / (2 * trace(U)) * identity(U)


def outer_objective(structure: str, U: Any, Sigma: Any, lam: Any, n: Any) -> Any:
    """F(U) = ½ log det U - Tr(UΣ)/λ - (n/2) log πλ (full), and the restricted forms."""
    if structure == "full":
        return logdet(U) / 2 - trace(U * Sigma) / lam - n * half * sp.log(sp.pi * lam)
    if structure == "diagonal":
        part = diagonal_part(U)
        return logdet(part) / 2 - trace(part * Sigma) / lam - n * half * sp.log(sp.pi * lam)
    u, v = trace(U), trace(Sigma)
    return n * half * sp.log(u) - u * v / (lam * n) - n * half * sp.log(sp.pi * lam * n)


def hypergradient(structure: str, U: Any, Sigma: Any, lam: Any) -> Any:
    """∇_U F = ½ U⁻¹ - Σ/λ (full), its diagonal analogue, (n/(2 Tr U) - Tr Σ/(λn)) I (isotropic)."""
    if structure == "full":
        return inverse(U) / 2 - Sigma / lam
    n = U.rows
    if structure == "diagonal":
        return inverse(diagonal_part(U)) / 2 - diagonal_part(Sigma) / lam
    return (n / (2 * trace(U)) - trace(Sigma) / (lam * n)) * identity(U)


def optimal_reward(structure: str, Sigma: Any, lam: Any) -> Any:
    """U*: (λ/2) Σ⁻¹ (full), diag(λ/(2Σ_ii)) (diagonal), λn/(2 Tr Σ) I (isotropic)."""
    if structure == "full":
        return lam / 2 * inverse(Sigma)
    n = Sigma.rows
    if structure == "diagonal":
        return lam / 2 * inverse(diagonal_part(Sigma))
    return lam * n / (2 * trace(Sigma)) * identity(Sigma)


def optimal_trace(Sigma: Any, lam: Any, n: Any) -> Any:
    """Tr U = λn²/(2 Tr Σ): all the isotropic policy asks of U."""
    return lam * n**2 / (2 * trace(Sigma))


def second_differential(U: Any, H: Any) -> Any:
    """d²F = -½ Tr(U⁻¹ H U⁻¹ H)."""
    return -trace(inverse(U) * H * inverse(U) * H) / 2


def optimal_scale(M: Any, Sigma: Any, lam: Any, n: Any) -> Any:
    """c* = λn/(2 Tr(MΣ))."""
    return lam * n / (2 * trace(M * Sigma))


def ray_loss(M: Any, Sigma: Any, n: Any) -> Any:
    """½ [n log(Tr(MΣ)/n) - log det(MΣ)]."""
    return (n * sp.log(trace(M * Sigma) / n) - logdet(M) - logdet(Sigma)) / 2


def relative_cost(rho: Any) -> Any:
    """½ (ρ - 1 - log ρ): the nats lost by a precision that is ρ times the right one."""
    return (rho - 1 - sp.log(rho)) / 2


def rescaling_regret(k: Any, n: Any) -> Any:
    """(n/2)(k - 1 - log k)."""
    return n * half * (k - 1 - sp.log(k))


def mean_field_covariance(Sigma: Any) -> Any:
    """P_ii = 1/(Σ⁻¹)_ii."""
    return inverse(diagonal_part(inverse(Sigma)))


def mean_field_cost(Sigma: Any, n: Any) -> Any:
    """½ Σ_i (ρ_i - 1 - log ρ_i), ρ_i = Σ_ii (Σ⁻¹)_ii the entries of diag(Σ) diag(Σ⁻¹)."""
    variances, precisions = diagonal_part(Sigma), diagonal_part(inverse(Sigma))
    return (trace(variances * precisions) - n - logdet(variances) - logdet(precisions)) / 2


def log_det_gradient(U: Any) -> Any:
    """∇_U log det U = U⁻¹."""
    return inverse(U)


def kl(m: Any, P: Any, mu: Any, Sigma: Any, n: Any) -> Any:
    """KL(N(m,P) ‖ N(μ,Σ)) = ½ [Tr(Σ⁻¹P) + (m-μ)ᵀΣ⁻¹(m-μ) - n + log det Σ - log det P]."""
    precision = inverse(Sigma)
    volume = logdet(Sigma) - logdet(P)
    return (trace(precision * P) + quadratic(precision, m - mu) - n + volume) / 2


def gibbs_gap(m: Any, P: Any, mu: Any, U: Any, lam: Any, n: Any) -> Any:
    """λ KL(N(m,P) ‖ N(μ, (λ/2)U⁻¹)), written out in U."""
    fit = 2 / lam * (trace(U * P) + quadratic(U, m - mu))
    return lam / 2 * (fit - n + n * sp.log(lam / 2) - logdet(U) - logdet(P))


def reverse_kl(m: Any, P: Any, mu: Any, Sigma: Any, lam: Any, n: Any) -> Any:
    """-λ KL(N(m,P) ‖ N(μ,Σ)) + (λ/2)(log det 2πΣ - n)."""
    constant = n * sp.log(2 * sp.pi) + logdet(Sigma) - n
    return -lam * kl(m, P, mu, Sigma, n) + lam / 2 * constant


def cost_of_covariance(S: Any, Sigma: Any, n: Any) -> Any:
    """½ [log det(SΣ̄⁻¹) + Tr(S⁻¹Σ̄) - n]."""
    return (logdet(S) - logdet(Sigma) + trace(inverse(S) * Sigma) - n) / 2


def mix(w: Any, first: Any, second: Any) -> Any:
    """E_x of a quantity at an input x that takes two values, the first with probability w."""
    return w * first + (1 - w) * second


def total_covariance(w: Any, mu_a: Any, mu_b: Any, Sigma_a: Any, Sigma_b: Any) -> Any:
    """Σ_m = Σ̄ + Cov(μ(x))."""
    centre = mix(w, mu_a, mu_b)
    first, second = mu_a - centre, mu_b - centre
    return mix(w, Sigma_a, Sigma_b) + mix(w, outer(first, first), outer(second, second))


def second_moment_of_errors(w: Any, e_a: Any, e_b: Any, Sigma_a: Any, Sigma_b: Any) -> Any:
    """Σ̄ + E e eᵀ."""
    return mix(w, Sigma_a + outer(e_a, e_a), Sigma_b + outer(e_b, e_b))


def conditional_gain(w: Any, Sigma_a: Any, Sigma_b: Any) -> Any:
    """½ [log det Σ̄ - E log det Σ(x)]."""
    mean = mix(w, Sigma_a, Sigma_b)
    return (logdet(mean) - mix(w, logdet(Sigma_a), logdet(Sigma_b))) / 2


def restricted_mean_hypergradient(
    U: Any, w: Any, e_a: Any, e_b: Any, Sigma_a: Any, Sigma_b: Any, lam: Any
) -> Any:
    """½ U⁻¹ - (Σ̄ + E e_U e_Uᵀ)/λ."""
    return inverse(U) / 2 - second_moment_of_errors(w, e_a, e_b, Sigma_a, Sigma_b) / lam


def two_maxima(lam: Any) -> Any:
    """U = λ diag(¼ + √2/6, ¼ - √2/6) = λ diag(.4857, .0143)."""
    shift = sp.sqrt(2) / 6
    return sp.ImmutableMatrix.diag(
        lam * (sp.Rational(1, 4) + shift), lam * (sp.Rational(1, 4) - shift)
    )


def weighted_mean(w: Any, a: Any, b: Any, mu_a: Any, mu_b: Any, W_a: Any, W_b: Any) -> Any:
    """θ = E aᵀWμ / E aᵀWa: weighted least squares of the mean m(x) = θ a(x), weights W(x)."""
    fit = mix(w, bilinear(a, W_a, mu_a), bilinear(b, W_b, mu_b))
    return fit / mix(w, quadratic(W_a, a), quadratic(W_b, b))


def beta_weights(P: Any, power: Any) -> Any:
    """diag(P_ii^(β-1)): the weights of β-NLL; P⁻¹ at β = 0, I at β = 1."""
    return sp.ImmutableMatrix.diag(*(v ** (power - 1) for v in P.diagonal()))


def power_slope(of: str, w: Any, mu_a: Any, mu_b: Any, P_a: Any, P_b: Any, power: Any) -> Any:
    """s (P_a^-β - P_b^-β) log(P_a/P_b), and 2s (P_b^(1-β) - P_a^(1-β)) log(P_a/P_b) of the error.

    s = (w(1-w)(μ_a-μ_b) q_a q_b)²/(wq_a + (1-w)q_b)³, q = P^(β-1).
    """
    (gap,), (v,), (z,) = mu_a - mu_b, P_a, P_b
    q_a, q_b = v ** (power - 1), z ** (power - 1)
    size = (w * (1 - w) * gap * q_a * q_b) ** 2 / mix(w, q_a, q_b) ** 3
    change = v**-power - z**-power if of == "likelihood" else 2 * (1 / q_b - 1 / q_a)
    return size * change * (sp.log(v) - sp.log(z))


def density_ratio(w: Any, held: Any) -> Any:
    """w'(1-w)/(w(1-w')): p'(x)/p(x) at the first input over that at the second."""
    return held * (1 - w) / (w * (1 - held))
