"""Data: outcomes grouped by distinct input, or the distribution of the class at each.

The policy's law depends on the input alone, so `S` outcomes that share an input are stored
beside it, and the policy is evaluated once per *distinct* row. The quadratic objectives need the
outcomes only through their mean and covariance per input, computed once here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .arguments import checked, checked_class
from .errors import (
    InputError,
    ShapeError,
    check_count,
    check_dtype,
    check_finite,
    check_index,
)


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
            y: outcomes `(*b, N, S, n)`; `pairs` takes one outcome per input.

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

    @classmethod
    @checked
    def pairs(cls, x: Float[Tensor, "*b N d"], y: Float[Tensor, "..."]) -> Dataset:
        """Return data of one outcome `(*b, N, n)` for each input; errors as of `of`."""
        if y.ndim != x.ndim:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}: pass one outcome (*b, N, n) "
                f"for each input, for n = 1 with a last dimension of 1"
            )
        return cls.of(x, y.unsqueeze(-2))

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return self.y.shape[-1]

    @checked
    def rows(self, index: Int[Tensor, "*i B"]) -> Dataset:
        """Return the inputs `index` of data without batch dimensions, `(*i, B, ...)`."""
        if self.x.ndim != 2:
            raise ShapeError(f"x has shape {tuple(self.x.shape)}: rows are taken from x (N, d)")
        return Dataset(*rows_at(index, self.x, self.y, self.mean, self.covariance))


@checked_class
@dataclass(frozen=True)
class TwoMoments:
    """A law of which no more than its moments is known: all that a Gaussian likelihood asks.

    Attributes:
        mean: `μ`, `(*b, n)`.
        covariance: `Σ`, `(*b, n, n)`, which may be singular; 0 for a point.
    """

    mean: Float[Tensor, "*#b n"]
    covariance: Float[Tensor, "*#b n n"]

    @property
    def n(self) -> int:
        """Outcome dimension."""
        return self.mean.shape[-1]


@dataclass(frozen=True)
class LabelledData:
    """Inputs, and the distribution of the class at each; build it with `of` or `soft`.

    Attributes:
        x: inputs, `(*b, N, d)`.
        pi: `π`, probabilities of the classes at each input, `(*b, N, C)`; one-hot for labels.
    """

    x: Float[Tensor, "*b N d"]
    pi: Float[Tensor, "*b N C"]

    @classmethod
    def of(cls, x: Float[Tensor, "*b N d"], labels: Int[Tensor, "*b N"], C: int) -> LabelledData:
        """Check labels `0 .. C-1` and store them one-hot.

        Raises:
            InputError: fewer than two classes, or labels that are no integers in the range.
            ShapeError: empty data, or `x` and `labels` that disagree.
            NonFiniteError: NaN or infinity in `x`.
        """
        check_count("C", C, 2)
        check_dtype("x", x)
        check_index("labels", labels, f"a tensor of integers 0 .. {C - 1}")
        if labels.shape != x.shape[:-1]:
            raise ShapeError(
                f"x is {tuple(x.shape)}, labels {tuple(labels.shape)}: pass x (*b, N, d) and "
                f"labels (*b, N)"
            )
        labels = labels.long()
        outside = (labels < 0) | (labels >= C)
        if bool(outside.any()):
            index = tuple(outside.nonzero()[0].tolist())
            raise InputError(
                f"labels{list(index)} is {int(labels[index])}, outside 0 .. {C - 1}: "
                f"pass C = {max(int(labels.max()) + 1, 2)} or encode the labels from 0"
            )
        return cls.soft(x, torch.nn.functional.one_hot(labels, C).to(x.dtype))

    @classmethod
    def soft(cls, x: Float[Tensor, "*b N d"], pi: Float[Tensor, "*b N C"]) -> LabelledData:
        """Check class probabilities, such as the estimates of another classifier.

        Raises:
            InputError: fewer than two classes, a negative probability, or a sum that is not 1.
            ShapeError: empty data, or `x` and `pi` that disagree.
            NonFiniteError: NaN or infinity.
        """
        check_dtype("x", x)
        check_dtype("pi", pi)
        if pi.shape[:-1] != x.shape[:-1] or x.ndim < 2:
            raise ShapeError(
                f"x is {tuple(x.shape)}, pi {tuple(pi.shape)}: pass x (*b, N, d), pi (*b, N, C)"
            )
        if x.numel() == 0:
            raise ShapeError(f"data are empty: x has shape {tuple(x.shape)}; pass rows and columns")
        if x.dtype != pi.dtype:
            raise ShapeError(f"x is {x.dtype} and pi is {pi.dtype}: convert both to one dtype")
        check_finite("x", x)
        check_probabilities("pi", pi)
        return cls(x, pi)

    @property
    def classes(self) -> int:
        """Number of classes `C`."""
        return self.pi.shape[-1]

    @property
    def mean(self) -> Float[Tensor, "*b N C"]:
        """Of the one-hot outcome at each input: `π`."""
        return self.pi

    @property
    def covariance(self) -> Float[Tensor, "*b N C C"]:
        """Of the one-hot outcome at each input: `diag π - ππᵀ`."""
        return torch.diag_embed(self.pi) - self.pi.unsqueeze(-1) * self.pi.unsqueeze(-2)

    @checked
    def rows(self, index: Int[Tensor, "*i B"]) -> LabelledData:
        """Return the inputs `index` of data without batch dimensions, `(*i, B, ...)`."""
        if self.x.ndim != 2:
            raise ShapeError(f"x has shape {tuple(self.x.shape)}: rows are taken from x (N, d)")
        return LabelledData(*rows_at(index, self.x, self.pi))


def rows_at(index: Int[Tensor, "*i B"], *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the entries at `index` of every tensor."""
    places = as_places(index, len(tensors[0]))
    return tuple(t[places] for t in tensors)


def as_places(index: Int[Tensor, "*i B"], N: int) -> Int[Tensor, "*i B"]:
    """Return an index as torch reads it: bytes would be a mask, and small integers are none.

    Raises:
        InputError: an entry that is no place among `N` inputs; below 0 they count from the last.
    """
    places = index.long()
    beyond = (places < -N) | (places >= N)
    if bool(beyond.any()):
        raise InputError(
            f"index is out of range for {N} inputs: it holds {places[beyond][0].item()}; pass "
            f"places 0 .. {N - 1}"
        )
    return places % N


def check_probabilities(name: str, pi: Float[Tensor, "*b C"]) -> None:
    """Raise unless the last dimension holds probabilities of two or more classes."""
    check_dtype(name, pi)
    if not pi.ndim or pi.shape[-1] < 2:
        raise InputError(f"{name} has shape {tuple(pi.shape)}: pass (*b, C), at least 2 classes")
    if not pi.numel():
        raise ShapeError(f"{name} is empty: it has shape {tuple(pi.shape)}; pass rows")
    check_finite(name, pi)
    if bool((pi < 0).any()):
        raise InputError(f"{name} has an entry {pi.min().item():.6g}: pass probabilities >= 0")
    off = (pi.sum(-1) - 1).abs().max().item()
    if off > 1e3 * torch.finfo(pi.dtype).eps:
        raise InputError(f"{name} sums to 1 ± {off:.3g}: divide it by its sum over classes")
