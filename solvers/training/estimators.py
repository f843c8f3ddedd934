"""Estimators of the policy gradient: score function with a choice of baselines, pathwise, exact.

An estimator is called as `estimator(law, data, reward, noise)` and returns, per input, a
surrogate whose *gradient* is its estimate of the gradient of the expected reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..data import Dataset
from ..errors import InputError, ShapeError, check_choice, check_count
from ..families.gaussian import Gaussian
from ..rewards.mahalanobis import MahalanobisReward, Reward, align

GroupBaseline = Literal["none", "minimum", "mean", "leave-one-out"]
OptimalBaseline = Literal["optimal", "optimal-per-outcome"]
Baseline = GroupBaseline | OptimalBaseline
BASELINES = (*get_args(GroupBaseline), *get_args(OptimalBaseline))


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
        self, law: Gaussian, data: Dataset, reward: Reward, noise: NoiseSource | None
    ) -> Float[Tensor, "*b N"]:
        """Return the surrogate per input."""
        ...


def check_generations(M: object, baseline: str) -> None:
    """Raise `InputError` unless `M` counts the generations of a group that has this baseline."""
    check_count("M", M)
    if baseline == "leave-one-out" and M == 1:
        raise InputError(f"M is 1: pass at least 2 for {baseline!r}")


def advantage(
    rewards: Float[Tensor, "*b M"], baseline: GroupBaseline = "leave-one-out"
) -> Float[Tensor, "*b M"]:
    """Return `r_k - b_k` over a group of `M` generations (last dimension).

    `b_k` is 0 ("none"), the group's minimum ("minimum", as published: biased, since the minimum
    depends on every sample), the group's mean ("mean": shrinks the expected gradient by
    `(M-1)/M`), or the mean of the *other* rewards ("leave-one-out": unbiased).

    Raises:
        InputError: leave-one-out with a single generation, or an unknown baseline.
    """
    check_choice("baseline", baseline, get_args(GroupBaseline))
    if not rewards.ndim or not rewards.shape[-1]:
        raise ShapeError(f"rewards have shape {tuple(rewards.shape)}: pass (*b, M), M >= 1")
    M = rewards.shape[-1]
    if baseline == "none":
        return rewards
    if baseline == "minimum":
        return rewards - rewards.amin(-1, keepdim=True)
    centred = rewards - rewards.mean(-1, keepdim=True)
    if baseline == "mean":
        return centred
    check_generations(M, baseline)
    return centred * (M / (M - 1))


def draw_deviations(
    law: Gaussian, data: Dataset, M: int, noise: NoiseSource | None
) -> tuple[Float[Tensor, "*c n M S N"], Float[Tensor, "*d n M S N"]]:
    """Draw noise `ε` and return it with the deviations `ŷ - y = (m - y) + Sε`.

    Inputs come last: then every operation on these tensors runs along long rows of memory, while
    sums and broadcasts over n, M or S, which may be 1 to 5 long, only repeat whole rows.
    """
    if noise is None:
        raise InputError("the estimator samples: pass a noise source, or use Analytic")
    N, S = data.y.shape[-3:-1]
    epsilon = noise.normal((law.n, M, S, N), law.mean.dtype)
    y = data.y.movedim(-1, -3).mT.contiguous()
    gap = (law.mean.mT.unsqueeze(-2) - y).unsqueeze(-3)
    if law.full:
        return epsilon, gap + torch.einsum("...Nij,...jMSN->...iMSN", law.scale, epsilon)
    return epsilon, torch.addcmul(gap, law.scale.mT[..., None, None, :], epsilon)


@dataclass(frozen=True)
class ScoreFunction:
    """REINFORCE: the mean of `(r - b) ∇ log p(ŷ)` over `M` generations per data point.

    The scores are explicit: for `ŷ = m + Sε`, `∇_m log p = S⁻ᵀε` and
    `∇_S log p = S⁻ᵀ(εεᵀ - I)`, so the weighted noise is reduced to a few numbers per input
    before any gradient flows.

    Attributes:
        M: number of generations per data point.
        baseline: of the group of generations (see `advantage`), or, for a Mahalanobis reward, the
            one that minimises the variance of each entry of `ε` and `εεᵀ - I`: "optimal" is
            constant, `E r - 2A_jj` and `E r - 2A_ii - 2A_jj` with `A = SᵀUS`;
            "optimal-per-outcome" puts `E_ŷ r(ŷ, y)` in place of its average over the outcomes.

    Source: baselines: new (analysis.estimators).
    """

    M: int = 5
    baseline: Baseline = "leave-one-out"

    def __post_init__(self) -> None:
        check_choice("baseline", self.baseline, BASELINES)
        check_generations(self.M, self.baseline)

    def __call__(
        self, law: Gaussian, data: Dataset, reward: Reward, noise: NoiseSource | None
    ) -> Float[Tensor, "*b N"]:
        """Return a surrogate per input; its gradient is the estimate, its value has no meaning."""
        with torch.no_grad():
            mean_score, scale_score = self._scores(law, data, reward, noise)
        surrogate = (mean_score * law.mean).sum(-1)
        if law.full:
            return surrogate + (scale_score * law.scale).sum((-2, -1))
        return surrogate + (scale_score * law.scale).sum(-1)

    def _scores(
        self, law: Gaussian, data: Dataset, reward: Reward, noise: NoiseSource | None
    ) -> tuple[Float[Tensor, "*b N n"], Float[Tensor, "..."]]:
        """Return the advantage-weighted means of `∇_m log p` and `∇_S log p` per input."""
        epsilon, deviation = draw_deviations(law, data, self.M, noise)
        weights = reward.of(deviation.movedim(-4, -1))
        if self.baseline == "optimal" or self.baseline == "optimal-per-outcome":
            first, second = self._optimal(law, data, reward, epsilon, weights)
        else:
            weights = advantage(weights.movedim(-3, -1), self.baseline).movedim(-1, -3)
            first, second = _whitened(epsilon, weights, law.full)
        if not law.full:
            return first / law.scale, second / law.scale
        inverse_transpose = torch.linalg.inv(law.scale).mT
        return (inverse_transpose @ first.unsqueeze(-1))[..., 0], inverse_transpose @ second

    def _optimal(
        self, law: Gaussian, data: Dataset, reward: Reward, epsilon: Tensor, rewards: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the means of `(r - b)ε` and `(r - b)(εεᵀ - I)` with the optimal baselines."""
        if not isinstance(reward, MahalanobisReward):
            raise InputError(
                f"the optimal baselines are known for MahalanobisReward, not "
                f"{type(reward).__name__}: pass baseline='leave-one-out'"
            )
        expected = reward.on_data(law, data)[..., None, None, :]
        if self.baseline == "optimal-per-outcome":
            # E_ŷ r(ŷ, y) of each outcome: a data set of one outcome has no spread of its own
            points = Gaussian(law.mean.unsqueeze(-2), law.scale.unsqueeze(-3 if law.full else -2))
            nothing = torch.zeros_like(data.covariance).unsqueeze(-3)
            expected = reward.expected(points, data.y, nothing).mT.unsqueeze(-3)
        first, second = _whitened(epsilon, rewards - expected, law.full)
        plain_first, plain_second = _whitened(epsilon, torch.ones_like(rewards), law.full)
        U = align(reward.U.to(law.mean), reward.cholesky.ndim - 2, law.mean.ndim + 1)
        if not law.full:
            A = law.scale.square() * U.diagonal(dim1=-2, dim2=-1)
            return first + 2 * A * plain_first, second + 4 * A * plain_second
        A = (law.scale.mT @ U @ law.scale).diagonal(dim1=-2, dim2=-1)
        pairs = 2 * (A.unsqueeze(-1) + A.unsqueeze(-2))
        return first + 2 * A * plain_first, second + pairs * plain_second


