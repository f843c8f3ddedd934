"""Training objectives: each returns one loss per ensemble member, averaged over inputs.

They serve every family of `solvers.families`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checked_class
from ..data import Dataset, rows_at
from ..errors import (
    InputError,
    Number,
    ShapeError,
    as_positive,
    as_tensor,
    check_broadcast,
    check_instance,
    check_same_n,
)
from ..families.categorical import FORBIDDEN
from ..families.gaussian import Gaussian
from ..families.law import Data, Law, Noise
from ..numerics.values import real
from .estimators import Analytic, Estimator
from .reference import LogDensity, ReferenceLaw, known_divergence


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


@checked_class
@dataclass(frozen=True)
class NLL:
    """Negative log-likelihood `-E_x E_y log p(y | x)`, summed over `n`."""

    def __call__(self, law: Law, data: Data, noise: Noise | None = None) -> Float[Tensor, "*b"]:
        """Return the losses; exact for the outcomes at each input."""
        return law.cross_entropy(data).mean(-1)


@checked_class
@dataclass(frozen=True)
class MSE:
    """Squared error `E_x E_y ‖y - m(x)‖²`, summed over `n`; the scale is not trained."""

    def __call__(
        self, law: Gaussian, data: Dataset, noise: Noise | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses.

        Raises:
            ShapeError: data of other inputs or outcomes than the law.
        """
        check_same_n("the policy", law.n, "the data", data.n)
        law.check_moments(data.mean, data.covariance)
        spread = data.covariance.diagonal(dim1=-2, dim2=-1)
        return ((law.mean - data.mean).square() + spread).sum(-1).mean(-1)


