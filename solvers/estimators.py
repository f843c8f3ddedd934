"""Estimators of the policy gradient: score function with interchangeable baselines, and exact.

An estimator is called as `estimator(law, data, reward, noise)` and returns, per input, a
surrogate whose *gradient* is its estimate of the gradient of the expected reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.data import Dataset
from solvers.errors import InputError
from solvers.gaussian import Gaussian
from solvers.rewards import MahalanobisReward

Baseline = Literal["none", "minimum", "mean", "leave-one-out"]


@runtime_checkable
class NoiseSource(Protocol):
    """Where an estimator gets standard normal noise: a leading batch, then the given shape."""

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return noise of shape `(*b, *shape)`."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """A policy-gradient estimator."""

    def __call__(
        self, law: Gaussian, data: Dataset, reward: MahalanobisReward, noise: NoiseSource | None
    ) -> Float[Tensor, "*b N"]:
        """Return the surrogate per input."""
        ...


def advantage(
    rewards: Float[Tensor, "*b M"], baseline: Baseline = "leave-one-out"
) -> Float[Tensor, "*b M"]:
    """Return `r_k - b_k` over a group of `M` generations (last dimension).

    `b_k` is 0 ("none"), the group's minimum ("minimum", as published: biased, since the minimum
    depends on every sample), the group's mean ("mean": shrinks the expected gradient by
    `(M-1)/M`), or the mean of the *other* rewards ("leave-one-out": unbiased).

    Raises:
        InputError: leave-one-out with a single generation, or an unknown baseline.
    """
    M = rewards.shape[-1]
    if baseline == "none":
        return rewards
    if baseline == "minimum":
        return rewards - rewards.amin(-1, keepdim=True)
    centred = rewards - rewards.mean(-1, keepdim=True)
    if baseline == "mean":
        return centred
    if baseline == "leave-one-out":
        if M < 2:
            raise InputError(f"leave-one-out needs at least 2 generations, got {M}: pass M >= 2")
        return centred * (M / (M - 1))
    raise InputError(f"baseline is {baseline!r}: pass 'none', 'minimum', 'mean' or 'leave-one-out'")


@dataclass(frozen=True)
class ScoreFunction:
    """REINFORCE: the mean of `(r - b) ∇ log p(ŷ)` over `M` generations per data point.

    The scores are explicit: for `ŷ = m + Sε`, `∇_m log p = S⁻ᵀε` and
    `∇_S log p = S⁻ᵀ(εεᵀ - I)`, so the weighted noise is reduced to a few numbers per input
    before any gradient flows.

    Attributes:
        M: number of generations per data point.
        baseline: see `advantage`.
    """

    M: int = 5
    baseline: Baseline = "leave-one-out"

    def __post_init__(self) -> None:
        if self.M < 1:
            raise InputError(f"M is {self.M}: pass at least one generation")
        advantage(torch.zeros(self.M), self.baseline)  # an impossible pair fails here, not later

    def __call__(
        self,
        law: Gaussian,
        data: Dataset,
        reward: MahalanobisReward,
        noise: NoiseSource | None,
    ) -> Float[Tensor, "*b N"]:
        """Return a surrogate per input; its gradient is the estimate, its value has no meaning."""
        if noise is None:
            raise InputError("the score-function estimator samples: pass a noise source")
        with torch.no_grad():
            N, S = data.y.shape[-3:-1]
            # Inputs last: then every operation below runs along long rows of memory, while sums
            # and broadcasts over n, M or S, which may be 1 to 5 long, only repeat whole rows.
            epsilon = noise.normal((law.n, self.M, S, N), law.mean.dtype)
            mean_score, scale_score = self._scores(law, data, reward, epsilon)
        surrogate = (mean_score * law.mean).sum(-1)
        if law.full:
            return surrogate + (scale_score * law.scale).sum((-2, -1))
        return surrogate + (scale_score * law.scale).sum(-1)

    def _scores(
        self,
        law: Gaussian,
        data: Dataset,
        reward: MahalanobisReward,
        epsilon: Float[Tensor, "*b n M S N"],
    ) -> tuple[Float[Tensor, "*b N n"], Float[Tensor, "..."]]:
        """Return the advantage-weighted means of `∇_m log p` and `∇_S log p` per input."""
        n, M, S = epsilon.shape[-4:-1]
        y = data.y.movedim(-1, -3).mT.contiguous()
        gap = (law.mean.mT.unsqueeze(-2) - y).unsqueeze(-3)
        if law.full:
            deviation = gap + torch.einsum("...Nij,...jMSN->...iMSN", law.scale, epsilon)
        else:
            deviation = torch.addcmul(gap, law.scale.mT[..., None, None, :], epsilon)
        rewards = -reward.quadratic(deviation.movedim(-4, -1)).movedim(-3, -1)
        weights = advantage(rewards, self.baseline).movedim(-1, -3) / (S * M)
        total = weights.sum((-3, -2)).unsqueeze(-1)
        weighted = weights.unsqueeze(-4) * epsilon
        first = weighted.sum((-3, -2)).mT
        if not law.full:
            second = weighted.mul_(epsilon).sum((-3, -2)).mT
            return first / law.scale, (second - total) / law.scale
        second = torch.einsum("...iMSN,...jMSN->...Nij", weighted, epsilon)
        identity = torch.eye(n, dtype=first.dtype, device=first.device)
        inverse_transpose = torch.linalg.inv(law.scale).mT
        mean_score = (inverse_transpose @ first.unsqueeze(-1))[..., 0]
        return mean_score, inverse_transpose @ (second - total.unsqueeze(-1) * identity)


@dataclass(frozen=True)
class Analytic:
    """The exact gradient: the surrogate is the expected reward in closed form, without noise."""

    def __call__(
        self,
        law: Gaussian,
        data: Dataset,
        reward: MahalanobisReward,
        noise: NoiseSource | None = None,
    ) -> Float[Tensor, "*b N"]:
        """Return `E_ŷ E_y r(ŷ, y)` per input."""
        return reward.expected(law, data.mean, data.covariance)
