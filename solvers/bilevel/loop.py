"""The outer loop: choose `φ` to maximise `F(θ*(φ), φ)`, `θ*(φ) = argmax_θ J(θ, φ)`.

`solve` climbs along hypergradients with any torch optimiser: the paper's algorithm by implicit
differentiation. Inner solves start from the last inner solution. `single_loop` takes one step at a
time in the inner problem, the linear system and the outer problem; the paper's plug-in algorithm is
`likelihood.plug_in`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import checked
from ..errors import (
    InputError,
    NonFiniteError,
    ShapeError,
    check_count,
    check_instance,
    check_number,
)
from ..hypergradients.implicit import (
    Hypergradient,
    HypergradientError,
    implicit,
    unwarned,
    warn_of_doubts,
)
from ..hypergradients.methods import HypergradientMethod
from ..numerics.checkpoint import (
    Run,
    check_path,
    generator_settings,
    optimiser_settings,
    read,
    set_values,
    write,
)
from ..numerics.described import described
from ..numerics.modes import recording
from ..numerics.norms import norm
from ..numerics.progress import bar
from ..numerics.solution import Solution
from ..numerics.trees import Leaves, Tree, check_alike, flat
from .convergence import Record, gained, not_reached, reached, record
from .inner_solve import AdamSteps, Exact, Inexact, solve_inner
from .problem import Bilevel, levels, looked_at

Outer = Callable[[list[Tensor]], torch.optim.Optimizer]
"""A torch optimiser on the outer tensors, e.g. `lambda p: torch.optim.Adam(p, lr=0.1)`."""

Observe = Callable[[int, Tree, Tree], None]
"""`observe(step, θ, φ)`, called at every outer step with detached trees."""

ACCURATE = 1e-6  # a distance of inner solutions at which hypergradients are beyond doubt


@dataclass(frozen=True)
class Result:
    """What an outer loop found: an `Answer` (see `numerics.solution`).

    Attributes:
        theta: inner point, at the last `phi`.
        phi: outer variables.
        converged: whether the hypergradient reached the tolerance (see `solve`).
        history: one record per outer step, the starting point first.
        reason: why the loop stopped, in words.
    """

    theta: Tree
    phi: Tree
    converged: bool
    history: tuple[Record, ...]
    reason: str = ""

    @property
    def value(self) -> Tree:
        """The outer variables, which were looked for."""
        return self.phi

    @property
    def stationarity(self) -> float:
        """Norm of the hypergradient at the last point."""
        return self.history[-1].hypergradient

    @property
    def iterations(self) -> int:
        """Outer steps taken."""
        return self.history[-1].step

    def table(self) -> Any:
        """Return the history as a pandas table."""
        import pandas as pd

        return pd.DataFrame([asdict(record) for record in self.history])


@dataclass(frozen=True)
class _Evaluation:
    """An outer point, its inner solution and its hypergradient."""

    phi: tuple[Tensor, ...]
    inner: Solution[tuple[Tensor, ...]]
    slope: Hypergradient


@checked
@recording
def solve(
    problem: Bilevel,
    theta: Tree,
    phi: Tree,
    *,
    optimiser: Outer,
    steps: int,
    inner: Inexact | Exact | AdamSteps = Inexact(),
    hypergradient: HypergradientMethod | None = None,
    tolerance: float = 1e-6,
    generator: torch.Generator | None = None,
    checkpoint: Path | str | None = None,
    observe: Observe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Maximise `F(θ*(φ), φ)` by hypergradient ascent (the paper's implicit algorithm).

    Of an inner problem with several maxima the loop follows the one its first solve finds. Solve
    again from `theta` at the `φ` found, with `steps=0`, to see whether a fresh start ends at a
    larger `J`.

    Args:
        problem: the two objectives.
        theta: where the first inner solve starts; every later one starts from the latest solution
            at which `F` is as good as at the start of the outer step. Frozen leaves (see
            `trees.Leaves`) stay as they are, in `phi` too.
        phi: starting point of the outer variables.
        optimiser: of the outer variables; it is handed the negated hypergradient. One that
            evaluates several points per step, as L-BFGS does, may.
        steps: at most this many outer steps.
        inner: how inner problems are solved.
        hypergradient: from `J`, `F` and an inner point, such as `Implicit(CG())`, `Unrolled(...)`
            or `Penalty(1e3)` of `hypergradients.methods`; by default implicit, damped where the
            inner problem is not strictly concave.
        tolerance: stop when the norm of the hypergradient is at most this share of the largest one
            met, or when what a step of the size of `phi` along it would gain is below the
            resolution of `F`; and when `F` is no larger a little further along it (see `gained`),
            which tells a far start, or a large constant in `F`, from a maximum. Neither changes
            with the units of `F`. A hypergradient of a Hessian that was damped until the damping
            alone holds the pull of `F` says nothing, and ends no loop; nor does one where `F` has
            fallen below where it was at the start.
        generator: of sampled inner gradients.
        checkpoint: file written after every outer step; if it exists, the run goes on from it,
            with the same bits as an uninterrupted one. A file of another run is refused.
        observe: called with every outer step's point, before the step.
        progress: called as `progress(step, steps)`; without it, work of more than a few seconds
            shows a bar on terminals.

    Returns:
        The last point, which has an inner solution of its own, the history, and why it stopped.

    Raises:
        InputError: `steps` is negative, a generator is missing, or a function does not return what
            it should: the objectives, `sampled` and `at` a real number computed from their
            arguments, `optimiser` one of torch, `hypergradient` a `Hypergradient` like `phi`.
        CheckpointError: the file is none, or of another run.
        NonFiniteError: an objective or its derivatives are not finite at the start.
        HypergradientError: the hypergradient is not finite there, or refused (see `implicit`).
            Where a step leads to such a point later, the loop ends before it and says so.

    Warns:
        HypergradientWarning: once, at the end, if hypergradients may have been wrong.
    """
    check_count("steps", steps, 0)
    tolerance = check_number("tolerance", tolerance, 0.0)
    if isinstance(inner, AdamSteps) and problem.sampled is not None and generator is None:
        raise InputError("the inner gradient is sampled: pass generator")
    theta_like, phi_like = Leaves.of("theta", theta).fresh(), Leaves.of("phi", phi).fresh()
    check_alike(theta_like, phi_like)
    sampling = generator if isinstance(inner, AdamSteps) else None
    current = theta_like.tensors
    outer = list(phi_like.fresh().tensors)
    opt = optimiser(outer)
    check_instance(
        "what optimiser returned", opt, torch.optim.Optimizer,
        "a function that returns one of torch, lambda p: torch.optim.Adam(p, lr=0.1)",
    )  # fmt: skip
    exact = not isinstance(inner, AdamSteps)
    problem = looked_at(problem, theta_like.tree(), phi_like.tree(), sampling, exact=exact)
    history: list[Record] = []
    first, path = 0, None
    run: Run | None = None
    if checkpoint is not None:
        path = check_path(checkpoint)
        settings = optimiser_settings(opt, outer) | generator_settings(generator)
        method = "the default" if hypergradient is None else described(hypergradient)
        settings |= {"inner": repr(inner), "hypergradient": method, "tolerance": repr(tolerance)}
        objectives = levels(problem)
        sampled = problem.sampled
        if isinstance(inner, AdamSteps) and sampled is not None and generator is not None:
            # always the first draw, by copies, which leave the generator where it is
            first_draw = generator.clone_state()
            objectives["the sampled J"] = lambda t, p: sampled(t, p, first_draw.clone_state())
        run = Run.of("bilevel.solve", objectives, theta_like, phi_like, settings)
        state = read(path, run, steps)
        if state is not None:
            first, current = state["step"], tuple(state["theta"])
            history = [
                Record(**(row | {"doubts": tuple(row["doubts"])})) for row in state["history"]
            ]
            set_values(outer, state["phi"])
            opt.load_state_dict(state["optimiser"])
            if generator is not None:
                generator.set_state(state["generator"])
    latest: _Evaluation | None = None

    with bar("bilevel.solve", steps, silent=progress is not None) as tick:

        def evaluate() -> _Evaluation:
            """Solve the inner problem and climb, unless it was done at this very point."""
            nonlocal latest
            here = tuple(t.detach().clone() for t in outer)
            if latest is None or not all(map(torch.equal, here, latest.phi)):
                at = phi_like.tree(here)
                cold = not history and latest is None
                found = solve_inner(
                    problem, theta_like, current, at, inner, generator, cold=cold,
                    tick=lambda text: tick(len(history), text),
                )  # fmt: skip
                point = theta_like.tree(found.value)
                tick(len(history), "hypergradient")
                latest = _Evaluation(
                    here, found, _climbed(problem, hypergradient, inner, found, point, at)
                )
            return latest

        def climb(found: Solution[tuple[Tensor, ...]], at: Tree) -> Tree:
            point = theta_like.tree(found.value)
            return _climbed(problem, hypergradient, inner, found, point, at).value

        def closure() -> float:
            nonlocal current
            done = evaluate()
            slopes = phi_like.matching("the hypergradient", done.slope.value)
            for tensor, slope in zip(outer, slopes, strict=True):
                tensor.grad = -slope
            F = problem.F(theta_like.tree(done.inner.value), phi_like.tree(done.phi)).item()
            # Inner solves go on from where F is as good as at the start of the step. A line search
            # also looks far off, where an inner solution may leave its basin and find no way back.
            if F >= history[-1].F:
                current = done.inner.value
            return -F

        kept: tuple[Tree, Tree] | None = None  # θ and φ of the last step

        def beyond(error: NonFiniteError | HypergradientError) -> Result:
            """Return what was found before a step of the optimiser led out of the domain."""
            if kept is None:
                raise error
            _warn_once(history)
            why = f"step {len(history)} of the optimiser leaves the domain: {error}"
            return Result(*kept, False, tuple(history), why)

        for step in range(first, steps + 1):
            try:
                done = evaluate()
            except (NonFiniteError, HypergradientError) as error:
                return beyond(error)
            at, point = phi_like.tree(done.phi), theta_like.tree(done.inner.value)
            history.append(record(problem, step, point, at, done.slope, done.inner))
            if observe is not None:
                observe(step, point, at)
            if progress is not None:
                progress(step, steps)
            kept = point, at
            reason = reached(history, norm(flat(done.phi)), tolerance, phi_like.tensors[0].dtype)
            further = 0.0
            if reason is not None and not isinstance(inner, AdamSteps):  # whose errors hide it
                further = gained(
                    problem, theta_like.replaced(done.inner.value), phi_like.replaced(done.phi),
                    climb, done.slope.value, phi_like.tensors, tolerance, history, inner,
                )  # fmt: skip
            reason = None if further > 0 else reason
            if reason is not None or step == steps:
                _warn_once(history)
                why = reason or not_reached(history, tolerance, further)
                return Result(point, at, reason is not None, tuple(history), why)
            current = done.inner.value
            try:
                opt.step(closure)  # pyright: ignore[reportArgumentType]
            except (NonFiniteError, HypergradientError) as error:
                return beyond(error)
            # forgotten here, so that a run resumed from the checkpoint goes on with the same bits
            latest = None
            if path is not None and run is not None:
                state = {
                    "step": step + 1,
                    "theta": list(current),
                    "phi": [t.detach().clone() for t in outer],
                    "optimiser": opt.state_dict(),
                    "generator": None if generator is None else generator.get_state(),
                    "history": [asdict(row) for row in history],
                }
                write(path, run, state)
    raise AssertionError("the last step returns")


