"""What is returned or passed can be pickled and copied, and is equal afterwards."""

import copy
import pickle
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.bilevel import AdamSteps, Bilevel, Exact, Inexact, Record, Result
from solvers.hypergradients.implicit import Hypergradient
from solvers.numerics.checkpoint import Run
from solvers.numerics.linear_solve import Nystrom, Solve
from solvers.numerics.minimise import Stop
from solvers.numerics.optimisers import SGD, Adam, Moments
from solvers.numerics.solution import Solution

ONE = torch.ones(2, dtype=torch.float64)


def objective(theta: Any, phi: Any) -> Tensor:
    return (theta * phi).sum()


ROW = Record(0, 1.0, 2.0, 3.0, 0.0, None, 4, None, doubts=("why",))
THINGS: tuple[Any, ...] = (
    Solution({"w": ONE}, True, 0.0, 3, 0.0, "the gradient is 0"),
    Stop(False, 1.0, 2, float("inf"), "the budget is spent"),
    Hypergradient({"a": [ONE]}, 0.0, None, 1, None, 0.5, ("why",)),
    ROW,
    Result(ONE, {"a": ONE}, True, (ROW,), "all"),
    Exact(),
    Inexact(),
    AdamSteps(3, 0.1),
    SGD(0.1),
    Adam(0.1, (0.8, 0.9), 1e-6),
    Moments(ONE, 2 * ONE, 3),
    Solve(ONE, 0.0, 1, 1.0),
    Nystrom(ONE[:, None], ONE[:1], 2),
    Run("kind", {"theta": ONE}, {"lr": "0.1"}, {"J": ONE}),
    Bilevel(objective, objective),
)
things = pytest.mark.parametrize("thing", THINGS, ids=lambda thing: type(thing).__name__)


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        same(list(one.values()), list(other.values()))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif hasattr(one, "__dataclass_fields__"):
        for field in fields(one):
            same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


@things
def test_it_pickles(thing: Any) -> None:
    same(pickle.loads(pickle.dumps(thing)), thing)


@things
def test_it_copies(thing: Any) -> None:
    same(copy.deepcopy(thing), thing)
    same(copy.copy(thing), thing)
