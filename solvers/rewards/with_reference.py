"""Mahalanobis rewards where `-λ KL(p ‖ p₀)` stands in place of `λH`, `p₀ = N(m₀, P₀)`.

The inner solution keeps a part of the reference: `P*⁻¹ = P₀⁻¹ + (2/λ)U` and
`m* = μ + P* P₀⁻¹(m₀ - μ)`. As no `U` moves the mean all the way, the best one takes back variance:
with `a = P₀⁻¹(m₀ - μ)` it is

    U* = (λ/2)(S⁻¹ - P₀⁻¹),    S⁻¹ = Σ⁻¹ + k a aᵀ,    k = 2/(1 + √(1 + 4aᵀΣa)),

which is positive definite only where the reference is wide enough, `S ≺ P₀`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import (
    NotPositiveDefiniteError,
    Number,
    as_positive,
    check_broadcast,
    check_finite,
    check_same_n,
    check_spd,
)
from ..families.gaussian import Gaussian
from .mahalanobis import MahalanobisReward


class OutsideConeError(NotPositiveDefiniteError):
    """The likelihood has no maximum over SPD rewards: its best `U` is not positive definite."""


def inner_solution(
    reward: MahalanobisReward,
    lam: Number | Float[Tensor, "*#b"],
    mu: Float[Tensor, "*b n"],
    reference: Gaussian,
) -> Gaussian:
    """Return `N(m*, P*)`, `P*⁻¹ = P₀⁻¹ + (2/λ)U`, `m* = μ + P* P₀⁻¹(m₀ - μ)`, for a full policy.

    Args:
        reward: SPD `U`, `(*b, n, n)`.
        lam: `λ > 0`, the weight of `KL(p ‖ p₀)`.
        mu: mean of the data.
        reference: `p₀`, `(*b, n)`.

    Raises:
        InputError: `lam` is not positive.
        ShapeError: `n` differs between reward, data and reference.

    Source: new (analysis.reference.inner).
    """
    check_finite("mu", mu)
    lam = as_positive("lam", lam, mu)
    check_same_n("mu", mu.shape[-1], "the reward", reward.n)
    a = _pull(reference, mu)
    factor = torch.linalg.cholesky(reference.precision() + 2 / lam[..., None, None] * reward.U)
    moved = torch.cholesky_solve(a.unsqueeze(-1), factor)[..., 0]
    return Gaussian.cholesky(mu + moved, torch.linalg.cholesky(torch.cholesky_inverse(factor)))


def optimal_reward(
    Sigma: Float[Tensor, "*#b n n"],
    lam: Number | Float[Tensor, "*#b"],
    mu: Float[Tensor, "*b n"],
    reference: Gaussian,
) -> MahalanobisReward:
    """Return the reward of `U* = (λ/2)(S⁻¹ - P₀⁻¹)`, for a full policy.

    Args:
        Sigma: SPD covariance of the data, `(*b, n, n)`.
        lam: `λ > 0`, the weight of `KL(p ‖ p₀)`.
        mu: mean of the data.
        reference: `p₀`, `(*b, n)`.

    Raises:
        OutsideConeError: `S ⊀ P₀`; the message names the smallest eigenvalue of `U*`.
        NotPositiveDefiniteError: `Sigma` is not SPD.
        InputError: `lam` is not positive.
        ShapeError: `n` differs between covariance, mean and reference.

    Source: new (analysis.reference.outer).
    """
    check_spd("Sigma", Sigma)
    check_finite("mu", mu)
    check_same_n("mu", mu.shape[-1], "Sigma", Sigma.shape[-1])
    check_broadcast("mu", mu.shape[:-1], "Sigma", Sigma.shape[:-2])
    lam = as_positive("lam", lam, Sigma)
    a = _pull(reference, mu)
    aSa = torch.einsum("...i,...ij,...j->...", a, Sigma, a)
    k = 2 / (1 + (1 + 4 * aSa).sqrt())
    precision = torch.cholesky_inverse(torch.linalg.cholesky(Sigma))
    precision = precision + k[..., None, None] * a.unsqueeze(-1) * a.unsqueeze(-2)
    U = lam[..., None, None] / 2 * (precision - reference.precision())
    smallest = torch.linalg.eigvalsh(U.detach())[..., 0]
    if bool((smallest <= 0).any()):
        raise OutsideConeError(
            f"U* is not positive definite: its smallest eigenvalue is {smallest.min().item():.6g}; "
            f"the reference is narrower than the best policy there, and no reward can widen it: "
            f"pass one with a larger covariance, or a reward with a centre of its own"
        )
    return MahalanobisReward.full(U)


def _pull(reference: Gaussian, mu: Tensor) -> Float[Tensor, "*b n"]:
    """Return `a = P₀⁻¹(m₀ - μ)`."""
    check_same_n("the reference", reference.n, "mu", mu.shape[-1])
    check_broadcast("the reference", reference.mean.shape[:-1], "mu", mu.shape[:-1])
    return (reference.precision() @ (reference.mean - mu).unsqueeze(-1))[..., 0]
