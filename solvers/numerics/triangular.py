"""Lower triangular matrices from their entries: the factor of a covariance or of a reward."""

from __future__ import annotations

from collections.abc import Callable

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


def lower_triangular_by_rows(
    raw: Float[Tensor, "*b k"], n: int, positive: Callable[[Tensor], Tensor]
) -> Float[Tensor, "*b n n"]:
    """The lower triangular matrix of these entries, row by row up to a diagonal made positive.

    Filled as they lie, without taking them apart: with few entries the cheapest to differentiate.

    Args:
        raw: shape (*b, n (n + 1) / 2).
        n: number of rows.
        positive: of the entries on the diagonal.
    """
    rows, columns = torch.tril_indices(n, n).unbind()
    empty = raw.new_zeros(*raw.shape[:-1], n * n)
    factor = empty.index_copy(-1, rows * n + columns, raw).unflatten(-1, (n, n))
    diagonal = positive(factor.diagonal(dim1=-2, dim2=-1))
    return factor.diagonal_scatter(diagonal, dim1=-2, dim2=-1)
