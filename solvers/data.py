"""Data, grouped by distinct input.

The policy's law depends on the input alone, so `S` outcomes that share an input are stored
beside it, and the policy is evaluated once per *distinct* row. The quadratic objectives need the
outcomes only through their mean and covariance per input, computed once here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import InputError, ShapeError, check_dtype, check_finite


@dataclass(frozen=True)
class Dataset:
    """Outcomes `y` observed at distinct inputs `x`; build it with `Dataset.of`.

    Attributes:
        x: inputs, `(*b, N, d)`.
        y: `S` outcomes for each input, `(*b, N, S, n)`.
        mean: mean outcome per input, `(*b, N, n)`.
        covariance: covariance of the outcomes per input (divided by `S`), `(*b, N, n, n)`.
    """

    x: Float[Tensor, "*b N d"]
    y: Float[Tensor, "*b N S n"]
    mean: Float[Tensor, "*b N n"]
    covariance: Float[Tensor, "*b N n n"]

    @classmethod
    def of(cls, x: Float[Tensor, "*b N d"], y: Float[Tensor, "*b N S n"]) -> Dataset:
        """Check the data and reduce the outcomes to their moments per input.

        Args:
            x: inputs `(*b, N, d)`.
            y: outcomes `(*b, N, S, n)`; pass `y.unsqueeze(-2)` for one outcome per input.

        Raises:
            InputError: half precision, integers, or outcomes whose squares over- or underflow.
            ShapeError: empty data, or `x` and `y` that disagree.
            NonFiniteError: NaN or infinity.
        """
        check_dtype("x", x)
        check_dtype("y", y)
        if y.ndim != x.ndim + 1 or x.ndim < 2 or y.shape[:-2] != x.shape[:-1]:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}: pass x (*b, N, d) and y "
                f"(*b, N, S, n) with the same *b and N"
            )
        if x.numel() == 0 or y.numel() == 0:
            raise ShapeError(
                f"data are empty: x has shape {tuple(x.shape)}, y {tuple(y.shape)}; "
                f"pass at least one row, one outcome and one column of each"
            )
        if x.dtype != y.dtype:
            raise ShapeError(f"x is {x.dtype} and y is {y.dtype}: convert both to one dtype")
        check_finite("x", x)
        check_finite("y", y)
        mean = y.mean(-2)
        deviation = y - mean.unsqueeze(-2)
        covariance = deviation.mT @ deviation / y.shape[-2]
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        limits = torch.finfo(y.dtype)
        varies = (deviation.abs() > 8 * limits.eps * y.abs()).any(-2)  # more than the mean rounds
        lost = (variance < limits.tiny) & varies | ~torch.isfinite(covariance).all(-1)
        if bool(lost.any()):
            index = tuple(lost.nonzero()[0].tolist())
            raise InputError(
                f"y deviates from its mean by up to {deviation.abs().amax(-2)[index].item():.3g} "
                f"at {list(index)}, whose square {y.dtype} cannot hold: pass y in other units"
                f"{'' if y.dtype == torch.float64 else ', or y.double()'}"
            )
        return cls(x, y, mean, covariance)

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return self.y.shape[-1]
