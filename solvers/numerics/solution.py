"""What a solver found, how far from the solution it is, and why it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Solution(Generic[Value]):
    """What an inner solver found, and how far to trust it.

    Attributes:
        value: the solution.
        converged: whether the accuracy asked for was reached, at a maximum of `J`.
        stationarity: largest absolute entry of the gradient of `J` at `value`, in its units.
        iterations: evaluations of gradients and Hessian-vector products (0 for a closed form).
        distance: how far the maximum is, as the last Newton step `s` predicts: `‖s‖/‖θ‖`,
            `‖x‖² = xᵀ(-∂²J)x` (see `minimise`). Where `s` makes the gradient smaller it is taken,
            and `value` is nearer than that. It has no units: it does not change when `J` is
            multiplied by a number, nor under linear changes of coordinates. 0 at a stationary
            point; infinite where `J` is not concave, or the distance was not measured.
        reason: why the solver stopped, in words.
    """

    value: Value
    converged: bool
    stationarity: float
    iterations: int
    distance: float
    reason: str
