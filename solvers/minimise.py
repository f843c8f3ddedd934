"""Minimisation of a scalar loss in the tensors it depends on, in place.

The methods compare function values, and so stop near the root of the machine precision; `polish`
goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from solvers import linear_solve
from solvers.trees import flat

Method = Callable[[Sequence[Tensor], Callable[[], Tensor], float, int], int]
"""`method(leaves, loss, tolerance, limit)` improves the leaves and returns what it cost."""


def lbfgs(
    leaves: Sequence[Tensor], loss: Callable[[], Tensor], tolerance: float, limit: int
) -> int:
    """Run L-BFGS in place; return the number of evaluations."""
    evaluations = 0

    def closure() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        for leaf in leaves:
            leaf.grad = None
        value = loss()
        value.backward()
        return value

    optimiser = torch.optim.LBFGS(
        leaves,
        max_iter=limit,
        max_eval=limit,
        history_size=20,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    optimiser.step(closure)  # pyright: ignore[reportArgumentType]
    return evaluations


def trust_region(
    leaves: Sequence[Tensor], loss: Callable[[], Tensor], tolerance: float, limit: int
) -> int:
    """Run SciPy's trust-ncg in place; return the number of gradients and products."""
    evaluations, graph = 0, _Graph(leaves, loss)

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal evaluations
        evaluations += 1
        return graph.at(x)

    def product(x: np.ndarray, direction: np.ndarray) -> np.ndarray:
        nonlocal evaluations
        evaluations += 1
        graph.at(x)
        return graph.curve(direction)

    def out_of_budget(intermediate_result: optimize.OptimizeResult) -> None:
        if evaluations >= limit:
            raise StopIteration

    found = optimize.minimize(
        value_and_gradient,
        flat(leaves).detach().double().numpy(),
        jac=True,
        hessp=product,
        method="trust-ncg",
        callback=out_of_budget,
        options={"gtol": tolerance},
    )
    _set(leaves, torch.as_tensor(found.x))
    return evaluations


class _Graph:
    """Value and gradient at the last point, with the gradient's graph kept for products."""

    def __init__(self, leaves: Sequence[Tensor], loss: Callable[[], Tensor]) -> None:
        self.leaves, self.loss = leaves, loss
        self.x: np.ndarray | None = None

    def at(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return value and gradient at `x`."""
        if self.x is None or not np.array_equal(x, self.x):
            self.x = x.copy()
            _set(self.leaves, torch.as_tensor(x))
            self.value = self.loss()
            self.gradient = flat(_slopes(self.value, self.leaves, create_graph=True))
        return self.value.item(), self.gradient.detach().double().numpy()

    def curve(self, direction: np.ndarray) -> np.ndarray:
        """Return the Hessian at the last point times `direction`."""
        along = self.gradient @ torch.as_tensor(direction, dtype=self.gradient.dtype)
        return flat(_slopes(along, self.leaves)).double().numpy()


def polish(
    leaves: Sequence[Tensor], loss: Callable[[], Tensor], tolerance: float, limit: int
) -> tuple[int, float]:
    """Take Newton steps while they shrink the gradient; return their cost and its largest entry.

    Methods that compare function values stop resolving progress once the gradient is about the
    root of the machine precision. Newton steps need no values.
    """

    def largest_gradient() -> float:
        return float(flat(_slopes(loss(), leaves)).abs().amax())

    evaluations, stationarity = 1, largest_gradient()
    while stationarity > tolerance and evaluations < limit:
        before = flat(leaves).detach()
        evaluations += _newton_step(leaves, loss) + 1
        reached = largest_gradient()
        if not reached < stationarity:
            _set(leaves, before)
            break
        stationarity = reached
    return evaluations, stationarity


def _slopes(
    value: Tensor, leaves: Sequence[Tensor], *, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradient of `value` in each leaf; zeros where it does not depend on one."""
    return torch.autograd.grad(
        value, leaves, retain_graph=True, create_graph=create_graph, materialize_grads=True
    )


@torch.no_grad()
def _set(leaves: Sequence[Tensor], vector: Tensor) -> None:
    for leaf, value in zip(leaves, vector.split([leaf.numel() for leaf in leaves]), strict=True):
        leaf.copy_(value.view_as(leaf))


def _newton_step(leaves: Sequence[Tensor], loss: Callable[[], Tensor]) -> int:
    """Add `-H⁻¹g`, by conjugate gradients; return the number of Hessian-vector products."""
    g = flat(_slopes(loss(), leaves, create_graph=True))
    step = linear_solve.cg(
        lambda v: flat(_slopes(g @ v, leaves)),
        -g.detach(),
        tolerance=2e-8,
        max_iterations=2 * len(g),
    )
    _set(leaves, flat(leaves).detach() + step.x)
    return step.iterations
