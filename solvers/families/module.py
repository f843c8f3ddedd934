"""Any `torch.nn.Module` that returns a `torch.distributions.Distribution`, as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence
from torch.func import functional_call

from ..arguments import checked, checked_class
from ..errors import InputError, ShapeError
from .law import NormalNoise, Params, Sampled, UniformNoise, check_family


@checked_class
@dataclass(frozen=True)
class Wrapped(Sampled):
    """A law of `torch.distributions`, one at each of `N` inputs.

    Attributes:
        distribution: of batch shape `(N,)`, or `(N, n)` for independent dimensions, which are then
            taken together.
    """

    distribution: Distribution

    def entropy(self) -> Float[Tensor, "N"]:
        """Return `H`, summed over outcome dimensions.

        Raises:
            InputError: the distribution has no entropy in closed form.
        """
        try:
            return _summed(self.distribution.entropy())
        except NotImplementedError:
            raise InputError(
                f"torch knows no entropy of {type(self.distribution).__name__}: give it a method "
                f"entropy, or use another distribution"
            ) from None

    def kl(self, reference: Any) -> Float[Tensor, "N"] | None:
        """Return `KL(p ‖ p₀)`, summed over outcome dimensions; None where torch knows no formula.

        Raises:
            InputError: a reference that is no module's law.
        """
        check_family(self, reference)
        try:
            return _summed(kl_divergence(self.distribution, reference.distribution))
        except NotImplementedError:
            return None

    def log_prob(self, y: Float[Tensor, "M N n"]) -> Float[Tensor, "M N"]:
        """Return `log p(y)`, summed over outcome dimensions."""
        return _summed(self.distribution.log_prob(self._event(y)), 2)

    def draw(self, M: int, noise: NormalNoise | UniformNoise) -> Float[Tensor, "M N n"]:
        """Return `M` generations per input; they move with the parameters if they can.

        torch draws from its global generator: it is seeded from the noise, and put back after.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(noise))
            shape = torch.Size((M,))
            law = self.distribution
            y = law.rsample(shape) if law.has_rsample else law.sample(shape)
        return y if y.ndim == 3 else y.unsqueeze(-1)

    def pathwise(
        self, data: Any, reward: Any, M: int, noise: NormalNoise | UniformNoise
    ) -> Float[Tensor, "N"]:
        """Return the mean reward of `M` generations, differentiable along them."""
        if not self.distribution.has_rsample:
            raise InputError(
                f"generations of {type(self.distribution).__name__} do not move with its "
                f"parameters: pass ScoreFunction(M={M})"
            )
        return self.rewards(self.draw(M, noise), data, reward).mean(-2)

    def _event(self, y: Float[Tensor, "M N n"]) -> Tensor:
        """Return outcomes as the distribution takes them: of `n = 1`, without the last axis."""
        scalar = len(self.distribution.batch_shape) + len(self.distribution.event_shape) == 1
        if scalar and y.shape[-1] != 1:
            raise ShapeError(
                f"outcomes have n = {y.shape[-1]}, the distribution one dimension: pass a "
                f"distribution over (N, {y.shape[-1]})"
            )
        return y[..., 0] if scalar else y


@checked_class
@dataclass(frozen=True, eq=False)
class ModulePolicy:
    """`p_θ(. | x)` of a module: its parameters, by name, are `θ`.

    Build it with `policy(module)`. Frozen parameters (`requires_grad` False) stay as they are.

    Attributes:
        module: returns a `Distribution` for inputs `(N, d)`; never changed.
    """

    module: torch.nn.Module

    def start(self) -> dict[str, Tensor]:
        """Return a copy of the module's parameters to start from."""
        return {
            name: p.detach().clone().requires_grad_(p.requires_grad)
            for name, p in self.module.named_parameters()
        }

    def __call__(self, params: Params, x: Float[Tensor, "N d"]) -> Wrapped:
        """Return the law at each input."""
        found = functional_call(self.module, dict(params), (x,))
        if not isinstance(found, Distribution):
            raise InputError(
                f"the module returned {type(found).__name__}: return a torch.distributions object, "
                f"such as Normal(mean, scale)"
            )
        return Wrapped(found)

    def load(self, params: Mapping[str, Tensor]) -> torch.nn.Module:
        """Write trained parameters into the module, and return it."""
        with torch.no_grad():
            for name, p in self.module.named_parameters():
                p.copy_(params[name])
        return self.module


@checked
def policy(module: torch.nn.Module) -> ModulePolicy:
    """Return the policy of a module that returns a `torch.distributions.Distribution`.

    It trains on any reward `r(ŷ, y)` by score function or, where the distribution has `rsample`,
    pathwise: `ŷ` and `y` have the outcome dimension last, also for `n = 1`.
    """
    return ModulePolicy(module)


def _summed(values: Tensor, ndim: int = 1) -> Tensor:
    return values.flatten(ndim).sum(-1) if values.ndim > ndim else values


def _seed(noise: NormalNoise | UniformNoise) -> int:
    """Draw a seed from the noise."""
    if isinstance(noise, UniformNoise):
        return int(noise.uniform((), torch.float64) * 2**53)
    return int(noise.normal((), torch.float64).abs() * 2**48)
