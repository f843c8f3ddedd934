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

from ..arguments import checked_class
from ..errors import (
    InputError,
    ShapeError,
    check_broadcast,
    check_choice,
    check_count,
    check_dtype,
    check_instance,
    check_precision,
)
from ..numerics.modes import recording
from .law import Params

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


@checked_class
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

    @property
    def last(self) -> tuple[str, str]:
        """Names of the weight and the bias of the last layer."""
        return f"weight{len(self.hidden)}", f"bias{len(self.hidden)}"

    def init(self, generator: torch.Generator, inputs: int, outputs: int) -> dict[str, Tensor]:
        """Draw `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`, PyTorch's default for linear layers."""
        check_count("inputs", inputs)
        check_count("outputs", outputs)
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
        return self._affine(params, prefix, len(self.hidden), self.features(params, prefix, x))

    def features(
        self, params: Params, prefix: str, x: Float[Tensor, "*#b N d"]
    ) -> Float[Tensor, "*#b N k"]:
        """Return what the last layer, an affine map, is handed at `x`."""
        activation = ACTIVATIONS[self.activation]
        for layer in range(len(self.hidden)):
            x = activation(self._affine(params, prefix, layer, x))
        return x

    def _affine(self, params: Params, prefix: str, layer: int, x: Tensor) -> Tensor:
        weight, bias = self._layer(params, prefix, layer, x)
        return _product(x, weight) + bias.unsqueeze(-2)

    def _layer(
        self, params: Params, prefix: str, layer: int, x: Float[Tensor, "*#b N d"]
    ) -> tuple[Float[Tensor, "*b d k"], Float[Tensor, "*b k"]]:
        """Return weight and bias of a layer, after checking that they are of this network."""
        names = f"{prefix}weight{layer}", f"{prefix}bias{layer}"
        weight, bias = (parameter(params, name) for name in names)
        outputs = weight.shape[-1] if weight.ndim else 0
        if layer < len(self.hidden):
            outputs = self.hidden[layer]
        if weight.ndim < 2 or weight.shape[-2:] != (x.shape[-1], outputs):
            raise ShapeError(
                f"{names[0]} has shape {tuple(weight.shape)}, and {x.shape[-1]} numbers come in: "
                f"pass {(x.shape[-1], outputs)}, behind the batch of the members"
            )
        if bias.shape != (*weight.shape[:-2], outputs):
            raise ShapeError(
                f"{names[1]} has shape {tuple(bias.shape)}, {names[0]} {tuple(weight.shape)}: pass "
                f"{(*weight.shape[:-2], outputs)}"
            )
        if weight.dtype != x.dtype or bias.dtype != x.dtype:
            raise InputError(
                f"{names[0]} is {weight.dtype}, {names[1]} {bias.dtype}, x {x.dtype}: use one dtype"
            )
        check_broadcast(names[0], weight.shape[:-2], "x", x.shape[:-2])
        return weight, bias


def parameter(params: Params, name: str) -> Tensor:
    """Return a parameter.

    Raises:
        InputError: there is none of this name, or it is no tensor.
    """
    if name not in params:
        raise InputError(
            f"there is no parameter {name!r} among {', '.join(map(repr, params)) or 'none'}: pass "
            f"those that the policy or reward was started with"
        )
    check_dtype(name, params[name])
    return params[name]


def networks_of(owner: object) -> dict[str, MLP]:
    """Return the networks of the inputs that a policy or reward has, by the prefixes of names."""
    return getattr(owner, "networks", {})


def check_moves(owner: object, params: Params) -> None:
    """Raise `InputError` where a network with hidden layers starts from weights that are all 0.

    There every derivative vanishes but that of the last bias: a search would end where it began.
    """
    for prefix, network in networks_of(owner).items():
        names = [f"{prefix}weight{layer}" for layer in range(len(network.hidden) + 1)]
        if network.hidden and not any(bool(parameter(params, name).any()) for name in names):
            raise InputError(
                f"{names[0]} to {names[-1]} of {type(owner).__name__} are 0, from where a network "
                f"with hidden layers does not move: start from what is drawn, such as "
                f"policy.init([generator(0)], dtype=torch.float64)"
            )


def check_outputs(owner: str, found: Tensor, outputs: int) -> None:
    """Raise `ShapeError` unless a network has as many outputs as its owner needs."""
    if found.shape[-1] != outputs:
        raise ShapeError(
            f"the network of {owner} has {found.shape[-1]} outputs, and {outputs} are needed: pass "
            f"the parameters of a network with {outputs}"
        )


def _product(x: Float[Tensor, "*#b N d"], weight: Float[Tensor, "*b d k"]) -> Tensor:
    """Return `x @ weight`; where all members share `x`, as one product, outputs ahead of inputs."""
    if x.ndim > 2 or weight.ndim == 2:
        return x @ weight
    *b, d, k = weight.shape
    return (weight.mT.reshape(-1, d) @ x.mT).reshape(*b, k, len(x)).mT


@dataclass(frozen=True)
class InputUnits:
    """`z = (x - centre)/scale`, for first layers that are to be taken relative to their inputs.

    Attributes:
        centre: of every column, `(d,)`.
        scale: of every column, `(d,)`.
    """

    centre: Float[Tensor, "d"]
    scale: Float[Tensor, "d"]

    @classmethod
    def of(cls, x: Float[Tensor, "N d"]) -> InputUnits:
        """Return the means and deviations of inputs, rounded.

        Deviations are powers of two, means multiples of them: to inputs that are about standard
        nothing happens, to the last digit.
        """
        x = x.detach()
        size = x.abs().amax(0)
        size = torch.where(size > 0, size, 1.0)
        s = (x / size).std(0, correction=0) * size  # whose squares neither under- nor overflow
        s = torch.where(s > torch.finfo(x.dtype).eps * size, s, 1.0).log2().round().exp2()
        return cls((x / size).mean(0).mul(size).div(s).round() * s, s)

    def raw(self, params: Params, prefixes: Sequence[str]) -> dict[str, Tensor]:
        """Return parameters for which networks are at `x` what they are for these at `z`."""
        found = dict(params)
        for prefix in prefixes:
            weight, bias = f"{prefix}weight0", f"{prefix}bias0"
            found[weight] = found[weight] / self.scale.unsqueeze(-1)
            found[bias] = found[bias] - self.centre @ found[weight]
        return found

    def relative(self, params: Params, prefixes: Sequence[str]) -> dict[str, Tensor]:
        """Return the inverse of `raw`."""
        found = dict(params)
        for prefix in prefixes:
            weight, bias = f"{prefix}weight0", f"{prefix}bias0"
            found[bias] = found[bias] + self.centre @ found[weight]
            found[weight] = found[weight] * self.scale.unsqueeze(-1)
        return found


@checked_class
class NetworkPolicy:
    """How the parameters of a policy start that is one network with `outputs` outputs."""

    inputs: int
    network: MLP

    @property
    def outputs(self) -> int:
        """Number of outputs of the network."""
        raise NotImplementedError

    @property
    def networks(self) -> dict[str, MLP]:
        """The network, by the prefix of its parameters' names."""
        return {"": self.network}

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
