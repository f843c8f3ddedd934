"""Hypergradients: how the outer objective changes with the reward, through the inner solution.

With `θ*(φ) = argmax_θ J(θ, φ)` and an outer objective `F(θ, φ)`, the implicit function theorem
gives

    dF/dφ = ∂_φF + (∂²_{φθ}J) v,    (-∂²_{θθ}J) v = ∂_θF    at θ*.

`implicit` solves the linear system. `unrolled` differentiates through the steps of an optimiser
instead, `penalty` uses first derivatives only. All return a `Hypergradient`, which says how far to
trust it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..arguments import checked
from ..errors import (
    InputError,
    NonFiniteError,
    NotPositiveDefiniteError,
    SolverError,
    check_choice,
    check_count,
    check_limit,
    check_number,
    warn,
)
from ..numerics import linear_solve
from ..numerics.derivatives import curved, hessian, slopes
from ..numerics.linear_solve import Solve
from ..numerics.modes import recording
from ..numerics.norms import digits, largest_entry, norm, share
from ..numerics.trees import Leaves, Tree, check_alike, flat, joined
from ..numerics.values import check_depends, finite_number

Level = Callable[[Tree, Tree], Tensor]
"""`J(θ, φ)` or `F(θ, φ)`: a number, to be maximised in `θ` or `φ`."""

Method = Literal["auto", "dense", "cg", "neumann", "nystrom", "nystrom-cg"]
METHODS: tuple[Method, ...] = ("auto", "dense", "cg", "neumann", "nystrom", "nystrom-cg")
DENSE = 200  # up to this many inner parameters the Hessian is built and factored
SLIGHT, FIRM = 1e-6, 1e-3  # of the largest curvature, see `damping`


NO_CURVATURE = (
    "J has no second derivative in theta there: it is linear, has kinks alone (abs, relu), or is "
    "made of a function whose backward cannot be differentiated; pass a J that is strictly concave "
    "and twice differentiable, or use Unrolled, for the steps of an optimiser"
)


class HypergradientWarning(UserWarning):
    """A hypergradient that may be wrong; the message says why, and what to do."""


class HypergradientError(SolverError, RuntimeError):
    """The same, with `strict=True`; or a linear system without a finite solution."""


@dataclass(frozen=True)
class Hypergradient:
    """`dF/dφ`, and how far to trust it: an `Answer` (see `numerics.solution`).

    Attributes:
        value: the hypergradient, a tree like `φ`.
        stationarity: `‖∂_θJ‖` at the inner point; the formulas hold where it is 0.
        residual: `‖∂_θF - A v‖/‖∂_θF‖`, `A` the (damped) negative Hessian, computed from the
            final `v`; `unrolled` and `penalty` report the same quantity for the `v` that they
            imply; None where there is none.
        iterations: Hessian-vector products (implicit), or steps differentiated (unrolled).
        curvature: smallest `dᵀ(-∂²_{θθ}J)d/dᵀd` met; None where none was met.
        damping: added to the negative Hessian, or, where "auto" found it for "dense", this share of
            the sizes on its diagonal; the value is that of another problem unless 0.
        doubts: why the value may be wrong, in words; none where there is no reason to think so.
        held: `‖∂_θF + ∂²_{θθ}J v‖/‖∂_θF‖` where damping is added, the residual of the system
            without it: near 1 the damping alone holds the pull of `F`, and the value says nothing.
        pull: `‖∂_θF‖`, of `implicit`.
    """

    value: Tree
    stationarity: float
    residual: float | None
    iterations: int
    curvature: float | None
    damping: float = 0.0
    doubts: tuple[str, ...] = ()
    held: float = 0.0
    pull: float = 0.0

    @property
    def converged(self) -> bool:
        """Whether there is no reason to doubt the value."""
        return not self.doubts

    @property
    def reason(self) -> str:
        """The doubts, in one sentence."""
        return "; ".join(self.doubts) or "there is no reason to doubt the value"


@checked
@recording
def implicit(
    J: Level,
    F: Level,
    theta: Tree,
    phi: Tree,
    *,
    method: Method = "auto",
    tolerance: float | None = None,
    max_iterations: int | None = None,
    damping: float | Literal["auto"] = 0.0,
    rank: int = 20,
    step: float | None = None,
    generator: torch.Generator | None = None,
    distance: float | None = None,
    strict: bool = False,
) -> Hypergradient:
    """Return `dF/dφ = ∂_φF + (∂²_{φθ}J) v`, `(-∂²_{θθ}J + damping I) v = ∂_θF`.

    Args:
        J: inner objective, maximised by `theta`, twice differentiable.
        F: outer objective.
        theta: inner solution, a tree of tensors of one dtype.
        phi: outer variables, a tree of tensors of that dtype. Frozen leaves of either tree (see
            `trees.Leaves`) are constants, and the hypergradient in those of `phi` is 0.
        method: of the linear system: "dense" (Cholesky), "cg", "neumann", "nystrom" (a low-rank
            approximation of the Hessian in its place: inexact, needs `damping`), "nystrom-cg"
            (CG preconditioned by it); "auto" is dense up to `DENSE` parameters, else CG.
        tolerance: on the relative residual of the linear system; by default 1e-10, and as large a
            share of the digits of another dtype.
        max_iterations: limit of the iterative methods.
        damping: added to the diagonal of the negative Hessian; needed where that is singular, as
            for networks. The result is then that of the damped system, and says so. "auto" adds
            nothing where the system is positive definite, and otherwise about as little as the
            method affords: with "dense", where each parameter is in the unit in which its own
            curvature is 1, and so is the damping, twice the negative curvature and `SLIGHT`; with
            "cg", `FIRM` of the largest one, and ten times as much while
            directions of negative curvature, or more than `max_iterations` products, remain.
        rank: of the Nyström approximation.
        step: of the Neumann series; by default found by power iteration.
        generator: of the Nyström sketch, needed by its methods.
        distance: how far from the inner solution `theta` may be, estimated as stationarity over
            curvature, relative to `‖θ‖`, or where `‖θ‖` says little, as near 0, to the way over
            which derivatives change as much as they are large (see `variation`); by default 1e-6,
            and likewise. It has no units.
        strict: raise where the default is to warn.

    Returns:
        The hypergradient with its diagnostics.

    Raises:
        InputError: arguments outside their domain.
        NonFiniteError: NaN or infinity in the arguments, the objectives or their derivatives.
        HypergradientError: no finite solution; with `strict`, whatever is warned of otherwise.

    Warns:
        HypergradientWarning: the inner point is not stationary, the linear system is not solved
            to `tolerance`, or the inner problem is not strictly concave at the point.

    Source: paper (implicit differentiation).
    """
    check_choice("method", method, METHODS)
    damping = check_damping(method, damping)
    check_limit("tolerance", tolerance)
    check_limit("distance", distance)
    if max_iterations is not None:
        check_count("max_iterations", max_iterations)
    check_count("rank", rank)
    if step is not None:
        check_number("step", step, positive=True)
    needs_sketch = method in ("nystrom", "nystrom-cg")
    if needs_sketch and generator is None:
        raise InputError(f"method {method!r} draws a random sketch: pass generator")
    inner, outer = Leaves.of("theta", theta).fresh(), Leaves.of("phi", phi).fresh()
    check_alike(inner, outer)
    dtype = inner.tensors[0].dtype
    tolerance = digits(1e-10, dtype) if tolerance is None else float(tolerance)
    distance = digits(1e-6, dtype) if distance is None else float(distance)
    automatic = damping == "auto"
    slope, pull, direct = first_derivatives(J, F, inner, outer)
    check_twice(slope)
    lowest: float | None = None
    A: Tensor | None = None
    if method == "auto":
        method = "dense" if len(slope) <= DENSE else "cg"

    def product(v: Tensor, damping: float = 0.0) -> Tensor:
        turned = -curved(slope, inner.tensors, v)
        return turned.add_(v, alpha=damping) if damping else turned

    def by_cg(damping: float) -> Solve:
        return linear_solve.cg(
            lambda v: product(v, damping), pull, tolerance=tolerance, max_iterations=max_iterations
        )

    if method == "dense":
        A = -hessian(slope, inner.tensors)
        damping = _least_damping(A) if damping == "auto" else damping
        lowest = float(torch.linalg.eigvalsh(A)[0]) if automatic and damping > 0 else None
        A.diagonal().add_(damping * linear_solve.units(A).square() if automatic else damping)
        solve = linear_solve.dense(A, pull)
    elif damping == "auto":
        solve, damping = _raised(by_cg, tolerance)
    elif method == "neumann":
        solve = linear_solve.neumann(
            lambda v: product(v, damping),
            pull,
            tolerance=tolerance,
            max_iterations=max_iterations,
            step=step,
        )
    elif needs_sketch:
        assert generator is not None
        solve = _with_sketch(
            method,
            lambda v: product(v, damping),
            pull,
            rank,
            damping,
            generator,
            tolerance,
            max_iterations,
        )
    else:
        solve = by_cg(damping)
    curvature = solve.curvature - damping if lowest is None else lowest
    finite = math.isfinite(solve.residual) and bool(torch.isfinite(solve.x).all())
    # a curvature met that is not exactly 0 is a second derivative
    bent = curvature not in (0.0, math.inf) or not bool(pull.any()) or bool(product(pull).any())
    if not finite:
        if step is not None and method == "neumann" and bent:
            raise _too_long(step, product, pull, damping)
        raise HypergradientError(
            NO_CURVATURE
            if not bent
            else "the linear system has no finite solution (residual "
            f"{solve.residual:.3g}, curvature {solve.curvature:.3g}): the Hessian of J is singular "
            "at theta; pass damping > 0, or remove parameters J does not depend on"
        )
    if step is not None and method == "neumann" and solve.residual > 1:
        raise _too_long(step, product, pull, damping)
    held = share(pull - product(solve.x), pull) if damping > 0 else 0.0
    mixed = torch.autograd.grad(slope, outer.tensors, solve.x, materialize_grads=True)
    check_derivatives({"∂²J/∂φ∂θ v": flat(mixed)}, inner, outer)
    value = outer.tangent([(a + b).detach() for a, b in zip(direct, mixed, strict=True)])
    result = Hypergradient(
        value, norm(slope), solve.residual, solve.iterations, curvature, damping,
        held=held, pull=norm(pull),
    )  # fmt: skip
    if A is not None and solve.curvature > 0:
        near = _newton_distance(A, slope.detach(), inner) <= distance
        distance = math.inf if near else distance
    if not bent:
        return judged(result, [NO_CURVATURE], strict=strict)
    reasons = doubts(result, solve.curvature, J, F, inner, outer, tolerance, distance)
    if automatic and damping > 0:
        units = "" if lowest is None else " of the curvature along each parameter"
        found = f"J is not strictly concave at theta, curvature {curvature:.3g}"
        if lowest is None and curvature > 0:
            found = (
                "CG does not arrive without damping, the curvatures of J are that far apart, from "
                f"{curvature:.3g} to {solve.largest - damping:.3g}"
            )
        reasons.append(
            f"{found}: the value is that of the problem damped by {damping:.3g}{units}; give J a "
            "strictly concave term, or use solvers.hypergradients.functional where the policy is "
            "Gaussian"
        )
    return judged(result, reasons, strict=strict)


def check_damping(method: Method, damping: object) -> float | Literal["auto"]:
    """Return a damping, after checking that it is one, and that the method affords it.

    Raises:
        InputError: neither a number >= 0 nor "auto"; or "auto" with a method that cannot tell
            whether it is needed, or 0 with one that needs it.
    """
    if isinstance(damping, str) and damping == "auto":
        if method not in ("auto", "dense", "cg"):
            raise InputError(
                f"damping 'auto' goes with 'dense' and 'cg': pass a number to {method!r}"
            )
        return "auto"
    size = check_number("damping", damping, 0.0, instead="'auto'")
    if method == "nystrom" and size == 0:
        raise InputError("method 'nystrom' inverts a low-rank matrix: pass damping > 0")
    return size


def first_derivatives(
    J: Level, F: Level, inner: Leaves, outer: Leaves
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Return `∂_θJ` with its graph, `∂_θF`, both flat, and `∂_φF`.

    Raises:
        ShapeError, InputError: an objective is not a single real number (see `values.number`).
        NonFiniteError: an objective or a derivative is NaN or infinite.
        InputError: an objective depends on none of its arguments.
    """
    theta, phi = inner.tree(), outer.tree()
    values = {
        name: finite_number(name, objective(theta, phi), f"the given point{where(inner, outer)}")
        for name, objective in (("J", J), ("F", F))
    }
    for name, value in values.items():
        check_depends(name, value, "theta or phi")
    slope = joined(slopes(values["J"], inner.tensors, create_graph=True))
    if not slope.requires_grad:  # J is linear in θ: the Hessian is 0
        slope = slope + 0 * flat(inner.tensors)
    both = (*inner.tensors, *outer.tensors)
    unused = torch.autograd.grad(values["F"], both, allow_unused=True)
    found = cast(tuple[Tensor | None, ...], unused)  # None where F does not depend on one
    if all(part is None for part in found):  # but on parameters that it holds itself
        raise InputError(
            "F does not depend on theta or phi: build it from its arguments, a module by "
            "torch.func.functional_call(module, theta, inputs)"
        )
    pulls = tuple(torch.zeros_like(t) if p is None else p for t, p in zip(both, found, strict=True))
    pull, direct = flat(pulls[: len(inner.tensors)]), pulls[len(inner.tensors) :]
    found_here = {"∂J/∂θ": slope, "∂F/∂θ": pull, "∂F/∂φ": flat(direct)}
    check_derivatives(found_here, inner, outer)
    return slope, pull, direct


