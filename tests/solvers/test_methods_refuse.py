"""Hypergradients as functions, and drawn tasks, refuse by name what is of another kind."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers.bilevel import cross_fitted
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.hypergradients.differentiable import inner_solution
from solvers.hypergradients.functional import functional
from solvers.hypergradients.implicit import implicit
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import one_step, unrolled
from solvers.tasks import bits, gaussian, linear
from tests.draws import F64

ONE = torch.ones(2, dtype=F64)
SGD = so.SGD(0.1)
METHODS: dict[str, Callable[..., Any]] = {
    "implicit": implicit,
    "unrolled": partial(unrolled, optimiser=SGD, steps=2),
    "one_step": partial(one_step, optimiser=SGD),
    "penalty": partial(penalty, weight=1e3),
}
OTHERS: list[Any] = [None, 3, "J", ONE]


def bowl(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - phi.exp()).square().sum()


POLICY, REWARD = so.GaussianPolicy(2, 2), so.ConstantReward(2)
DATA = so.Dataset.of(torch.eye(2, dtype=F64), torch.eye(2, dtype=F64)[:, None])
INPUTS = so.InputReward(2, 2, so.MLP((3,)), "diagonal")
START = INPUTS.start(so.generator(0))


def reward_of(phi: Any) -> Any:
    return REWARD(phi, DATA.x)


PHI = REWARD.start(torch.eye(2, dtype=F64))
LEVELS: dict[str, Any] = {"J": bowl, "F": bowl, "theta": ONE, "phi": ONE}
IN_OUTPUTS: Callable[..., Any] = functional
GAUSSIAN: Callable[..., Any] = gaussian.draw
FUNCTIONAL: dict[str, Any] = {
    "policy": POLICY, "params": POLICY.zeros(), "reward_of": reward_of, "phi": PHI, "lam": 0.5,
    "data": DATA,
}  # fmt: skip
LEARN: dict[str, Any] = {
    "model": INPUTS, "start": START, "lam": 0.5, "residuals": DATA, "validation": DATA, "steps": 2,
    "learning_rate": 0.1,
}  # fmt: skip
SIZES: dict[str, Any] = {"inputs": 2, "n": 2, "samples": 3, "mean": 0.0}
DRAWN = [so.generator(0)]
CALLS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    *((method, LEVELS) for method in METHODS.values()),
    (inner_solution, {"J": bowl, "theta0": ONE, "phi": ONE}),
    (functional, FUNCTIONAL),
    (cross_fitted.learn, LEARN),
    (gaussian.draw, {"generators": DRAWN} | SIZES),
    (linear.draw, {"generators": DRAWN}),
    (bits.draw, {"generator": so.generator(0)}),
]


@pytest.mark.parametrize(("function", "arguments"), CALLS)
def test_an_argument_of_another_kind_is_refused_by_name(
    function: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    for name in arguments.keys() - {"lam"}:  # which beartype refuses in tests
        for value in (None, "text", [None]):
            with pytest.raises(InputError, match=rf"^{name}\b.*: pass"):
                function(**arguments | {name: value})


@pytest.mark.parametrize("value", OTHERS)
@pytest.mark.parametrize("method", METHODS)
def test_an_objective_that_is_no_function_is_refused(method: str, value: Any) -> None:
    for name in ("J", "F"):
        with pytest.raises(InputError, match=rf"^{name} is a .*: pass a function"):
            METHODS[method](**LEVELS | {name: value})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"tolerance": -1.0}, InputError, "tolerance is -1"),
        ({"tolerance": math.nan}, InputError, "tolerance is nan"),
        ({"theta": ONE * math.nan}, NonFiniteError, r"theta\[0\] is nan"),
        ({"phi": ONE * math.inf}, NonFiniteError, r"phi\[0\] is inf"),
        ({"theta": []}, InputError, "theta holds no tensor"),
        ({"theta": {}}, InputError, "theta holds no tensor"),
        ({"theta": [1.0]}, InputError, r"theta\[0\] is a float"),
        ({"theta": [ONE, ONE.float()]}, InputError, "use one dtype"),
        ({"J": lambda t, p: -((t - p) ** 2)}, ShapeError, "J has shape"),
        ({"F": lambda t, p: t * p}, ShapeError, "F has shape"),
        ({"J": lambda t, p: torch.tensor(1.0)}, InputError, "J does not depend on theta or phi"),
        ({"J": lambda t, p: t.sum() * math.nan}, NonFiniteError, "J is nan|after 0 steps"),
        ({"F": lambda t, p: t.sum() * math.nan}, NonFiniteError, "F is nan"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_bad_arguments_are_named(
    method: str, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        METHODS[method](**LEVELS | change)


def test_a_reward_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"what reward_of returned is 3.*pass a Mahalanobis"):
        IN_OUTPUTS(**FUNCTIONAL | {"reward_of": lambda phi: 3})


@pytest.mark.parametrize("size", [1e3, -1e3])
def test_an_extreme_phi_is_named(size: float) -> None:
    far = {name: torch.full_like(p, size) for name, p in PHI.items()}
    with pytest.raises(InputError, match=rf"phi\['log_diagonal'\]\[0\] = {size:.6g}"):
        IN_OUTPUTS(**FUNCTIONAL | {"phi": far})
    with pytest.raises(NonFiniteError, match=r"phi\[0\] = 1000"):
        inner_solution(bowl, ONE, abs(size) * ONE)


@pytest.mark.parametrize("name", ["inputs", "n", "samples"])
@pytest.mark.parametrize("count", [0, -1])
def test_sizes_of_a_drawn_task_are_counts(name: str, count: int) -> None:
    with pytest.raises(InputError, match=rf"^{name} is {count}: pass at least 1"):
        GAUSSIAN(DRAWN, **SIZES | {name: count})


def test_a_drawn_task_has_generators_and_positive_scales() -> None:
    for draw in (partial(GAUSSIAN, **SIZES), linear.draw):
        with pytest.raises(InputError, match="number of generators is 0"):
            draw([])
    with pytest.raises(InputError, match=r"^scale is -1.0: pass a number > 0"):
        GAUSSIAN(DRAWN, **SIZES, scale=-1.0)
    with pytest.raises(InputError, match=r"^sigma\[0\] is 0.0: pass a number > 0"):
        linear.draw(DRAWN, sigma=[0.0])
    with pytest.raises(InputError, match="sigma has 2 scales, and there are 1 generators"):
        linear.draw(DRAWN, sigma=[1.0, 2.0])
