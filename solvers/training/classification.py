"""Objectives for categorical policies, and estimators of their policy gradient.

As for Gaussian ones, an estimator returns, per input, a surrogate whose *gradient* is its estimate
of the gradient of the expected reward. Rewards are averaged over the outcomes at each input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, Number, as_positive, check_choice, check_count, check_same_classes
from ..families.categorical import LOG_FLOOR, Categorical, LabelledData
from ..rewards.between_classes import ClassReward
from .estimators import GroupBaseline, check_generations

ClassBaseline = GroupBaseline | Literal["optimal"]
CLASS_BASELINES = (*get_args(GroupBaseline), "optimal")


FORBIDDEN = (
    "the reward of a class is -inf where the policy generates it: J is -inf; pass a policy whose "
    "logit is -inf there, or a large finite penalty"
)


@runtime_checkable
class UniformSource(Protocol):
    """Where an estimator gets uniform noise: a leading batch, then the given shape."""

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return noise in [0, 1) of shape `(*b, *shape)`."""
        ...


@runtime_checkable
class ClassEstimator(Protocol):
    """A policy-gradient estimator for categorical policies."""

    def __call__(
        self,
        law: Categorical,
        data: LabelledData,
        reward: ClassReward,
        noise: UniformSource | None,
    ) -> Float[Tensor, "*b N"]:
        """Return the surrogate per input."""
        ...


@dataclass(frozen=True)
class ExactGradient:
    """The exact gradient: the surrogate is the expected reward, summed over classes."""

    def __call__(
        self,
        law: Categorical,
        data: LabelledData,
        reward: ClassReward,
        noise: UniformSource | None = None,
    ) -> Float[Tensor, "*b N"]:
        """Return `Σ_c p(c) r̄(c)` per input."""
        return reward.on_data(law, data)


@dataclass(frozen=True)
class ClassScoreFunction:
    """REINFORCE: the mean of `(r̄(ŷ) - b) ∇ log p(ŷ)` over `M` generations per input.

    Only how often each class was generated matters, so the estimate is a weighted sum over
    classes: `∂/∂z_j` is the mean of `(r̄(ŷ) - b)(1[ŷ = j] - p_j)`.

    Attributes:
        M: number of generations per input.
        baseline: of the group of generations, as in `estimators.advantage`: "none", "minimum" (as
            published: biased), "mean", "leave-one-out"; or "optimal", the constants that minimise
            the variance of each entry, `b_j = (1-p_j) r̄_j + p_j Σ_{c≠j} p_c r̄_c / (1-p_j)`. (As
            they differ, an estimate then does not sum to 0 over classes, only its mean does.)

    Source: optimal baseline: new (analysis.categorical).
    """

    M: int = 5
    baseline: ClassBaseline = "leave-one-out"

    def __post_init__(self) -> None:
        check_choice("baseline", self.baseline, CLASS_BASELINES)
        check_generations(self.M, self.baseline)

    def __call__(
        self,
        law: Categorical,
        data: LabelledData,
        reward: ClassReward,
        noise: UniformSource | None,
    ) -> Float[Tensor, "*b N"]:
        """Return a surrogate per input; its gradient is the estimate, its value has no meaning."""
        if noise is None:
            raise InputError("the estimator samples: pass a noise source, or use ExactGradient")
        with torch.no_grad():
            share = draw_counts(law, self.M, noise) / self.M
            r = reward.where_possible(law, data)
            if reward.may_forbid and bool((r == -torch.inf).any()):
                raise InputError(FORBIDDEN)
            slopes = self._slopes(law.p, r, share)
        return (slopes * law.logits.clamp(min=LOG_FLOOR)).sum(-1)

    def _slopes(
        self, p: Float[Tensor, "*b N C"], r: Float[Tensor, "*#b N C"], share: Float[Tensor, "..."]
    ) -> Float[Tensor, "*b N C"]:
        """Return the estimates of the slopes in the logits, from the share of every class."""
        if self.baseline == "optimal":
            rest = (p * r).sum(-1, keepdim=True) - p * r
            # where p_j is 1 in floating point, r_j is all there is
            b = torch.where(p < 1, (1 - p) * r + p * rest / (1 - p), r)
            return share * (r - b) - p * ((share * r).sum(-1, keepdim=True) - b)
        advantage = r.expand_as(p)
        if self.baseline == "minimum":
            drawn = torch.where(share > 0, advantage, torch.inf)
            advantage = advantage - drawn.amin(-1, keepdim=True)
        elif self.baseline != "none":
            advantage = advantage - (share * r).sum(-1, keepdim=True)
            if self.baseline == "leave-one-out":
                advantage = advantage * (self.M / (self.M - 1))
        weights = share * advantage
        return weights - p * weights.sum(-1, keepdim=True)


def draw_counts(law: Categorical, M: int, noise: UniformSource) -> Float[Tensor, "*b N C"]:
    """Return how often each class is drawn in `M` generations per input, by inverting the CDF.

    A class of probability 0 never is: its edges of the CDF coincide, and in units of the last one
    the edges behind all classes that are possible are 1, above any noise.
    """
    check_count("M", M)
    p = law.p.detach().mT
    uniform = noise.uniform((M, p.shape[-1]), p.dtype).unsqueeze(-3)
    cdf = p.cumsum(-2)
    edges = (cdf[..., :-1, :] / cdf[..., -1:, :]).unsqueeze(-2)
    # 1 where the edge is above the noise, else 0: their difference is in (-1, 1]
    below = (edges - uniform).ceil_().sum(-2)
    first, last = below[..., :1, :], M - below[..., -1:, :]
    return torch.cat([first, below.diff(dim=-2), last], -2).mT


@runtime_checkable
class ClassObjective(Protocol):
    """A loss per member, shape `(*b,)`, to be minimised."""

    def __call__(
        self, law: Categorical, data: LabelledData, noise: UniformSource | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Negative log-likelihood `-E_x E_y log p(y | x)`."""

    def __call__(
        self, law: Categorical, data: LabelledData, noise: UniformSource | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses."""
        check_same_classes("the policy", law.classes, "the data", data.classes)
        return law.cross_entropy(data.pi).mean(-1)


@dataclass(frozen=True)
class ClassPolicyGradient:
    """`-J = -E_x [E_y E_ŷ r(ŷ, y) + λ H(p(. | x))]`, the inner problem of the paper.

    Attributes:
        reward: `r`, of all inputs of the data where it depends on the input.
        lam: entropy weight `λ > 0`, a number or a tensor of shape `(*b,)`.
        estimator: of the gradient of the expected reward; the entropy's is exact.
    """

    reward: ClassReward
    lam: Number | Float[Tensor, "*b"]
    estimator: ClassEstimator = ExactGradient()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", as_positive("lam", self.lam))

    def __call__(
        self, law: Categorical, data: LabelledData, noise: UniformSource | None = None
    ) -> Float[Tensor, "*b"]:
        """Return the losses: of the sampled estimators, only the gradient has a meaning.

        Raises:
            ShapeError: another number of classes or inputs.
            InputError: the law gives a class that the reward forbids a positive probability.
        """
        check_same_classes("the policy", law.classes, "the data", data.classes)
        entropy = law.entropy().mean(-1)
        surrogate = self.estimator(law, data, self.reward, noise).mean(-1)
        loss = -(surrogate + torch.as_tensor(self.lam).to(entropy) * entropy)
        if bool((loss == torch.inf).any()):
            raise InputError(FORBIDDEN)
        return loss
