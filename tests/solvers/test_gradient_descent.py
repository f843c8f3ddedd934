"""Plain gradient descent of many members: the steps it takes, and what it refuses."""

import pytest
import torch
from torch import Tensor

from solvers.errors import InputError
from solvers.families.law import Params
from solvers.training.ensemble import gradient_descent
from tests.draws import F64

START = {"a": torch.tensor([1.0, -2.0, 0.5], dtype=F64), "b": torch.ones(3, 2, dtype=F64)}


def losses(theta: Params, step: int) -> Tensor:
    return theta["a"] ** 4 / 4 + (theta["b"].square().sum(-1) * theta["a"])


def test_each_member_takes_steps_down_its_own_slope() -> None:
    def descend(start: Params, ndim: int, steps: int) -> dict[str, Tensor]:
        return gradient_descent(start, losses, steps=steps, learning_rate=0.1, batch_ndim=ndim)

    a, b = START["a"], START["b"]
    one = descend(START, 1, 1)
    assert torch.allclose(one["a"], a - 0.1 * (a**3 + b.square().sum(-1)), rtol=1e-14, atol=0)
    assert torch.allclose(one["b"], b - 0.2 * b * a[:, None], rtol=1e-14, atol=0)
    assert torch.equal(START["b"], torch.ones(3, 2, dtype=F64))
    together = descend(START, 1, 5)
    for k in range(3):
        alone = descend({name: value[k] for name, value in START.items()}, 0, 5)
        assert all(torch.equal(alone[name], together[name][k]) for name in START)


def test_it_ends_where_its_observer_says() -> None:
    seen: list[int] = []

    def observe(step: int, theta: Params) -> bool:
        seen.append(step)
        return step == 3

    gradient_descent(START, losses, steps=9, learning_rate=0.1, batch_ndim=1, observe=observe)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("steps", "rate", "ndim", "words"),
    [
        (-1, 0.1, 1, "steps is -1"),
        (2, -0.1, 1, "learning_rate is -0.1"),
        (2, 0.1, -1, "batch_ndim"),
    ],
)
def test_settings_are_refused(steps: int, rate: float, ndim: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        gradient_descent(START, losses, steps=steps, learning_rate=rate, batch_ndim=ndim)
