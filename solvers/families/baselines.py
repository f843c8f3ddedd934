"""Baselines of the score function: what is subtracted from the rewards of a group."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..errors import InputError, ShapeError, check_choice, check_count

GroupBaseline = Literal["none", "minimum", "mean", "leave-one-out", "standardised"]
OptimalBaseline = Literal["optimal", "optimal-per-outcome"]
Baseline = GroupBaseline | OptimalBaseline
ROUNDING = 8.0  # in units of eps: rewards of a group that are nearer, relative to them, are equal
BASELINES = (*get_args(GroupBaseline), *get_args(OptimalBaseline))


def check_generations(M: object, baseline: str) -> None:
    """Raise `InputError` unless `M` counts the generations of a group that has this baseline."""
    check_count("M", M)
    if baseline in ("leave-one-out", "standardised") and M == 1:
        raise InputError(f"M is 1: pass at least 2 for {baseline!r}")


def check_group(baseline: Baseline, law: str) -> None:
    """Raise `InputError` unless the baseline needs to know nothing about the law."""
    if baseline not in get_args(GroupBaseline):
        raise InputError(
            f"baseline {baseline!r} is not known for {law}: pass one of {get_args(GroupBaseline)}"
        )


@checked
def advantage(
    rewards: Float[Tensor, "*b M"], baseline: Baseline = "leave-one-out"
) -> Float[Tensor, "*b M"]:
    """Return `r_k - b_k` over a group of `M` generations (last dimension).

    `b_k` is 0 ("none"), the group's minimum ("minimum", as published: biased, since the minimum
    depends on every sample), the group's mean ("mean": shrinks the expected gradient by
    `(M-1)/M`), or the mean of the *other* rewards ("leave-one-out": unbiased). "standardised" is
    GRPO's: less the mean, and divided by the group's deviation, so that the scale of the reward
    cancels against the entropy's weight (analysis.reference.group_deviation). It is 0 where all
    rewards of the group are equal up to rounding. (As published 1e-4 is added to the deviation:
    then the scale cancels only where rewards are much larger than that.)

    Raises:
        InputError: leave-one-out or standardised with one generation, or an unknown baseline.

    Source: GRPO: Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open
    Language Models", 2024.
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
    if baseline == "standardised":
        return standardise(rewards, torch.full_like(rewards, 1 / M), M)
    return centred * (M / (M - 1))


def standardise(
    rewards: Float[Tensor, "*b K"], share: Float[Tensor, "*b K"], M: int
) -> Float[Tensor, "*b K"]:
    """Return `(r - r̄)/s` of a group of `M`, of which `share` has each reward; `s² = Σ(r-r̄)²/(M-1)`.

    In units of the largest reward, so that squares neither under- nor overflow. It is 0 where all
    rewards with a share are equal up to rounding.
    """
    rewards = torch.where(share > 0, rewards, 0)
    size = rewards.abs().amax(-1, keepdim=True)
    rewards = rewards / torch.where(size == 0, 1, size)
    centred = rewards - (share * rewards).sum(-1, keepdim=True)
    farthest = torch.where(share > 0, centred.abs(), 0).amax(-1, keepdim=True)
    variance = (share * centred.square()).sum(-1, keepdim=True) * (M / (M - 1))
    equal = farthest <= ROUNDING * torch.finfo(rewards.dtype).eps
    return centred / torch.where(equal, torch.inf, variance.sqrt())
