"""The outer loop: choose `φ` to maximise `F(θ*(φ), φ)`, `θ*(φ) = argmax_θ J(θ, φ)`.

`solve` climbs along hypergradients with any torch optimiser: the paper's algorithm by implicit
differentiation. Inner solves start from the last inner solution. `solvers.single_loop` takes one
step at a time in the inner problem, the linear system and the outer problem; the paper's plug-in
algorithm is `solvers.likelihood.plug_in`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solvers import minimise
from solvers.checkpoint import read, set_values, write
from solvers.errors import InputError
from solvers.hypergradient import (
    Hypergradient,
    Objective,
    implicit,
)
from solvers.trees import Leaves, Tree, flat

Climb = Callable[[Tree, Tree], Hypergradient]
"""`climb(θ, φ)`: the hypergradient at an inner point, with options already chosen."""

Outer = Callable[[list[Tensor]], torch.optim.Optimizer]
"""A torch optimiser on the outer tensors, e.g. `lambda p: torch.optim.Adam(p, lr=0.1)`."""

Observe = Callable[[int, Tree, Tree], None]
"""`observe(step, θ, φ)`, called at every outer step with detached trees."""


@dataclass(frozen=True)
class Bilevel:
    """A bilevel problem: `max_φ F(θ*(φ), φ)`, `θ*(φ) = argmax_θ J(θ, φ)`.

    Attributes:
        J: inner objective.
        F: outer objective.
        batch: `batch(generator)` draws `J` and `F` on a batch of the data, for `single_loop`.
        sampled: `sampled(θ, φ, generator)` is a surrogate of `J` whose gradient in `θ` is a
            sampled estimate, for `AdamSteps`.
    """

    J: Objective
    F: Objective
    batch: Callable[[torch.Generator], tuple[Objective, Objective]] | None = None
    sampled: Callable[[Tree, Tree, torch.Generator], Tensor] | None = None


@dataclass(frozen=True)
class Exact:
    """Inner solves to stationarity: L-BFGS, then Newton-CG steps.

    Attributes:
        tolerance: on the largest entry of the inner gradient.
        max_iterations: limit on its evaluations, per outer step.
    """

    tolerance: float = 1e-9
    max_iterations: int = 2000


@dataclass(frozen=True)
class AdamSteps:
    """Inner solves by a fixed number of Adam steps, on the sampled gradient if there is one.

    Attributes:
        count: steps per outer step.
        learning_rate: Adam's; its moments start anew at every outer step.
    """

    count: int
    learning_rate: float


@dataclass(frozen=True)
class Record:
    """One outer step: where it was, and how far to trust its hypergradient."""

    step: int
    F: float
    J: float
    hypergradient: float
    stationarity: float
    residual: float | None
    iterations: int
    curvature: float | None


@dataclass(frozen=True)
class Result:
    """What an outer loop found.

    Attributes:
        theta: inner point, at the last `phi`.
        phi: outer variables.
        converged: whether the norm of the hypergradient reached the tolerance.
        history: one record per outer step, the starting point first.
    """

    theta: Tree
    phi: Tree
    converged: bool
    history: tuple[Record, ...]

    def table(self) -> Any:
        """Return the history as a pandas table."""
        import pandas as pd

        return pd.DataFrame([asdict(record) for record in self.history])


@dataclass(frozen=True)
class _Evaluation:
    """An outer point, its inner solution and its hypergradient."""

    phi: tuple[Tensor, ...]
    theta: tuple[Tensor, ...]
    slope: Hypergradient


def solve(
    problem: Bilevel,
    theta: Tree,
    phi: Tree,
    *,
    optimiser: Outer,
    steps: int,
    inner: Exact | AdamSteps = Exact(),
    climb: Climb | None = None,
    tolerance: float = 1e-6,
    generator: torch.Generator | None = None,
    checkpoint: Path | None = None,
    observe: Observe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Maximise `F(θ*(φ), φ)` by hypergradient ascent (the paper's implicit algorithm).

    Args:
        problem: the two objectives.
        theta: where the first inner solve starts; every later one starts from the one before.
        phi: starting point of the outer variables.
        optimiser: of the outer variables; it is handed the negated hypergradient. One that
            evaluates several points per step, as L-BFGS does, may.
        steps: at most this many outer steps.
        inner: how inner problems are solved.
        climb: hypergradient at an inner point; `implicit` with its defaults if not given. Pass
            `lambda t, p: implicit(J, F, t, p, damping=...)`, `unrolled`, `penalty`, ...
        tolerance: stop when the norm of the hypergradient is at most this.
        generator: of sampled inner gradients.
        checkpoint: file written after every outer step; if it exists, the run goes on from it,
            with the same bits as an uninterrupted one.
        observe: called with every outer step's point, before the step.
        progress: called as `progress(step, steps)`.

    Returns:
        The last point, which has an inner solution of its own, and the history.

    Raises:
        InputError: `steps` is negative, or a generator is missing.
        HypergradientError: the hypergradient is not finite (see `implicit`).
    """
    if steps < 0:
        raise InputError(f"steps is {steps}: pass 0 or more")
    if isinstance(inner, AdamSteps) and problem.sampled is not None and generator is None:
        raise InputError("the inner gradient is sampled: pass generator")
    theta_like, phi_like = Leaves.of("theta", theta), Leaves.of("phi", phi)
    current = theta_like.fresh().tensors
    outer = list(phi_like.fresh().tensors)
    opt = optimiser(outer)
    history: list[Record] = []
    first = 0
    if checkpoint is not None and checkpoint.exists():
        state = read(checkpoint, {"theta": current, "phi": outer})
        first, current = state["step"], tuple(state["theta"])
        history = [Record(**row) for row in state["history"]]
        set_values(outer, state["phi"])
        opt.load_state_dict(state["optimiser"])
        if generator is not None:
            generator.set_state(state["generator"])
        if first > steps:
            raise InputError(f"{checkpoint} is at step {first}: pass steps >= {first}")
    latest: _Evaluation | None = None

    def evaluate() -> _Evaluation:
        """Solve the inner problem and climb, unless it was done at this very point."""
        nonlocal latest
        here = tuple(t.detach().clone() for t in outer)
        if latest is None or not all(map(torch.equal, here, latest.phi)):
            start = current if latest is None else latest.theta
            at = phi_like.tree(here)
            found = solve_inner(problem, theta_like, start, at, inner, generator)
            point = theta_like.tree(found)
            slope = climb(point, at) if climb else implicit(problem.J, problem.F, point, at)
            latest = _Evaluation(here, found, slope)
        return latest

    def closure() -> float:
        done = evaluate()
        slopes = Leaves.of("hypergradient", done.slope.value).tensors
        for tensor, slope in zip(outer, slopes, strict=True):
            tensor.grad = -slope
        return -float(problem.F(theta_like.tree(done.theta), phi_like.tree(done.phi)))

    for step in range(first, steps + 1):
        done = evaluate()
        at, point = phi_like.tree(done.phi), theta_like.tree(done.theta)
        history.append(record(problem, step, point, at, done.slope))
        if observe is not None:
            observe(step, point, at)
        if progress is not None:
            progress(step, steps)
        converged = history[-1].hypergradient <= tolerance
        if converged or step == steps:
            return Result(point, at, converged, tuple(history))
        opt.step(closure)  # pyright: ignore[reportArgumentType]
        # forgotten here, so that a run resumed from the checkpoint goes on with the same bits
        current, latest = latest.theta if latest else done.theta, None
        if checkpoint is not None:
            state = {
                "step": step + 1,
                "theta": list(current),
                "phi": [t.detach().clone() for t in outer],
                "optimiser": opt.state_dict(),
                "generator": None if generator is None else generator.get_state(),
                "history": [asdict(row) for row in history],
            }
            write(checkpoint, state)
    raise AssertionError("the last step returns")


