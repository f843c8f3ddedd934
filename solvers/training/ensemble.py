"""Train many members (seed x λ x reward) in one batched run.

Losses come back per member and their sum is differentiated; Adam is elementwise and clipping is
per member, so a member's trajectory does not depend on its neighbours. A member that diverges goes
on alone, to NaN, which its parameters show; a warning says so where none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..arguments import checked
from ..errors import InputError, NonFiniteError, ShapeError, check_count, check_number, warn
from ..families.law import Data, Noise, Params, Policy
from ..numerics.modes import recording
from ..numerics.trees import Leaves
from ..numerics.values import check_depends, real
from .objectives import ByRows, Objective
from .streams import MemberNoise

SMALLER = "pass max_norm, or a loss in smaller units"
Make = Callable[[list[Tensor]], torch.optim.Optimizer]
"""From tensors to the optimiser that moves them."""


class DivergenceWarning(UserWarning):
    """All members of a training have diverged: their parameters are not finite."""


def clip_per_member(gradients: list[Tensor], max_norm: float, batch_ndim: int) -> None:
    """Scale each member's gradient, in place, to a norm of at most `max_norm`.

    Norms are taken in units of the largest entry, whose square neither over- nor underflows.
    """
    rows = [_rows(g, batch_ndim) for g in gradients]
    largest = torch.stack([row.abs().amax(-1) for row in rows]).amax(0)
    unit = torch.where(largest > 0, largest, 1.0)
    squares = [(row / unit.unsqueeze(-1)).square().sum(-1) for row in rows]
    norm = torch.stack(squares).sum(0).sqrt()  # at least 1, or 0
    factor = torch.where(norm > 0, (float(max_norm) / unit) / norm, 1.0).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor.reshape(factor.shape + (1,) * (g.ndim - batch_ndim)))


def _rows(t: Tensor, batch_ndim: int) -> Float[Tensor, "*b d"]:
    """Return the entries of each member in a row: one, where it has no dimension of its own."""
    return t.unsqueeze(-1).flatten(batch_ndim)


def _keep_freed_memory() -> None:
    """Have glibc's allocator keep freed blocks of up to 31 MiB for the next epoch.

    It maps and unmaps large temporaries anew each time until it has seen a block of their size
    freed: a third of the time of a training went into page faults. Without effect elsewhere.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


