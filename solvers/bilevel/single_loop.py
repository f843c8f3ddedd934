"""A single-loop stochastic bilevel solver: inner, linear system and outer, one step each per batch.

After Dagréou, Ablin, Vaiter, Moreau (2022), "A framework for bilevel optimization that enables
stochastic and global variance reduction algorithms" (SOBA), written for maximisation:

    θ ← θ + ρ ∂_θJ,   v ← v + ρ (∂_θF + ∂²_{θθ}J v),   φ ← φ + γ (∂_φF + ∂²_{φθ}J v),

all three at the same point and on the same batch, with steps that may decay.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import checked
from ..errors import InputError, NonFiniteError, check_count, check_number, shown
from ..hypergradients.implicit import Level, check_twice, first_derivatives, implicit, unwarned
from ..numerics.checkpoint import CheckpointError, Run, check_path, generator_settings, read, write
from ..numerics.modes import recording
from ..numerics.norms import norm, share
from ..numerics.solution import Solution
from ..numerics.trees import Leaves, Tree, check_alike, flat
from ..numerics.values import check_depends, number
from .convergence import Record, gained, not_reached, reached
from .inner_solve import Inexact, solve_inner
from .loop import Observe, Result
from .problem import Bilevel, levels

Rate = Callable[[int], float]
"""Step size at a step; `lambda k: 0.1 / (1 + k) ** 0.4` decays, `lambda k: 0.1` does not."""


@checked
@recording
def single_loop(
    problem: Bilevel,
    theta: Tree,
    phi: Tree,
    *,
    steps: int,
    inner_rate: Rate,
    outer_rate: Rate,
    generator: torch.Generator | None = None,
    every: int = 1,
    tolerance: float | None = None,
    checkpoint: Path | str | None = None,
    observe: Observe | None = None,
) -> Result:
    """Maximise `F(θ*(φ), φ)` by one step in each of the three problems per batch.

    Args:
        problem: the objectives; `batch` draws them anew each step, without it they are exact.
        theta: starting point of the inner variables.
        phi: starting point of the outer variables.
        steps: number of steps.
        inner_rate: `ρ`, of the inner problem and the linear system; below 2 over the largest
            eigenvalue of the inner Hessian, or the iteration diverges.
        outer_rate: `γ`.
        generator: of the batches.
        every: steps between records, observations and checkpoints.
        tolerance: stop where, at a record after the first step, the outer direction is 0 to this
            share, and `F` gains no more along it, as in `bilevel.solve`; makes sense without
            batches only. None runs all steps.
        checkpoint: file written with every record; if it exists, the run goes on from it. A file
            of another run is refused.
        observe: called as `observe(step, θ, φ)` at every record.

    Returns:
        The last point and the history. In a record, `hypergradient` is the norm of the outer
        direction, `residual` that of the linear system.

    Raises:
        InputError: a negative number of steps, batches without a generator, a rate that is no
            finite number >= 0, or a `J` that does not depend on `theta`.
        CheckpointError: the file is none, or of another run.
        NonFiniteError: the iteration diverged.

    Source: Dagréou et al. (2022).
    """
    check_count("steps", steps, 0)
    check_count("every", every)
    if tolerance is not None:
        tolerance = check_number("tolerance", tolerance, 0.0)
    if problem.batch is not None and generator is None:
        raise InputError("batches are drawn at random: pass generator")
    taken = {"inner_rate": _Taken("inner_rate", inner_rate)}
    taken["outer_rate"] = _Taken("outer_rate", outer_rate)
    for rate in taken.values():
        rate.at(0)  # refused before any work
    inner, outer = Leaves.of("theta", theta).fresh(), Leaves.of("phi", phi).fresh()
    check_alike(inner, outer)
    look = problem.J
    if problem.batch is not None and generator is not None:  # drawn by a copy, which leaves it
        look = _drawn(problem.batch, generator.clone_state())[0]
    check_depends("J", number("J", look(inner.tree(), outer.detached())), "theta")
    begin, further = outer.tensors, 0.0
    adjoint = torch.zeros_like(flat(inner.tensors).detach())
    history: list[Record] = []
    first, reason, path = 0, None, None
    run: Run | None = None
    if checkpoint is not None:
        path = check_path(checkpoint)
        settings = generator_settings(generator) | {"every": str(every)}
        settings |= {"tolerance": str(tolerance)}
        objectives = levels(problem)
        if problem.batch is not None and generator is not None:  # drawn by a copy, which leaves it
            drawn = _drawn(problem.batch, generator.clone_state())
            objectives |= {"J of the first batch": drawn[0], "F of the first batch": drawn[1]}
        run = Run.of("single_loop", objectives, inner, outer, settings)
        state = read(path, run, steps)
        if state is not None:
            first, adjoint = state["step"], state["adjoint"]
            for name, steps_taken in taken.items():
                steps_taken.follow(first)
                if steps_taken.digest() != state[name]:
                    raise CheckpointError(
                        f"{path} belongs to another run: {name} is another one there, before step "
                        f"{first}; pass another checkpoint file, or remove this one"
                    )
            inner, outer = inner.replaced(state["theta"]), outer.replaced(state["phi"])
            history = [
                Record(**(row | {"doubts": tuple(row["doubts"])})) for row in state["history"]
            ]
            if generator is not None:
                generator.set_state(state["generator"])
    for step in range(first, steps + 1):
        if path is not None and run is not None and step % every == 0 and step > first:
            write(
                path,
                run,
                {
                    "step": step,
                    "theta": [t.detach() for t in inner.tensors],
                    "phi": [t.detach() for t in outer.tensors],
                    "adjoint": adjoint,
                    **{name: steps_taken.digest() for name, steps_taken in taken.items()},
                    "generator": None if generator is None else generator.get_state(),
                    "history": [asdict(row) for row in history],
                },
            )
        J, F = problem.J, problem.F
        if problem.batch is not None and generator is not None:
            J, F = _drawn(problem.batch, generator)
        try:
            slope, pull, direct = first_derivatives(J, F, inner, outer)
        except NonFiniteError as error:
            if step == 0:  # which no rate has led to
                raise
            raise NonFiniteError(
                f"the iteration left the domain at step {step} ({error}): pass smaller rates"
            ) from error
        if step == first:
            check_twice(slope)
        both = (*inner.tensors, *outer.tensors)
        products = torch.autograd.grad(slope, both, adjoint, materialize_grads=True)
        curved, mixed = products[: len(inner.tensors)], products[len(inner.tensors) :]
        gap = pull + flat(curved)
        directions = [a + b for a, b in zip(direct, mixed, strict=True)]
        if step % every == 0 or step == steps:
            history.append(_record(problem, step, inner, outer, slope, gap, pull, flat(directions)))
            if observe is not None:
                observe(step, inner.detached(), outer.detached())
            if tolerance is not None and step > 0:
                size = norm(flat(outer.tensors))
                reason = reached(history, size, tolerance, outer.tensors[0].dtype)
                further = 0.0
                if reason is not None:
                    further = _gained(problem, inner, outer, begin, tolerance, history)
                    reason = None if further > 0 else reason
        if reason is not None or step == steps:
            break
        rho, gamma = (taken[name].next() for name in ("inner_rate", "outer_rate"))
        inner = inner.moved(inner.split(slope.detach()), rho)
        adjoint = adjoint + rho * gap.detach()
        outer = outer.moved(directions, gamma)
    why = reason or not_reached(history, tolerance or 0.0, further)
    return Result(inner.detached(), outer.detached(), reason is not None, tuple(history), why)


def _drawn(
    batch: Callable[[torch.Generator], tuple[Level, Level]], generator: torch.Generator
) -> tuple[Level, Level]:
    """Return both objectives on a batch, checked."""
    found: Any = batch(generator)
    if not (isinstance(found, tuple | list) and len(found) == 2 and all(map(callable, found))):
        raise InputError(f"batch returned {shown(found)}: return J and F, functions of theta, phi")
    return found[0], found[1]


def _gained(
    problem: Bilevel,
    inner: Leaves,
    outer: Leaves,
    begin: tuple[Tensor, ...],
    tolerance: float,
    history: Sequence[Record],
) -> float:
    """Return `gained`, at the inner solution: the loop's own directions lag behind its points."""
    by, here = Inexact(), outer.detached()
    found = solve_inner(problem, inner, inner.tensors, here, by)
    solved = inner.replaced(found.value)

    def climb(found: Solution[tuple[Tensor, ...]], phi: Tree) -> Tree:
        theta = inner.tree(found.value)
        with unwarned():
            return implicit(problem.J, problem.F, theta, phi, damping="auto").value

    slope = climb(found, here)
    F = number("F", problem.F(solved.detached(), here)).item()
    there = [*history[:-1], replace(history[-1], F=F)]
    return gained(problem, solved, outer, climb, slope, begin, tolerance, there, by)


