"""Prints, for every call that warns, whether the warning points at the line of the call.

A script of its own: the suite puts checks of shapes around functions, whose frames lie between.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import solvers as so
from solvers import bilevel
from solvers.hypergradients.functional import functional
from solvers.hypergradients.implicit import implicit
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import one_step, unrolled
from solvers.rewards.bounded import inner_solution

THETA, PHI = torch.ones(2).double(), torch.ones(2).double()  # far from the solution φ/2
X = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
POLICY, DATA = so.GaussianPolicy(1, 1), so.Dataset.pairs(X, X.sin() + X.cos())
STEP = so.SGD(0.01)


def J(theta: Tensor, phi: Tensor) -> Tensor:
    return theta @ phi - theta @ theta


def F(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - 3).square().sum() - phi.square().sum()


def reward_of(phi: Tensor) -> so.MahalanobisReward:
    return so.MahalanobisReward(phi.reshape(1, 1))


def diverging() -> Any:
    objective = so.PolicyGradient(so.MahalanobisReward.scalar(1.0, 1), 0.5)
    start = POLICY.init([so.generator(0)], dtype=torch.float64)
    return so.train(POLICY, start, objective, DATA, epochs=50, learning_rate=1e300, batch_ndim=0)


def whole() -> Any:
    return bilevel.solve(
        so.Bilevel(J, F),
        THETA,
        PHI,
        optimiser=bilevel.lbfgs,
        steps=1,
        hypergradient=so.Unrolled(STEP, 1),
    )


EVERY: dict[str, Callable[[], Any]] = {
    "implicit": lambda: implicit(J, F, THETA, PHI),
    "implicit, by name": lambda: implicit(J=J, F=F, theta=THETA, phi=PHI, method="cg"),
    "unrolled": lambda: unrolled(J, F, THETA, PHI, optimiser=STEP, steps=2),
    "one_step": lambda: one_step(J, F, THETA, PHI, optimiser=STEP),
    "penalty": lambda: penalty(J, F, THETA, PHI, weight=1.0),
    "functional": lambda: functional(POLICY, POLICY.zeros(), reward_of, PHI[:1], 0.5, DATA),
    "Implicit": lambda: so.Implicit()(J, F, THETA, PHI),
    "Implicit, dense": lambda: so.Implicit(so.Dense())(J, F, THETA, PHI),
    "Implicit, cg": lambda: so.Implicit(so.CG())(J, F, THETA, PHI),
    "Implicit, neumann": lambda: so.Implicit(so.Neumann())(J, F, THETA, PHI),
    "Implicit, nystrom": lambda: so.Implicit(so.Nystrom(2))(J, F, THETA, PHI),
    "Unrolled": lambda: so.Unrolled(STEP, steps=2)(J, F, THETA, PHI),
    "Penalty": lambda: so.Penalty(1.0)(J, F, THETA, PHI),
    "solve": whole,
    "train": diverging,
    "bounded": lambda: inner_solution(so.BoundedReward(1.0), 0.01, PHI, 0.1),
}


def missed(call: Callable[[], Any]) -> list[str]:
    """Return where the warnings of a call point that are not in it; that, if it has none."""
    lines, first = inspect.getsourcelines(call)
    within = range(first, first + len(lines))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [
        f"{w.filename}:{w.lineno}"
        for w in caught
        if w.filename != __file__ or w.lineno not in within
    ] or ([] if caught else ["nothing was warned of"])


if __name__ == "__main__":
    json.dump({name: missed(call) for name, call in EVERY.items()}, sys.stdout)