@checked
@recording
def train(
    policy: Policy,
    params: Params,
    objective: Objective,
    data: Data,
    *,
    epochs: int,
    learning_rate: float,
    batch_ndim: int,
    batch_size: int | None = None,
    shuffle: MemberNoise | None = None,
    noise: Noise | None = None,
    max_norm: float | None = None,
    weight_decay: float = 0.0,
    observe: Callable[[int, Params], object] | None = None,
) -> dict[str, Tensor]:
    """Run Adam on every member at once, on all data or on batches of them.

    Args:
        policy: the policy, shared by all members.
        params: starting points `(*b, ...)`; left unchanged. Frozen ones (see `trees.Leaves`) stay
            as they are.
        objective: one loss per member. With batches, one that has `rows(index)` is asked for the
            loss at the inputs of a batch, as `PolicyGradient` does where the reward depends on the
            input.
        data: data whose batch dimensions broadcast with `*b`; none of them with batches.
        epochs: number of passes over the data.
        learning_rate: Adam's.
        batch_ndim: number of batch dimensions, `len(b)`.
        batch_size: inputs per batch, drawn anew each epoch without replacement; the last batch of
            an epoch may be smaller. All data at once if not given.
        shuffle: the order of the data, an own one for every member or, with `batch = ()`, one for
            all: several times faster, because then a batch is one matrix product.
        noise: noise of the members, for sampled estimators.
        max_norm: clip the gradient of each member's loss to this norm.
        weight_decay: `ρ` of a penalty `(ρ/2)‖θ‖²` on every member, whose gradient Adam adds to the
            clipped one.
        observe: called as `observe(epoch, params)` after each epoch, counted from 1, with copies;
            training ends where it returns True (see `early_stopping`).

    Returns:
        The trained parameters, detached.

    Raises:
        InputError: a setting out of its range, batches without an order, parameters in half
            precision, or an objective that does not return real numbers computed from them.
        ShapeError: parameters of fewer than `batch_ndim` dimensions or of different members, or an
            objective that does not return one loss per member, `(*b,)`: a reward, `lam` or data of
            other members.
        NonFiniteError: a first loss that is NaN or infinite, or a first gradient whose square is
            beyond the dtype: Adam would not move. The message names the members.

    Warns:
        DivergenceWarning: all members end at parameters that are not finite. Of some, which may be
            what is looked for, their own parameters say so. Or squares of gradients have become too
            large for the dtype, after which Adam does not move.

    Adam's steps are of the size of `learning_rate` where gradients are larger than its `1e-8`: a
    loss in very small units is to be multiplied.
    """
    make = _adam(learning_rate, weight_decay, max_norm)
    check_count("epochs", epochs, 0)
    N = data.x.shape[-2]
    if batch_size is None:
        batches_per_epoch = 1
        if shuffle is not None:
            raise InputError("batch_size is None: pass an int, or leave shuffle out")
    else:
        check_count("batch_size", batch_size)
        batch_size = int(batch_size)  # which of NumPy's integers torch does not take
        batches_per_epoch = -(-N // batch_size)
        if shuffle is None:
            raise InputError(
                "batch_size without shuffle: pass shuffle=MemberNoise([generator]), the order of "
                "the data"
            )
    batches: list[Tensor] = []
    by_rows = objective if isinstance(objective, ByRows) else None

    def losses(theta: Params, step: int) -> Tensor:
        if batch_size is None or shuffle is None:
            return objective(policy(theta, data.x), data, noise)
        if (step - 1) % batches_per_epoch == 0:
            batches[:] = shuffle.permutation(N).split(batch_size, -1)
        rows = batches[(step - 1) % batches_per_epoch]
        batch = data.rows(rows)
        here = objective if by_rows is None else by_rows.rows(rows)
        return here(policy(theta, batch.x), batch, noise)

    def after(step: int, theta: Params) -> object:
        if observe is not None and step % batches_per_epoch == 0:
            return observe(step // batches_per_epoch, theta)
        return None

    steps = epochs * batches_per_epoch
    return _descend(make, params, losses, steps, batch_ndim, max_norm, after)


@checked
@recording
def adam(
    params: Params,
    losses: Callable[[Params, int], Float[Tensor, "*b"]],
    *,
    steps: int,
    learning_rate: float,
    batch_ndim: int,
    max_norm: float | None = None,
    weight_decay: float = 0.0,
    observe: Callable[[int, Params], object] | None = None,
) -> dict[str, Tensor]:
    """Minimise `losses(params, step)`, one per member; arguments as for `train`.

    Frozen parameters (see `trees.Leaves`) stay as they are. Errors and warnings are those of
    `train`.
    """
    make = _adam(learning_rate, weight_decay, max_norm)
    return _descend(make, params, losses, steps, batch_ndim, max_norm, observe)


def _adam(learning_rate: float, weight_decay: float, max_norm: float | None) -> Make:
    """Check settings of Adam; return what makes it."""
    lr = check_number("learning_rate", learning_rate, 0.0)
    rho = check_number("weight_decay", weight_decay, 0.0)
    if max_norm is not None:
        check_number("max_norm", max_norm, 0.0)

    def make(leaves: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(leaves, lr=lr, weight_decay=rho, fused=True)

    return make


@checked
@recording
def gradient_descent(
    params: Params,
    losses: Callable[[Params, int], Float[Tensor, "*b"]],
    *,
    steps: int,
    learning_rate: float,
    batch_ndim: int,
    observe: Callable[[int, Params], object] | None = None,
) -> dict[str, Tensor]:
    """Minimise as `adam` does, by plain steps `θ - η ∇`: the gradient flow, as `η -> 0`.

    Source: its limits of stability are new (analysis.dynamics.inner_flow).
    """
    lr = check_number("learning_rate", learning_rate, 0.0)

    def make(leaves: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(leaves, lr=lr)

    return _descend(make, params, losses, steps, batch_ndim, None, observe)


def _descend(
    make: Make,
    params: Params,
    losses: Callable[[Params, int], Float[Tensor, "*b"]],
    steps: int,
    batch_ndim: int,
    max_norm: float | None,
    observe: Callable[[int, Params], object] | None,
) -> dict[str, Tensor]:
    """Minimise by the optimiser that `make` returns for copies of the parameters."""
    check_count("steps", steps, 0)
    check_count("batch_ndim", batch_ndim, 0)
    varying = Leaves.of("params", dict(params)).fresh()
    members = _members(varying, batch_ndim)
    _keep_freed_memory()
    theta, leaves = varying.tree(), list(varying.tensors)
    optimiser = make(leaves)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        loss = losses(theta, step)
        total = _sum(loss, members)
        if step == 1:
            _check_first(loss.detach())
        total.backward(inputs=leaves)  # and into nothing else that the losses are made of
        if max_norm is not None:
            clip_per_member([p.grad for p in leaves if p.grad is not None], max_norm, batch_ndim)
        optimiser.step()
        if step == 1:
            _check_steps(_stuck(optimiser, leaves, batch_ndim))
        if observe is not None:
            with torch.no_grad():
                copies = {name: p.detach().clone() for name, p in theta.items()}
                if _is_true(observe(step, copies)):
                    break
    with torch.no_grad():
        _warn_of_steps(_stuck(optimiser, leaves, batch_ndim))
        bad = [~torch.isfinite(_rows(p, batch_ndim)).all(-1) for p in leaves]
        _warn_of(torch.stack(bad).any(0))
    return {name: p.detach() for name, p in theta.items()}


def _members(leaves: Leaves, batch_ndim: int) -> torch.Size:
    """Return the members' batch shape `*b`.

    Raises:
        ShapeError: parameters without it, or of different members.
    """
    members = leaves.tensors[0].shape[:batch_ndim]
    for name, p in zip(leaves.names, leaves.tensors, strict=True):
        if p.ndim < batch_ndim:
            raise ShapeError(
                f"{name} has shape {tuple(p.shape)}, and batch_ndim is {batch_ndim}: "
                f"pass parameters (*b, ...), or batch_ndim=0 for a single member"
            )
        if p.shape[:batch_ndim] != members:
            raise ShapeError(
                f"{name} is of members {tuple(p.shape[:batch_ndim])}, {leaves.names[0]} of "
                f"{tuple(members)}: pass parameters (*b, ...) of the same members"
            )
    return members


def _sum(loss: Any, members: torch.Size) -> Tensor:
    """Return the sum of what a loss function returned, if that is one real number per member."""
    found = real("the loss", loss)
    if found.shape != members:
        raise ShapeError(
            f"the loss has shape {tuple(found.shape)}, the members {tuple(members)}: return one "
            f"number per member (lam, reward and data have the members' dimensions, or none)"
        )
    check_depends("the loss", found, "the parameters")
    return found.sum()


def _check_first(loss: Float[Tensor, "*b"]) -> None:
    """Raise `NonFiniteError` unless every member starts where its loss is finite."""
    bad = ~torch.isfinite(loss)
    if bool(bad.any()):
        raise NonFiniteError(
            f"the loss is {loss[bad][0].item()} at the start{_of(bad)}: pass data, rewards and "
            f"params at which it is finite"
        )


def _stuck(
    optimiser: torch.optim.Optimizer, leaves: Sequence[Tensor], batch_ndim: int
) -> Bool[Tensor, "*b"]:
    """Return the members whose parameters are finite, but what steps are divided by is not."""
    members = []
    for p in leaves:
        squares = optimiser.state.get(p, {}).get("exp_avg_sq", torch.zeros_like(p))
        rows = torch.isinf(_rows(squares, batch_ndim)) & torch.isfinite(_rows(p, batch_ndim))
        members.append(rows.any(-1))
    return torch.stack(members).any(0)


def _check_steps(stuck: Bool[Tensor, "*b"]) -> None:
    """Raise `NonFiniteError` where the first step is 0 because of a gradient too large."""
    if bool(stuck.any()):
        raise NonFiniteError(
            f"the square of the gradient{_of(stuck)} is infinite at the start: {SMALLER}"
        )


def _warn_of_steps(stuck: Bool[Tensor, "*b"]) -> None:
    if bool(stuck.any()):
        warn(
            f"squares of gradients{_of(stuck)} have become infinite, and Adam stood still since: "
            f"{SMALLER}",
            DivergenceWarning,
        )


def _is_true(found: object) -> bool:
    """Whether a function has returned True: Python's, NumPy's or torch's, but no other number."""
    if isinstance(found, Tensor):
        return found.dtype == torch.bool and found.ndim == 0 and bool(found)
    return isinstance(found, (bool, np.bool_)) and bool(found)


def _warn_of(bad: Bool[Tensor, "*b"]) -> None:
    """Warn where the parameters of no member are finite."""
    if bool(bad.all()):
        warn(
            f"the trained parameters{_of(bad)} are not finite: training diverged, pass a smaller "
            f"learning_rate, or max_norm",
            DivergenceWarning,
        )


def _of(bad: Bool[Tensor, "*b"], most: int = 5) -> str:
    """Return which members of an ensemble are meant, in words."""
    if not bad.ndim:
        return ""
    places = [str(place) for place in bad.nonzero()[:most].tolist()]
    more = ", ..." if int(bad.sum()) > most else ""
    return f" of {int(bad.sum())} of {bad.numel()} members ({', '.join(places)}{more})"
