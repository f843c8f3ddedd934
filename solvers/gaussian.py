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


@dataclass(frozen=True)
class Gaussian:
    """`N(m, P)` with `P = S Sᵀ`.

    Attributes:
        mean: `m`, shape `(*b, n)`.
        scale: `S`: standard deviations `(*b, n)`, or a Cholesky factor `(*b, n, n)`. Its batch
            dimensions may have size 1 where the mean's do not.
    """

    mean: Float[Tensor, "*b n"]
    scale: Float[Tensor, "..."]

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
        """Return `log N(y; m, P) = -½‖S⁻¹(y - m)‖² - log det S - (n/2) log 2π`."""
        distance = self.whiten(y - self.mean).square().sum(-1)
        return -0.5 * distance - self.log_det_scale() - 0.5 * self.n * math.log(2 * math.pi)

    def cross_entropy(
        self, mu: Float[Tensor, "*d n"], Sigma: Float[Tensor, "*d n n"]
    ) -> Float[Tensor, "*e"]:
        """Return `-E log N(y; m, P)` for any `y` with mean `mu` and covariance `Sigma`.

        Formula: `½(m-μ)ᵀP⁻¹(m-μ) + ½ Tr(P⁻¹Σ) + log det S + (n/2) log 2π`. `Sigma` may be
        singular (an empirical covariance, or zero for a single point).
        """
        distance = self.whiten(mu - self.mean).square().sum(-1)
        if self.full:
            spread = torch.cholesky_solve(Sigma, self.scale).diagonal(dim1=-2, dim2=-1)
        else:
            spread = Sigma.diagonal(dim1=-2, dim2=-1) / self.scale.square()
        return (
            0.5 * (distance + spread.sum(-1))
            + self.log_det_scale()
            + 0.5 * self.n * math.log(2 * math.pi)
        )