@checked_class
@dataclass(frozen=True)
class BetaNLL:
    """β-NLL `E_x E_y Σ_i ⌊P_ii^β⌋ [(y_i - m_i)²/(2P_ii) + ½ log P_ii]`; `⌊·⌋` has no gradient.

    `β = 0` is NLL without its constant. At `β = 1` the mean follows the gradient of half the
    squared error. The mean is stationary where that of policy gradient is with a temperature
    `λ(x) = P^β` and `U = ½ λ(x) P⁻¹`.

    Attributes:
        beta: `0 <= β <= 1`, a number or a tensor of shape `(*b,)`.

    Raises:
        InputError: `beta` outside [0, 1].

    Source: Seitzer, Tavakoli, Antic, Martius, "On the Pitfalls of Heteroscedastic Uncertainty
    Estimation with Probabilistic Neural Networks", 2022.
    """

    beta: Number | Float[Tensor, "*b"] = 0.5

    def __post_init__(self) -> None:
        beta = as_tensor("beta", self.beta)
        outside = (beta < 0) | (beta > 1)
        if bool(outside.any()):
            raise InputError(
                f"beta is {beta[outside][0].item():.6g}: pass 0 (likelihood) to 1 (squared error)"
            )
        object.__setattr__(self, "beta", beta)

    def __call__(
        self, law: Gaussian, data: Dataset, noise: Noise | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses.

        Raises:
            InputError: a policy with a full covariance, which has no variance of its own for each
                outcome dimension.
            ShapeError: data of other inputs or outcomes than the law.
        """
        losses = _by_dimension("BetaNLL", law, law.mean, data)
        beta = torch.as_tensor(self.beta).to(losses)
        check_broadcast("beta", beta.shape, "the policy", losses.shape[:-2])
        weights = law.scale.detach() ** (2 * beta.reshape(*beta.shape, 1, 1))
        return (weights * losses).sum(-1).mean(-1)


@checked_class
@dataclass(frozen=True)
class Faithful:
    """Faithful regression `E_x E_y [½‖y - m‖² + Σ_i (y_i - ⌊m_i⌋)²/(2P_ii) + ½ log P_ii]`.

    The variance does not move the mean, which is that of squared error. For that the policy's scale
    needs a network of its own: features of a shared one would follow both.

    Source: Stirn, Wessels, Schertzer, Pereira, Sanjana, Knowles, "Faithful Heteroscedastic
    Regression with Neural Networks", 2023.
    """

    def __call__(
        self, law: Gaussian, data: Dataset, noise: Noise | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses.

        Raises:
            InputError: a policy with a full covariance, as for `BetaNLL`.
            ShapeError: data of other inputs or outcomes than the law.
        """
        losses = _by_dimension("Faithful", law, law.mean.detach(), data)
        return MSE()(law, data) / 2 + losses.sum(-1).mean(-1)


def _by_dimension(
    name: str, law: Gaussian, mean: Float[Tensor, "*b N n"], data: Dataset
) -> Float[Tensor, "*b N n"]:
    """Return `E_y (y_i - m_i)²/(2P_ii) + ½ log P_ii` per input and outcome dimension."""
    law.check_data(data)
    law.check_moments(data.mean, data.covariance)
    if law.full:
        raise InputError(
            f"{name} weighs each outcome dimension by its variance, and the policy has a full "
            f"covariance: pass structure='diagonal' or 'isotropic', or use NLL()"
        )
    spread = data.covariance.diagonal(dim1=-2, dim2=-1)
    distance = ((data.mean - mean).square() + spread) / law.scale.square()
    return distance / 2 + law.scale.log()


Temperature = Callable[[Float[Tensor, "*b N d"]], Tensor]
"""From inputs to `τ(x) > 0`, `(N,)`, `(*b, N, 1)` or `(*b, N, n)`."""


def _temperature(tau: Any) -> Float[Tensor, "*c"]:
    """Return what `Temperature` is, checked; of one dimension or more."""
    check_instance("temperature", tau, Tensor, "a tensor, or a function that returns one")
    found = as_positive("temperature", tau)
    if not found.ndim:
        raise ShapeError("temperature is a single number: multiply lam by it, or pass (N,)")
    return found


@checked_class
@dataclass(frozen=True)
class PolicyGradient:
    """`-J = -E_x [E_y E_ŷ r(ŷ, y) + λ H(p(. | x))]`, the inner problem of the paper.

    Attributes:
        reward: `r`, of `solvers.rewards`, or any function of generations and outcomes (with a
            sampled estimator). Batch dimensions lead those of the ensemble; one that depends on the
            input is of all inputs of the data.
        lam: entropy weight `λ > 0`, a number or a tensor of shape `(*b,)`.
        estimator: of the gradient of the expected reward; the entropy's is exact.
        temperature: `τ(x) > 0`, by which the entropy weight depends on the input,
            `λ(x) = λ τ(x)`: a tensor `(N,)` or `(*b, N, 1)`, or a function of the inputs that
            returns one. In `(*b, N, n)` the entropy of each outcome dimension has its own weight
            (Gaussian laws without a full covariance). Then `P* = (λ(x)/2) U(x)⁻¹`, while the mean
            solves least squares weighted by `U(x)`: only `U/λ` shapes the variance.
        reference: `p₀`, a function from inputs to laws such as `Reference(policy, params)`: with it
            `-KL(p ‖ p₀)` stands in place of `H(p)`. Families that do not know it exactly sample
            `E_p log p₀` by the estimator.

    Source: paper; temperature and reference are new.
    """

    reward: Any
    lam: Number | Float[Tensor, "*b"]
    estimator: Estimator = Analytic()
    temperature: Tensor | Temperature | None = None
    reference: ReferenceLaw | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", as_positive("lam", self.lam))
        if isinstance(self.temperature, Tensor):
            object.__setattr__(self, "temperature", _temperature(self.temperature))
        if self.reference is not None and not callable(self.reference):
            raise InputError(
                f"reference is a {type(self.reference).__name__}: pass a function from inputs to "
                f"laws, such as Reference(policy, params)"
            )

    def __call__(self, law: Law, data: Data, noise: Noise | None = None) -> Float[Tensor, "*b"]:
        """Return the losses: of the sampled estimators, only the gradient has a meaning.

        Raises:
            ShapeError: a law, data and a reward that are not of the same outcomes, or a `lam` of
                other members.
            InputError: the law gives a class that the reward forbids a positive probability; or a
                temperature that is not positive, or for each dimension of a law that has no
                entropy of each.
        """
        law.check_data(data)
        surrogate = real("the estimator", self.estimator(law, data, self.reward, noise)).mean(-1)
        entropy = self._entropy(law, data, noise).mean(-1)
        lam = torch.as_tensor(self.lam).to(entropy)
        check_broadcast("lam", lam.shape, "the policy with its data and reward", surrogate.shape)
        loss = -(surrogate + lam * entropy)
        if getattr(self.reward, "may_forbid", False) and bool((loss == torch.inf).any()):
            raise InputError(FORBIDDEN)
        return loss

    def _entropy(self, law: Law, data: Data, noise: Noise | None) -> Float[Tensor, "*b N"]:
        """Return `τ(x) H(p(. | x))`, or `-τ(x) KL(p ‖ p₀)`.

        Entropies are summed over dimensions where each has its own weight.
        """
        if self.temperature is None:
            return self._relative_entropy(law, data, noise)
        tau = self.temperature
        tau = tau if isinstance(tau, Tensor) else _temperature(tau(data.x))
        tau = (tau.unsqueeze(-1) if tau.ndim == 1 else tau).to(data.x)
        N = data.x.shape[-2]
        if tau.shape[-2] not in (1, N):
            raise ShapeError(
                f"temperature has shape {tuple(tau.shape)}, the data {N} inputs: pass (N,), "
                f"(*b, N, 1), or (*b, N, n) with one for each outcome dimension"
            )
        if tau.shape[-1] == 1:
            return tau[..., 0] * self._relative_entropy(law, data, noise)
        if not isinstance(law, Gaussian) or law.full or self.reference is not None:
            raise InputError(
                f"temperature has shape {tuple(tau.shape)}, one for each outcome dimension, and "
                f"the entropy of this law is no sum over them: pass (N,), or a Gaussian policy "
                f"with structure='diagonal' and no reference"
            )
        check_same_n("temperature", tau.shape[-1], "the policy", law.n)
        return (tau * law.entropies()).sum(-1)

    def _relative_entropy(self, law: Law, data: Data, noise: Noise | None) -> Tensor:
        """Return `H(p)`, or `-KL(p ‖ p₀)`: exact, or `H + E log p₀` with the second sampled."""
        if self.reference is None:
            return law.entropy()
        reference = self.reference(data.x)
        divergence = known_divergence(law, reference)
        if divergence is not None:
            return -divergence
        return law.entropy() + self.estimator(law, data, LogDensity(reference), noise)

    def rows(self, index: Int[Tensor, "*i B"]) -> PolicyGradient:
        """Return the objective at some inputs of the data, for batches."""
        here = copy(self)  # not `replace`, which would look at all fields again, at every step
        if isinstance(self.temperature, Tensor):
            if self.temperature.ndim > 2:
                raise ShapeError(
                    f"temperature has shape {tuple(self.temperature.shape)}: pass (N,) or (N, n), "
                    f"of which rows can be taken, or a function of the inputs"
                )
            tau = self.temperature
            tau = tau.unsqueeze(-1) if tau.ndim == 1 else tau
            object.__setattr__(here, "temperature", rows_at(index, tau)[0])
        if hasattr(self.reward, "rows"):
            object.__setattr__(here, "reward", self.reward.rows(index))
        return here
