"""Training objectives: each returns one loss per ensemble member, averaged over inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..data import Dataset
from ..errors import Number, as_positive, check_same_n
from ..families.gaussian import Gaussian
from ..rewards.mahalanobis import Reward
from .estimators import Analytic, Estimator, NoiseSource


@runtime_checkable
class Objective(Protocol):
    """A loss per member, shape `(*b,)`, to be minimised."""

    def __call__(
        self, law: Gaussian, data: Dataset, noise: NoiseSource | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses."""
        ...


@dataclass(frozen=True)
class NLL:
    """Negative log-likelihood `-E_x E_y log p(y | x)`, summed over `n`."""

    def __call__(
        self, law: Gaussian, data: Dataset, noise: NoiseSource | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses; exact through the moments of `y` at each input."""
        check_same_n("the policy", law.n, "the data", data.n)
        return law.cross_entropy(data.mean, data.covariance).mean(-1)


@dataclass(frozen=True)
class MSE:
    """Squared error `E_x E_y ‖y - m(x)‖²`, summed over `n`; the scale is not trained."""

    def __call__(
        self, law: Gaussian, data: Dataset, noise: NoiseSource | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses."""
        check_same_n("the policy", law.n, "the data", data.n)
        spread = data.covariance.diagonal(dim1=-2, dim2=-1)
        return ((law.mean - data.mean).square() + spread).sum(-1).mean(-1)


@dataclass(frozen=True)
class PolicyGradient:
    """`-J = -E_x [E_y E_ŷ r(ŷ, y) + λ H(p(. | x))]`, the inner problem of the paper.

    Attributes:
        reward: `r`, Mahalanobis or bounded, with batch dimensions that lead those of the ensemble.
        lam: entropy weight `λ > 0`, a number or a tensor of shape `(*b,)`.
        estimator: of the gradient of the expected reward; the entropy's is exact.
    """

    reward: Reward
    lam: Number | Float[Tensor, "*b"]
    estimator: Estimator = Analytic()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", as_positive("lam", self.lam))

    def __call__(
        self, law: Gaussian, data: Dataset, noise: NoiseSource | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses: of the sampled estimators, only the gradient has a meaning."""
        check_same_n("the policy", law.n, "the data", data.n)
        surrogate = self.estimator(law, data, self.reward, noise).mean(-1)
        entropy = law.entropy().mean(-1)
        return -(surrogate + torch.as_tensor(self.lam).to(entropy) * entropy)
