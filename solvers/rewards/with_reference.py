"""Mahalanobis rewards where `-λ KL(p ‖ p₀)` stands in place of `λH`, `p₀ = N(m₀, P₀)`.

The inner solution keeps a part of the reference: `P*⁻¹ = P₀⁻¹ + (2/λ)U` and
`m* = μ + P* P₀⁻¹(m₀ - μ)`. As no `U` moves the mean all the way, the best one takes back variance:
with `a = P₀⁻¹(m₀ - μ)` it is

    U* = (λ/2)(S⁻¹ - P₀⁻¹),    S⁻¹ = Σ⁻¹ + k a aᵀ,    k = 2/(1 + √(1 + 4aᵀΣa)),

which is positive definite only where the reference is wide enough, `S ≺ P₀`. Elsewhere the best
`U ⪰ 0` lies on the boundary of the cone: `projected_reward`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..errors import (
    InputError,
    NotPositiveDefiniteError,
    Number,
    as_positive,
    check_batches,
    check_finite,
    check_same_n,
    check_spd,
)
from ..families.gaussian import Gaussian
from .mahalanobis import MahalanobisReward


class OutsideConeError(NotPositiveDefiniteError):
    """The likelihood has no maximum over SPD rewards: its best `U` is not positive definite."""


@checked
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
    lam = _weight("the reward", reward.cholesky, lam, mu, reference)
    check_same_n("mu", mu.shape[-1], "the reward", reward.n)
    return _solved(reward.U, lam, mu, reference)


def _solved(U: Tensor, lam: Tensor, mu: Tensor, reference: Gaussian) -> Gaussian:
    """Return the inner solution of `U ⪰ 0`."""
    a = _pull(reference, mu)
    H = reference.precision() + 2 / lam[..., None, None] * U
    factor, failed = torch.linalg.cholesky_ex(H)
    if not bool(torch.isfinite(H).all()) or bool(failed.any()):
        raise InputError(
            f"the precision of the policy is beyond {H.dtype}, or singular in it: pass U, lam and "
            f"a reference of nearer sizes, or outcomes in other units"
        )
    moved = torch.cholesky_solve(a.unsqueeze(-1), factor)[..., 0]
    return Gaussian.cholesky(mu + moved, torch.linalg.cholesky(torch.cholesky_inverse(factor)))


@checked
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
    U = stationary_weight(Sigma, lam, mu, reference)
    smallest = torch.linalg.eigvalsh(U.detach())[..., 0]
    if bool((smallest <= 0).any()):
        raise OutsideConeError(
            f"U* is not positive definite: its smallest eigenvalue is {smallest.min().item():.6g}; "
            f"the reference is narrower than the best policy there, and no reward can widen it: "
            f"pass one with a larger covariance, or take projected_reward, or a reward with a "
            f"centre of its own"
        )
    return MahalanobisReward.full(U)


@checked
def stationary_weight(
    Sigma: Float[Tensor, "*#b n n"],
    lam: Number | Float[Tensor, "*#b"],
    mu: Float[Tensor, "*b n"],
    reference: Gaussian,
) -> Float[Tensor, "*b n n"]:
    """Return `(λ/2)(S⁻¹ - P₀⁻¹)`, whatever its sign.

    Args:
        Sigma: SPD covariance of the data, `(*b, n, n)`.
        lam: `λ > 0`, the weight of `KL(p ‖ p₀)`.
        mu: mean of the data, `(*b, n)`.
        reference: `p₀`, `(*b, n)`.

    Raises:
        NotPositiveDefiniteError: `Sigma` is not SPD.
        InputError: `lam` is not positive.
        ShapeError: `n` differs between covariance, mean and reference.

    Source: new (analysis.reference.outer).
    """
    check_spd("Sigma", Sigma)
    lam = _weight("Sigma", Sigma, lam, mu, reference)
    a = _pull(reference, mu)
    aSa = torch.einsum("...i,...ij,...j->...", a, Sigma, a)
    k = 2 / (1 + (1 + 4 * aSa).sqrt())
    precision = torch.cholesky_inverse(torch.linalg.cholesky(Sigma))
    precision = precision + k[..., None, None] * a.unsqueeze(-1) * a.unsqueeze(-2)
    return lam[..., None, None] / 2 * (precision - reference.precision())


@dataclass(frozen=True)
class Projection:
    """The best reward of the closed cone, which may have directions without any weight.

    Attributes:
        U: symmetric positive semidefinite, `(*b, n, n)`.
        law: the inner solution, `(*b, n)`.
    """

    U: Float[Tensor, "*b n n"]
    law: Gaussian


MOST, SHORTEST = 100, 1e-16  # steps of Newton's method, which takes about five; parts of a step


@checked
@torch.no_grad()
def projected_reward(
    Sigma: Float[Tensor, "*#b n n"],
    lam: Number | Float[Tensor, "*#b"],
    mu: Float[Tensor, "*b n"],
    reference: Gaussian,
) -> Projection:
    """Return the most likely reward `U ⪰ 0`: `U*` where that is positive definite.

    `F` is strictly concave in the precision `H = P₀⁻¹ + (2/λ)U`, so that there is one. It is no
    nearest matrix: in a Frobenius norm, say, that one has a smaller likelihood. With the error
    `c = m* - μ` of the mean, `H` is the inverse of `Σ - ccᵀ`, raised to `P₀⁻¹` where it is smaller
    (in coordinates in which `P₀ = I`: eigenvalues below 1 become 1), and `c` minimises the convex

        g(c) = max_{H ⪰ P₀⁻¹} [½ log det H - ½ Tr H(Σ - ccᵀ)] - cᵀP₀⁻¹(m₀ - μ),

    by Newton's method. No gradient flows through it.

    Args:
        Sigma: SPD covariance of the data, `(*b, n, n)`.
        lam: `λ > 0`, the weight of `KL(p ‖ p₀)`.
        mu: mean of the data, `(*b, n)`.
        reference: `p₀`, `(*b, n)`.

    Returns:
        The best `U ⪰ 0`, and the law it trains.

    Raises:
        NotPositiveDefiniteError: `Sigma` is not SPD.
        InputError: `lam` is not positive, or a problem too ill-conditioned for the search.
        ShapeError: `n` differs between covariance, mean and reference.

    Source: new (analysis.reference.outer).
    """
    check_spd("Sigma", Sigma)
    lam = _weight("Sigma", Sigma, lam, mu, reference)
    pull = _pull(reference, mu).unsqueeze(-1)
    root = torch.linalg.cholesky(reference.covariance)
    pull = root.mT @ pull
    half = torch.linalg.solve_triangular(root, torch.linalg.cholesky(Sigma), upper=False)
    spread = half @ half.mT
    batch = torch.broadcast_shapes(spread.shape[:-2], pull.shape[:-2])
    spread, pull = (x.expand(*batch, *x.shape[-2:]) for x in (spread, pull))
    # where U* is without the constraint: inside the domain, cᵀΣ⁻¹c < 1
    error = spread @ pull
    error = 2 * error / (1 + (1 + 4 * pull.mT @ error).sqrt())
    value, slope, bend, _ = _dual(spread, pull, error)
    tolerance = 64 * torch.finfo(Sigma.dtype).eps
    step, gain = torch.zeros_like(slope), torch.full_like(value, torch.inf)
    for _ in range(MOST):
        step = -torch.linalg.solve(bend, slope)
        gain = -(slope.mT @ step)
        if bool((gain <= tolerance * (1 + value.abs())).all()):
            break
        length = torch.ones_like(gain)
        while True:
            new = _dual(spread, pull, error + length * step)
            short = ~(new[0] <= value - length * gain / 4) & (gain > tolerance * (1 + value.abs()))
            if not bool(short.any()) or bool((length < SHORTEST).any()):
                break
            length = torch.where(short, length / 2, length)
        error, (value, slope, bend, _) = error + length * step, new
    else:
        raise InputError(
            f"no best reward is found in {MOST} steps: the largest gain left is "
            f"{gain.max().item():.3g}; pass a Sigma and a reference of smaller condition numbers"
        )
    added = torch.linalg.solve_triangular(root.mT, _dual(spread, pull, error + step)[3], upper=True)
    U = lam[..., None, None] / 2 * (added @ added.mT)
    return Projection(U, _solved(U, lam, mu, reference))


def _dual(
    spread: Float[Tensor, "*b n n"], pull: Float[Tensor, "*b n 1"], error: Float[Tensor, "*b n 1"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `g`, its gradient `Hc - a` and Hessian at `c`, and a root of `H - I`; `P₀ = I`."""
    x, Q = torch.linalg.eigh(spread - error @ error.mT)
    inside = (x[..., :1] > 0).unsqueeze(-1)
    x = x.clamp_min(torch.finfo(x.dtype).tiny)
    h = (1 / x).clamp_min(1)
    value = (h.log() - h * x).sum(-1)[..., None, None] / 2 - error.mT @ pull
    H, seen = (Q * h.unsqueeze(-2)) @ Q.mT, Q.mT @ error
    apart = x.unsqueeze(-1) - x.unsqueeze(-2)
    rise = (h.unsqueeze(-2) - h.unsqueeze(-1)) / apart  # -(h_i - h_j)/(x_i - x_j) >= 0
    equal = torch.where(x < 1, h * h, torch.zeros_like(h)).unsqueeze(-1).expand_as(rise)
    rise = torch.where(apart == 0, equal, rise)
    # d(Hc) = H dc + Q [rise ∘ (dc' c'ᵀ + c' dc'ᵀ)] c', in eigenvectors of Σ - ccᵀ
    turned = torch.diag_embed((rise * seen.mT**2).sum(-1)) + rise * (seen @ seen.mT)
    bend = H + Q @ turned @ Q.mT
    value = torch.where(inside, value, torch.full_like(value, torch.inf))
    return value, H @ error - pull, bend, Q * (h - 1).sqrt().unsqueeze(-2)


