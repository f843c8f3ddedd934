"""Mahalanobis rewards `r_U(ŷ, y) = -(ŷ - y)ᵀ U (ŷ - y)`, and the optimal ones.

Every formula for an optimal reward that training uses stands here, once; those with a reference
policy in `with_reference`.
"""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checked, checked_class
from ..errors import (
    InputError,
    Number,
    ShapeError,
    as_positive,
    check_batches,
    check_broadcast,
    check_choice,
    check_count,
    check_dtype,
    check_factor,
    check_finite,
    check_offers,
    check_same_n,
    check_spd,
    precedent,
)
from ..families.gaussian import STRUCTURES, Structure, align
from ..families.law import OUTCOMES, Moments


@checked_class
@dataclass(frozen=True)
class MahalanobisReward:
    """`r_U(ŷ, y) = -(ŷ - y)ᵀ U (ŷ - y)` with `U = C Cᵀ`, SPD by construction.

    Build it with `scalar`, `diagonal` or `full`, or from a Cholesky factor directly when the
    reward itself is learned.

    Attributes:
        cholesky: `C`, lower triangular with a positive diagonal, `(*b, n, n)`. It takes dtype and
            device of the laws and outcomes it meets.
        check: whether to look at the numbers. Learned rewards, built at every step, leave it out.
    """

    cholesky: Float[Tensor, "*b n n"]
    check: InitVar[bool] = field(default=True, kw_only=True)

    def __post_init__(self, check: bool) -> None:
        check_dtype("cholesky", self.cholesky)
        shape = self.cholesky.shape
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ShapeError(f"cholesky has shape {tuple(shape)}: pass a factor (*b, n, n)")
        hidden = torch._C._are_functorch_transforms_active()  # pyright: ignore[reportPrivateUsage]
        if check and not hidden:
            check_factor("cholesky", self.cholesky)

    @classmethod
    def scalar(cls, u: Number | Float[Tensor, "*b"], n: int) -> MahalanobisReward:
        """Return the reward of `U = u I`, `u > 0` of shape `(*b,)`."""
        u = as_positive("u", u)
        check_count("n", n)
        return cls(torch.diag_embed(u.sqrt().unsqueeze(-1).expand(*u.shape, n)))

    @classmethod
    def diagonal(cls, u: Float[Tensor, "*b n"]) -> MahalanobisReward:
        """Return the reward of `U = diag(u)`, `u > 0` of shape `(*b, n)`."""
        u = as_positive("u", u)
        if not u.ndim:
            raise ShapeError("u is one number: pass (*b, n), or use MahalanobisReward.scalar(u, n)")
        return cls(torch.diag_embed(u.sqrt()))

    @classmethod
    def full(cls, U: Float[Tensor, "*b n n"]) -> MahalanobisReward:
        """Return the reward of an SPD `U` of shape `(*b, n, n)`.

        Raises:
            NotPositiveDefiniteError: `U` is not symmetric or not positive definite.
        """
        check_spd("U", U)
        return cls(torch.linalg.cholesky(U))

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return self.cholesky.shape[-1]

    @property
    def U(self) -> Float[Tensor, "*b n n"]:
        """The weight matrix `C Cᵀ`."""
        return self.cholesky @ self.cholesky.mT

    def quadratic(self, deviation: Float[Tensor, "*d n"]) -> Float[Tensor, "*d"]:
        """Return `eᵀUe = ‖Cᵀe‖²`; the batch of the reward leads the dimensions of `e`."""
        leading = self._check_outcome(deviation)
        cholesky = self.cholesky.to(deviation)
        slabs = deviation.movedim(-1, leading)
        columns = slabs.reshape(*slabs.shape[: leading + 1], math.prod(slabs.shape[leading + 1 :]))
        whitened = cholesky.mT @ columns
        quadratic = (whitened * whitened).sum(leading)  # `square` is several times slower here
        return quadratic.reshape(quadratic.shape[:leading] + deviation.shape[leading:-1])

    def of(self, deviation: Float[Tensor, "*d n"]) -> Float[Tensor, "*d"]:
        """Return `r = -eᵀUe`."""
        return -self.quadratic(deviation)

    def __call__(
        self, generation: Float[Tensor, "*d n"], y: Float[Tensor, "*e n"]
    ) -> Float[Tensor, "*f"]:
        """Return `r(ŷ, y)` for broadcastable generations and data points."""
        check_pair(generation, y)
        return self.of(generation - y)

    def expected(self, law: Moments, q: Any) -> Float[Tensor, "*e"]:
        """Return `E_y E_ŷ r(ŷ, y) = -(m-μ)ᵀU(m-μ) - Tr(U(P + Σ))` per input.

        Args:
            law: of the generations, of mean `m` and covariance `P`.
            q: data or a law, of mean `μ` and covariance `Σ`; of no more than these, `TwoMoments`.

        Raises:
            InputError: `q` without moments.
            ShapeError: another outcome dimension, or batches that do not broadcast.
        """
        check_offers("q", q, ("mean", "covariance"), OUTCOMES)
        law.check_moments(q.mean, q.covariance)
        U = align(self.U.to(law.mean), self._check_outcome(law.mean), law.mean.ndim + 1)
        return -self.quadratic(law.mean - q.mean) - law.trace(U) - (q.covariance * U).sum((-2, -1))

    def _check_outcome(self, outcome: Tensor) -> int:
        """Return the number of batch dimensions, after checking that those of `outcome` fit."""
        batch = self.cholesky.shape[:-2]
        check_same_n("the outcome", outcome.shape[-1] if outcome.ndim else 0, "the reward", self.n)
        if len(batch) >= outcome.ndim:
            raise ShapeError(
                f"the outcome has shape {tuple(outcome.shape)}, the reward batch shape "
                f"{tuple(batch)}, which leads: pass outcomes of {len(batch) + 1} dimensions or more"
            )
        check_broadcast("the reward", batch, "the outcome", outcome.shape[: len(batch)])
        return len(batch)


