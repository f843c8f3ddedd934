"""Everything frozen can be pickled and copied, and comes back the same."""

import copy
import importlib
import inspect
import pickle
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, partial
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
from solvers.data import Dataset, LabelledData, TwoMoments
from solvers.families.bernoulli import Bernoulli, BernoulliPolicy
from solvers.families.categorical import Categorical, CategoricalPolicy
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.networks import MLP, InputUnits
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
    splits,
    train_controllers,
)
from solvers.training import inner
from solvers.training.estimators import Analytic, Pathwise, ScoreFunction
from solvers.training.objectives import MSE, NLL, BetaNLL, Faithful, PolicyGradient
from solvers.training.reference import Distilled, LogDensity, Reference
from solvers.training.residuals import Residuals
from solvers.training.streams import MemberNoise, generator
from tests.draws import F64, normal

POLICY, CLASSIFIER = GaussianPolicy(2, 2), CategoricalPolicy(2, 3)
RECURRENT = so.RecurrentPolicy(2, 3, 4)


@cache
def data() -> Dataset:
    return Dataset.of(normal(0, 6, 2), normal(1, 6, 3, 2))


@cache
def labelled() -> LabelledData:
    return LabelledData.soft(normal(0, 6, 2), normal(2, 6, 3).softmax(-1))


@cache
def start() -> dict[str, Tensor]:
    return POLICY.init([generator(0)], dtype=F64)


@cache
def reward() -> MahalanobisReward:
    return optimal_reward(data().covariance.mean(0), 0.5)


@cache
def wine() -> splits.Split:
    return classification.split(classification.load("wine"), seed=0)


@cache
def plug_in() -> likelihood.PlugIn:
    return likelihood.plug_in(POLICY, start(), 0.5, data())


@cache
def steps() -> dynamics.Transitions:
    return dynamics.Transitions(
        normal(0, 6, 3),
        normal(1, 6, 2),
        normal(2, 6, 3),
        torch.arange(6) // 2,
        torch.arange(6) % 2,
        torch.arange(6) == 5,
        torch.arange(6) % 2 == 1,
    )


def square(a: Tensor, b: Tensor) -> Tensor:
    return -(a - b).square().sum()


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


