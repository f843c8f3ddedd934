"""What an objective may return: one real number, computed from its arguments by torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, NonFiniteError, ShapeError

KERNEL_ROUNDING = 1000  # units in the last place by which kernels differ with what they are given
NATIVE = "computed by torch, without .detach(), .item(), float() or NumPy on the way"


def number(name: str, value: Any) -> Tensor:
    """Return what the objective `name` returned, if it is a real number of torch.

    Raises:
        InputError: nothing, several things, or something else than a real tensor.
        ShapeError: a tensor of more than one number, or of one in brackets.
    """
    found = real(name, value)
    if found.ndim:
        raise ShapeError(f"{name} has shape {tuple(found.shape)}: return a single number")
    return found


def real(name: str, value: Any) -> Tensor:
    """Return what `name` returned, if it is a tensor of real numbers, of any shape.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, (tuple, list)):
        raise InputError(
            f"{name} returned a {type(value).__name__} of {len(value)}: return the number alone, "  # pyright: ignore[reportUnknownArgumentType]
            "and keep what else it computes in a variable of yours"
        )
    if value is None:
        raise InputError(f"{name} returned None: return the number (is `return` missing?)")
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name} returned a {type(value).__name__}: return a tensor of one number {NATIVE}"
        )
    if value.is_complex():
        raise InputError(f"{name} is {value.dtype}: return a real number, such as its .real")
    if not value.is_floating_point():
        raise InputError(f"{name} is {value.dtype}, which has no derivative: return a float")
    return value


def finite_number(name: str, value: Any, where: str) -> Tensor:
    """Return the same, if it is finite; `where` says at which point, for the message."""
    found = number(name, value)
    if not bool(torch.isfinite(found)):
        raise NonFiniteError(f"{name} is {found.item()} at {where}: move it inside the domain")
    return found


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether numbers are the same but for the order in which kernels add."""
    tolerance = KERNEL_ROUNDING * torch.finfo(one.dtype).eps
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance)


def check_repeats(name: str, value: Tensor, again: Tensor, where: str) -> None:
    """Raise `InputError` unless an objective is, when asked once more, what it was before."""
    one, other = value.detach(), again.detach()
    if not same(one, other):
        raise InputError(
            f"{name} is {one.item():.6g} at {where}, and {other.item():.6g} when asked again: it "
            f"changes from call to call, and has no minimum or maximum to search for; call "
            f"module.eval() if it has a module with dropout, and draw nothing at random inside it"
        )


def check_depends(name: str, value: Tensor, on: str) -> None:
    """Raise `InputError` unless gradients flow from a value to what it was computed from."""
    if not value.requires_grad:
        raise InputError(f"{name} does not depend on {on}: build it from its arguments, {NATIVE}")
