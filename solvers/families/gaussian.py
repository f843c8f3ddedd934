"""The Gaussian law `N(m, P)` that a policy returns for each input.

`P = S Sᵀ` with `S` either a vector of standard deviations (isotropic and diagonal policies) or a
lower-triangular Cholesky factor (full ones). Leading dimensions are batch dimensions, the last
one is the outcome dimension `n`; log-probabilities and entropies are summed over `n`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, ShapeError, check_broadcast, check_finite, check_positive


@dataclass(frozen=True)
class Gaussian:
    """`N(m, P)` with `P = S Sᵀ`.

    Attributes:
        mean: `m`, shape `(*b, n)`.
        scale: `S`: standard deviations `(*b, n)`, or a Cholesky factor `(*b, n, n)`. Its batch
            dimensions are those of the mean, each of them of size 1 where all share one `S`: none
            is left out, so that the number of dimensions tells deviations from factors.

    `diagonal` and `cholesky` broadcast as `torch.distributions` does, and check the numbers.

    Raises:
        ShapeError: a scale of another shape.
        InputError: a factor that stands where deviations do, or deviations where a factor does.
    """

    mean: Float[Tensor, "*b n"]
    scale: Float[Tensor, "..."]

    def __post_init__(self) -> None:
        mean, scale = self.mean.shape, self.scale.shape
        extra = len(scale) - len(mean)
        if not mean or extra not in (0, 1) or set(scale[len(mean) - 1 :]) != {mean[-1]}:
            raise ShapeError(_misfit(mean, scale))
        for many, few in zip(mean[:-1], scale, strict=False):
            if few != many and few != 1:
                raise ShapeError(_misfit(mean, scale))
        # Deviations are positive, and a factor is 0 above the diagonal: where the shape alone would
        # let one pass for the other, as with a factor that n rows share, one entry tells.
        # (Inside a transform of torch.func values cannot be looked at.)
        n = mean[-1]
        hidden = torch._C._are_functorch_transforms_active()  # pyright: ignore[reportPrivateUsage]
        if n > 1 and scale[-2:] == (n, n) and self.scale.numel() and not hidden:
            corner = self.scale[(0,) * (len(scale) - 1) + (n - 1,)].abs()
            if bool(corner > 0 if extra else corner == 0):
                raise InputError(_misread(mean, scale, corner.item()))

    @classmethod
    def diagonal(cls, mean: Float[Tensor, "*#b n"], s: Float[Tensor, "*#b n"]) -> Gaussian:
        """Return `N(m, diag(s²))`; batch dimensions broadcast.

        Args:
            mean: `m`.
            s: standard deviations, positive.

        Raises:
            ShapeError: shapes that do not fit.
            InputError: a deviation that is not positive, or NaN or infinity.
        """
        if not (mean.ndim and s.ndim) or s.shape[-1] != mean.shape[-1]:
            raise ShapeError(
                f"mean is {tuple(mean.shape)}, s {tuple(s.shape)}: pass mean (*b, n), s (*b, n)"
            )
        check_positive("s", s)
        return cls(*_aligned(mean, s, 1))

    @classmethod
    def cholesky(cls, mean: Float[Tensor, "*#b n"], L: Float[Tensor, "*#b n n"]) -> Gaussian:
        """Return `N(m, LLᵀ)`; batch dimensions broadcast.

        Args:
            mean: `m`.
            L: lower triangular with a positive diagonal; `(n, n)` for one that all share.

        Raises:
            ShapeError: shapes that do not fit.
            InputError: `L` is not lower triangular with a positive diagonal, or not finite.
        """
        if not mean.ndim or L.ndim < 2 or L.shape[-2:] != (mean.shape[-1],) * 2:
            raise ShapeError(
                f"mean is {tuple(mean.shape)}, L {tuple(L.shape)}: pass mean (*b, n), L (*b, n, n)"
            )
        check_finite("L", L)
        check_positive("the diagonal of L", L.diagonal(dim1=-2, dim2=-1))
        if bool(L.triu(1).any()):
            raise InputError(
                "L has an entry above the diagonal: pass torch.linalg.cholesky of the covariance"
            )
        return cls(*_aligned(mean, L, 2))

    @property
    def full(self) -> bool:
        """Whether `scale` is a Cholesky factor."""
        return self.scale.ndim > self.mean.ndim

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return self.mean.shape[-1]

    def standard_deviations(self) -> Float[Tensor, "*c n"]:
        """Return `sqrt(P_ii)`."""
        return self.scale.norm(dim=-1) if self.full else self.scale

    def covariance(self) -> Float[Tensor, "*c n n"]:
        """Return `P`."""
        return self.scale @ self.scale.mT if self.full else torch.diag_embed(self.scale.square())

    def log_det_scale(self) -> Float[Tensor, "*c"]:
        """Return `log det S = ½ log det P`."""
        diagonal = self.scale.diagonal(dim1=-2, dim2=-1) if self.full else self.scale
        return diagonal.log().sum(-1)

    def entropy(self) -> Float[Tensor, "*c"]:
        """Return `H = ½ log det P + (n/2) log 2πe`."""
        return self.log_det_scale() + 0.5 * self.n * (math.log(2 * math.pi) + 1)

    def whiten(self, deviation: Float[Tensor, "*d n"]) -> Float[Tensor, "*d n"]:
        """Return `S⁻¹ deviation`."""
        if not self.full:
            return deviation / self.scale
        return torch.linalg.solve_triangular(self.scale, deviation.unsqueeze(-1), upper=False)[
            ..., 0
        ]

    def log_prob(self, y: Float[Tensor, "*d n"]) -> Float[Tensor, "*e"]:
        """Return `log N(y; m, P) = -½‖S⁻¹(y - m)‖² - log det S - (n/2) log 2π`.

        Raises:
            ShapeError: `y` has another outcome dimension, or a batch that does not broadcast.
        """
        self._check_outcome("y", y)
        distance = self.whiten(y - self.mean).square().sum(-1)
        return -0.5 * distance - self.log_det_scale() - 0.5 * self.n * math.log(2 * math.pi)

    def cross_entropy(
        self, mu: Float[Tensor, "*d n"], Sigma: Float[Tensor, "*d n n"]
    ) -> Float[Tensor, "*e"]:
        """Return `-E log N(y; m, P)` for any `y` with mean `mu` and covariance `Sigma`.

        Formula: `½(m-μ)ᵀP⁻¹(m-μ) + ½ Tr(P⁻¹Σ) + log det S + (n/2) log 2π`. `Sigma` may be
        singular (an empirical covariance, or zero for a single point).

        Raises:
            ShapeError: another outcome dimension, or batches that do not broadcast.
        """
        self.check_moments(mu, Sigma)
        if self.full:
            spread = torch.cholesky_solve(Sigma, self.scale).diagonal(dim1=-2, dim2=-1)
            terms = self.whiten(mu - self.mean).square() + spread
        else:
            precise = self.scale.reciprocal()  # its square may not exist where that of Σ does not
            spread = Sigma.diagonal(dim1=-2, dim2=-1) * precise * precise
            terms = ((mu - self.mean) * precise).square() + spread
        return 0.5 * terms.sum(-1) + self.log_det_scale() + 0.5 * self.n * math.log(2 * math.pi)

    def check_moments(self, mu: Tensor, Sigma: Tensor) -> None:
        """Raise `ShapeError` unless `mu` and `Sigma` are moments of outcomes of this law."""
        self._check_outcome("mu", mu)
        if Sigma.shape[-2:] != (self.n, self.n):
            raise ShapeError(
                f"Sigma has shape {tuple(Sigma.shape)}, and the law n = {self.n}: pass a "
                f"covariance (*b, n, n)"
            )
        for name, batch in (("mu", mu.shape[:-1]), ("the mean", self.mean.shape[:-1])):
            check_broadcast("Sigma", Sigma.shape[:-2], name, batch)

    def _check_outcome(self, name: str, y: Tensor) -> None:
        """Raise unless `y` is a batch of outcomes of this law."""
        if not y.ndim or y.shape[-1] != self.n:
            raise ShapeError(
                f"{name} has shape {tuple(y.shape)}, the mean {tuple(self.mean.shape)}: pass "
                f"{name} (*b, n) with n = {self.n} as its last dimension"
            )
        check_broadcast(name, y.shape[:-1], "the mean", self.mean.shape[:-1])


def _misfit(mean: torch.Size, scale: torch.Size) -> str:
    return (
        f"mean has shape {tuple(mean)}, scale {tuple(scale)}: pass mean (*b, n) and standard "
        f"deviations (*b, n) or a Cholesky factor (*b, n, n), with a 1 for each dimension of *b "
        f"that shares one scale, or use Gaussian.diagonal and Gaussian.cholesky, which broadcast"
    )


def _misread(mean: torch.Size, scale: torch.Size, corner: float) -> str:
    place = f"scale[..., 0, {scale[-1] - 1}] is {corner:.6g}"
    if len(scale) > len(mean):
        return (
            f"{place}, above the diagonal of a Cholesky factor {tuple(scale)}: pass a lower "
            f"triangular one, or, for standard deviations of shape {tuple(scale)} beside a mean "
            f"{tuple(mean)}, Gaussian.diagonal(mean, s)"
        )
    return (
        f"{place}, no standard deviation of shape {tuple(scale)}: pass positive ones, or, for a "
        f"Cholesky factor that all rows share, Gaussian.cholesky(mean, L)"
    )


def _aligned(mean: Tensor, scale: Tensor, own: int) -> tuple[Tensor, Tensor]:
    """Return both with the same number of batch dimensions, the mean with the whole batch."""
    batch = scale.shape[: scale.ndim - own]
    check_broadcast("the scale", batch, "the mean", mean.shape[:-1])
    whole = torch.broadcast_shapes(batch, mean.shape[:-1])
    ones = (1,) * (len(whole) - len(batch))
    return mean.expand(*whole, mean.shape[-1]), scale.reshape(ones + scale.shape)