def check_twice(slope: Tensor) -> None:
    """Raise `HypergradientError` where a part of `∂_θJ` is marked as `once_differentiable`.

    Torch leaves an error in its graph, beside the way to `θ`: derivatives go past it, without it.
    """
    seen: set[Any] = set()
    left: list[Any] = [slope.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            raise HypergradientError(NO_CURVATURE)
        seen.add(node)
        left += [parent for parent, _ in node.next_functions]


def check_derivatives(derivatives: Mapping[str, Tensor], inner: Leaves, outer: Leaves) -> None:
    """Raise `NonFiniteError` where one has an entry that is none; the message names the point."""
    for name, value in derivatives.items():
        if not bool(torch.isfinite(value).all()):
            raise NonFiniteError(
                f"{name} has an entry that is not finite at the given point{where(inner, outer)}: "
                "move it inside the domain"
            )


def where(inner: Leaves, outer: Leaves) -> str:
    """Return the largest entries of a point by name, for messages: what is extreme, if anything."""
    return f", whose largest entries are {largest_of(inner)} and {largest_of(outer)}"


def largest_of(leaves: Leaves) -> str:
    """Return the largest entry of a tree by its name and index, as in `phi['u'][1] = 800`."""
    sizes = [largest_entry(t) if t.numel() else -1.0 for t in leaves.tensors]
    place = max(range(len(sizes)), key=lambda k: sizes[k])
    name, t = leaves.names[place], leaves.tensors[place].detach()
    if not t.numel():
        return f"none of {name}, which is empty"
    index = [int(i) for i in torch.unravel_index(t.abs().argmax(), t.shape)]
    return f"{name}{index or ''} = {t[tuple(index)].item():.6g}"


def doubts(
    result: Hypergradient,
    bend: float,
    J: Level,
    F: Level,
    inner: Leaves,
    outer: Leaves,
    tolerance: float,
    distance: float,
) -> list[str]:
    """Say why a hypergradient by implicit differentiation may be wrong.

    `bend` is the smallest curvature met of the system that was solved, damping included.
    """
    faults: list[str] = []
    if bend <= 0:
        faults.append(
            f"curvature {result.curvature:.3g}: J is not strictly concave at theta, which is no "
            f"inner maximum, or one of many; train on, or pass damping > "
            f"{-(result.curvature or 0.0):.3g}"
        )
    else:
        away = result.stationarity / bend
        far = relative_way(J, F, inner, outer, away, distance)
        if far > distance:
            faults.append(
                f"the inner gradient is {result.stationarity:.3g}: theta is about {away:.3g} from "
                f"the inner solution; train on, or pass distance={far:.1g}"
            )
    if result.residual is not None and not result.residual <= tolerance:
        faults.append(
            f"the linear system is solved to {result.residual:.3g}, not to {tolerance:.3g}, after "
            f"{result.iterations} products; raise max_iterations or tolerance, or another method"
        )
    return faults


def _newton_distance(A: Tensor, slope: Tensor, inner: Leaves) -> float:
    """Return `‖s‖/‖θ‖` in the norm of `A`, `s` the Newton step: the same in any units of `θ`."""
    scaled, d = linear_solve.scaled(A)
    theta = flat(inner.tensors).detach() * d
    size = norm(theta)
    if size == 0:
        return math.inf
    step, unit = linear_solve.dense(scaled, slope / d).x, theta / size
    return (
        math.sqrt(max(float(slope / d @ step), 0.0) / max(float(unit @ scaled @ unit), 0.0)) / size
    )


def relative_way(
    J: Level, F: Level, inner: Leaves, outer: Leaves, away: float, enough: float
) -> float:
    """Return how far `away` is, relative to `‖θ‖`, or by `variation` where that is less.

    The second is looked at only where the first is more than `enough`.
    """
    size = norm(flat(inner.tensors))
    by_size = 0.0 if away == 0 else away / size if size > 0 else math.inf
    return by_size if by_size <= enough else min(by_size, away * variation(J, F, inner, outer))


def variation(J: Level, F: Level, inner: Leaves, outer: Leaves) -> float:
    """Return how much `∂_θF` and `∂²_{θθ}J` change on a way along `∂_θJ`, relative to themselves.

    Per unit of the way `g`, `‖∂²_{θθ}F g‖/‖∂_θF‖ + ‖∂_θ(gᵀ ∂²_{θθ}J g)‖/‖∂²_{θθ}J g‖`: what the
    formula takes at `θ` in place of the solution. It changes with the unit of `θ` alone, and needs
    no `θ` that is not 0.
    """
    theta, phi = inner.tree(), outer.tree()
    slope = joined(slopes(J(theta, phi), inner.tensors, create_graph=True))
    size = norm(slope)
    if size == 0:
        return 0.0
    along = slope.detach() / size
    pull = joined(slopes(F(theta, phi), inner.tensors, create_graph=True))
    found = share(curved(pull, inner.tensors, along), pull)
    if slope.requires_grad:
        bent = torch.autograd.grad(
            slope, inner.tensors, along, create_graph=True, materialize_grads=True
        )
        bend = joined(bent)
        if bend.requires_grad:
            found += share(flat(slopes(bend @ along, inner.tensors)), bend)
    return found


_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def unwarned() -> Generator[None]:
    """Inside, doubts stand in results alone: nothing is warned of, in this thread.

    (`warnings.catch_warnings` changes the filters of all threads, and two that leave it in another
    order than they came leave them changed.)
    """
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


def warn_of_doubts(message: str) -> None:
    """Warn of hypergradients, unless this thread is `unwarned`."""
    if not _SILENT.get():
        warn(message, HypergradientWarning)


def judged(result: Hypergradient, reasons: list[str], *, strict: bool) -> Hypergradient:
    """Return the hypergradient with these doubts; warn of them, or with `strict` refuse it."""
    if reasons:
        message = "the hypergradient may be wrong: " + "; ".join(reasons)
        if strict:
            raise HypergradientError(message)
        warn_of_doubts(message)
    return replace(result, doubts=tuple(reasons))


def _too_long(
    step: float, product: Callable[[Tensor, float], Tensor], pull: Tensor, damping: float
) -> HypergradientError:
    """Return the error of a Neumann series that diverges, or says that `J` is not concave."""
    largest, _ = linear_solve.largest_eigenvalue(lambda v: product(v, damping), pull)
    if step * largest < 2:
        return HypergradientError(
            "the Neumann series diverges: J is not strictly concave at theta; train on, or pass "
            "damping > 0"
        )
    return HypergradientError(
        f"the Neumann series diverges: step is {step:.3g}, and the largest curvature of J about "
        f"{largest:.3g}; pass a step below 2/{largest:.3g} = {2 / largest:.3g}, or None, to find it"
    )


def _least_damping(A: Tensor) -> float:
    """Return 0 if `A` is positive definite, else what makes it so with a margin."""
    w = torch.linalg.eigvalsh(linear_solve.scaled(A)[0])
    smallest, largest = float(w[0]), float(w.abs().amax())
    if smallest > linear_solve.resolution(A) * largest:
        return 0.0
    return 2 * max(-smallest, 0.0) + SLIGHT


def _raised(by_cg: Callable[[float], Solve], tolerance: float) -> tuple[Solve, float]:
    """Solve with more and more damping, until CG meets no negative curvature and arrives.

    The curvature is the smallest that any attempt has met.
    """
    solve, damping = by_cg(0.0), 0.0
    least, largest = solve.curvature, max(solve.largest, -solve.curvature)
    spent = solve.iterations
    while (
        largest > 0
        and damping <= largest
        and not (solve.curvature > 0 and solve.residual <= tolerance)
    ):
        damping = 10 * damping if damping > 0 else max(FIRM * largest, -2 * solve.curvature)
        solve = by_cg(damping)
        spent += solve.iterations
        # CG that met a negative curvature has seen few of them: learn from every attempt
        largest = max(largest, solve.largest - damping, damping - solve.curvature)
        least = min(least, solve.curvature - damping)
    return replace(solve, iterations=spent, curvature=least + damping), damping


def _with_sketch(
    method: Method,
    product: Callable[[Tensor], Tensor],
    pull: Tensor,
    rank: int,
    damping: float,
    generator: torch.Generator,
    tolerance: float,
    max_iterations: int | None,
) -> Solve:
    """Solve with a Nyström approximation: in place of the Hessian, or as preconditioner."""
    try:
        sketch = linear_solve.nystrom(lambda v: product(v) - damping * v, pull, rank, generator)
    except NotPositiveDefiniteError as error:
        raise HypergradientError(f"J is not concave at theta: of its Hessian, {error}") from error
    if method == "nystrom":
        x = sketch.inverse(pull, damping)
        residual = share(pull - product(x), pull)
        unit = x / norm(x) if bool(x.any()) else x
        bend = float(unit @ product(unit) / (unit @ unit)) if bool(x.any()) else math.inf
        return Solve(x, residual, sketch.products + 2, bend)
    solve = linear_solve.cg(
        product,
        pull,
        tolerance=tolerance,
        max_iterations=max_iterations,
        precondition=lambda r: sketch.precondition(r, damping),
    )
    return Solve(solve.x, solve.residual, solve.iterations + sketch.products, solve.curvature)
