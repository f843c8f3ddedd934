"""Maximum likelihood for categorical policies, directly and through a learned reward.

With a weight decay `ρ`, in nats: the likelihood is `E log p_θ(y | x) - (ρ/2)‖θ‖²`, and the inner
objective `E [r + λH] - λ(ρ/2)‖θ‖²`. It also removes what the softmax leaves free, a constant added
to all logits, so that inner solutions are isolated points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..errors import InputError, Number, ShapeError, as_number, check_count, check_number
from ..families.categorical import CategoricalPolicy, LabelledData
from ..families.networks import Params
from ..hypergradients.implicit import Objective
from ..numerics.modes import recording
from ..rewards.between_classes import ClassReward, ClassRewardModel, Phi
from ..training import inner
from ..training.classification import (
    ClassEstimator,
    ClassPolicyGradient,
    CrossEntropy,
    ExactGradient,
)
from ..training.streams import MemberNoise
from .likelihood import draw_rows
from .loop import Bilevel


def decay(theta: Params, rho: float) -> Float[Tensor, ""]:
    """Return `(ρ/2)‖θ‖²`."""
    return rho / 2 * torch.stack([p.square().sum() for p in theta.values()]).sum()


def check_decay(rho: float) -> None:
    """Raise `InputError` unless `ρ` is finite and not negative."""
    check_number("weight_decay", rho, 0.0)


@recording
def fit(
    policy: CategoricalPolicy,
    data: LabelledData,
    *,
    weight_decay: float,
    params: Params | None = None,
    tolerance: float = 1e-9,
) -> inner.Solution[dict[str, Tensor]]:
    """Return the penalised maximum-likelihood policy, `argmax_θ E log p_θ(y | x) - (ρ/2)‖θ‖²`.

    For logistic regression the problem is strictly concave: there is one solution.

    Args:
        policy: the policy.
        data: labels or class probabilities, without batch dimensions.
        weight_decay: `ρ >= 0`.
        params: starting point; zeros if not given.
        tolerance: on the largest entry of the gradient.
    """
    start = policy.zeros(data.x.dtype) if params is None else params
    check_decay(weight_decay)

    def loss(theta: Params) -> Tensor:
        return CrossEntropy()(policy(theta, data.x), data) + decay(theta, weight_decay)

    return inner.minimum(start, loss, tolerance=tolerance)


@recording
def train_on(
    policy: CategoricalPolicy,
    reward: ClassReward,
    lam: Number | Tensor,
    data: LabelledData,
    *,
    weight_decay: float,
    params: Params | None = None,
    tolerance: float = 1e-9,
) -> inner.Solution[dict[str, Tensor]]:
    """Return the inner solution near a start, by the exact gradient; arguments as for `fit`.

    Without weight decay the logits have a free constant, and the gradient may stall above the
    default tolerance.
    """
    start = policy.zeros(data.x.dtype) if params is None else params
    lam = as_number("lam", lam, data.x)
    check_decay(weight_decay)
    objective = ClassPolicyGradient(ClassReward(reward.table.detach()), lam)

    def loss(theta: Params) -> Tensor:  # in nats, so that the tolerance means the same
        return objective(policy(theta, data.x), data) / lam + decay(theta, weight_decay)

    return inner.minimum(start, loss, tolerance=tolerance)


@recording
def problem(
    policy: CategoricalPolicy,
    reward: ClassRewardModel,
    lam: Number | Tensor,
    data: LabelledData,
    *,
    weight_decay: float,
    held_out: LabelledData | None = None,
    estimator: ClassEstimator | None = None,
    batch_size: int | None = None,
) -> Bilevel:
    """Return `max_φ E log p_{θ*(φ)}(y | x)`, `θ*(φ) = argmax_θ E r_φ + λH`, both penalised.

    Start from rewards of about the size of `λ`: far larger ones put a law on one class alone, where
    nothing has a slope.

    Args:
        policy: the policy; `theta` are its parameters, of a single member.
        reward: from `phi` and inputs to a reward between classes.
        lam: entropy weight `λ > 0`.
        data: of the inner problem, without batch dimensions.
        weight_decay: `ρ > 0`, of both levels.
        held_out: of the outer problem; the same data if not given.
        estimator: of the inner gradient, for `bilevel.AdamSteps`; the objectives themselves and
            the hypergradient are always exact.
        batch_size: inputs per batch, for `single_loop`; drawn without replacement.

    Raises:
        InputError: `lam` or `weight_decay` is not positive.

    Source: paper, for classes; the weight decay is new.
    """
    lam = as_number("lam", lam, data.x)
    check_decay(weight_decay)
    if weight_decay == 0:
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

    by = ExactGradient() if estimator is None else estimator
    levels = _Levels(policy, reward, lam, data, outer, weight_decay, by, batch_size or 0)
    return Bilevel(
        levels.J,
        levels.F,
        batch=levels.batch if batch_size is not None else None,
        sampled=levels.sampled if estimator is not None else None,
    )


@dataclass(frozen=True)
class _Levels:
    """Both objectives, as methods of an object that can be copied and pickled."""

    policy: CategoricalPolicy
    reward: ClassRewardModel
    lam: Tensor
    data: LabelledData
    outer: LabelledData
    weight_decay: float
    estimator: ClassEstimator
    batch_size: int

    def J(self, theta: Params, phi: Phi) -> Tensor:
        return self._expected(theta, phi, ExactGradient(), None)

    def F(self, theta: Params, phi: Phi) -> Tensor:
        nll = CrossEntropy()(self.policy(theta, self.outer.x), self.outer)
        return -nll - decay(theta, self.weight_decay)

    def sampled(self, theta: Params, phi: Phi, generator: Generator) -> Tensor:
        return self._expected(theta, phi, self.estimator, MemberNoise([generator]))

    def batch(self, generator: Generator) -> tuple[Objective, Objective]:
        data, outer = (
            part.rows(draw_rows(len(part.x), self.batch_size, generator))
            for part in (self.data, self.outer)
        )
        part = replace(self, data=data, outer=outer)
        return part.J, part.F

    def _expected(
        self, theta: Params, phi: Phi, by: ClassEstimator, noise: MemberNoise | None
    ) -> Tensor:
        objective = ClassPolicyGradient(self.reward(phi, self.data.x), self.lam, by)
        loss = objective(self.policy(theta, self.data.x), self.data, noise)
        return -loss - self.lam * decay(theta, self.weight_decay)
