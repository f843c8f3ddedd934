"""Norms that neither under- nor overflow, and tolerances that follow the precision of a dtype."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, "d"]


def largest_entry(v: Float[Tensor, "..."]) -> float:
    """Return the largest absolute entry in one operation; NaN if there is one."""
    return torch.linalg.vector_norm(v.detach(), math.inf).item()


def norm(v: Float[Tensor, "..."]) -> float:
    """Return the Euclidean norm of all entries, right for any size that a double can hold.

    `v.norm()` squares the entries, and so is 0 for entries below the root of the smallest number
    of the dtype, and infinite above the root of the largest.
    """
    scale = largest_entry(v)
    if scale == 0 or not math.isfinite(scale):
        return scale
    return scale * float((v.detach() / scale).norm())


def share(part: Vector, whole: Vector) -> float:
    """Return `‖part‖/‖whole‖`; 0 where both are 0."""
    size, rest = norm(part), norm(whole)
    if rest == 0:
        return 0.0 if size == 0 else math.inf
    return size / rest


def digits(tolerance: float, dtype: torch.dtype) -> float:
    """Return the tolerance that asks of `dtype` the share of its digits asked of a double."""
    eps = torch.finfo(dtype).eps
    return tolerance ** (math.log(eps) / math.log(torch.finfo(torch.float64).eps))
