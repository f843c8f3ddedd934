"""Gaussian policies as small frozen objects.

`policy.init(generators)` draws parameters, `policy(params, x)` returns the law at each input.
Parameters carry leading batch dimensions `*b`, one entry per ensemble member; nothing else in
the package knows how many there are. A single member has `b = ()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import (
    ShapeError,
    check_choice,
    check_columns,
    check_count,
    check_instance,
    check_precision,
)
from ..numerics.modes import recording
from .gaussian import Gaussian

Structure = Literal["isotropic", "diagonal", "full"]
Params = Mapping[str, Tensor]

STRUCTURES: tuple[Structure, ...] = get_args(Structure)

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}
POSITIVE = {"exp": torch.exp, "softplus": torch.nn.functional.softplus}


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


@dataclass(frozen=True)
class GaussianPolicy:
    """`p_θ(. | x) = N(m(x), P(x))`, `P = S Sᵀ` of the given structure, `S_ii > 0`.

    Attributes:
        inputs: input dimension `d`.
        n: outcome dimension.
        structure: of `P`: "isotropic" (`s I`), "diagonal" or "full" (Cholesky factor).
        mean: network of the mean.
        scale: network of the scale; "shared" adds the scale's outputs to the mean's network,
            "constant" makes it one free parameter for all inputs.
        positive: the map that makes `S_ii` positive.
    """

    inputs: int
    n: int
    structure: Structure = "full"
    mean: MLP = MLP()
    scale: MLP | Literal["shared", "constant"] = "constant"
    positive: Literal["exp", "softplus"] = "exp"

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)
        check_count("n", self.n)
        check_choice("structure", self.structure, STRUCTURES)
        check_choice("positive", self.positive, POSITIVE)
        check_instance("mean", self.mean, MLP, "an MLP, such as MLP((64,), 'tanh')")
        if self.scale not in ("shared", "constant"):
            check_instance("scale", self.scale, MLP, "'shared', 'constant' or an MLP")

    @property
    def scale_outputs(self) -> int:
        """Number of free parameters of `S`."""
        return {"isotropic": 1, "diagonal": self.n, "full": self.n * (self.n + 1) // 2}[
            self.structure
        ]

    def init(
        self,
        generators: Sequence[torch.Generator],
        batch: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
    ) -> dict[str, Tensor]:
        """Draw the parameters of every member, each from its own generator.

        Args:
            generators: one per member, in row-major order of `batch`.
            batch: batch shape `*b`.
            dtype: of the parameters; the draws are the same for every dtype.

        Returns:
            Tensors of shape `(*b, ...)` that require gradients. A constant scale starts with all
            parameters 0 (`S = I` for "exp", `S = log 2 I` for "softplus").
        """
        return init_members(self._init_one, generators, batch, dtype)

    def _init_one(self, generator: torch.Generator) -> dict[str, Tensor]:
        outputs = self.n + (self.scale_outputs if self.scale == "shared" else 0)
        params = {
            f"mean.{k}": v for k, v in self.mean.init(generator, self.inputs, outputs).items()
        }
        if self.scale == "constant":
            params["scale.raw"] = torch.zeros(
                self.scale_outputs, dtype=torch.float64, device=generator.device
            )
        elif isinstance(self.scale, MLP):
            drawn = self.scale.init(generator, self.inputs, self.scale_outputs)
            params |= {f"scale.{k}": v for k, v in drawn.items()}
        return params

    def __call__(self, params: Params, x: Float[Tensor, "*#b N d"]) -> Gaussian:
        """Return the law at each input: mean `(*b, N, n)`, scale `(*b, N or 1, n[, n])`."""
        check_columns(x, "the policy", self.inputs)
        output = self.mean(params, "mean.", x)
        if self.scale == "shared":
            output, raw = output.split([self.n, self.scale_outputs], dim=-1)
        elif isinstance(self.scale, MLP):
            raw = self.scale(params, "scale.", x)
        else:
            raw = params["scale.raw"].unsqueeze(-2)
        return Gaussian(output, self._scale(raw))

    def _scale(self, raw: Float[Tensor, "*b k"]) -> Float[Tensor, "..."]:
        positive = POSITIVE[self.positive]
        if self.structure == "isotropic":
            return positive(raw).expand(*raw.shape[:-1], self.n)
        if self.structure == "diagonal":
            return positive(raw)
        rows, columns = torch.tril_indices(self.n, self.n).unbind()
        lower = raw.new_zeros(*raw.shape[:-1], self.n, self.n)
        lower[..., rows, columns] = raw
        return lower.tril(-1) + torch.diag_embed(positive(lower.diagonal(dim1=-2, dim2=-1)))
