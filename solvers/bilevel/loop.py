"""The outer loop: choose `φ` to maximise `F(θ*(φ), φ)`, `θ*(φ) = argmax_θ J(θ, φ)`.

`solve` climbs along hypergradients with any torch optimiser: the paper's algorithm by implicit
differentiation. Inner solves start from the last inner solution. `single_loop` takes one step at a
time in the inner problem, the linear system and the outer problem; the paper's plug-in algorithm is
`likelihood.plug_in`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import checked, checked_class
from ..errors import (
    InputError,
    NonFiniteError,
    ShapeError,
    SolverError,
    check_count,
    check_instance,
    check_number,
    shown,
)
from ..hypergradients.implicit import (
    Hypergradient,
    Level,
    implicit,
    unwarned,
    warn,
    where,
)
from ..hypergradients.methods import HypergradientMethod
from ..numerics import minimise
from ..numerics.checkpoint import (
    Run,
    check_path,
    generator_settings,
    optimiser_settings,
    read,
    set_values,
    write,
)
from ..numerics.derivatives import slopes
from ..numerics.described import described
from ..numerics.modes import recording
from ..numerics.norms import largest_entry, norm
from ..numerics.progress import bar
from ..numerics.solution import Solution
from ..numerics.trees import Leaves, Tree, check_alike, flat
from ..numerics.values import check_depends, finite_number, number

Outer = Callable[[list[Tensor]], torch.optim.Optimizer]
"""A torch optimiser on the outer tensors, e.g. `lambda p: torch.optim.Adam(p, lr=0.1)`."""

Observe = Callable[[int, Tree, Tree], None]
"""`observe(step, θ, φ)`, called at every outer step with detached trees."""


ACCURATE = 1e-6  # a distance of inner solutions at which hypergradients are beyond doubt
SHORT = 1e-8  # of an objective: what a first step should gain
FURTHER, LOOKS = 32.0, 12  # how much further each look for a gain goes, and how many there are
HELD = 0.9  # of the pull of F, by damping alone: of a hypergradient that says nothing
LENGTHS = (1.0, 1 / 16)  # parts of a step in which every entry has its own curvature


def lbfgs(tensors: list[Tensor], iterations: int = 2) -> torch.optim.Optimizer:
    """Return L-BFGS with a line search, some iterations a step: an `Outer` for smooth problems.

    Torch's own limit of 1.25 evaluations for each iteration would end line searches where they
    have begun, without a step, and the loop would stand still for ever. Its tolerances are
    absolute, and off: when to stop is for the loop to say.
    """
    check_count("iterations", iterations)
    return _LBFGS(
        tensors,
        max_iter=iterations,
        max_eval=50,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )


class _LBFGS(torch.optim.LBFGS):
    """L-BFGS whose first step is not too short to be seen.

    Torch's is along the gradient, of length 1 at most and of that of the gradient where this is
    less: for outer variables of a large unit, whose slopes are small, nothing that a line search
    could tell from rounding. The objective is then taken in units of its gradient.
    """

    def step(self, closure: Callable[[], float]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a step, as torch does."""
        state = self.state[self._params[0]]  # what checkpoints keep

        def in_units() -> float:
            loss = float(closure())
            slopes = [p.grad for p in self._params if p.grad is not None]
            if "unit" not in state:
                length = sum(float(g.abs().sum()) for g in slopes)
                short = 0 < length < 1 and length**2 <= SHORT * abs(loss)
                state["unit"] = 1 / length if short else 1.0
            if state["unit"] != 1.0:
                for slope in slopes:
                    slope.mul_(state["unit"])
            return loss * state["unit"]

        return super().step(in_units)


@checked_class
@dataclass(frozen=True)
class Bilevel:
    """A bilevel problem: `max_φ F(θ*(φ), φ)`, `θ*(φ) = argmax_θ J(θ, φ)`.

    Attributes:
        J: inner objective.
        F: outer objective.
        batch: `batch(generator)` draws `J` and `F` on a batch of the data, for `single_loop`.
        sampled: `sampled(θ, φ, generator)` is a surrogate of `J` whose gradient in `θ` is a
            sampled estimate, for `AdamSteps`.
        at: `at(φ)` is `θ -> J(θ, φ)`, with what depends on `φ` alone computed once: inner solves
            evaluate `J` many times at one `φ`, which may be a network.
    """

    J: Level
    F: Level
    batch: Callable[[torch.Generator], tuple[Level, Level]] | None = None
    sampled: Callable[[Tree, Tree, torch.Generator], Tensor] | None = None
    at: Callable[[Tree], Callable[[Tree], Tensor]] | None = None


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
        check_number("share", self.share, 0.0)
        check_number("tolerance", self.tolerance, 0.0)
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
        check_number("tolerance", self.tolerance, 0.0)
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
        check_number("learning_rate", self.learning_rate, 0.0)


