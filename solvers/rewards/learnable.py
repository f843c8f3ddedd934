"""Mahalanobis rewards with learnable parameters: scalar, diagonal, full, or a network of `x`.

A parametrisation is a small frozen object: `start(...)` gives a tree of parameters, calling it
with one gives the reward. Every parameter value is a valid reward: `U` is SPD by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked_class
from ..errors import (
    InputError,
    ShapeError,
    check_choice,
    check_columns,
    check_count,
    check_dtype,
    check_instance,
    check_precision,
    check_spd,
)
from ..families.networks import MLP, check_outputs, parameter
from ..numerics.triangular import lower_triangular
from .mahalanobis import MahalanobisReward

Phi = Mapping[str, Tensor]


@runtime_checkable
class RewardModel(Protocol):
    """From parameters and inputs to a reward."""

    def __call__(self, phi: Phi, x: Float[Tensor, "N d"]) -> Any:
        """Return the reward at these inputs: one for all, or one for each."""
        ...


def factor(
    log_diagonal: Float[Tensor, "*b n"], lower: Float[Tensor, "*b k"]
) -> Float[Tensor, "*b n n"]:
    """Return `C = D L`, `D` diagonal, `L` lower triangular with ones on its diagonal.

    The entries of `L` have no units: another `λ`, or other units of the outcomes, move `log D`
    alone, by a constant.

    Args:
        log_diagonal: of `D`.
        lower: entries of `L` below the diagonal, row by row.
    """
    n = log_diagonal.shape[-1]
    rows, _ = torch.tril_indices(n, n, -1).unbind()
    diagonal = log_diagonal.exp()
    return lower_triangular(diagonal, diagonal[..., rows] * lower)


def entries(C: Float[Tensor, "n n"]) -> dict[str, Tensor]:
    """Return the arguments of which `factor` makes `C`, by name."""
    rows, columns = torch.tril_indices(len(C), len(C), -1).unbind()
    diagonal = C.diagonal()
    return {"log_diagonal": diagonal.log(), "lower": C[rows, columns] / diagonal[rows]}


@checked_class
@dataclass(frozen=True)
class ConstantReward:
    """One `U` for all inputs: `u I`, `diag(u)`, or `C Cᵀ`, `C` as `factor` has it.

    Attributes:
        n: outcome dimension.
        kind: "scalar", "diagonal" or "full".
    """

    n: int
    kind: Literal["scalar", "diagonal", "full"] = "full"

    def __post_init__(self) -> None:
        check_count("n", self.n)
        check_choice("kind", self.kind, ("scalar", "diagonal", "full"))

    def start(self, U: Float[Tensor, "n n"]) -> dict[str, Tensor]:
        """Return the parameters of the reward nearest in kind to an SPD `U`.

        "scalar" takes the mean of the diagonal, "diagonal" the diagonal.
        """
        check_dtype("U", U)
        if U.shape != (self.n, self.n):
            raise ShapeError(
                f"U has n = {U.shape[-1] if U.ndim else 0}, the reward n = {self.n}, shape "
                f"{tuple(U.shape)}: pass {(self.n, self.n)}"
            )
        check_spd("U", U)
        if self.kind == "scalar":
            return {"log_u": U.diagonal().mean().log()}
        if self.kind == "diagonal":
            return {"log_u": U.diagonal().log()}
        return entries(torch.linalg.cholesky(U))

    def __call__(self, phi: Phi, x: Float[Tensor, "N d"]) -> MahalanobisReward:
        """Return the reward; it does not depend on `x`."""
        if self.kind != "full":
            n = (self.n,) if self.kind == "diagonal" else ()
            half = (self._parameter(phi, "log_u", n) / 2).exp()
            return MahalanobisReward(torch.diag_embed(half.expand(self.n)), check=False)
        diagonal = self._parameter(phi, "log_diagonal", (self.n,))
        lower = self._parameter(phi, "lower", (self.n * (self.n - 1) // 2,))
        if lower.dtype != diagonal.dtype:
            raise InputError(
                f"log_diagonal is {diagonal.dtype}, lower {lower.dtype}: use one dtype"
            )
        return MahalanobisReward(factor(diagonal, lower), check=False)

    def _parameter(self, phi: Phi, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a parameter, after checking its shape."""
        found = parameter(phi, name)
        if found.shape != shape:
            raise ShapeError(f"{name} has shape {tuple(found.shape)}: pass {shape}")
        return found


@checked_class
@dataclass(frozen=True)
class InputReward:
    """`U(x) = C(x) C(x)ᵀ`, the factor from a network.

    Attributes:
        inputs: input dimension `d`.
        n: outcome dimension.
        network: from inputs to the `n(n+1)/2` numbers of which `factor` makes `C`; for the kind
            "diagonal" to the logarithms of its diagonal, `n` of them.
        kind: "full" or "diagonal".
    """

    inputs: int
    n: int
    network: MLP
    kind: Literal["full", "diagonal"] = "full"

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)
        check_count("n", self.n)
        check_choice("kind", self.kind, ("full", "diagonal"))
        check_instance("network", self.network, MLP, "an MLP, such as MLP((64,), 'tanh')")

    @property
    def networks(self) -> dict[str, MLP]:
        """The network, by the prefix of its parameters' names."""
        return {"": self.network}

    def start(
        self,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
        *,
        u: Float[Tensor, "n"] | None = None,
    ) -> dict[str, Tensor]:
        """Draw the parameters of the network; with `u`, `U(x)` is drawn about `diag(u)`, not `I`.

        Raises:
            InputError: an entry of `u` is not positive.
        """
        check_precision("dtype", dtype)
        drawn = self.network.init(generator, self.inputs, self._outputs)
        if u is not None:
            check_dtype("u", u)
            if u.shape != (self.n,) or not bool((u > 0).all()):
                raise InputError(f"u is {u.tolist()}: pass {self.n} positive numbers")
            drawn[self.network.last[1]][: self.n] += u.double().cpu().log() / 2
        return {name: p.to(dtype) for name, p in drawn.items()}

    @property
    def _outputs(self) -> int:
        """Number of outputs of the network."""
        return self.n if self.kind == "diagonal" else self.n * (self.n + 1) // 2

    def __call__(self, phi: Phi, x: Float[Tensor, "N d"]) -> MahalanobisReward:
        """Return one reward per input, `(N, n, n)`."""
        check_columns(x, "the reward", self.inputs)
        raw = self.network(phi, "", x)
        check_outputs("the reward", raw, self._outputs)
        if self.kind == "diagonal":
            return MahalanobisReward(torch.diag_embed(raw.exp()), check=False)
        return MahalanobisReward(factor(raw[..., : self.n], raw[..., self.n :]), check=False)

    def weights(self, phi: Phi, x: Float[Tensor, "*#b N d"]) -> Float[Tensor, "*b N n"]:
        """Return the diagonal of `U(x)`, for the kind "diagonal" and any batch of members.

        Raises:
            InputError: the kind is "full".
        """
        if self.kind != "diagonal":
            raise InputError(f"kind is {self.kind!r}: pass kind='diagonal'")
        check_columns(x, "the reward", self.inputs)
        raw = self.network(phi, "", x)
        check_outputs("the reward", raw, self.n)
        return (2 * raw).exp()
