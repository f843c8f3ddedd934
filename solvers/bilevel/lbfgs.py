"""L-BFGS for the outer variables, which torch's own would leave where they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError, check_count
from ..hypergradients.implicit import HypergradientError

SHORT = 1e-8  # of an objective: what a first step should gain


def lbfgs(tensors: list[Tensor], iterations: int = 2) -> torch.optim.Optimizer:
    """Return L-BFGS with a line search, some iterations a step: an `Outer` for smooth problems.

    Torch's own limit of 1.25 evaluations for each iteration would end line searches where they
    have begun, without a step, and the loop would stand still for ever. Its tolerances are
    absolute, and off: when to stop is for the loop to say.
    """
    check_count("iterations", iterations)
    return _LBFGS(
        tensors,
        max_iter=iterations,
        max_eval=50,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )


class _LBFGS(torch.optim.LBFGS):
    """L-BFGS whose first step is not too short to be seen, and that turns back at a border.

    Torch's is along the gradient, of length 1 at most and of that of the gradient where this is
    less: for outer variables of a large unit, whose slopes are small, nothing that a line search
    could tell from rounding. The objective is then taken in units of its gradient. A point at which
    it is not finite, or has no hypergradient, is infinitely bad, so that the line search halves its
    way there.
    """

    def step(self, closure: Callable[[], float]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a step, as torch does.

        Raises:
            NonFiniteError, HypergradientError: where no point that was looked at is better.
        """
        state = self.state[self._params[0]]  # what checkpoints keep
        start = [p.detach().clone() for p in self._params]
        beyond: NonFiniteError | HypergradientError | None = None

        def in_units() -> float:
            nonlocal beyond
            try:
                loss = float(closure())
            except (NonFiniteError, HypergradientError) as error:
                beyond = error
                for p in self._params:
                    p.grad = torch.full_like(p, math.nan)
                return math.inf
            slopes = [p.grad for p in self._params if p.grad is not None]
            if "unit" not in state:
                length = sum(float(g.abs().sum()) for g in slopes)
                short = 0 < length < 1 and length**2 <= SHORT * abs(loss)
                state["unit"] = 1 / length if short else 1.0
            if state["unit"] != 1.0:
                for slope in slopes:
                    slope.mul_(state["unit"])
            return loss * state["unit"]

        found = super().step(in_units)
        if beyond is not None and all(map(torch.equal, self._params, start)):
            raise beyond
        return found
