"""Lower triangular matrices from their entries: the factor of a covariance or of a reward."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def lower_triangular(
    diagonal: Float[Tensor, "*b n"], below: Float[Tensor, "*b k"]
) -> Float[Tensor, "*b n n"]:
    """The lower triangular matrix with this diagonal and, row by row, these entries below it.

    Args:
        diagonal: shape (*b, n).
        below: shape (*b, n (n - 1) / 2).
    """
    n = diagonal.shape[-1]
    rows, columns = torch.tril_indices(n, n, -1).unbind()
    lower = torch.diag_embed(diagonal)
    lower[..., rows, columns] = below
    return lower
