"""The paper's bilevel problem: the reward whose inner solution makes the data most likely.

`problem` builds it for a policy, a learnable reward and data, to be solved by `bilevel.solve`
(implicit differentiation) or `single_loop`. `plug_in` is the paper's other algorithm: estimate the
covariance of the data, set the reward by theory, train once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checked
from ..data import Dataset
from ..errors import (
    InputError,
    Number,
    ShapeError,
    as_number,
    check_choice,
    check_count,
    check_number,
)
from ..families.categorical import CategoricalPolicy
from ..families.gaussian import GaussianPolicy
from ..families.law import Data, Params, Policy
from ..hypergradients.implicit import Level
from ..numerics.modes import recording
from ..rewards.learnable import InputReward, Phi, RewardModel
from ..rewards.mahalanobis import MahalanobisReward, optimal_reward
from ..rewards.tempered import Tempered, TemperedReward
from ..training import inner
from ..training.estimators import Analytic, Estimator
from ..training.objectives import MSE, NLL, PolicyGradient
from ..training.reference import ReferenceLaw
from ..training.streams import MemberNoise
from .loop import Bilevel

Estimate = Literal["marginal", "residual", "online"]


@checked
@recording
def problem(
    policy: Policy,
    reward: RewardModel,
    lam: Number | Tensor,
    data: Data,
    *,
    weight_decay: float = 0.0,
    held_out: Data | None = None,
    estimator: Estimator | None = None,
    batch_size: int | None = None,
    reference: ReferenceLaw | None = None,
) -> Bilevel:
    """Return `max_φ E log p_{θ*(φ)}(y | x)`, `θ*(φ) = argmax_θ E r_φ + λH`, for any family.

    With a weight decay `ρ`, in nats: the likelihood is `E log p_θ(y | x) - (ρ/2)‖θ‖²`, and the
    inner objective `E [r + λH] - λ(ρ/2)‖θ‖²`. For classes it also removes what the softmax leaves
    free, a constant added to all logits, so that inner solutions are isolated points.

    Args:
        policy: the policy; `theta` are its parameters, of a single member.
        reward: from `phi` and inputs to a reward; a `TemperedReward` has an entropy weight `λ τ(x)`
            of its own for every input. Start between classes from rewards of about the size of `λ`:
            far larger ones put a law on one class alone, where nothing has a slope.
        lam: entropy weight `λ > 0`.
        data: of the inner problem, without batch dimensions.
        weight_decay: `ρ >= 0`, of both levels; positive for a categorical policy.
        held_out: of the outer problem; the same data if not given.
        estimator: of the inner gradient, for `bilevel.AdamSteps`; the objectives themselves and
            the hypergradient are always exact.
        batch_size: inputs per batch, for `single_loop`; drawn without replacement.
        reference: `p₀`, with which `-λ KL(p ‖ p₀)` stands in place of `λH`; of a family that knows
            it exactly.

    Raises:
        InputError: `lam` is not positive, a sampled estimator with an input-dependent Mahalanobis
            reward, or no weight decay for a categorical policy.
        ShapeError: data with batch dimensions.

    Source: paper; weight decay and reference are new.
    """
    lam = as_number("lam", lam, data.x)
    check_number("weight_decay", weight_decay, 0.0)
    if isinstance(policy, CategoricalPolicy) and weight_decay == 0:
        raise InputError(
            "weight_decay is 0: pass a positive one, because without it logits have "
            "a free constant and the inner problem no isolated solution"
        )
    outer = data if held_out is None else held_out
    for name, each in (("data", data), ("held_out", outer)):
        if each.x.ndim != 2:
            raise ShapeError(f"{name}.x has shape {tuple(each.x.shape)}: pass x (N, d)")
        if batch_size is not None:
            check_count("batch_size", batch_size, 0)
    if estimator is not None and isinstance(reward, InputReward | TemperedReward):
        raise InputError(
            f"a sampled inner gradient takes one reward for all inputs, not "
            f"{type(reward).__name__}: leave estimator out"
        )
    by = Analytic() if estimator is None else estimator
    levels = _Levels(policy, reward, lam, data, outer, weight_decay, by, batch_size or 0, reference)
    return Bilevel(
        levels.J,
        levels.F,
        batch=levels.batch if batch_size is not None else None,
        sampled=levels.sampled if estimator is not None else None,
    )


@dataclass(frozen=True)
class _Levels:
    """Both objectives, as methods of an object that can be copied and pickled."""

    policy: Policy
    reward: RewardModel
    lam: Tensor
    data: Data
    outer: Data
    weight_decay: float
    estimator: Estimator
    batch_size: int
    reference: ReferenceLaw | None

    def J(self, theta: Params, phi: Phi) -> Tensor:
        return self._expected(theta, phi, Analytic(), None)

    def F(self, theta: Params, phi: Phi) -> Tensor:
        likelihood = -NLL()(self.policy(theta, self.outer.x), self.outer)
        return (
            likelihood - inner.decay(theta, self.weight_decay) if self.weight_decay else likelihood
        )

    def sampled(self, theta: Params, phi: Phi, generator: torch.Generator) -> Tensor:
        return self._expected(theta, phi, self.estimator, MemberNoise([generator]))

    def batch(self, generator: torch.Generator) -> tuple[Level, Level]:
        data, outer = (
            part.rows(draw_rows(len(part.x), self.batch_size, generator))
            for part in (self.data, self.outer)
        )
        part = replace(self, data=data, outer=outer)
        return part.J, part.F

    def _expected(
        self, theta: Params, phi: Phi, by: Estimator, noise: MemberNoise | None
    ) -> Tensor:
        reward = self.reward(phi, self.data.x)
        tau = reward.temperature if isinstance(reward, Tempered) else None
        objective = PolicyGradient(reward, self.lam, by, tau, self.reference)
        J = -objective(self.policy(theta, self.data.x), self.data, noise)
        return J - self.lam * inner.decay(theta, self.weight_decay) if self.weight_decay else J


def draw_rows(N: int, size: int, generator: torch.Generator) -> Int[Tensor, "B"]:
    """Return `size` of `N` inputs, drawn without replacement."""
    if not 1 <= size <= N:
        raise InputError(f"batch_size is {size}: pass 1 to {N}, the number of inputs")
    return torch.randperm(N, generator=generator)[:size]


@dataclass(frozen=True)
class PlugIn:
    """What the plug-in algorithm found.

    Attributes:
        reward: `U* ` for the estimated covariance and the policy's covariance structure.
        Sigma: the estimate.
        trained: the policy trained on it.
        rounds: times the covariance was estimated.
    """

    reward: MahalanobisReward
    Sigma: Float[Tensor, "n n"]
    trained: inner.Solution[dict[str, Tensor]]
    rounds: int


@checked
@recording
def plug_in(
    policy: GaussianPolicy,
    params: Params,
    lam: Number | Tensor,
    data: Dataset,
    *,
    estimate: Estimate = "residual",
    rounds: int = 50,
    tolerance: float = 1e-9,
) -> PlugIn:
    """Estimate Σ, set `U` by theory for the policy's structure, train by policy gradient.

    Args:
        policy: the policy.
        params: starting point of a single member.
        lam: entropy weight `λ > 0`.
        data: the data, without batch dimensions.
        estimate: "marginal" covariance of the outcomes (as published: costs likelihood wherever
            the mean depends on `x`), covariance of the residuals of a mean fitted beforehand by
            least squares ("residual"), or second moment of the residuals of the policy itself,
            estimated again after each training, without a fit beforehand ("online").
        rounds: at most this many trainings, for "online".
        tolerance: "online" stops when no entry of the estimate changes by more than this, relative
            to the largest.

    Raises:
        NotPositiveDefiniteError: the estimate is singular (fewer rows than outcomes, or a
            perfect fit).
        InputError: `lam` is not positive, or an unknown estimate.

    Source: paper ("marginal"); "residual" and "online" are new.
    """
    lam = as_number("lam", lam, data.x)
    check_choice("estimate", estimate, get_args(Estimate))
    check_count("rounds", rounds)
    check_number("tolerance", tolerance, 0.0)

    def train(Sigma: Tensor, start: Params) -> PlugIn:
        reward = optimal_reward(Sigma, lam, policy.structure)
        trained = inner.gradient(policy, start, PolicyGradient(reward, lam), data)
        return PlugIn(reward, Sigma, trained, 1)

    if estimate == "marginal":
        mean = data.mean.mean(0)
        return train(second_moment(mean.expand_as(data.mean), data), params)
    if estimate == "residual":
        fitted = inner.gradient(policy, params, MSE(), data)
        return train(second_moment(policy(fitted.value, data.x).mean, data), params)
    found = train(second_moment(data.mean.mean(0).expand_as(data.mean), data), params)
    for round_ in range(2, rounds + 1):
        Sigma = second_moment(policy(found.trained.value, data.x).mean, data)
        change = (Sigma - found.Sigma).abs().amax()
        if bool(change <= tolerance * Sigma.abs().amax()):
            return found
        found = replace(train(Sigma, found.trained.value), rounds=round_)
    return found


def second_moment(mean: Float[Tensor, "N n"], data: Dataset) -> Float[Tensor, "n n"]:
    """Return `E_x [Σ(x) + e(x) e(x)ᵀ]`, `e = mean - E[y | x]`, over the data."""
    error = (mean - data.mean).detach()
    return data.covariance.mean(0) + error.mT @ error / len(error)
