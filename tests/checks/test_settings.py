"""Settings are refused where they are made: by name, with the value and what to pass."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from solvers.bilevel import likelihood
from solvers.data import Dataset, LabelledData
from solvers.errors import InputError
from solvers.families.baselines import advantage
from solvers.families.categorical import Categorical, CategoricalPolicy, draw_counts
from solvers.families.gaussian import GaussianPolicy
from solvers.families.networks import MLP
from solvers.metrics import calibration_error
from solvers.rewards.between_classes import ClassReward, FreeReward, heuristic_scale
from solvers.rewards.bounded import critical_lam
from solvers.rewards.learnable import ConstantReward, InputReward
from solvers.rewards.mahalanobis import MahalanobisReward, isotropic_weight, optimal_reward
from solvers.training import ensemble, inner, streams
from solvers.training.estimators import Pathwise, ScoreFunction
from solvers.training.objectives import NLL, PolicyGradient

pytestmark = pytest.mark.usefixtures("as_users_run")


DATA = Dataset.of(torch.arange(6.0).reshape(3, 2), torch.arange(3.0).reshape(3, 1, 1))
LABELLED = LabelledData.of(torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 0]), 2)
POLICY, CLASSIFIER = GaussianPolicy(2, 1), CategoricalPolicy(2, 2)
ORDER = streams.MemberNoise([streams.generator(0)])


def trained(**settings: Any) -> Any:
    start = POLICY.init([streams.generator(0)])
    known: dict[str, Any] = {"epochs": 1, "learning_rate": 0.1, "batch_ndim": 0}
    return ensemble.train(POLICY, start, NLL(), DATA, **(known | settings))


def classified(**settings: Any) -> Any:
    known: dict[str, Any] = {"epochs": 1, "batch_size": 2, "learning_rate": 0.1, "batch_ndim": 0}
    return ensemble.train(
        CLASSIFIER,
        CLASSIFIER.init([streams.generator(0)]),
        NLL(),
        LABELLED,
        shuffle=ORDER,
        **(known | settings),
    )


COUNTS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "GaussianPolicy inputs": (1, lambda v: GaussianPolicy(v, 2)),
    "GaussianPolicy n": (1, lambda v: GaussianPolicy(2, v)),
    "CategoricalPolicy inputs": (1, lambda v: CategoricalPolicy(v, 2)),
    "CategoricalPolicy classes": (2, lambda v: CategoricalPolicy(2, v)),
    "MLP hidden[1]": (1, lambda v: MLP((3, v))),
    "ConstantReward n": (1, ConstantReward),
    "InputReward inputs": (1, lambda v: InputReward(v, 2, MLP())),
    "InputReward n": (1, lambda v: InputReward(2, v, MLP())),
    "FreeReward inputs": (1, lambda v: FreeReward(v, 2)),
    "FreeReward classes": (2, lambda v: FreeReward(2, v)),
    "ScoreFunction M": (2, ScoreFunction),
    "ScoreFunction without a baseline M": (1, lambda v: ScoreFunction(v, "none")),
    "Pathwise M": (1, Pathwise),
    "ScoreFunction, optimal, M": (1, lambda v: ScoreFunction(v, "optimal")),
    "draw_counts M": (1, lambda v: draw_counts(Categorical(torch.zeros(3, 2)), v, ORDER)),
    "MahalanobisReward.scalar n": (1, lambda v: MahalanobisReward.scalar(1.0, v)),
    "ClassReward.scalar C": (2, lambda v: ClassReward.scalar(1.0, v)),
    "isotropic_weight n": (1, lambda v: isotropic_weight(1.0, v, 1.0)),
    "critical_lam n": (1, lambda v: critical_lam(1.0, 1.0, v)),
    "LabelledData.of C": (2, lambda v: LabelledData.of(LABELLED.x, torch.tensor([0, 1, 0]), v)),
    "calibration_error bins": (
        1,
        lambda v: calibration_error(Categorical(torch.zeros(3, 2)), LABELLED, v),
    ),
    "train epochs": (0, lambda v: trained(epochs=v)),
    "train batch_ndim": (0, lambda v: trained(batch_ndim=v)),
    "train in batches epochs": (0, lambda v: classified(epochs=v)),
    "train batch_size": (1, lambda v: classified(batch_size=v)),
    "generator seed": (0, streams.generator),
    "plug_in rounds": (
        1,
        lambda v: likelihood.plug_in(
            POLICY, POLICY.init([streams.generator(0)]), 1.0, DATA, rounds=v
        ),
    ),
}
NO_COUNTS = [2.5, 2.0, True, "2", None, math.nan, np.float64(2), torch.tensor(2), [2]]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
def test_counts_are_whole_numbers(name: str, value: Any) -> None:
    least, make = COUNTS[name]
    with pytest.raises(InputError) as caught:
        make(value)
    assert str(caught.value).startswith(name.split()[-1] + " is "), caught.value
    assert "pass an int" in str(caught.value)
    with pytest.raises(InputError) as caught:
        make(least - 1)
    assert str(caught.value).startswith(f"{name.split()[-1]} is {least - 1}: pass at least {least}")


def test_samples_are_counted() -> None:
    pi, wrong = torch.tensor([0.5, 0.5]), (1, 2.5, True, "2")
    for bad in cast(tuple[Any, ...], wrong):
        with pytest.raises(InputError, match="samples is "):
            heuristic_scale(pi, 1.0, samples=bad)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, int])
def test_numpy_counts_are_counts(kind: Callable[[int], Any]) -> None:
    assert ScoreFunction(kind(3)).M == 3
    assert MLP((kind(3),)).shapes(2, 1)["weight0"] == (2, 3)
    assert streams.generator(kind(1)).initial_seed() == streams.generator(1).initial_seed()


CHOICES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "GaussianPolicy structure": ("full", lambda v: GaussianPolicy(2, 2, v)),
    "GaussianPolicy positive": ("exp", lambda v: GaussianPolicy(2, 2, positive=v)),
    "GaussianPolicy scale": ("constant", lambda v: GaussianPolicy(2, 2, scale=v)),
    "MLP activation": ("tanh", lambda v: MLP((), v)),
    "ConstantReward kind": ("scalar", lambda v: ConstantReward(2, v)),
    "FreeReward compares": ("outcome", lambda v: FreeReward(2, 2, MLP(), v)),
    "ScoreFunction baseline": ("optimal", lambda v: ScoreFunction(3, v)),
    "advantage baseline": ("mean", lambda v: advantage(torch.zeros(3), v)),
    "optimal_reward structure": ("diagonal", lambda v: optimal_reward(torch.eye(2), 1.0, v)),
    "plug_in estimate": (
        "marginal",
        lambda v: likelihood.plug_in(
            POLICY, POLICY.init([streams.generator(0)]), 1.0, DATA, estimate=v
        ),
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_misspelt_choices(name: str) -> None:
    right, make = CHOICES[name]
    for wrong in (right[:-1], right.upper(), "", None, 1, True, [right]):
        with pytest.raises(InputError) as caught:
            make(wrong)
        assert str(caught.value).startswith(f"{name.split()[-1]} is {wrong!r}"), caught.value
        assert repr(right) in str(caught.value), caught.value
    assert make(right) is not None


@pytest.mark.parametrize(
    ("name", "make"),
    {
        "mean": lambda v: GaussianPolicy(2, 2, mean=v),
        "network": lambda v: CategoricalPolicy(2, 2, v),
        "hidden": MLP,
    }.items(),
)
def test_networks(name: str, make: Callable[[Any], Any]) -> None:
    for wrong in ("MLP", None, 3, [64], torch.nn.Linear(1, 1)):
        with pytest.raises(InputError, match=rf"{name} is .*pass (an MLP|a tuple of (widths|int))"):
            make(wrong)


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "train learning_rate": lambda v: trained(learning_rate=v),
    "train max_norm": lambda v: trained(max_norm=v),
    "train in batches learning_rate": lambda v: classified(learning_rate=v),
    "train weight_decay": lambda v: classified(weight_decay=v),
    "fit weight_decay": lambda v: inner.fit(CLASSIFIER, LABELLED, weight_decay=v),
    "train_on weight_decay": lambda v: inner.fit(
        CLASSIFIER, LABELLED, PolicyGradient(ClassReward.scalar(1.0, 2), 1.0), weight_decay=v
    ),
    "problem weight_decay": lambda v: likelihood.problem(
        CLASSIFIER, FreeReward(2, 2), 1.0, LABELLED, weight_decay=v
    ),
    "plug_in tolerance": lambda v: likelihood.plug_in(
        POLICY, POLICY.init([streams.generator(0)]), 1.0, DATA, tolerance=v
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, "0.1", True, 0.1j, [0.1]], ids=repr)
def test_rates_and_tolerances(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name.split()[-1]} is .*: pass a number"):
        NUMBERS[name](value)


def test_generators_come_in_a_list() -> None:
    alone = cast(Any, streams.generator(0))
    for make in (POLICY.init, CLASSIFIER.init, streams.MemberNoise):
        with pytest.raises(
            InputError, match=r"generators is .*pass a list (with a torch.|of )Generator"
        ):
            make(alone)


def half(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float16)


HALVES: dict[str, Callable[[], Any]] = {
    "x of Dataset": lambda: Dataset.of(half(3, 2), torch.ones(3, 1, 1)),
    "y of Dataset": lambda: Dataset.of(torch.ones(3, 2), half(3, 1, 1)),
    "x of LabelledData": lambda: LabelledData.of(half(3, 2), torch.tensor([0, 1, 0]), 2),
    "pi": lambda: LabelledData.soft(torch.ones(3, 2), half(3, 2) / 2),
    "dtype of a policy": lambda: POLICY.init([streams.generator(0)], dtype=torch.bfloat16),
    "dtype of a classifier": lambda: CLASSIFIER.init([streams.generator(0)], dtype=torch.float16),
    "dtype of zeros": lambda: CLASSIFIER.zeros(torch.float16),
    "dtype of a reward": lambda: FreeReward(2, 2).start(streams.generator(0), torch.float16),
    "Sigma": lambda: optimal_reward(torch.eye(2, dtype=torch.float16), 1.0),
    "cholesky": lambda: MahalanobisReward(half(2, 2)),
    "table": lambda: ClassReward(half(1, 2, 1)),
    "logits": lambda: Categorical(half(3, 2)),
    "integers": lambda: Dataset.of(torch.ones(3, 2, dtype=torch.int64), torch.ones(3, 1, 1)),
    "params": lambda: ensemble.train(
        POLICY,
        {name: p.half() for name, p in POLICY.init([streams.generator(0)]).items()},
        NLL(),
        DATA,
        epochs=1,
        learning_rate=0.1,
        batch_ndim=0,
    ),
    "an array": lambda: Dataset.of(cast(Any, np.ones((3, 2))), torch.ones(3, 1, 1)),
}


@pytest.mark.parametrize("call", HALVES.values(), ids=list(HALVES))
def test_other_precisions_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match=r"pass (float32 or float64|a tensor)"):
        call()


def test_labels_are_integers() -> None:
    x = torch.ones(3, 2)
    wrong = (torch.zeros(3), torch.zeros(3, dtype=torch.bool), [0, 1, 0], np.zeros(3, int))
    for bad in cast(tuple[Any, ...], wrong):
        with pytest.raises(InputError, match=r"labels (is|are) .*pass a tensor of integers 0 .. 1"):
            LabelledData.of(x, bad, 2)
    for kind in (torch.uint8, torch.int16, torch.int64):
        labels = torch.tensor([0, 1, 0], dtype=kind)
        assert torch.equal(LabelledData.of(x, labels, 2).pi, LABELLED.pi)