class _Taken:
    """A rate, and the digest of all the steps taken with it, which tells it from another."""

    def __init__(self, name: str, rate: Rate) -> None:
        self.name, self.rate, self.step, self.seen = name, rate, 0, hashlib.sha256()

    def at(self, step: int) -> float:
        """Return the rate at a step.

        Raises:
            InputError: it is no finite number >= 0.
        """
        return check_number(f"{self.name}({step})", self.rate(step), 0.0)

    def next(self) -> float:
        """Return the rate of the next step."""
        value = self.at(self.step)
        self.step += 1
        self.seen.update(struct.pack("d", value))
        return value

    def follow(self, steps: int) -> None:
        """Take as many steps as another run took, without moving anything."""
        while self.step < steps:
            self.next()

    def digest(self) -> str:
        """Return what tells these steps from others."""
        return self.seen.hexdigest()


def _record(
    problem: Bilevel,
    step: int,
    inner: Leaves,
    outer: Leaves,
    slope: Tensor,
    gap: Tensor,
    pull: Tensor,
    direction: Tensor,
) -> Record:
    theta, phi = inner.detached(), outer.detached()
    residual = share(gap.detach(), pull) if bool(pull.any()) else 0.0
    F, J = number("F", problem.F(theta, phi)).item(), number("J", problem.J(theta, phi)).item()
    return Record(step, F, J, norm(direction), norm(slope), residual, 1, None)
