"""What outer loops meet far off: lost inner solutions, no numbers, nothing with a slope."""

import math
import warnings
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers.bilevel import lbfgs
from solvers.errors import NonFiniteError
from solvers.hypergradients.implicit import HypergradientWarning
from tests.draws import F64, normal


def bits(seed: int) -> so.Dataset:
    """Bits of 60 inputs, with probabilities that a line through the inputs tells."""
    x = normal(seed, 60, 2)
    drawn = torch.rand(60, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return so.Dataset.pairs(x, (drawn < (x @ normal(seed + 50, 2, 2)).sigmoid()).double())


@pytest.mark.parametrize("seed", [0, 1])
def test_an_inner_solution_is_not_lost_at_a_point_that_is_not_taken(seed: int) -> None:
    """Far off large rewards put all bits on one value, where nothing has a slope to come back."""
    reward = so.InputReward(2, 2, so.MLP(), "diagonal")
    problem = so.maximum_likelihood(so.BernoulliPolicy(2, 2), reward, bits(seed), lam=0.5)
    found = so.solve(problem, seed=0, steps=8)
    F = [row.F for row in found.result.history]
    assert all(after > before for before, after in pairwise(F))
    constant = so.maximum_likelihood(
        so.BernoulliPolicy(2, 2), so.ConstantReward(2, "diagonal"), bits(seed), lam=0.5
    )
    assert F[-1] > so.solve(constant, seed=0).result.history[-1].F - 0.01


def climb(border: float, start: float = 0.0, steps: int = 6) -> float:
    """Return where L-BFGS ends on `(x - 2)⁴ - 40x`, which is not defined from a border on."""
    x = torch.tensor([start], dtype=F64, requires_grad=True)
    optimiser = lbfgs([x])

    def closure() -> float:
        at = x.item()
        if at > start and at >= border:
            raise NonFiniteError(f"F is nan at {at}")
        x.grad = torch.tensor([4 * (at - 2) ** 3 - 40], dtype=F64)
        return (at - 2) ** 4 - 40 * at

    for _ in range(steps):
        optimiser.step(closure)
    return x.item()


def test_a_line_search_turns_back_where_there_are_no_numbers() -> None:
    """Its first steps lead far beyond the minimum."""
    minimum = 2 + 10 ** (1 / 3)
    assert climb(math.inf) == pytest.approx(minimum, abs=1e-6)
    for border in (4.2, 5.0, 30.0):
        assert climb(border) == pytest.approx(minimum, abs=1e-6)


def test_where_no_point_is_better_the_error_is_that_of_the_objective() -> None:
    with pytest.raises(NonFiniteError, match="F is nan at"):
        climb(-math.inf)


def test_where_nothing_has_a_slope_below_the_start_is_no_maximum() -> None:
    """Steps of 30 in log u lead to rewards without weight beside λ: the law is uniform for good."""
    x = normal(0, 60, 2)
    classes = (x @ normal(7, 2, 3)).argmax(-1)
    problem = so.maximum_likelihood(
        so.CategoricalPolicy(2, 3),
        so.OneHotReward(so.ConstantReward(3, "diagonal")),
        so.LabelledData.of(x, classes, 3),
        lam=0.5,
        weight_decay=0.01,
    )

    def adam(tensors: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(tensors, lr=30.0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)
        found = so.solve(problem, seed=0, steps=60, optimiser=adam)
    last, largest = found.stationarity, max(row.hypergradient for row in found.result.history)
    assert last <= 1e-6 * largest
    assert not found.converged
    assert "F has fallen from -" in found.reason