@checked_class
@dataclass(frozen=True)
class DiagonalReward:
    """`r(ŷ, y) = -Σ_i u_i (ŷ_i - y_i)²`: a diagonal `U` without the zeros of its matrix.

    The same as `MahalanobisReward.diagonal(u)`, at a cost of `n` and not of `n²` for each input:
    for a `U(x)` of many inputs. Exact expectations only; its batch lines up with the end of that of
    the law, inputs included.

    Attributes:
        u: weights `u > 0`, `(*b, N, n)`, with 1 for `N` where all inputs share them.

    Source: new.
    """

    u: Float[Tensor, "*b N n"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "u", as_positive("u", self.u))
        if self.u.ndim < 2:
            raise ShapeError(
                f"u has shape {tuple(self.u.shape)}: pass (*b, N, n), with N = 1 where all inputs "
                f"share it, or use MahalanobisReward.diagonal(u)"
            )

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return self.u.shape[-1]

    def rows(self, index: Int[Tensor, "*i B"]) -> DiagonalReward:
        """Return the reward at the inputs `index`, for batches."""
        if self.u.shape[-2] == 1:
            return self
        if self.u.ndim != 2:
            raise ShapeError(f"u has shape {tuple(self.u.shape)}: rows are taken from u (N, n)")
        return DiagonalReward(self.u[index])

    def expected(self, law: Any, q: Any) -> Float[Tensor, "*e N"]:
        """Return `E r = -Σ_i u_i [(m_i - μ_i)² + P_ii + Σ_ii]` per input.

        Args:
            law: of the generations, a Gaussian or bits.
            q: data or a law, of mean `μ` and covariance `Σ`.

        Raises:
            InputError: a law without standard deviations, or `q` without moments.
            ShapeError: another outcome dimension, or batches that do not broadcast.
        """
        check_offers("law", law, ("check_moments", "standard_deviations"), "a Gaussian, or bits")
        check_offers("q", q, ("mean", "covariance"), OUTCOMES)
        law.check_moments(q.mean, q.covariance)
        check_same_n("the outcome", law.mean.shape[-1], "the reward", self.n)
        check_broadcast("the reward", self.u.shape[:-1], "the outcome", law.mean.shape[:-1])
        spread = q.covariance.diagonal(dim1=-2, dim2=-1) + law.standard_deviations().square()
        return -(self.u.to(law.mean) * ((law.mean - q.mean).square() + spread)).sum(-1)


def check_pair(generation: Tensor, y: Tensor) -> None:
    """Raise `ShapeError` unless generations and data points have one `n` and broadcast."""
    if not (generation.ndim and y.ndim) or generation.shape[-1] != y.shape[-1]:
        raise ShapeError(
            f"generations have shape {tuple(generation.shape)}, outcomes {tuple(y.shape)}: pass "
            f"both as (*b, n), for n = 1 with a last dimension of 1"
        )
    check_broadcast("generations", generation.shape[:-1], "outcomes", y.shape[:-1])


@checked
def optimal_reward(
    Sigma: Float[Tensor, "*#b n n"],
    lam: Number | Float[Tensor, "*#b"],
    structure: Structure = "full",
) -> MahalanobisReward:
    """Return the reward whose inner solution maximises the likelihood of the data.

    For a policy of the given covariance structure, and data of covariance `Sigma`:
    full `U* = (λ/2) Σ⁻¹`; diagonal `U*_ii = λ/(2 Σ_ii)`; isotropic `U* = λn/(2 Tr Σ) I`, one of
    the many `U` with this trace.

    Args:
        Sigma: SPD covariance `(*b, n, n)`. With `x`-dependent means this is the *residual*
            covariance; the marginal one costs likelihood.
        lam: entropy weight `λ > 0`, broadcastable to `(*b,)`.
        structure: of the policy's covariance.

    Raises:
        NotPositiveDefiniteError: `Sigma` is not SPD.
        InputError: `lam` is not positive, or the structure is unknown.

    Source: paper (full, isotropic); diagonal is new.
    """
    check_choice("structure", structure, STRUCTURES)
    check_spd("Sigma", Sigma)
    lam = as_positive("lam", lam, Sigma)
    check_broadcast("lam", lam.shape, "Sigma", Sigma.shape[:-2])
    n = Sigma.shape[-1]
    variances = Sigma.diagonal(dim1=-2, dim2=-1)
    if structure == "isotropic":
        return MahalanobisReward.scalar(isotropic_weight(variances.sum(-1), n, lam), n)
    if structure == "diagonal":
        return MahalanobisReward.diagonal(lam[..., None] / variances / 2)
    precision = torch.cholesky_inverse(torch.linalg.cholesky(Sigma))
    return MahalanobisReward.full(lam[..., None, None] / 2 * precision)


