"""A reference policy `p₀` in place of the entropy: `J = E r - λ KL(p ‖ p₀)`, RLHF's form.

`-KL(p ‖ p₀) = H(p) + E_p log p₀`: families that know the second term are exact; for others it is an
expected reward, `log p₀(ŷ)`, which the estimator of the reward samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked_class
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


def known_divergence(law: Law, reference: Any) -> Float[Tensor, "*b N"] | None:
    """Return `KL(p ‖ p₀)` per input where the family knows it, else None.

    Raises:
        InputError: a reference of another family, or one that excludes what the policy generates.
        ShapeError: another number of outcome dimensions, bits or classes.
    """
    return law.kl(reference) if isinstance(law, Divergence) else None