def _weight(
    name: str, matrix: Tensor, lam: Number | Tensor, mu: Tensor, reference: Gaussian
) -> Tensor:
    """Return `λ`, after checking that all are finite, of one dtype, and of batches that fit."""
    check_finite("mu", mu)
    for other, dtype in ((name, matrix.dtype), ("the reference", reference.mean.dtype)):
        if dtype != mu.dtype:
            raise InputError(f"{other} is {dtype}, mu {mu.dtype}: use one dtype")
    check_same_n("the reference", reference.n, "mu", mu.shape[-1])
    lam = as_positive("lam", lam, mu)
    check_batches(
        {
            name: matrix.shape[:-2],
            "lam": lam.shape,
            "mu": mu.shape[:-1],
            "the reference": reference.mean.shape[:-1],
        }
    )
    return lam


def _pull(reference: Gaussian, mu: Tensor) -> Float[Tensor, "*b n"]:
    """Return `a = P₀⁻¹(m₀ - μ)`."""
    precision = reference.precision()
    if not bool(torch.isfinite(precision).all()):
        raise InputError(
            f"the precision of the reference is beyond {precision.dtype}: pass one with larger "
            f"deviations, or outcomes in other units"
        )
    return (precision @ (reference.mean - mu).unsqueeze(-1))[..., 0]
