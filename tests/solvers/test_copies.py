"""Everything frozen can be pickled and copied, and comes back the same."""

import copy
import importlib
import inspect
import pickle
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import solvers
import solvers as so
from solvers import bilevel, engine
from solvers.bilevel import cross_fitted, likelihood
from solvers.data import Dataset, LabelledData
from solvers.families.bernoulli import Bernoulli, BernoulliPolicy
from solvers.families.categorical import Categorical, CategoricalPolicy
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.networks import MLP
from solvers.hypergradients import methods
from solvers.hypergradients.implicit import implicit
from solvers.numerics import optimisers
from solvers.rewards import windows
from solvers.rewards.between_classes import ClassReward, FreeReward, OneHotReward, gibbs
from solvers.rewards.bounded import BoundedReward
from solvers.rewards.learnable import ConstantReward, InputReward
from solvers.rewards.mahalanobis import DiagonalReward, MahalanobisReward, optimal_reward
from solvers.rewards.tempered import Tempered, TemperedReward
from solvers.tasks import (
    bits,
    classification,
    controllers,
    dynamics,
    gaussian,
    linear,
    regression,
    train_controllers,
)
from solvers.training import inner
from solvers.training.estimators import Analytic, Pathwise, ScoreFunction
from solvers.training.objectives import MSE, NLL, BetaNLL, Faithful, PolicyGradient
from solvers.training.reference import LogDensity, Reference
from solvers.training.streams import MemberNoise, generator

F64 = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


DATA = Dataset.of(normal(0, 6, 2), normal(1, 6, 3, 2))
LABELLED = LabelledData.soft(normal(0, 6, 2), normal(2, 6, 3).softmax(-1))
POLICY, CLASSIFIER = GaussianPolicy(2, 2), CategoricalPolicy(2, 3)
START = POLICY.init([generator(0)], dtype=F64)
REWARD = optimal_reward(DATA.covariance.mean(0), 0.5)
GAUSSIAN = gaussian.draw([generator(0)], inputs=2, n=2, samples=3, mean=1.0)
WINE = classification.load("wine")
SPLIT = classification.split(WINE, seed=0)
PLUG_IN = likelihood.plug_in(POLICY, START, 0.5, DATA)


def square(a: Tensor, b: Tensor) -> Tensor:
    return -(a - b).square().sum()


STEPS = dynamics.Transitions(
    normal(0, 6, 3),
    normal(1, 6, 2),
    normal(2, 6, 3),
    torch.arange(6) // 2,
    torch.arange(6) % 2,
    torch.arange(6) == 5,
    torch.arange(6) % 2 == 1,
)


class Next(torch.nn.Module):
    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(before, 4)[..., :3].to(x)


def solved() -> bilevel.Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bilevel.solve(
            bilevel.Bilevel(square, square), normal(0, 2), normal(1, 2), optimiser=sgd, steps=2
        )


