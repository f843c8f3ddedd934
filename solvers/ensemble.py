"""Train many members (seed x λ x reward) in one batched run.

Losses come back per member and their sum is differentiated; Adam is elementwise and clipping is
per member, so a member's trajectory does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solvers.data import Dataset
from solvers.errors import InputError
from solvers.estimators import NoiseSource
from solvers.objectives import Objective
from solvers.policies import GaussianPolicy, Params


def clip_per_member(gradients: list[Tensor], max_norm: float, batch_ndim: int) -> None:
    """Scale each member's gradient, in place, to a norm of at most `max_norm`."""
    squares = [g.flatten(batch_ndim).square().sum(-1) for g in gradients]
    norm = torch.stack(squares).sum(0).sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor.reshape(factor.shape + (1,) * (g.ndim - batch_ndim)))


def _keep_freed_memory() -> None:
    """Have glibc's allocator keep freed blocks of up to 31 MiB for the next epoch.

    It maps and unmaps large temporaries anew each time until it has seen a block of their size
    freed: a third of the time of a training went into page faults. Without effect elsewhere.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def train(
    policy: GaussianPolicy,
    params: Params,
    objective: Objective,
    data: Dataset,
    *,
    epochs: int,
    learning_rate: float,
    batch_ndim: int,
    noise: NoiseSource | None = None,
    max_norm: float | None = None,
    observe: Callable[[int, Params], None] | None = None,
) -> dict[str, Tensor]:
    """Run full-batch Adam on every member at once.

    Args:
        policy: the policy, shared by all members.
        params: starting points `(*b, ...)`; left unchanged.
        objective: one loss per member.
        data: data whose batch dimensions broadcast with `*b`.
        epochs: number of updates.
        learning_rate: Adam's.
        batch_ndim: number of batch dimensions, `len(b)`.
        noise: noise of the members, for sampled estimators.
        max_norm: clip each member's gradient to this norm.
        observe: called as `observe(epoch, params)` after each update, epochs counted from 1.

    Returns:
        The trained parameters, detached.
    """
    if epochs < 0:
        raise InputError(f"epochs is {epochs}: pass 0 or more")
    _keep_freed_memory()
    theta = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    leaves = list(theta.values())
    optimiser = torch.optim.Adam(leaves, lr=learning_rate, fused=True)
    for epoch in range(1, epochs + 1):
        optimiser.zero_grad()
        objective(policy(theta, data.x), data, noise).sum().backward()
        if max_norm is not None:
            clip_per_member([p.grad for p in leaves if p.grad is not None], max_norm, batch_ndim)
        optimiser.step()
        if observe is not None:
            with torch.no_grad():
                observe(epoch, theta)
    return {name: p.detach() for name, p in theta.items()}
