"""A reward that depends on the input, learned from residuals of rows that no mean was trained on.

For a policy that can attain `m* = μ` and `P*(x) = (λ(x)/2) U(x)⁻¹` the outer objective is

    F(φ) = E log N(e; 0, P*_φ(x)),    e = y - m(x) on held-out rows,

and where the mean does not depend on `U` its gradient is the hypergradient. With a mean of a
restricted class it leaves out how the mean answers to `U(x)`, which acts as the weights of least
squares: solve again with residuals of the new mean (`training.objectives.PolicyGradient` trains
it), as iterated feasible least squares does. A network for `U(x)` overfits a fixed set of residuals
within some hundreds of steps: `learn` stops each member where residuals of further rows tell it to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked
from ..data import Dataset
from ..errors import Number, as_number, check_same_n
from ..families.gaussian import Gaussian
from ..numerics.derivatives import slopes
from ..numerics.modes import recording
from ..numerics.norms import largest_entry
from ..numerics.trees import Leaves, flat
from ..rewards.learnable import InputReward, Phi
from ..training.early_stopping import EarlyStopping
from ..training.ensemble import adam


@dataclass(frozen=True)
class Learned:
    """What `learn` found: an `Answer` (see `numerics.solution`) of all members.

    Attributes:
        value: parameters `φ` of the reward, `(*b, ...)`.
        converged: whether no member improved any more: else there were too few steps.
        stationarity: largest absolute entry of `∂F/∂φ` at `value`; not 0, as members are kept where
            validation rows tell them to stop.
        iterations: steps taken.
        reason: why they ended.
        loss: `-F` on the validation rows, `(*b,)`.
        step: at which each member was kept, `(*b,)`.
    """

    value: dict[str, Tensor]
    converged: bool
    stationarity: float
    iterations: int
    reason: str
    loss: Float[Tensor, "*b"]
    step: Tensor


@checked
def inner_law(
    model: InputReward, phi: Phi, lam: Number | Tensor, x: Float[Tensor, "*b N d"]
) -> Gaussian:
    """Return `N(0, (λ/2) U(x)⁻¹)`, the inner solution around its mean, for a diagonal reward."""
    weight = as_number("lam", lam, x)
    u = model.weights(phi, x)
    return Gaussian(torch.zeros_like(u), (weight / (2 * u)).sqrt(), check=False)


@checked
@recording
def learn(
    model: InputReward,
    start: Mapping[str, Tensor],
    lam: Number | Tensor,
    residuals: Dataset,
    validation: Dataset,
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    every: int = 10,
    patience: int = 20,
) -> Learned:
    """Maximise `F(φ) - (ρ/2)‖φ‖²` by Adam, for all members at once, with early stopping.

    Args:
        model: of the kind "diagonal".
        start: parameters `(*b, ...)`, left unchanged.
        lam: entropy weight `λ`, one number. (For a `λ(x)` learn `λ U(x)/λ(x)`.)
        residuals: `e` at inputs of rows on which their mean was not trained, `(*b, N, ...)`.
        validation: the same of further rows, which say when to stop.
        steps: at most so many.
        learning_rate: Adam's.
        weight_decay: `ρ`.
        every: steps from one look at the validation rows to the next.
        patience: looks without an improvement before the end.

    Raises:
        InputError: arguments outside their domain.
        ShapeError: residuals of another dimension than the reward.

    Source: new.
    """
    for name, data in (("residuals", residuals), ("validation", validation)):
        check_same_n(name, data.n, "the reward", model.n)
    Leaves.of("start", dict(start))
    batch = next(iter(start.values())).shape[: residuals.x.ndim - 2]

    def loss(phi: Phi, data: Dataset) -> Tensor:
        return inner_law(model, phi, lam, data.x).cross_entropy(data).mean(-1)

    taken = 0

    def training(phi: Phi, step: int) -> Tensor:
        nonlocal taken
        taken = step
        return loss(phi, residuals)

    stop = EarlyStopping(lambda phi: loss(phi, validation), every=every, patience=patience)
    adam(
        start,
        training,
        steps=steps,
        learning_rate=learning_rate,
        batch_ndim=len(batch),
        weight_decay=weight_decay,
        observe=stop,
    )
    kept = {name: p.requires_grad_() for name, p in stop.best().items()}
    slope = flat(slopes(loss(kept, residuals).sum(), list(kept.values())))
    return Learned(
        {name: p.detach() for name, p in kept.items()},
        stop.ended,
        largest_entry(slope),
        taken,
        f"no member improved for {patience} looks" if stop.ended else f"{steps} steps are taken",
        stop.score,
        stop.step,
    )