EXAMPLES: dict[str, Callable[[], Any]] = {
    "Bilevel": lambda: bilevel.Bilevel(square, square),
    "Bilevel 2": lambda: likelihood.problem(POLICY, ConstantReward(2), 0.5, data(), batch_size=3),
    "Bilevel 3": lambda: likelihood.problem(
        CLASSIFIER, FreeReward(2, 3), 0.5, labelled(), weight_decay=0.1, batch_size=3
    ),
    "Exact": bilevel.Exact,
    "Inexact": lambda: bilevel.Inexact(share=0.1),
    "AdamSteps": lambda: bilevel.AdamSteps(3, 0.1),
    "Transitions": steps,
    "Split": lambda: dynamics.split(steps(), seed=0),
    "Moments": lambda: dynamics.moments([steps()]),
    "Scale": lambda: dynamics.moments([steps()]).action,
    "Controller": lambda: controllers.read("hopper", "simple"),
    "Settings": lambda: train_controllers.SETTINGS["hopper"],
    "Threads": engine.Threads,
    "Processes": engine.Processes,
    "Ray": lambda: engine.Ray("auto", Path("code")),
    "Result": solved,
    "Record": lambda: solved().history[0],
    "BoundedReward": lambda: BoundedReward(0.5),
    "Categorical": lambda: Categorical(normal(0, 4, 3)),
    "Categorical 2": lambda: gibbs(ClassReward.scalar(0.5, 3), 0.5, labelled().pi),
    "LabelledData": labelled,
    "CategoricalPolicy": lambda: CLASSIFIER,
    "ClassReward": lambda: ClassReward.scalar(0.5, 3),
    "OneHotReward": lambda: OneHotReward(ConstantReward(3)),
    "FreeReward": lambda: FreeReward(2, 3, MLP((4,))),
    "Analytic": Analytic,
    "ScoreFunction": lambda: ScoreFunction(3, "optimal"),
    "NLL": NLL,
    "PolicyGradient": lambda: PolicyGradient(ClassReward.scalar(0.5, 3), 0.5),
    "Dataset": data,
    "ScoreFunction 2": lambda: ScoreFunction(3, "none"),
    "Pathwise": lambda: Pathwise(2),
    "Gaussian": lambda: Gaussian(normal(0, 4, 2), normal(1, 4, 2).exp()),
    "Hypergradient": lambda: implicit(
        square, square, torch.ones(2, dtype=F64), torch.ones(2, dtype=F64)
    ),
    "PlugIn": plug_in,
    "Solution": lambda: plug_in().trained,
    "Solution 2": lambda: inner.closed_form(reward(), torch.tensor(0.5, dtype=F64), normal(0, 2)),
    "ConstantReward": lambda: ConstantReward(2, "scalar"),
    "InputReward": lambda: InputReward(2, 2, MLP((3,), "tanh")),
    "InputUnits": lambda: InputUnits.of(normal(0, 9, 2)),
    "TemperedReward": lambda: TemperedReward(InputReward(2, 2, MLP(), "diagonal")),
    "Tempered": lambda: Tempered(normal(0, 6, 2).exp(), 0.5),
    "MSE": MSE,
    "BetaNLL": lambda: BetaNLL(0.3),
    "Faithful": Faithful,
    "DiagonalReward": lambda: DiagonalReward(normal(0, 3, 2).exp()),
    "Learned": lambda: cross_fitted.Learned(
        {"bias0": normal(0, 2)}, True, 0.1, 9, "", normal(1), torch.tensor(3)
    ),
    "PolicyGradient 2": lambda: PolicyGradient(reward(), 0.5, temperature=normal(0, 6).exp()),
    "PolicyGradient 3": lambda: PolicyGradient(reward(), 0.5, ScoreFunction(3)),
    "PolicyGradient 4": lambda: PolicyGradient(BoundedReward(2), 0.5),
    "Reference": lambda: Reference(POLICY, start()),
    "Distilled": lambda: Distilled(data().x, Reference(POLICY, start())),
    "TwoMoments": lambda: TwoMoments(data().mean, data().covariance),
    "Projection": lambda: so.projected_reward(
        data().covariance.mean(0), 0.5, normal(0, 2), Gaussian(normal(1, 2), normal(2, 2).exp())
    ),
    "LogDensity": lambda: LogDensity(Gaussian(normal(0, 4, 2), normal(1, 4, 2).exp())),
    "MLP": lambda: MLP((3, 4), "tanh"),
    "Residuals": lambda: Residuals.of(data(), data()),
    "GaussianPolicy": lambda: GaussianPolicy(2, 2, "diagonal", MLP((3,)), "shared", "softplus"),
    "GaussianPolicy 2": lambda: POLICY,
    "MahalanobisReward": reward,
    "MahalanobisReward 2": lambda: MahalanobisReward.diagonal(normal(0, 3, 2).exp()),
    "MemberNoise": lambda: MemberNoise([generator(0), generator(1)], (2,)),
    "Adam": lambda: optimisers.Adam(0.1),
    "SGD": lambda: optimisers.SGD(0.1),
    "Implicit": lambda: methods.Implicit(methods.Dense()),
    "Dense": methods.Dense,
    "CG": lambda: methods.CG(max_iterations=3),
    "Neumann": lambda: methods.Neumann(0.1),
    "Nystrom": lambda: methods.Nystrom(5, seed=1),
    "Unrolled": lambda: methods.Unrolled(optimisers.SGD(0.1), steps=3),
    "Penalty": lambda: methods.Penalty(10.0),
    "Bernoulli": lambda: Bernoulli(normal(0, 4, 2)),
    "BernoulliPolicy": lambda: BernoulliPolicy(2, 3),
    "RecurrentPolicy": lambda: RECURRENT,
    "CausalPolicy": lambda: so.causal_policy(Next(), 2, V=3, T=4),
    "WindowMatch": lambda: so.WindowMatch(0.5, V=3, k=1),
    "WindowReward": lambda: so.WindowReward(normal(0, 3, 9), V=3),
    "Autoregressive": lambda: windows.inner_solution(so.WindowReward(normal(0, 3, 9), V=3), 0.5),
    "Markov": lambda: windows.markov([normal(0, 1, 3), normal(1, 3, 3)], 1).following,
    "Recurrent": lambda: RECURRENT(RECURRENT.init([generator(0)]), torch.ones(5, 2)).following,
    "ModulePolicy": lambda: so.policy(torch.nn.Linear(2, 1)),
    "MaximumLikelihood": lambda: so.maximum_likelihood(POLICY, ConstantReward(2), data(), lam=0.5),
    "LinearTask": lambda: linear.draw([generator(0)], samples=2),
    "BitsTask": lambda: bits.draw(generator(0), rows=4),
    "GaussianTask": lambda: gaussian.draw([generator(0)], inputs=2, n=2, samples=3, mean=1.0),
    "RegressionTask": lambda: regression.load("linnerud"),
    "ClassificationTask": lambda: classification.load("wine"),
    "Split 2": wine,
    "Part": lambda: wine().train,
}


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
@pytest.mark.parametrize("name", EXAMPLES)
def test_round_trip(name: str, again: Callable[[Any], Any]) -> None:
    value = EXAMPLES[name]()
    assert same(value, again(value))


def test_a_copy_draws_what_the_original_would() -> None:
    noise = MemberNoise([generator(0)])
    again = pickled(noise)
    assert torch.equal(noise.normal((3,), F64), again.normal((3,), F64))


def test_a_copy_trains_like_the_original() -> None:
    problem = likelihood.problem(POLICY, ConstantReward(2), 0.5, data())
    phi = ConstantReward(2).start(torch.eye(2, dtype=F64))
    assert torch.equal(problem.J(start(), phi), pickled(problem).J(start(), phi))


def dataclasses() -> Iterator[type]:
    for info in pkgutil.walk_packages(solvers.__path__, "solvers."):
        for thing in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(thing) and is_dataclass(thing) and thing.__module__ == info.name:
                yield thing


def test_no_public_dataclass_is_left_out() -> None:
    tried = {type(make()) for make in EXAMPLES.values()}
    public = {kind for kind in dataclasses() if not kind.__name__.startswith("_")}
    inside = {
        "Moments",
        "Solve",
        "Nystrom",
        "Coordinates",
        "Leaves",
        "Run",
        "Seen",
        "Stop",
        "Wrapped",  # a distribution of torch, which cannot be compared
        "Found",
        "Piece",
        "Episode",
        "Rollout",
    }  # states of algorithms, not results
    assert {kind.__name__ for kind in public - tried} <= inside
