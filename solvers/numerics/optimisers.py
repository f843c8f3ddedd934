"""Inner optimisers as pure, differentiable maps, for `solvers.hypergradients.unrolled`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked_class
from ..errors import InputError, ShapeError, check_count, check_instance, check_number, shown

Vector = Float[Tensor, "d"]


@checked_class
@dataclass(frozen=True)
class Moments:
    """What an optimiser remembers: averages of gradients and of their squares, and its steps."""

    first: Vector
    second: Vector
    count: int = 0

    def __post_init__(self) -> None:
        check_count("count", self.count, 0)


@runtime_checkable
class Optimiser(Protocol):
    """`SGD(0.1)`, `Adam(0.01)`, or another inner optimiser as a pure, differentiable map."""

    def step(self, theta: Vector, slope: Vector, moments: Moments) -> tuple[Vector, Moments]:
        """Return the point after one step upwards, and the new memory.

        Args:
            theta: the point, flat.
            slope: `∂_θJ` there.
            moments: memory, zeros at the start.
        """
        ...


@checked_class
@dataclass(frozen=True)
class SGD:
    """Gradient ascent `θ + η ∂_θJ`.

    Attributes:
        learning_rate: `η > 0`.
    """

    learning_rate: float

    def __post_init__(self) -> None:
        rate = check_number("learning_rate", self.learning_rate, positive=True)
        object.__setattr__(self, "learning_rate", rate)

    def step(self, theta: Vector, slope: Vector, moments: Moments) -> tuple[Vector, Moments]:
        """Return `θ + η ∂_θJ`."""
        return theta + self.learning_rate * slope, moments


@checked_class
@dataclass(frozen=True)
class Adam:
    """Adam as in `torch.optim.Adam(maximize=True)`, `θ + η m̂/(√v̂ + ε)`.

    Where all gradients of an entry were 0, its derivative is the true one, that of `η m̂/ε`: `√v̂`
    is a norm of the past gradients there, and adds terms of second order only. That derivative
    is `η/ε` and thus large for the usual `ε`.

    Attributes:
        learning_rate: `η > 0`.
        betas: decay of the means of gradients and of their squares, in [0, 1).
        eps: `ε > 0`: without it the step has no derivative where the gradient is 0.
    """

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        rate = check_number("learning_rate", self.learning_rate, positive=True)
        object.__setattr__(self, "learning_rate", rate)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas are {self.betas}: pass two numbers in [0, 1)")
        object.__setattr__(self, "eps", check_number("eps", self.eps, positive=True))
        object.__setattr__(self, "betas", tuple(map(float, self.betas)))

    def step(self, theta: Vector, slope: Vector, moments: Moments) -> tuple[Vector, Moments]:
        """Return `θ + η m̂/(√v̂ + ε)`."""
        if moments.first.shape != theta.shape or moments.second.shape != theta.shape:
            raise ShapeError(
                f"theta has {len(theta)} entries, moments {len(moments.first)} and "
                f"{len(moments.second)}: pass those of the step before, zeros at the start"
            )
        if not theta.dtype == slope.dtype == moments.first.dtype == moments.second.dtype:
            raise InputError(
                f"theta is {theta.dtype}, slope {slope.dtype}, moments {moments.first.dtype} and "
                f"{moments.second.dtype}: use one dtype"
            )
        first_beta, second_beta = self.betas
        count = moments.count + 1
        first = torch.lerp(moments.first, slope, 1 - first_beta)
        second = (moments.second * second_beta).addcmul(slope, slope, value=1 - second_beta)
        seen = second > 0
        root = torch.where(seen, torch.where(seen, second, 1).sqrt(), 0)
        scale = root / math.sqrt(1 - second_beta**count) + self.eps
        rate = self.learning_rate / (1 - first_beta**count)
        return theta.addcdiv(first, scale, value=rate), Moments(first, second, count)


def check_optimiser(name: str, value: object) -> None:
    """Raise `InputError` unless `value` is an `Optimiser`: no class of them, none of torch's."""
    foreign = isinstance(value, type | torch.optim.Optimizer)
    if foreign or not isinstance(value, Optimiser):
        raise InputError(
            f"{name} is {shown(value)}: pass SGD(0.1), Adam(0.01) of solvers.numerics.optimisers, "
            f"or another object whose step returns a new point and leaves the old one as it is"
        )


def stepped(
    optimiser: Optimiser, theta: Vector, slope: Vector, moments: Moments
) -> tuple[Vector, Moments]:
    """Return the step of an optimiser, checked.

    Raises:
        InputError: it is no pair whose first member is a point like `theta`. Its memory is its own.
    """
    found: Any = optimiser.step(theta, slope, moments)
    name = f"{type(optimiser).__name__}.step"
    if not isinstance(found, tuple) or len(found) != 2:  # pyright: ignore[reportUnknownArgumentType]
        raise InputError(f"{name} returned {shown(found)}: return the point and the moments")
    point: Any = found[0]
    check_instance(f"the point of {name}", point, Tensor, "a tensor like theta")
    if point.shape != theta.shape or point.dtype != theta.dtype:
        raise ShapeError(
            f"{name} returned a point of shape {tuple(point.shape)}, {point.dtype}, and theta has "
            f"{tuple(theta.shape)}, {theta.dtype}: return one like it"
        )
    return point, found[1]
