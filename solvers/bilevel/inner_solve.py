"""Solves of the inner problem at a fixed `φ`, each as accurate as the outer step needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import checked_class
from ..errors import check_count, check_number
from ..numerics import minimise
from ..numerics.derivatives import slopes
from ..numerics.norms import largest_entry
from ..numerics.solution import Solution
from ..numerics.trees import Leaves, Tree, flat
from ..numerics.values import check_depends, number
from .problem import Bilevel, inner_objective


@checked_class
@dataclass(frozen=True)
class Inexact:
    """Inner solves as accurate as an outer step needs, with bounded work: right for networks.

    Every solve starts from the last solution. Up to `minimise.DENSE` inner parameters Newton steps,
    where they converge, go on to `tolerance`: a small concave problem is solved exactly. Elsewhere
    the search ends when the error in `θ` is `share` of the way that the last outer step has moved
    the solution (as Newton steps predict), or when L-BFGS gains little more; the linear system of
    the hypergradient is solved to the same share. Such errors shrink with the outer steps, and
    hypergradients that are off by `O(error)` lead to the same point as exact ones (Pedregosa,
    "Hyperparameter optimization with approximate gradient", 2016).

    Attributes:
        share: of the way from the last solution to this one that may be left.
        tolerance: on the distance (see `solution.Solution`), where Newton steps reach it.
        max_iterations: limit on evaluations of gradients and Hessian-vector products of each solve;
            the first one, which has no solution to start from, may take ten times as many.
    """

    share: float = 0.01
    tolerance: float = 1e-9
    max_iterations: int = 300

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", check_number("share", self.share, 0.0))
        object.__setattr__(self, "tolerance", check_number("tolerance", self.tolerance, 0.0))
        check_count("max_iterations", self.max_iterations)


@checked_class
@dataclass(frozen=True)
class Exact:
    """Inner solves to stationarity: L-BFGS, a trust region, Newton steps.

    Attributes:
        tolerance: on the distance (see `solution.Solution`).
        max_iterations: limit on evaluations of gradients and Hessian-vector products of each solve.
    """

    tolerance: float = 1e-9
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        object.__setattr__(self, "tolerance", check_number("tolerance", self.tolerance, 0.0))
        check_count("max_iterations", self.max_iterations)


@checked_class
@dataclass(frozen=True)
class AdamSteps:
    """Inner solves by a fixed number of Adam steps, on the sampled gradient if there is one.

    Attributes:
        count: steps per outer step.
        learning_rate: Adam's; its moments start anew at every outer step.
    """

    count: int
    learning_rate: float

    def __post_init__(self) -> None:
        check_count("count", self.count)
        rate = check_number("learning_rate", self.learning_rate, 0.0)
        object.__setattr__(self, "learning_rate", rate)


def solve_inner(
    problem: Bilevel,
    like: Leaves,
    start: tuple[Tensor, ...],
    phi: Tree,
    inner: Inexact | Exact | AdamSteps,
    generator: torch.Generator | None = None,
    *,
    cold: bool = False,
    tick: Callable[[str], None] | None = None,
) -> Solution[tuple[Tensor, ...]]:
    """Return `θ*(φ)` from a start, as tensors in the order of `like`.

    Args:
        problem: with the inner objective.
        like: the tree of `θ`.
        start: tensors in its order.
        phi: outer variables, held fixed.
        inner: how to solve.
        generator: of sampled inner gradients.
        cold: whether the start is no solution of a problem nearby.
        tick: called at every evaluation with what is going on.
    """
    leaves = like.replaced(start)
    theta = leaves.tree()
    evaluations = 0
    J = inner_objective(problem, phi)

    def loss() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        if tick is not None:
            tick(f"inner problem, {evaluations} evaluations")
        value = number("J", J(theta))
        check_depends("J", value, "theta")
        return -value

    if isinstance(inner, AdamSteps):
        return _adam_steps(problem, leaves, loss, phi, inner, generator)
    limit, share = inner.max_iterations, 0.0
    if isinstance(inner, Inexact):
        limit, share = limit * (10 if cold else 1), inner.share
    stop = minimise.search(leaves.tensors, loss, inner.tolerance, limit, share=share)
    return Solution(
        tuple(leaf.detach() for leaf in leaves.tensors),
        stop.converged or stop.close,
        stop.stationarity,
        stop.evaluations,
        stop.distance,
        stop.reason,
    )


def _adam_steps(
    problem: Bilevel,
    leaves: Leaves,
    loss: Callable[[], Tensor],
    phi: Tree,
    inner: AdamSteps,
    generator: torch.Generator | None,
) -> Solution[tuple[Tensor, ...]]:
    theta, opt = leaves.tree(), torch.optim.Adam(leaves.tensors, lr=inner.learning_rate)
    for _ in range(inner.count):
        opt.zero_grad()
        if problem.sampled is not None and generator is not None:
            drawn = number("the sampled J", problem.sampled(theta, phi, generator))
            check_depends("the sampled J", drawn, "theta")
            downwards = -drawn
        else:
            downwards = loss()
        downwards.backward(inputs=list(leaves.tensors))  # and into nothing else of the user's
        opt.step()
    slope = flat(slopes(loss(), leaves.tensors))
    return Solution(
        tuple(leaf.detach() for leaf in leaves.tensors),
        False,
        largest_entry(slope),
        inner.count + 1,
        math.inf,
        f"{inner.count} steps of Adam are taken",
    )
