"""The paper's bilevel problem: the reward whose inner solution makes the data most likely.

`problem` builds it for a policy, a learnable reward and data, to be solved by `bilevel.solve`
(implicit differentiation) or `single_loop`. `plug_in` is the paper's other algorithm: estimate the
law of the data, set the reward by theory, train once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..data import Dataset, LabelledData
from ..errors import (
    InputError,
    Number,
    as_number,
    check_choice,
    check_count,
    check_number,
)
from ..families.bernoulli import BernoulliPolicy
from ..families.categorical import CategoricalPolicy
from ..families.gaussian import GaussianPolicy
from ..families.law import Data, Params, Policy, check_one_member, law_at
from ..hypergradients.implicit import Level
from ..numerics.modes import recording
from ..rewards.between_classes import ClassReward, exact_diagonal
from ..rewards.learnable import Phi, RewardModel
from ..rewards.mahalanobis import MahalanobisReward, optimal_reward, optimal_weights
from ..rewards.tempered import Tempered, TemperedReward
from ..training import inner
from ..training.estimators import Analytic, Estimator
from ..training.objectives import MSE, NLL, Objective, PolicyGradient
from ..training.reference import Distilled, Reference, ReferenceLaw
from ..training.streams import MemberNoise
from .problem import Bilevel

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
        InputError: `lam` is not positive, no weight decay for a categorical policy, or a batch
            larger than a data set.
        ShapeError: data with batch dimensions.

    Source: paper; weight decay and reference are new.
    """
    lam = as_number("lam", lam, data.x)
    weight_decay = check_number("weight_decay", weight_decay, 0.0)
    _check_isolated(policy, weight_decay)
    outer = data if held_out is None else held_out
    for name, each in (("data", data), ("held_out", outer)):
        check_one_member(name, each)
    if batch_size is not None:
        check_count("batch_size", batch_size, 1, min(len(data.x), len(outer.x)))
    if estimator is not None and isinstance(reward, TemperedReward):
        raise InputError(
            f"a sampled inner gradient takes one temperature for all inputs, not "
            f"{type(reward).__name__}: leave estimator out"
        )
    by = Analytic() if estimator is None else estimator
    levels = _Levels(policy, reward, lam, data, outer, weight_decay, by, batch_size, reference)
    return Bilevel(
        levels.J,
        levels.F,
        batch=levels.batch if batch_size is not None else None,
        sampled=levels.sampled if estimator is not None else None,
        at=levels.at,
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
    batch_size: int | None
    reference: ReferenceLaw | None

    def J(self, theta: Params, phi: Phi) -> Tensor:
        return self.at(phi)(theta)

    def at(self, phi: Phi) -> Callable[[Params], Tensor]:
        objective = self._objective(phi, Analytic())
        return lambda theta: self._value(objective, theta)

    def F(self, theta: Params, phi: Phi) -> Tensor:
        likelihood = -NLL()(self.policy(theta, self.outer.x), self.outer)
        return (
            likelihood - inner.decay(theta, self.weight_decay) if self.weight_decay else likelihood
        )

    def sampled(self, theta: Params, phi: Phi, generator: torch.Generator) -> Tensor:
        objective = self._objective(phi, self.estimator)
        return self._value(objective, theta, MemberNoise([generator]))

    def batch(self, generator: torch.Generator) -> tuple[Level, Level]:
        data, outer = (
            part.rows(torch.randperm(len(part.x), generator=generator)[: self.batch_size])
            for part in (self.data, self.outer)
        )
        part = replace(self, data=data, outer=outer)
        return part.J, part.F

    def _objective(self, phi: Phi, by: Estimator) -> PolicyGradient:
        reward = self.reward(phi, self.data.x)
        tau = reward.temperature if isinstance(reward, Tempered) else None
        return PolicyGradient(reward, self.lam, by, tau, self.reference)

    def _value(
        self, objective: PolicyGradient, theta: Params, noise: MemberNoise | None = None
    ) -> Tensor:
        J = -objective(self.policy(theta, self.data.x), self.data, noise)
        return J - self.lam * inner.decay(theta, self.weight_decay) if self.weight_decay else J


@dataclass(frozen=True)
class PlugIn:
    """What the plug-in algorithm found; an `Answer` (see `numerics.solution`).

    Attributes:
        reward: the best one by theory, for what was estimated: a `MahalanobisReward`, of classes a
            `ClassReward`.
        estimated: what theory asks of the data's law: of a Gaussian policy the covariance
            `(n, n)`; of classes and bits their probabilities, at each input or, "marginal", at all.
        trained: the policy trained on it.
        fitted: the fit beforehand; None where there was none.
        rounds: times the law of the data was estimated.
    """

    reward: Any
    estimated: Tensor
    trained: inner.Solution[dict[str, Tensor]]
    fitted: inner.Solution[dict[str, Tensor]] | None
    rounds: int = 1

    @property
    def value(self) -> dict[str, Tensor]:
        """The trained parameters."""
        return self.trained.value

    @property
    def converged(self) -> bool:
        """Whether the training did, and the fit before it."""
        return self.trained.converged and (self.fitted is None or self.fitted.converged)

    @property
    def stationarity(self) -> float:
        """Of the training."""
        return self.trained.stationarity

    @property
    def iterations(self) -> int:
        """Of the last training, and the fit before it."""
        return self.trained.iterations + (0 if self.fitted is None else self.fitted.iterations)

    @property
    def reason(self) -> str:
        """Why the training stopped, or the fit that did not converge."""
        if self.fitted is not None and not self.fitted.converged:
            return f"the fit beforehand: {self.fitted.reason}"
        return self.trained.reason


@checked
@recording
def plug_in(
    policy: Policy,
    params: Params,
    lam: Number | Tensor,
    data: Dataset | LabelledData,
    *,
    estimate: Estimate = "residual",
    weight_decay: float = 0.0,
    rounds: int = 50,
    tolerance: float = 1e-9,
) -> PlugIn:
    """Estimate the law of the data, set the reward by theory, train by policy gradient.

    | policy | estimated | reward |
    |---|---|---|
    | Gaussian | `Σ` | `U* = (λ/2) Σ⁻¹`, restricted to the policy's structure |
    | categorical | `π(x)` | `U*(x) = diag(u)`, `u` of `between_classes.exact_diagonal` |
    | bits | `ρ(x)` | `U*(x) = diag(u)`, `u` of `mahalanobis.optimal_weights` |

    Classes and bits leave no residuals: what depends on the input there is the law itself. It is
    fitted by maximum likelihood, and the policy is trained on it in place of the outcomes.

    Args:
        policy: a `GaussianPolicy`, `CategoricalPolicy` or `BernoulliPolicy`.
        params: starting point of a single member, of the fit or, where there is none, of the
            training; that of a Gaussian policy goes on from the fit.
        lam: entropy weight `λ > 0`.
        data: the data, without batch dimensions.
        estimate: "marginal" covariance, or probabilities, of the outcomes at all inputs (as
            published: costs likelihood wherever the law depends on `x`); "residual": what is left
            to know once a policy is fitted beforehand, the covariance of its residuals, or the
            probabilities it gives; or, of Gaussian policies, the second moment of the residuals of
            the policy itself, estimated again after each training, without a fit ("online").
        weight_decay: `ρ >= 0`, in nats, of the fit and of the training; positive for a categorical
            policy.
        rounds: at most this many trainings, for "online".
        tolerance: "online" stops when no entry of the estimate changes by more than this, relative
            to the largest.

    Raises:
        NotPositiveDefiniteError: the estimate is singular (fewer rows than outcomes, or a
            perfect fit).
        InputError: `lam` is not positive, an unknown estimate, a certain class or bit, or a policy
            for which theory knows no best reward.

    Source: paper ("marginal", of Gaussian policies); the rest is new.
    """
    lam = as_number("lam", lam, data.x)
    check_choice("estimate", estimate, get_args(Estimate))
    weight_decay = check_number("weight_decay", weight_decay, 0.0)
    check_count("rounds", rounds)
    tolerance = check_number("tolerance", tolerance, 0.0)
    if not isinstance(policy, GaussianPolicy | CategoricalPolicy | BernoulliPolicy):
        raise InputError(
            f"theory knows no best reward for {type(policy).__name__}: pass a GaussianPolicy, a "
            f"CategoricalPolicy or a BernoulliPolicy, or learn one by solve(maximum_likelihood)"
        )
    _check_isolated(policy, weight_decay)
    law_at(policy, params, data)

    def train(estimated: Tensor, given: Data, start: Params) -> PlugIn:
        reward = _by_theory(policy, estimated, lam)
        objective = PolicyGradient(reward, lam)
        trained = inner.gradient(policy, start, objective, given, weight_decay=weight_decay)
        return PlugIn(reward, estimated, trained, None)

    def fit(objective: Objective) -> inner.Solution[dict[str, Tensor]]:
        return inner.gradient(policy, params, objective, data, weight_decay=weight_decay)

    if not isinstance(policy, GaussianPolicy) or isinstance(data, LabelledData):
        if estimate == "online":
            raise InputError(
                "estimate is 'online', and there are no residuals of classes and bits: pass "
                "'residual', which fits their probabilities"
            )
        if estimate == "marginal":
            return train(data.mean.mean(0), data, params)
        fitted = fit(NLL())
        given = Distilled(data.x, Reference(policy, fitted.value))
        if isinstance(policy, CategoricalPolicy):
            given = LabelledData.soft(data.x, given.mean)
        return replace(train(given.mean, given, params), fitted=fitted)
    if estimate == "residual":
        fitted = fit(MSE())
        Sigma = second_moment(policy(fitted.value, data.x).mean, data)
        return replace(train(Sigma, data, fitted.value), fitted=fitted)
    found = train(second_moment(data.mean.mean(0).expand_as(data.mean), data), data, params)
    if estimate == "marginal":
        return found
    for round_ in range(2, rounds + 1):
        Sigma = second_moment(policy(found.value, data.x).mean, data)
        change = (Sigma - found.estimated).abs().amax()
        if bool(change <= tolerance * Sigma.abs().amax()):
            return found
        found = replace(train(Sigma, data, found.value), rounds=round_)
    return found


def _by_theory(
    policy: GaussianPolicy | CategoricalPolicy | BernoulliPolicy, estimated: Tensor, lam: Tensor
) -> MahalanobisReward | ClassReward:
    """Return the best reward for what was estimated."""
    if isinstance(policy, GaussianPolicy):
        return optimal_reward(estimated, lam, policy.structure)
    if isinstance(policy, BernoulliPolicy):
        return MahalanobisReward.diagonal(optimal_weights(estimated, lam))
    return ClassReward.diagonal(exact_diagonal(torch.atleast_2d(estimated), lam))


def _check_isolated(policy: Policy, weight_decay: float) -> None:
    """Raise `InputError` where inner solutions are not isolated."""
    if isinstance(policy, CategoricalPolicy) and weight_decay == 0:
        raise InputError(
            "weight_decay is 0: pass a positive one, because without it logits have "
            "a free constant and the inner problem no isolated solution"
        )


def second_moment(mean: Float[Tensor, "N n"], data: Dataset) -> Float[Tensor, "n n"]:
    """Return `E_x [Σ(x) + e(x) e(x)ᵀ]`, `e = mean - E[y | x]`, over the data."""
    error = (mean - data.mean).detach()
    return data.covariance.mean(0) + error.mT @ error / len(error)