def sgd(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(tensors, lr=0.1)


EXAMPLES: list[Any] = [
    bilevel.Bilevel(square, square),
    likelihood.problem(POLICY, ConstantReward(2), 0.5, DATA, batch_size=3),
    likelihood.problem(CLASSIFIER, FreeReward(2, 3), 0.5, LABELLED, weight_decay=0.1, batch_size=3),
    bilevel.Exact(),
    bilevel.Inexact(share=0.1),
    bilevel.AdamSteps(3, 0.1),
    STEPS,
    dynamics.split(STEPS, seed=0),
    dynamics.moments([STEPS]),
    dynamics.moments([STEPS]).action,
    controllers.read("hopper", "simple"),
    train_controllers.SETTINGS["hopper"],
    engine.Threads(),
    engine.Processes(),
    engine.Ray("auto", Path("code")),
    solved(),
    solved().history[0],
    BoundedReward(0.5),
    Categorical(normal(0, 4, 3)),
    gibbs(ClassReward.scalar(0.5, 3), 0.5, LABELLED.pi),
    LABELLED,
    CLASSIFIER,
    ClassReward.scalar(0.5, 3),
    OneHotReward(ConstantReward(3)),
    FreeReward(2, 3, MLP((4,))),
    Analytic(),
    ScoreFunction(3, "optimal"),
    NLL(),
    PolicyGradient(ClassReward.scalar(0.5, 3), 0.5),
    DATA,
    ScoreFunction(3, "none"),
    Pathwise(2),
    Analytic(),
    Gaussian(normal(0, 4, 2), normal(1, 4, 2).exp()),
    implicit(square, square, torch.ones(2, dtype=F64), torch.ones(2, dtype=F64)),
    PLUG_IN,
    PLUG_IN.trained,
    inner.closed_form(REWARD, torch.tensor(0.5, dtype=F64), normal(0, 2)),
    ConstantReward(2, "scalar"),
    InputReward(2, 2, MLP((3,), "tanh")),
    TemperedReward(InputReward(2, 2, MLP(), "diagonal")),
    Tempered(normal(0, 6, 2).exp(), 0.5),
    NLL(),
    MSE(),
    BetaNLL(0.3),
    Faithful(),
    DiagonalReward(normal(0, 3, 2).exp()),
    cross_fitted.Learned({"bias0": normal(0, 2)}, normal(1), torch.tensor(3), True),
    PolicyGradient(REWARD, 0.5, temperature=normal(0, 6).exp()),
    PolicyGradient(REWARD, 0.5, ScoreFunction(3)),
    PolicyGradient(BoundedReward(2), 0.5),
    Reference(POLICY, START),
    so.projected_reward(
        DATA.covariance.mean(0), 0.5, normal(0, 2), Gaussian(normal(1, 2), normal(2, 2).exp())
    ),
    LogDensity(Gaussian(normal(0, 4, 2), normal(1, 4, 2).exp())),
    MLP((3, 4), "tanh"),
    GaussianPolicy(2, 2, "diagonal", MLP((3,)), "shared", "softplus"),
    POLICY,
    REWARD,
    MahalanobisReward.diagonal(normal(0, 3, 2).exp()),
    MemberNoise([generator(0), generator(1)], (2,)),
    optimisers.Adam(0.1),
    optimisers.SGD(0.1),
    methods.Implicit(methods.Dense()),
    methods.Dense(),
    methods.CG(max_iterations=3),
    methods.Neumann(0.1),
    methods.Nystrom(5, seed=1),
    methods.Unrolled(optimisers.SGD(0.1), steps=3),
    methods.Penalty(10.0),
    Bernoulli(normal(0, 4, 2)),
    BernoulliPolicy(2, 3),
    so.RecurrentPolicy(2, 3, 4),
    so.causal_policy(Next(), 2, V=3, T=4),
    so.WindowMatch(0.5, V=3, k=1),
    so.WindowReward(normal(0, 3, 9), V=3),
    windows.inner_solution(so.WindowReward(normal(0, 3, 9), V=3), 0.5),
    so.policy(torch.nn.Linear(2, 1)),
    so.maximum_likelihood(POLICY, ConstantReward(2), DATA, lam=0.5),
    linear.draw([generator(0)], samples=2),
    bits.draw(generator(0), rows=4),
    GAUSSIAN,
    regression.load("linnerud"),
    WINE,
    SPLIT,
    SPLIT.train,
]


def same(a: Any, b: Any) -> bool:
    """Whether two objects are of one type and hold the same, tensors to the last bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.requires_grad == b.requires_grad and torch.equal(a, b)
    if isinstance(a, torch.Generator):
        return torch.equal(a.get_state(), b.get_state())
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(map(same, a, b))
    if inspect.ismethod(a):
        return a.__func__ is b.__func__ and same(a.__self__, b.__self__)
    if isinstance(a, partial):
        return same(a.func, b.func) and same(a.args, b.args)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and bool((a == b).all())
    if isinstance(a, torch.nn.Module):
        return same(a.state_dict(), b.state_dict())
    if isinstance(a, pd.DataFrame):
        return bool(pd.DataFrame.equals(a, b))
    return bool(a == b)


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("again", [pickled, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("value", EXAMPLES, ids=[type(e).__name__ for e in EXAMPLES])
def test_round_trip(value: Any, again: Callable[[Any], Any]) -> None:
    assert same(value, again(value))


def test_a_copy_draws_what_the_original_would() -> None:
    noise = MemberNoise([generator(0)])
    again = pickled(noise)
    assert torch.equal(noise.normal((3,), F64), again.normal((3,), F64))


def test_a_copy_trains_like_the_original() -> None:
    problem = likelihood.problem(POLICY, ConstantReward(2), 0.5, DATA)
    phi = ConstantReward(2).start(torch.eye(2, dtype=F64))
    assert torch.equal(problem.J(START, phi), pickled(problem).J(START, phi))


def dataclasses() -> Iterator[type]:
    for info in pkgutil.walk_packages(solvers.__path__, "solvers."):
        for thing in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(thing) and is_dataclass(thing) and thing.__module__ == info.name:
                yield thing


def test_no_public_dataclass_is_left_out() -> None:
    tried = {type(example) for example in EXAMPLES}
    public = {kind for kind in dataclasses() if not kind.__name__.startswith("_")}
    inside = {
        "Moments",
        "Solve",
        "Nystrom",
        "Leaves",
        "Run",
        "Stop",
        "Wrapped",  # a distribution of torch, which cannot be compared
        "Found",
        "Piece",
        "Episode",
        "Rollout",
    }  # states of algorithms, not results
    assert {kind.__name__ for kind in public - tried} <= inside
