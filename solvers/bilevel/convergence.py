"""When an outer loop has converged: what is recorded of its steps, and what that says.

The hypergradient must be small beside the largest met, or below the resolution of `F`; and `F` must
gain nothing a little further along it. Neither changes with the units of `F`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SolverError
from ..hypergradients.implicit import Hypergradient
from ..numerics.norms import norm
from ..numerics.solution import Solution
from ..numerics.trees import Leaves, Tree, flat
from .inner_solve import Exact, Inexact, solve_inner
from .problem import Bilevel

FURTHER, LOOKS = 32.0, 12  # how much further each look for a gain goes, and how many there are
HELD = 0.9  # of the pull of F, by damping alone: of a hypergradient that says nothing
LENGTHS = (1.0, 1 / 16)  # parts of a step in which every entry has its own curvature


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

    One that the damping of the Hessian has made small is not: it says nothing. Nor is one at which
    `F` has fallen below where the loop began.

    Args:
        history: of the loop so far.
        size: `‖φ‖` at its last point.
        tolerance: relative to the largest hypergradient met; with 0 nothing but 0 is 0.
        dtype: of the objective.
    """
    last, largest = history[-1].hypergradient, max(row.hypergradient for row in history)
    if damped_away(history, tolerance) or fallen(history, tolerance):
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


def fallen(history: Sequence[Record], tolerance: float) -> bool:
    """Return whether `F` has fallen since the start, by more than what inner solves leave open.

    Long steps lead there: over a fold, behind which the inner problem has another solution.
    """
    start, last = history[0].F, history[-1].F
    return start - last > math.sqrt(tolerance) * max(abs(start), abs(last))


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
    from the start where that is more; of a maximum along the line, half of it may be missing. Where
    `F` gains nothing there, but the slope predicts it, the maximum may be nearer, and so are the
    next looks, up to where the slope predicts nothing. While `F` gains what the slope predicts, or
    rounding hides whether it does, the maximum is further away, and so is the next look.

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
    way_up = abs(F - history[0].F)
    eps = torch.finfo(here.dtype).eps
    rounding = 8 * eps * abs(F)
    little = rounding + tolerance * min(abs(F), way_up)

    def look(step: Tensor) -> tuple[float, Solution[tuple[Tensor, ...]], Tree]:
        further = phi.moved(phi.split(step), 1.0).detached()
        found = solve_inner(problem, theta, theta.tensors, further, inner)
        return problem.F(theta.tree(found.value), further).item() - F, found, further

    way = max(math.sqrt(tolerance) * norm(here), tolerance * norm(here - flat(start)))
    way = way or math.sqrt(tolerance)
    gain, found, further = look(way / size * g)
    if gain > little:
        return gain
    # beside a best F of 0 every gain is large: then what an error of `tolerance` leaves open counts
    seen = little if abs(F) > 8 * eps * way_up else max(little, tolerance**2 * way_up)
    near = way / FURTHER
    while size * near > seen:
        nearer, solved, _ = look(near / size * g)
        if nearer > seen and solved.converged:
            return nearer
        near /= FURTHER
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
    elif fallen(history, tolerance):
        reason += (
            f", and F has fallen from {history[0].F:.6g} to {history[-1].F:.6g}: take shorter steps"
        )
    elif further > 0:
        reason += f", and F gains {further:.2g} a little further along it"
    elif tolerance > 0:
        reason += f", {last / largest:.2g} of the largest met, not {tolerance:.2g}"
    open_ = sum(not row.inner_converged for row in history)
    if open_:
        reason += f"; {open_} of {len(history)} inner solves are less accurate than was asked"
    return reason
