"""Training objectives: each returns one loss per ensemble member, averaged over inputs.

They serve every family of `solvers.families`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data import Dataset
from ..errors import InputError, Number, as_positive, check_same_n
from ..families.categorical import FORBIDDEN
from ..families.gaussian import Gaussian
from ..families.law import Data, Law, Noise
from .estimators import Analytic, Estimator


@runtime_checkable
class Objective(Protocol):
    """A loss per member, shape `(*b,)`, to be minimised."""

    def __call__(self, law: Any, data: Any, noise: Noise | None = None) -> Float[Tensor, "*b"]:
        """Return the losses."""
        ...


@runtime_checkable
class ByRows(Protocol):
    """An objective that is another one at some of the inputs."""

    def rows(self, index: Int[Tensor, "*i B"]) -> Objective:
        """Return the objective at the inputs `index`."""
        ...


@dataclass(frozen=True)
class NLL:
    """Negative log-likelihood `-E_x E_y log p(y | x)`, summed over `n`."""

    def __call__(self, law: Law, data: Data, noise: Noise | None = None) -> Float[Tensor, "*b"]:
        """Return the losses; exact for the outcomes at each input."""
        return law.nll(data).mean(-1)


@dataclass(frozen=True)
class MSE:
    """Squared error `E_x E_y ‖y - m(x)‖²`, summed over `n`; the scale is not trained."""

    def __call__(
        self, law: Gaussian, data: Dataset, noise: Noise | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses."""
        check_same_n("the policy", law.n, "the data", data.n)
        spread = data.covariance.diagonal(dim1=-2, dim2=-1)
        return ((law.mean - data.mean).square() + spread).sum(-1).mean(-1)


@dataclass(frozen=True)
class PolicyGradient:
    """`-J = -E_x [E_y E_ŷ r(ŷ, y) + λ H(p(. | x))]`, the inner problem of the paper.

    Attributes:
        reward: `r`, of `solvers.rewards`, or any function of generations and outcomes (with a
            sampled estimator). Batch dimensions lead those of the ensemble; one that depends on the
            input is of all inputs of the data.
        lam: entropy weight `λ > 0`, a number or a tensor of shape `(*b,)`.
        estimator: of the gradient of the expected reward; the entropy's is exact.
    """

    reward: Any
    lam: Number | Float[Tensor, "*b"]
    estimator: Estimator = Analytic()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", as_positive("lam", self.lam))

    def __call__(self, law: Law, data: Data, noise: Noise | None = None) -> Float[Tensor, "*b"]:
        """Return the losses: of the sampled estimators, only the gradient has a meaning.

        Raises:
            ShapeError: a law, data and a reward that are not of the same outcomes.
            InputError: the law gives a class that the reward forbids a positive probability.
        """
        law.check_data(data)
        surrogate = self.estimator(law, data, self.reward, noise).mean(-1)
        entropy = law.entropy().mean(-1)
        loss = -(surrogate + torch.as_tensor(self.lam).to(entropy) * entropy)
        if getattr(self.reward, "may_forbid", False) and bool((loss == torch.inf).any()):
            raise InputError(FORBIDDEN)
        return loss

    def rows(self, index: Int[Tensor, "*i B"]) -> PolicyGradient:
        """Return the objective at some inputs of the data, for batches."""
        if not hasattr(self.reward, "rows"):
            return self
        return replace(self, reward=self.reward.rows(index))
