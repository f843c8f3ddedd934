"""Affine least squares, which several experiments are measured against."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def affine(x: Float[Tensor, "*b N d"]) -> Float[Tensor, "*b N d1"]:
    """Return the inputs with a column of ones."""
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


def coefficients(
    x: Float[Tensor, "*b N d"], y: Float[Tensor, "*b N n"], *, collinear: bool = False
) -> Float[Tensor, "*b d1 n"]:
    """Return `B` of the fit `affine(x) B` of least squares; its last row is the intercept.

    Args:
        x: inputs.
        y: outcomes.
        collinear: whether the columns of `x` may depend on each other, as those of tables may: then
            the smallest `B`.
    """
    # The default driver gets uninitialised pivots from torch 2.13: its last bits do not repeat.
    driver = "gelsd" if collinear else "gels"
    return torch.linalg.lstsq(affine(x), y, driver=driver).solution
