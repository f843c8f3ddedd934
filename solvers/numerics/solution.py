"""What a solver found, how far from the solution it is, and why it stopped.

Every answer is an `Answer`: the same five names, whatever a solver says beside them. An inner
solver answers with a `Solution`, an outer loop with a `Result` (`Found` of the paper's problem), a
hypergradient is a `Hypergradient`, the plug-in algorithm has a `PlugIn`, cross-fitting a `Learned`.
They are types of their own because what more there is to say differs: a distance, a history,
doubts. Not answers are plain values: of closed forms that are exact by construction (`gibbs`), of
trainings that take the steps they are told to (`train`), of `differentiable.inner_solution`, which
autograd goes through; and, inside the searches, `minimise.Stop` and `linear_solve.Solve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

Value = TypeVar("Value")


@runtime_checkable
class Answer(Protocol):
    """What all solvers answer with."""

    @property
    def value(self) -> Any:
        """What was looked for: a law, parameters, a gradient."""
        ...

    @property
    def converged(self) -> bool:
        """Whether it is what was asked for, to the accuracy asked for."""
        ...

    @property
    def stationarity(self) -> float:
        """Size of the gradient that is 0 at a solution, in its units."""
        ...

    @property
    def iterations(self) -> int:
        """What it cost, in the unit of the solver: evaluations, products or steps."""
        ...

    @property
    def reason(self) -> str:
        """Why the solver stopped, in words."""
        ...


@dataclass(frozen=True)
class Solution(Generic[Value]):
    """What an inner solver found, and how far to trust it.

    Attributes:
        value: the solution.
        converged: whether the accuracy asked for was reached, at a maximum of `J`.
        stationarity: largest absolute entry of the gradient of `J` at `value`, in its units.
        iterations: evaluations of gradients and Hessian-vector products (0 for a closed form).
        distance: how far the maximum is, as the last Newton step `s` predicts: `‖s‖/‖θ‖`,
            `‖x‖² = xᵀ(-∂²J)x` (see `minimise`); of a policy gradient or a likelihood `‖s‖/√λ`, the
            distance between laws, in root nats. Where `s` makes the gradient smaller it is taken,
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