def record(problem: Bilevel, step: int, theta: Tree, phi: Tree, found: Hypergradient) -> Record:
    """Return the record of one outer step."""
    return Record(
        step,
        float(problem.F(theta, phi)),
        float(problem.J(theta, phi)),
        float(flat(Leaves.of("hypergradient", found.value).tensors).norm()),
        found.stationarity,
        found.residual,
        found.iterations,
        found.curvature,
    )


def solve_inner(
    problem: Bilevel,
    like: Leaves,
    start: tuple[Tensor, ...],
    phi: Tree,
    inner: Exact | AdamSteps,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, ...]:
    """Return `θ*(φ)` from a start, as tensors in the order of `like`."""
    leaves = [t.detach().clone().requires_grad_() for t in start]

    def loss() -> Tensor:
        return -problem.J(like.tree(leaves), phi)

    if isinstance(inner, Exact):
        spent = minimise.lbfgs(leaves, loss, inner.tolerance, inner.max_iterations)
        minimise.polish(leaves, loss, inner.tolerance, inner.max_iterations - spent)
        return tuple(leaf.detach() for leaf in leaves)
    opt = torch.optim.Adam(leaves, lr=inner.learning_rate)
    for _ in range(inner.count):
        opt.zero_grad()
        if problem.sampled is not None and generator is not None:
            (-problem.sampled(like.tree(leaves), phi, generator)).backward()
        else:
            loss().backward()
        opt.step()
    return tuple(leaf.detach() for leaf in leaves)
