"""Policies that stay as they are: a reference `p₀`, and a teacher in place of the outcomes.

A reference stands in place of the entropy: `J = E r - λ KL(p ‖ p₀)`, RLHF's form.

`-KL(p ‖ p₀) = H(p) + E_p log p₀`: families that know the second term are exact; for others it is an
expected reward, `log p₀(ŷ)`, which the estimator of the reward samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checked_class
from ..data import rows_at
from ..families.law import Divergence, Law, Params, Policy

ReferenceLaw = Callable[[Float[Tensor, "*b N d"]], Any]
"""From inputs to the law `p₀(. | x)` there, of the policy's family."""


@checked_class
@dataclass(frozen=True)
class Reference:
    """`p₀`: a policy whose parameters stay as they are, such as a pretrained one.

    Attributes:
        policy: of the family of the policy to be trained; its networks may be others.
        params: `θ₀`, `(*b, ...)`.
    """

    policy: Policy
    params: Params

    def __call__(self, x: Float[Tensor, "*b N d"]) -> Any:
        """Return the law at each input, without gradients."""
        with torch.no_grad():
            return self.policy(self.params, x)


@checked_class
@dataclass(frozen=True)
class LogDensity:
    """The reward `log p₀(ŷ)`, whatever the outcome.

    Attributes:
        law: `p₀` at each input.
    """

    law: Any

    def __call__(self, generation: Tensor, y: Tensor) -> Tensor:
        """Return `log p₀(ŷ)` for broadcastable generations and outcomes."""
        shape = torch.broadcast_shapes(generation.shape, y.shape)[:-1]
        return self.law.log_prob(generation).expand(shape)


@checked_class
@dataclass(frozen=True)
class Distilled:
    """Data whose outcome at each input follows the law of a teacher, such as a fitted policy.

    They have no outcomes to sample: exact objectives take them. Classes are `LabelledData.soft`.

    Attributes:
        x: inputs, `(*b, N, d)`.
        teacher: from inputs to the law there, such as `Reference(policy, params)`.
    """

    x: Float[Tensor, "*b N d"]
    teacher: ReferenceLaw

    @cached_property
    def law(self) -> Any:
        """The law at each input."""
        return self.teacher(self.x)

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return self.mean.shape[-1]

    @property
    def mean(self) -> Float[Tensor, "*b N n"]:
        """Its mean at each input."""
        return self.law.mean

    @property
    def covariance(self) -> Float[Tensor, "*b N n n"]:
        """Its covariance at each input."""
        return self.law.covariance

    def rows(self, index: Int[Tensor, "*i B"]) -> Distilled:
        """Return the data at the inputs `index`, `(*i, B, ...)`."""
        return Distilled(rows_at(index, self.x)[0], self.teacher)


def known_divergence(law: Law, reference: Any) -> Float[Tensor, "*b N"] | None:
    """Return `KL(p ‖ p₀)` per input where the family knows it, else None.

    Raises:
        InputError: a reference of another family, or one that excludes what the policy generates.
        ShapeError: another number of outcome dimensions, bits or classes.
    """
    return law.kl(reference) if isinstance(law, Divergence) else None
