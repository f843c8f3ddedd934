"""First and second derivatives of a number in the tensors it was computed from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .trees import joined

# of how torch computes the products of a Hessian with some layers, not of what comes out
warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented")

Vector = Float[Tensor, "d"]


def slopes(
    value: Tensor, leaves: Sequence[Tensor], *, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradient of `value` in each leaf; zeros where it does not depend on one."""
    return torch.autograd.grad(value, leaves, create_graph=create_graph, materialize_grads=True)


def curved(gradient: Vector, leaves: Sequence[Tensor], v: Vector) -> Vector:
    """Return the Hessian times `v`, from a flat gradient with its graph."""
    if not gradient.requires_grad:  # of a linear function
        return torch.zeros_like(v)
    parts = torch.autograd.grad(gradient, leaves, v, retain_graph=True, materialize_grads=True)
    return joined(parts)


def hessian(gradient: Vector, leaves: Sequence[Tensor]) -> Float[Tensor, "d d"]:
    """Return the whole Hessian, symmetrised against rounding: all its products at once."""
    identity = torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)
    if not gradient.requires_grad:
        return 0 * identity

    def product(v: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(gradient, leaves, v, retain_graph=True, materialize_grads=True)

    rows = torch.func.vmap(product)(identity)  # a product with matrices, not with their copies
    H = torch.cat([row.reshape(len(gradient), -1) for row in rows], 1)
    return (H + H.T) / 2
