"""Networks: the bodies of policies and of rewards that depend on the input.

Parameters carry leading batch dimensions `*b`, one entry per ensemble member; nothing else in the
package knows how many there are. A single member has `b = ()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import (
    ShapeError,
    check_choice,
    check_count,
    check_instance,
    check_precision,
)
from ..numerics.modes import recording
from .law import Params

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron; without hidden layers, an affine map.

    Attributes:
        hidden: widths of the hidden layers.
        activation: "relu" or "tanh".
    """

    hidden: tuple[int, ...] = ()
    activation: Literal["relu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ACTIVATIONS)
        check_instance("hidden", self.hidden, tuple, "a tuple of widths, such as (64, 64)")
        for layer, width in enumerate(self.hidden):
            check_count(f"hidden[{layer}]", width)

    def shapes(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """Return the parameter shapes, in the order in which a stream draws them."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise((inputs, *self.hidden, outputs))):
            shapes[f"weight{layer}"] = (fan_in, fan_out)
            shapes[f"bias{layer}"] = (fan_out,)
        return shapes

    def init(self, generator: torch.Generator, inputs: int, outputs: int) -> dict[str, Tensor]:
        """Draw `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`, PyTorch's default for linear layers."""
        params: dict[str, Tensor] = {}
        bound = 0.0
        for name, shape in self.shapes(inputs, outputs).items():
            if name.startswith("weight"):  # a bias shares the bound of the weight before it
                bound = 1 / math.sqrt(shape[0])
            uniform = torch.rand(
                shape, generator=generator, dtype=torch.float64, device=generator.device
            )
            params[name] = bound * (2 * uniform - 1)
        return params

    def __call__(
        self, params: Params, prefix: str, x: Float[Tensor, "*#b N d"]
    ) -> Float[Tensor, "*#b N k"]:
        """Return the outputs at `x`, with the parameters named `prefix + layer`."""
        activation = ACTIVATIONS[self.activation]
        for layer in range(len(self.hidden) + 1):
            weight, bias = params[f"{prefix}weight{layer}"], params[f"{prefix}bias{layer}"]
            x = _product(x, weight) + bias.unsqueeze(-2)
            if layer < len(self.hidden):
                x = activation(x)
        return x


def _product(x: Float[Tensor, "*#b N d"], weight: Float[Tensor, "*b d k"]) -> Tensor:
    """Return `x @ weight`; where all members share `x`, as one product, outputs ahead of inputs."""
    if x.ndim > 2 or weight.ndim == 2:
        return x @ weight
    *b, d, k = weight.shape
    return (weight.mT.reshape(-1, d) @ x.mT).reshape(*b, k, len(x)).mT


class NetworkPolicy:
    """How the parameters of a policy start that is one network with `outputs` outputs."""

    inputs: int
    network: MLP

    @property
    def outputs(self) -> int:
        """Number of outputs of the network."""
        raise NotImplementedError

    def init(
        self,
        generators: Sequence[torch.Generator],
        batch: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """Draw the parameters of every member; as `GaussianPolicy.init`."""
        return init_members(
            lambda generator: self.network.init(generator, self.inputs, self.outputs),
            generators,
            batch,
            dtype,
        )

    def zeros(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Return parameters of 0, the uniform law (a stationary point of deeper networks)."""
        check_precision("dtype", dtype)
        shapes = self.network.shapes(self.inputs, self.outputs)
        return {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}


@recording
def init_members(
    one: Callable[[torch.Generator], dict[str, Tensor]],
    generators: Sequence[torch.Generator],
    batch: tuple[int, ...],
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Stack the parameters that `one` draws for every member into leaves `(*b, ...)`."""
    check_precision("dtype", dtype)
    check_instance("generators", generators, Sequence, "a list with a torch.Generator per member")
    if len(generators) != math.prod(batch):
        raise ShapeError(
            f"{len(generators)} generators for the batch shape {batch}: pass one per member"
        )
    members = [one(generator) for generator in generators]
    return {
        name: torch.stack([member[name] for member in members])
        .to(dtype)
        .reshape(*batch, *members[0][name].shape)
        .requires_grad_()
        for name in members[0]
    }
