"""Input errors of the solvers, and the checks that raise them.

Every message gives the offending value and what to pass instead. The checks run before any
work starts and never repair their argument.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class InputError(ValueError):
    """An argument lies outside the domain of the problem."""


class NotPositiveDefiniteError(InputError):
    """A matrix that must be symmetric positive definite is not."""


class NonFiniteError(InputError):
    """Data hold NaN or infinity."""


class ShapeError(InputError):
    """Shapes or outcome dimensions do not fit together."""


def check_finite(name: str, value: Tensor) -> None:
    """Raise `NonFiniteError` naming the first entry of `value` that is NaN or infinite."""
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        index = tuple(bad.nonzero()[0].tolist())
        raise NonFiniteError(
            f"{name}{list(index)} is {value[index].item()} ({int(bad.sum())} of {value.numel()} "
            f"entries are not finite): remove or impute those entries first"
        )


def check_positive(name: str, value: Tensor) -> None:
    """Raise `InputError` unless every entry of `value` is finite and positive."""
    check_finite(name, value)
    if bool((value <= 0).any()):
        raise InputError(f"{name} must be positive, got {value.min().item():.6g}: pass {name} > 0")


def check_same_n(name: str, n: int, other: str, other_n: int) -> None:
    """Raise `ShapeError` unless two things have the same outcome dimension."""
    if n != other_n:
        raise ShapeError(
            f"{name} has n = {n}, {other} n = {other_n}: build both for the same outcomes"
        )


def check_spd(name: str, matrix: Float[Tensor, "*b n n"]) -> None:
    """Raise unless every matrix of the batch is square, finite, symmetric, positive definite."""
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise ShapeError(f"{name} must be square (*b, n, n), got shape {tuple(matrix.shape)}")
    check_finite(name, matrix)
    scale = matrix.abs().amax((-2, -1))
    asymmetry = (matrix - matrix.mT).abs().amax((-2, -1))
    resolution = torch.finfo(matrix.dtype).eps * matrix.shape[-1]
    skewed = asymmetry > 8 * resolution * scale
    if bool(skewed.any()):
        raise NotPositiveDefiniteError(
            f"{name} is not symmetric: max|{name} - {name}ᵀ| = {asymmetry[skewed].max():.6g}; "
            f"pass ({name} + {name}ᵀ)/2 if that is what you mean"
        )
    eigenvalues = torch.linalg.eigvalsh(matrix)
    smallest, largest = eigenvalues[..., 0], eigenvalues[..., -1]
    if bool((smallest <= resolution * largest).any()):
        worst = int(torch.argmin(smallest / largest.abs()))
        raise NotPositiveDefiniteError(
            f"{name} is not positive definite: smallest eigenvalue "
            f"{smallest.flatten()[worst].item():.6g}, largest "
            f"{largest.flatten()[worst].item():.6g}; pass a matrix of full rank "
            f"(more rows than outcomes, or add a ridge you choose yourself)"
        )
