"""Baselines of the score function: what is subtracted from the rewards of a group."""

from __future__ import annotations

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, ShapeError, check_choice, check_count

GroupBaseline = Literal["none", "minimum", "mean", "leave-one-out"]
OptimalBaseline = Literal["optimal", "optimal-per-outcome"]
Baseline = GroupBaseline | OptimalBaseline
BASELINES = (*get_args(GroupBaseline), *get_args(OptimalBaseline))


def check_generations(M: object, baseline: str) -> None:
    """Raise `InputError` unless `M` counts the generations of a group that has this baseline."""
    check_count("M", M)
    if baseline == "leave-one-out" and M == 1:
        raise InputError(f"M is 1: pass at least 2 for {baseline!r}")


def check_group(baseline: Baseline, law: str) -> None:
    """Raise `InputError` unless the baseline needs to know nothing about the law."""
    if baseline not in get_args(GroupBaseline):
        raise InputError(
            f"baseline {baseline!r} is not known for {law}: pass one of {get_args(GroupBaseline)}"
        )


def advantage(
    rewards: Float[Tensor, "*b M"], baseline: str = "leave-one-out"
) -> Float[Tensor, "*b M"]:
    """Return `r_k - b_k` over a group of `M` generations (last dimension).

    `b_k` is 0 ("none"), the group's minimum ("minimum", as published: biased, since the minimum
    depends on every sample), the group's mean ("mean": shrinks the expected gradient by
    `(M-1)/M`), or the mean of the *other* rewards ("leave-one-out": unbiased).

    Raises:
        InputError: leave-one-out with a single generation, or an unknown baseline.
    """
    check_choice("baseline", baseline, get_args(GroupBaseline))
    if not rewards.ndim or not rewards.shape[-1]:
        raise ShapeError(f"rewards have shape {tuple(rewards.shape)}: pass (*b, M), M >= 1")
    M = rewards.shape[-1]
    if baseline == "none":
        return rewards
    if baseline == "minimum":
        return rewards - rewards.amin(-1, keepdim=True)
    centred = rewards - rewards.mean(-1, keepdim=True)
    if baseline == "mean":
        return centred
    check_generations(M, baseline)
    return centred * (M / (M - 1))