@dataclass(frozen=True)
class Record:
    """One outer step: where it was, and how far to trust its hypergradient.

    Attributes:
        step: outer steps taken.
        F: outer objective.
        J: inner objective.
        hypergradient: its norm.
        stationarity: of the inner point, `‖∂_θJ‖`.
        residual: of the linear system.
        iterations: of the hypergradient.
        curvature: smallest met.
        damping: of the hypergradient.
        inner_evaluations: spent on the inner problem.
        inner_distance: of its solution (see `solution.Solution`).
        inner_converged: whether the inner solve reached the accuracy asked of it.
        doubts: why the hypergradient may be wrong.
        held: by the damping, of the pull of `F` (see `Hypergradient`).
        pull: of `F`, likewise.
    """

    step: int
    F: float
    J: float
    hypergradient: float
    stationarity: float
    residual: float | None
    iterations: int
    curvature: float | None
    damping: float = 0.0
    inner_evaluations: int = 0
    inner_distance: float = math.inf
    inner_converged: bool = False
    doubts: tuple[str, ...] = ()
    held: float = 0.0
    pull: float = 0.0


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
        theta: where the first inner solve starts; every later one starts from the one before.
            Frozen leaves (see `trees.Leaves`) stay as they are, in `phi` too.
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
            alone holds the pull of `F` says nothing, and ends no loop.
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
        NonFiniteError: an objective or its derivatives are not finite at the start; where a step of
            the optimiser leads to such a point, the loop ends before it and says so.
        HypergradientError: the hypergradient is not finite (see `implicit`).

    Warns:
        HypergradientWarning: once, at the end, if hypergradients may have been wrong.
    """
    check_count("steps", steps, 0)
    check_number("tolerance", tolerance, 0.0)
    if isinstance(inner, AdamSteps) and problem.sampled is not None and generator is None:
        raise InputError("the inner gradient is sampled: pass generator")
    theta_like, phi_like = Leaves.of("theta", theta).fresh(), Leaves.of("phi", phi).fresh()
    check_alike(theta_like, phi_like)
    sampling = generator if isinstance(inner, AdamSteps) else None
    problem = _checked(problem, theta_like.tree(), phi_like.tree(), sampling)
    current = theta_like.tensors
    outer = list(phi_like.fresh().tensors)
    opt = optimiser(outer)
    check_instance(
        "what optimiser returned", opt, torch.optim.Optimizer,
        "a function that returns one of torch, lambda p: torch.optim.Adam(p, lr=0.1)",
    )  # fmt: skip
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
                start = current if latest is None else latest.inner.value
                at = phi_like.tree(here)
                cold = not history and latest is None
                found = solve_inner(
                    problem, theta_like, start, at, inner, generator, cold=cold,
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
            done = evaluate()
            slopes = phi_like.matching("the hypergradient", done.slope.value)
            for tensor, slope in zip(outer, slopes, strict=True):
                tensor.grad = -slope
            return -problem.F(theta_like.tree(done.inner.value), phi_like.tree(done.phi)).item()

        kept: tuple[Tree, Tree] | None = None  # θ and φ of the last step

        def beyond(error: NonFiniteError) -> Result:
            """Return what was found before a step of the optimiser led out of the domain."""
            if kept is None:
                raise error
            _warn_once(history)
            why = f"step {len(history)} of the optimiser leaves the domain: {error}"
            return Result(*kept, False, tuple(history), why)

        for step in range(first, steps + 1):
            try:
                done = evaluate()
            except NonFiniteError as error:
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
            try:
                opt.step(closure)  # pyright: ignore[reportArgumentType]
            except NonFiniteError as error:
                return beyond(error)
            # forgotten here, so that a run resumed from the checkpoint goes on with the same bits
            current, latest = latest.inner.value if latest else done.inner.value, None
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


def record(
    problem: Bilevel,
    step: int,
    theta: Tree,
    phi: Tree,
    found: Hypergradient,
    inner: Solution[tuple[Tensor, ...]],
) -> Record:
    """Return the record of one outer step."""
    return Record(
        step,
        problem.F(theta, phi).item(),
        problem.J(theta, phi).item(),
        norm(flat(Leaves.of("hypergradient", found.value).tensors)),
        found.stationarity,
        found.residual,
        found.iterations,
        found.curvature,
        found.damping,
        inner.iterations,
        inner.distance,
        inner.converged,
        found.doubts,
        found.held,
        found.pull,
    )


def reached(
    history: Sequence[Record], size: float, tolerance: float, dtype: torch.dtype
) -> str | None:
    """Say in which sense the last hypergradient of a history is 0, None if it is not.

    One that the damping of the Hessian has made small is not: it says nothing.

    Args:
        history: of the loop so far.
        size: `‖φ‖` at its last point.
        tolerance: relative to the largest hypergradient met; with 0 nothing but 0 is 0.
        dtype: of the objective.
    """
    last, largest = history[-1].hypergradient, max(row.hypergradient for row in history)
    if damped_away(history, tolerance):
        return None
    if last == 0:
        return "the hypergradient is 0"
    if last <= tolerance * largest:
        return f"the hypergradient is {last / largest:.2g} of the largest met"
    # F does not resolve a distance below the root of the machine precision
    if tolerance > 0 and last * (1 + size) <= math.sqrt(torch.finfo(dtype).eps) * abs(
        history[-1].F
    ):
        return f"the hypergradient is {last:.2g}, below the resolution of F"
    return None


def damped_away(history: Sequence[Record], tolerance: float) -> bool:
    """Return whether the damping made the last hypergradient small, and not a pull that is."""
    pull = history[-1].pull
    return history[-1].held > HELD and pull > tolerance * max(row.pull for row in history)


def gained(
    problem: Bilevel,
    theta: Leaves,
    phi: Leaves,
    climb: Callable[[Solution[tuple[Tensor, ...]], Tree], Tree],
    slope: Tree,
    start: Sequence[Tensor],
    tolerance: float,
    history: Sequence[Record],
    inner: Inexact | Exact,
) -> float:
    """Return how much `F(θ*(φ), φ)` gains further on; 0 at a maximum.

    The first looks are along the hypergradient: by `√tolerance` of `φ`, or `tolerance` of the way
    from the start where that is more; of a maximum along the line, half of it may be missing. While
    `F` gains there what the slope predicts, or rounding hides whether it does, the maximum is
    further away, and so is the next look.

    A steep direction hides others there, whose hypergradient may be small beside it all the way.
    The last looks are along the hypergradient with every entry in units of its own: divided by the
    curvature that the hypergradient of the last point shows. Entries that would move by less than
    `√tolerance`, of themselves and of their way from the start, stay.

    A gain counts that is more than rounding and than `tolerance` of `F`, or of all that the loop
    has gained where that is less.

    Args:
        problem: both objectives.
        theta: the inner solution.
        phi: where the loop is.
        climb: from an inner solution and `φ` to the hypergradient.
        slope: the hypergradient there; a tree like `phi`.
        start: where the loop began.
        tolerance: of the loop.
        history: of the loop so far, up to here.
        inner: how to solve the inner problem.
    """
    g, here = flat(phi.matching("the hypergradient", slope)), flat(phi.tensors)
    size = norm(g)
    if size == 0 or tolerance == 0:
        return 0.0
    F = history[-1].F
    rounding = 8 * torch.finfo(here.dtype).eps * abs(F)
    little = rounding + tolerance * min(abs(F), abs(F - history[0].F))

    def look(step: Tensor) -> tuple[float, Solution[tuple[Tensor, ...]], Tree]:
        further = phi.moved(phi.split(step), 1.0).detached()
        found = solve_inner(problem, theta, theta.tensors, further, inner)
        return problem.F(theta.tree(found.value), further).item() - F, found, further

    way = max(math.sqrt(tolerance) * norm(here), tolerance * norm(here - flat(start)))
    way = way or math.sqrt(tolerance)
    gain, found, further = look(way / size * g)
    if gain > little:
        return gain
    try:
        for _ in range(LOOKS):
            if size * way > rounding and not gain > size * way / 2:
                break
            way *= FURTHER
            gain, found, further = look(way / size * g)
            if gain > little and found.converged:
                return gain
        change = flat(phi.matching("the hypergradient", climb(found, further))) - g
        curvature = -change / (way / size * g)
        own = torch.where((g != 0) & (curvature > 0), g / curvature, 0.0)
        # what moves: a best F of 0 has no size by which a gain could be little
        moves = own.abs() > math.sqrt(tolerance) * torch.maximum(
            here.abs(), (here - flat(start)).abs()
        )
        own = torch.where(moves, own, 0.0)
        if not bool(moves.any()):
            return 0.0
        gains = (look(length * own) for length in LENGTHS)
        return next((gain for gain, found, _ in gains if found.converged and gain > little), 0.0)
    except SolverError:  # too far
        return 0.0


def not_reached(history: Sequence[Record], tolerance: float, further: float = 0.0) -> str:
    """Say why a loop that took all its steps has not converged, but gains `further`."""
    last, largest = history[-1].hypergradient, max(row.hypergradient for row in history)
    reason = f"all {history[-1].step} steps are taken: the hypergradient is {last:.3g}"
    if damped_away(history, tolerance):
        reason += (
            f", and says nothing: the Hessian of J was damped by {history[-1].damping:.3g}, which "
            f"holds {history[-1].held:.2g} of the pull of F on theta; start from a smaller phi, "
            "take shorter steps, or give J a strictly concave term"
        )
    elif further > 0:
        reason += f", and F gains {further:.2g} a little further along it"
    elif tolerance > 0:
        reason += f", {last / largest:.2g} of the largest met, not {tolerance:.2g}"
    open_ = sum(not row.inner_converged for row in history)
    if open_:
        reason += f"; {open_} of {len(history)} inner solves are less accurate than was asked"
    return reason


def _warn_once(history: Sequence[Record]) -> None:
    """Warn of all hypergradients that may be wrong in one message."""
    doubtful = [row for row in history if row.doubts]
    if doubtful:
        last = doubtful[-1]
        warn(
            f"the hypergradient may be wrong at {len(doubtful)} of {len(history)} outer points; at "
            f"step {last.step}: {'; '.join(last.doubts)}",
            stacklevel=5,  # whoever called `solve`, which is `checked` and `recording`
        )


def levels(problem: Bilevel) -> dict[str, Level]:
    """Return the objectives by which a checkpoint tells a problem from another."""
    found: dict[str, Level] = {"J": problem.J, "F": problem.F}
    at = problem.at
    if at is not None:
        found["J by at"] = lambda t, p: at(Leaves.of("phi", p).detached())(t)
    return found


def _checked(
    problem: Bilevel, theta: Tree, phi: Tree, generator: torch.Generator | None
) -> Bilevel:
    """Return the problem with objectives that check what they return, after a first look at it.

    Its `sampled` is looked at where there is a generator, by a copy, which leaves it where it is.
    """

    def J(t: Tree, p: Tree) -> Tensor:
        return number("J", problem.J(t, p))

    def F(t: Tree, p: Tree) -> Tensor:
        return number("F", problem.F(t, p))

    fixed = Leaves.of("phi", phi).detached()  # as it is in an inner problem
    start = f"the start{where(Leaves.of('theta', theta), Leaves.of('phi', phi))}"
    first = finite_number("J", J(theta, fixed), start)
    check_depends("J", first, "theta")
    check_depends("F", finite_number("F", F(theta, phi), start), "theta or phi")
    if problem.sampled is not None and generator is not None:
        drawn = problem.sampled(theta, fixed, generator.clone_state())
        drawn = finite_number("the sampled J", drawn, start)
        check_depends("the sampled J", drawn, "theta")
    if problem.at is not None:
        inner = problem.at(fixed)
        if not callable(inner):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"at(phi) is {shown(inner)}: return a function of theta")
        found = number("at(phi)(theta)", inner(theta))
        check_depends("at(phi)(theta)", found, "theta")
        one, other = first.detach(), found.detach()
        if one.dtype != other.dtype:
            raise InputError(
                f"at(phi)(theta) is {other.dtype}, J(theta, phi) {one.dtype}: use one dtype"
            )
        if not torch.allclose(one, other):
            raise InputError(
                f"at(phi)(theta) is {other.item():.6g} at the start, J(theta, phi) "
                f"{one.item():.6g}: pass an `at` that returns the same as J, or none"
            )
    return replace(problem, J=J, F=F)


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
    J = problem.at(phi) if problem.at is not None else lambda point: problem.J(point, phi)

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
