"""Every solver answers by the same names."""

import importlib
import pkgutil
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

import solvers
import solvers as so
from solvers import bilevel
from solvers.bilevel import cross_fitted
from solvers.bilevel.maximum_likelihood import Found
from solvers.hypergradients.implicit import implicit
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import unrolled
from solvers.numerics.solution import Answer
from solvers.rewards import bounded
from solvers.training import inner
from tests.draws import F64

X = torch.linspace(-1, 1, 8, dtype=F64)[:, None]
DATA = so.Dataset.of(X, (X + torch.sin(9 * X)).unsqueeze(-1))
POLICY, REWARD = so.GaussianPolicy(1, 1), so.MahalanobisReward.scalar(1.0, 1)
START = {name: p.detach() for name, p in POLICY.init([so.generator(0)], dtype=F64).items()}
POINT = torch.zeros(2, dtype=F64)
INPUT = so.InputReward(1, 1, so.MLP((3,), "tanh"), "diagonal")


def square(theta: Any, phi: Any) -> Any:
    return -(theta - phi).square().sum()


def outer(theta: Any, phi: Any) -> Any:
    return -(theta - 1).square().sum() - 0.1 * phi.square().sum()


def sgd(tensors: list[torch.Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(tensors, lr=0.1)


PROBLEM = bilevel.Bilevel(square, outer)
EXACT = so.PolicyGradient(REWARD, 0.5)
SOLVERS: dict[str, Callable[[], Any]] = {
    "closed_form": lambda: so.closed_form(REWARD, 0.5, POINT[:1]),
    "fit": lambda: so.fit(POLICY, DATA),
    "gradient": lambda: inner.gradient(POLICY, START, EXACT, DATA),
    "second_order": lambda: inner.second_order(POLICY, START, EXACT, DATA),
    "bounded": lambda: bounded.inner_solution(so.BoundedReward(20.0), 0.01, POINT[:1], 0.5),
    "implicit": lambda: implicit(square, outer, POINT, POINT),
    "penalty": lambda: penalty(square, outer, POINT, POINT, weight=1e3),
    "unrolled": lambda: unrolled(square, outer, POINT, POINT, optimiser=so.SGD(0.1), steps=50),
    "outer loop": lambda: bilevel.solve(PROBLEM, POINT, POINT, optimiser=sgd, steps=3),
    "single loop": lambda: so.single_loop(
        PROBLEM, POINT, POINT, steps=3, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1
    ),
    "solve": lambda: so.solve(
        so.maximum_likelihood(POLICY, so.ConstantReward(1), DATA, lam=0.5), steps=2
    ),
    "plug_in": lambda: so.plug_in(POLICY, START, 0.5, DATA),
    "cross-fitted": lambda: cross_fitted.learn(
        INPUT, INPUT.start(so.generator(0)), 0.5, DATA, DATA, steps=20, learning_rate=0.01
    ),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_answer_has_the_same_names(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = SOLVERS[name]()
    assert isinstance(found, Answer)
    assert found.value is not None
    assert isinstance(found.converged, bool)
    assert isinstance(found.stationarity, float)
    assert found.stationarity >= 0
    assert isinstance(found.iterations, int)
    assert found.iterations >= 0
    assert found.reason


NAMES = {"value", "converged", "stationarity", "reason", "ended"}
INSIDE = {"Stop", "Solve", "Record"}  # of a search, a linear system, one step: parts of an answer


def test_no_answer_has_names_of_its_own() -> None:
    """Whatever has one of the names has them all."""
    asked = {m for m in vars(Answer) if not m.startswith("_")}
    for info in pkgutil.walk_packages(solvers.__path__, "solvers."):
        for thing in vars(importlib.import_module(info.name)).values():
            if not (isinstance(thing, type) and is_dataclass(thing)):
                continue
            if thing.__name__ in INSIDE or thing.__name__.startswith("_"):
                continue
            if NAMES & {f.name for f in fields(thing)}:
                offered = {f.name for f in fields(thing)} | set(dir(thing))
                assert asked <= offered, thing
    assert asked <= set(dir(Found))


def test_numbers_of_an_outer_loop_are_those_of_its_last_record() -> None:
    found = so.single_loop(
        PROBLEM, POINT, POINT, steps=3, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1
    )
    assert found.iterations == 3
    assert found.stationarity == found.history[-1].hypergradient
    assert found.value is found.phi


def test_a_doubted_hypergradient_has_not_converged() -> None:
    with pytest.warns(so.HypergradientWarning):
        found = implicit(square, outer, POINT + 1, POINT)
    assert not found.converged
    assert "inner gradient is" in found.reason
    sure = implicit(square, outer, POINT, POINT)
    assert sure.converged


def test_every_error_is_a_solver_error_and_one_of_python_s() -> None:
    for info in pkgutil.walk_packages(solvers.__path__, "solvers."):
        for thing in vars(importlib.import_module(info.name)).values():
            if not (isinstance(thing, type) and issubclass(thing, Exception)):
                continue
            if thing.__module__ != info.name or issubclass(thing, Warning):
                continue
            assert issubclass(thing, so.SolverError), thing
            if thing is not so.SolverError:
                assert issubclass(thing, ValueError | ImportError | RuntimeError), thing