def _whitened(
    epsilon: Float[Tensor, "*b n M S N"], weights: Float[Tensor, "*b M S N"], full: bool
) -> tuple[Float[Tensor, "*b N n"], Float[Tensor, "..."]]:
    """Return the means of `w ε` and `w (εεᵀ - I)`, or its diagonal, over generations and data."""
    n, M, S = epsilon.shape[-4:-1]
    weights = weights / (S * M)
    total = weights.sum((-3, -2)).unsqueeze(-1)
    weighted = weights.unsqueeze(-4) * epsilon
    first = weighted.sum((-3, -2)).mT
    if not full:
        return first, weighted.mul_(epsilon).sum((-3, -2)).mT - total
    second = torch.einsum("...iMSN,...jMSN->...Nij", weighted, epsilon)
    identity = torch.eye(n, dtype=first.dtype, device=first.device)
    return first, second - total.unsqueeze(-1) * identity


@dataclass(frozen=True)
class Pathwise:
    """Reparameterised: the mean of `∇ r(m + Sε, y)` over `M` generations per data point.

    The reward is averaged over the data and *summed* over outcome dimensions, as the entropy is.
    (The published code averages only the entropy over the dimensions: another objective, whose
    solution has too small a variance.)

    Attributes:
        M: number of generations per data point.
    """

    M: int = 5

    def __post_init__(self) -> None:
        check_count("M", self.M)

    def __call__(
        self, law: Gaussian, data: Dataset, reward: Reward, noise: NoiseSource | None
    ) -> Float[Tensor, "*b N"]:
        """Return the sampled expected reward per input, differentiable along the generations."""
        _, deviation = draw_deviations(law, data, self.M, noise)
        return reward.of(deviation.movedim(-4, -1)).mean((-3, -2))


@dataclass(frozen=True)
class Analytic:
    """The exact gradient: the surrogate is the expected reward in closed form, without noise."""

    def __call__(
        self, law: Gaussian, data: Dataset, reward: Reward, noise: NoiseSource | None = None
    ) -> Float[Tensor, "*b N"]:
        """Return `E_ŷ E_y r(ŷ, y)` per input."""
        return reward.on_data(law, data)