def _warn_once(history: Sequence[Record]) -> None:
    """Warn of all hypergradients that may be wrong in one message."""
    doubtful = [row for row in history if row.doubts]
    if doubtful:
        last = doubtful[-1]
        warn_of_doubts(
            f"the hypergradient may be wrong at {len(doubtful)} of {len(history)} outer points; at "
            f"step {last.step}: {'; '.join(last.doubts)}"
        )


def _climbed(
    problem: Bilevel,
    method: HypergradientMethod | None,
    inner: Inexact | Exact | AdamSteps,
    found: Solution[tuple[Tensor, ...]],
    theta: Tree,
    phi: Tree,
) -> Hypergradient:
    """Return the hypergradient; what there is to warn of it stands in its doubts."""
    with unwarned():
        if method is not None:
            return _like(phi, method(problem.J, problem.F, theta, phi))
        if isinstance(inner, Inexact) and not found.distance <= inner.tolerance:
            # the linear system as accurate as the inner solution, and no more work than that
            most = max(inner.max_iterations // 3, 1)
            return implicit(
                problem.J, problem.F, theta, phi,
                damping="auto", tolerance=inner.share, max_iterations=most,
            )  # fmt: skip
        # how far it is was measured by the search, also where the solution is 0
        measured = math.inf if found.distance <= ACCURATE else None
        return implicit(problem.J, problem.F, theta, phi, damping="auto", distance=measured)


def _like(phi: Tree, found: Any) -> Hypergradient:
    """Return what a method returned, after checking that it is a hypergradient in `phi`."""
    remedy = "a method that returns a Hypergradient, such as Implicit(CG())"
    check_instance("what hypergradient returned", found, Hypergradient, remedy)
    like = Leaves.of("phi", phi)
    parts = like.matching("the hypergradient", found.value)
    for name, p, part in zip(like.names, like.tensors, parts, strict=True):
        check_instance(f"the hypergradient in {name}", part, Tensor, "a tensor")
        if part.shape != p.shape or part.dtype != p.dtype:
            raise ShapeError(
                f"the hypergradient in {name} has shape {tuple(part.shape)}, {part.dtype}, and "
                f"{name} {tuple(p.shape)}, {p.dtype}: return a tree like phi"
            )
    return found