@checked
def optimal_weights(
    rho: Float[Tensor, "*#b n"], lam: Number | Float[Tensor, "*#b"]
) -> Float[Tensor, "*b n"]:
    """Return the `u` of `U* = diag(u)` for independent bits, whose inner solution has mean `ρ`.

    `u*_i = λ log(ρ_i/(1-ρ_i)) / (2ρ_i - 1)`; at ½, where every `u_i` is optimal, its limit `2λ`.

    Args:
        rho: probabilities of the bits, in (0, 1); with a row for each input, so has `u`.
        lam: entropy weight `λ > 0`, broadcastable to `(*b,)`.

    Raises:
        InputError: a bit that is certain: its best weight is infinite; `lam` is not positive, or a
            weight lies beyond the dtype.

    Source: new (analysis.bernoulli.outer.optimal_reward).
    """
    check_finite("rho", rho)
    certain = (rho <= 0) | (rho >= 1)
    if bool(certain.any()):
        raise InputError(
            f"rho holds {rho[certain][0].item():.6g}, a certain bit, whose best weight is "
            f"infinite: pass probabilities in (0, 1), such as those of a fit with weight decay"
        )
    lam = as_positive("lam", lam, rho)
    check_broadcast("lam", lam.shape, "rho", rho.shape[:-1])
    t = 2 * rho - 1  # exact from rho = 1/4 on, where the log-odds are 2 atanh(t)
    near, half = t.abs() <= 0.5, torch.full_like(t, 0.5)
    small, far = torch.where(near & (t != 0), t, half), torch.where(near, half / 2, rho)
    inner = torch.where(t == 0, 1.0, small.atanh() / small)
    outer = (far.log() - (-far).log1p()) / (4 * far - 2)
    return representable("u", 2 * lam[..., None] * torch.where(near, inner, outer))


@checked
def isotropic_weight(
    trace: Number | Float[Tensor, "*#b"], n: int, lam: Number | Float[Tensor, "*#b"]
) -> Float[Tensor, "*b"]:
    """Return `λn / (2 Tr Σ)`, the `u` of `U* = uI` for an isotropic policy.

    Args:
        trace: `Tr Σ > 0` of the data's residual covariance, `(*b,)`.
        n: outcome dimension.
        lam: entropy weight `λ > 0`, broadcastable to `(*b,)`.

    Raises:
        InputError: an argument is not positive, or `u` lies beyond the dtype.
    """
    check_count("n", n)
    like = precedent(trace, lam)
    trace, lam = as_positive("trace", trace, like), as_positive("lam", lam, like)
    check_broadcast("trace", trace.shape, "lam", lam.shape)
    return representable("u", lam / trace * (n / 2))


@checked
def optimal_scale(
    M: Float[Tensor, "*#b n n"],
    Sigma: Float[Tensor, "*#b n n"],
    lam: Number | Float[Tensor, "*#b"],
) -> Float[Tensor, "*b"]:
    """Return `c* = λn / (2 Tr(MΣ))`, the best multiple `U = cM` for a full policy.

    Args:
        M: SPD direction of the reward, `(*b, n, n)`.
        Sigma: SPD covariance of the data, the *residual* one, `(*b, n, n)`.
        lam: entropy weight `λ > 0`, broadcastable to `(*b,)`.

    Raises:
        NotPositiveDefiniteError: `M` or `Sigma` is not SPD.
        InputError: `lam` is not positive, or `c*` lies beyond the dtype.

    Source: new.
    """
    check_spd("M", M)
    check_spd("Sigma", Sigma)
    lam = as_positive("lam", lam, Sigma)
    check_batches({"lam": lam.shape, "Sigma": Sigma.shape[:-2], "M": M.shape[:-2]})
    # In units of the largest entries, whose product may lie beyond the dtype where c* does not.
    units = M.abs().amax((-2, -1)), Sigma.abs().amax((-2, -1))
    scaled = M / units[0][..., None, None] * (Sigma / units[1][..., None, None])
    root = lam.sqrt() / units[0].sqrt() / units[1].sqrt()
    return representable("c", root * (M.shape[-1] / 2 / scaled.sum((-2, -1))) * root)


def representable(name: str, value: Tensor) -> Tensor:
    """Return a positive result, or raise `InputError` where it has over- or underflown."""
    lost = ~((value > 0) & (value < torch.inf))
    if bool(lost.any()):
        raise InputError(
            f"the best {name} is {value.detach()[lost][0].item()} in {value.dtype}: pass float64 "
            f"tensors, or lam and the data in other units"
        )
    return value
