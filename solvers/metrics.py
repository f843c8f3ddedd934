"""Metrics of classifiers: accuracy and calibration."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from .arguments import checked
from .data import LabelledData
from .errors import ShapeError, check_broadcast, check_count, check_same_classes
from .families.categorical import Categorical, check_logits


@checked
def accuracy(law: Categorical, data: LabelledData) -> Float[Tensor, "*b"]:
    """Return the probability that the most likely class of the law is the outcome.

    Of classes that are equally likely each is taken as often, whatever their order.

    Args:
        law: at the inputs of the data, `(*b, N, C)`.
        data: of `N` inputs; its batch may be smaller.

    Raises:
        ShapeError: a law and data of other inputs or classes.
        NonFiniteError: NaN, or logits that are no law.
    """
    _check_data(law, data)
    return _right(law, data).mean(-1)


@checked
def calibration_error(law: Categorical, data: LabelledData, bins: int = 15) -> Float[Tensor, "*b"]:
    """Return the expected calibration error `Σ_B (n_B/N) |accuracy_B - confidence_B|`.

    Bins `B` are of equal width in the confidence `max_c p(c)`.

    Args:
        law: at the inputs of the data, `(*b, N, C)`.
        data: of `N` inputs; its batch may be smaller.
        bins: how many there are.

    Raises:
        InputError: `bins < 1`.
        ShapeError: a law and data of other inputs or classes.
        NonFiniteError: NaN, or logits that are no law.
    """
    check_count("bins", bins)
    _check_data(law, data)
    confidence = law.p.amax(-1)
    gap = _right(law, data) - confidence
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    sums = gap.new_zeros((*gap.shape[:-1], bins)).scatter_add(-1, bin_of, gap)
    return sums.abs().sum(-1) / gap.shape[-1]


def _check_data(law: Categorical, data: LabelledData) -> None:
    """Raise unless it is a law, of the inputs and classes of the data; it may have more members."""
    check_same_classes("the policy", law.classes, "the data", data.classes)
    here, there = law.logits.shape[:-1], data.pi.shape[:-1]
    if here[-1:] != there[-1:] or len(there) > len(here):
        raise ShapeError(
            f"the policy has logits {tuple(law.logits.shape)}, the data pi {tuple(data.pi.shape)}: "
            f"evaluate the policy at the inputs of the data"
        )
    check_broadcast("the policy", here, "the data", there)
    check_logits(law.logits, "the law's logits")


def _right(law: Categorical, data: LabelledData) -> Float[Tensor, "*b N"]:
    """Return the probability of the most likely class under the data, the mean of several."""
    likeliest = law.logits == law.logits.amax(-1, keepdim=True)
    return (data.pi * likeliest).sum(-1) / likeliest.sum(-1)
