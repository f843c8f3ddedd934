"""Hypergradients by differentiating through the steps of an inner optimiser.

`K` steps of gradient ascent or Adam on `J` lead from `θ_0` to `θ_K(φ)`; the hypergradient is
`dF(θ_K(φ), φ)/dφ` in reverse mode, through all steps or the last `k` only. It is that of the
solution `θ*(φ)` once the steps have converged: on a quadratic, from `θ*`, the indirect part is
`1 - (1 - ηκ)^k` of the exact one in a direction of curvature `κ`.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch

from ..arguments import checked
from ..errors import InputError, NonFiniteError, check_count, check_limit
from ..numerics.derivatives import curved
from ..numerics.modes import recording
from ..numerics.norms import digits, largest_entry, norm, share
from ..numerics.optimisers import (
    SGD,
    Adam,
    Moments,
    Optimiser,
    Vector,
    check_optimiser,
    stepped,
)
from ..numerics.trees import Leaves, Tree, check_alike, flat
from ..numerics.values import check_depends, number
from .implicit import (
    Hypergradient,
    HypergradientError,
    Level,
    check_twice,
    first_derivatives,
    judged,
    largest_of,
    relative_way,
)

__all__ = ["SGD", "Adam", "Optimiser", "one_step", "unrolled"]


@checked
@recording
def unrolled(
    J: Level,
    F: Level,
    theta: Tree,
    phi: Tree,
    *,
    optimiser: Annotated[Optimiser, check_optimiser],
    steps: int,
    last: int | None = None,
    tolerance: float | None = None,
    distance: float | None = None,
    strict: bool = False,
) -> Hypergradient:
    """Return `dF(θ_K(φ), φ)/dφ`, `θ_K` reached from `theta` by `K` steps of an optimiser on `J`.

    Time is that of `K` gradients and about as many Hessian-vector products as steps
    differentiated; memory grows with these, by a graph of `∂_θJ` for each.

    Args:
        J: inner objective, to be maximised, twice differentiable.
        F: outer objective.
        theta: where the steps start, a tree of tensors of one dtype; it does not vary with `phi`.
        phi: outer variables, a tree of tensors of that dtype.
        optimiser: `SGD` or `Adam`, or another differentiable `Optimiser`.
        steps: `K >= 1`.
        last: how many of the last steps to differentiate, all by default; the earlier ones run
            without a graph, and the point and the moments they lead to count as constants.
        tolerance: on the residual; by default 1e-6, and as large a share of the digits of another
            dtype.
        distance: how far from the inner solution `θ_K` may be, estimated as stationarity over the
            curvature of `J` along its gradient, relative as for `implicit`; by default as
            `tolerance`.
        strict: raise where the default is to warn.

    Returns:
        The hypergradient. Its residual is `‖∂F(θ_K)/∂θ_{K-k}‖ / ‖∂_θF(θ_K)‖`, the share of the
        pull that is left where differentiation began: for `SGD` on a quadratic exactly that of
        the linear system, `‖(I - ηA)^k ∂_θF‖ / ‖∂_θF‖`, `A` the negative Hessian. Its curvature is
        that of `J` along `∂_θJ(θ_K)`, None where this is 0.

    Raises:
        InputError: arguments outside their domain, an optimiser that is none (a class, or one of
            `torch.optim`) or whose step returns something else than a point and a memory.
        NonFiniteError: NaN or infinity in the arguments, the objectives or their derivatives,
            or on the way: the message names the step.
        HypergradientError: the derivative overflows; with `strict`, whatever is warned of
            otherwise.

    Warns:
        HypergradientWarning: `θ_K` is not stationary, or the residual exceeds `tolerance`: the
            value is that of the problem of `K` steps, not of the inner solution. Pass infinity
            for both limits to ask for that.

    Source: new (`analysis.hypergradients.unrolled`).
    """
    check_limit("tolerance", tolerance)
    check_limit("distance", distance)
    check_count("steps", steps)
    last = steps if last is None else last
    check_count("last", last)
    if last > steps:
        raise InputError(f"last is {last}, steps {steps}: pass last <= steps")
    steps, last = int(steps), int(last)
    inner, outer = Leaves.of("theta", theta).fresh(), Leaves.of("phi", phi).fresh()
    check_alike(inner, outer)
    usual = digits(1e-6, inner.tensors[0].dtype)
    tolerance = usual if tolerance is None else float(tolerance)
    distance = usual if distance is None else float(distance)
    point = flat(inner.tensors).detach()
    moments = Moments(torch.zeros_like(point), torch.zeros_like(point))
    for step in range(steps - last):
        slope = _slope(J, inner, point.requires_grad_(), outer, step, graph=False)
        with torch.no_grad():
            point, moments = stepped(optimiser, point, slope, moments)
    begin = end = point.detach().requires_grad_()
    for step in range(steps - last, steps):
        slope = _slope(J, inner, end, outer, step, graph=True)
        end, moments = stepped(optimiser, end, slope, moments)
        check_depends(f"the point of {type(optimiser).__name__}.step", end, "theta or slope")
    if not math.isfinite(largest_entry(end)):
        raise _diverged(steps)

    there = inner.replaced(inner.split(end.detach()))
    final, pull, direct = first_derivatives(J, F, there, outer)
    check_twice(final)
    indirect = torch.autograd.grad(
        end, (begin, *outer.tensors), pull, retain_graph=True, materialize_grads=True
    )
    value = [(a + b).detach() for a, b in zip(direct, indirect[1:], strict=True)]
    if not bool(torch.isfinite(flat((indirect[0], *value))).all()):
        raise HypergradientError(
            f"the derivative of {last} steps overflows at {largest_of(outer)}: the steps "
            "expand distances; pass a smaller learning rate (for Adam, or a larger eps) or a "
            "smaller last"
        )
    curvature = _curvature(final, there)
    result = Hypergradient(
        outer.tangent(value), norm(final), share(indirect[0], pull), last, curvature
    )
    reasons = _doubts(result, J, F, there, outer, steps, tolerance, distance)
    return judged(result, reasons, strict=strict)


@checked
def one_step(
    J: Level,
    F: Level,
    theta: Tree,
    phi: Tree,
    *,
    optimiser: Annotated[Optimiser, check_optimiser],
    tolerance: float | None = None,
    distance: float | None = None,
    strict: bool = False,
) -> Hypergradient:
    """Return `dF(θ_1(φ), φ)/dφ`, the hypergradient through a single step (as in DARTS).

    From the inner solution, the indirect part in a direction of curvature `κ` is `ηκ` of the
    exact one (`SGD`). Arguments, result, errors and warnings are those of `unrolled`.

    Source: Liu, Simonyan, Yang (2019).
    """
    return unrolled(
        J,
        F,
        theta,
        phi,
        optimiser=optimiser,
        steps=1,
        tolerance=tolerance,
        distance=distance,
        strict=strict,
    )


def _slope(
    J: Level, inner: Leaves, point: Vector, outer: Leaves, step: int, *, graph: bool
) -> Vector:
    """Return `∂_θJ` at a flat point, checked."""
    if not math.isfinite(largest_entry(point)):
        raise _diverged(step)
    value = number("J", J(inner.tree(inner.split(point)), outer.tree()))
    check_depends("J", value, "theta or phi")
    (slope,) = torch.autograd.grad(value, [point], create_graph=graph, materialize_grads=True)
    if not (math.isfinite(value.item()) and math.isfinite(largest_entry(slope))):
        raise NonFiniteError(
            f"J or ∂J/∂θ is not finite at theta after {step} steps: start inside the domain of "
            f"J, or pass a smaller learning rate (phi is as large as {largest_of(outer)})"
        )
    return slope


def _curvature(slope: Vector, inner: Leaves) -> float | None:
    """Return `gᵀ(-∂²_{θθ}J)g/gᵀg` along `g = ∂_θJ`, None where `g` is 0."""
    size = slope.detach().abs().amax()
    if size == 0:
        return None
    direction = slope.detach() / size
    bent = curved(slope, inner.tensors, -direction)
    return float(direction @ bent / (direction @ direction))


def _doubts(
    result: Hypergradient,
    J: Level,
    F: Level,
    inner: Leaves,
    outer: Leaves,
    steps: int,
    tolerance: float,
    distance: float,
) -> list[str]:
    """Say why the value may not be that of the inner solution."""
    doubts: list[str] = []
    bend, through = result.curvature, result.iterations
    instead = f"so that the value is that of the problem of {steps} steps, not of its solution"
    if bend is not None:
        away = result.stationarity / bend if bend > 0 else math.inf
        if relative_way(J, F, inner, outer, away, distance) > distance:
            doubts.append(
                f"after {steps} steps the inner gradient is {result.stationarity:.3g} and the "
                f"curvature along it {bend:.3g}: theta is about {away:.3g} from the inner "
                f"solution, {instead}; take more steps, or pass a larger distance"
            )
    assert result.residual is not None
    if result.residual > tolerance:
        doubts.append(
            f"{result.residual:.3g} of the pull is left after the {through} steps differentiated, "
            f"{instead}; differentiate more of them, or pass a larger tolerance"
        )
    return doubts


def _diverged(step: int) -> NonFiniteError:
    return NonFiniteError(
        f"theta is not finite after {step} steps: the optimiser diverges; pass a smaller learning "
        "rate"
    )
