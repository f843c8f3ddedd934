"""Hypergradients from first derivatives only, by a penalty on the inner problem.

With `θ_ς = argmax_θ F + ςJ`, the derivative of `max_θ (F + ςJ) - ς max_θ J` in `φ` is, by the
envelope theorem,

    ∂_φF(θ_ς) + ς [∂_φJ(θ_ς) - ∂_φJ(θ*)],

which differs from the hypergradient by `O(1/ς)`: on a quadratic, by the factor `ςκ/(ν + ςκ)` on
the indirect part, `κ` and `ν` the curvatures of `J` and `F`. Too large a weight loses digits: the
bracket is a difference of two numbers that agree to about `1/ς`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import checked
from ..errors import check_count, check_number
from ..numerics import minimise
from ..numerics.modes import recording
from ..numerics.norms import largest_entry, norm, share
from ..numerics.trees import Leaves, Tree, check_alike, flat
from .implicit import (
    Hypergradient,
    HypergradientError,
    Level,
    first_derivatives,
    judged,
    largest_of,
)

# How far to solve for θ_ς, relative to the force ∂_θF/ς that moves it from θ*.
CLOSE, ENOUGH = 1e-3, 1e-10


@checked
@recording
def penalty(
    J: Level,
    F: Level,
    theta: Tree,
    phi: Tree,
    *,
    weight: float,
    tolerance: float = 1e-2,
    max_iterations: int = 2000,
    strict: bool = False,
) -> Hypergradient:
    """Return `∂_φF(θ_ς) + ς [∂_φJ(θ_ς) - ∂_φJ(θ*)]`, `θ_ς = argmax_θ F + ςJ`.

    The formula needs no second derivatives. The search for `θ_ς`, by L-BFGS on `J + F/ς` from
    `theta`, is finished by Newton steps, which take Hessian-vector products: function values do
    not resolve a distance of order `1/ς`.

    Args:
        J: inner objective, maximised by `theta`.
        F: outer objective.
        theta: inner solution `θ*`, a tree of tensors of one dtype. An error `e` in it costs
            `ςe`: solve well, or see the residual.
        phi: outer variables, a tree of tensors of that dtype.
        weight: `ς > 0`, in units of `F` over `J`: large against the curvature of `F` over that of
            `J`, and small against the inverse of the precision.
        tolerance: on the residual.
        max_iterations: limit on the evaluations spent on `θ_ς`.
        strict: raise where the default is to warn.

    Returns:
        The hypergradient. Its stationarity is the larger of `‖∂_θJ(θ*)‖` and
        `‖∂_θ(J + F/ς)(θ_ς)‖`, both in units of `∂_θJ`. Its residual is that of the linear system
        at `v = ς(θ_ς - θ*)`, with the change of `∂_θJ` in place of the Hessian:
        `‖∂_θF(θ*) - ς[∂_θJ(θ*) - ∂_θJ(θ_ς)]‖ / ‖∂_θF(θ*)‖`. It holds the bias and the errors of
        both points. Iterations count the evaluations spent on `θ_ς`; curvature is None.

    Raises:
        InputError: arguments outside their domain.
        NonFiniteError: NaN or infinity in the arguments, the objectives or their derivatives.
        HypergradientError: `F + ςJ` has no maximum near `theta`; with `strict`, whatever is
            warned of otherwise.

    Warns:
        HypergradientWarning: the residual exceeds `tolerance`, for the weight is too small or a
            point not stationary; or rounding does, for the weight is too large.

    Source: Kwon, Kwon, Wright, Nowak (2023).
    """
    weight = check_number("weight", weight, positive=True)
    tolerance = check_number("tolerance", tolerance, 0.0, infinite=True)
    check_count("max_iterations", max_iterations)
    inner, outer = Leaves.of("theta", theta).fresh(), Leaves.of("phi", phi).fresh()
    check_alike(inner, outer)
    slope, pull, near = _derivatives(J, F, inner, outer)
    moved, spent = _tracked(J, F, inner, outer, weight, pull, max_iterations)
    moved_slope, moved_pull, far = _derivatives(J, F, moved, outer)
    indirect = difference(far[0], near[0], weight)
    direct = far[1]
    value = direct + indirect
    if not bool(torch.isfinite(value).all()):
        raise HypergradientError(
            f"the value overflows at weight {weight:.3g} and {largest_of(outer)}: pass a smaller "
            "weight, or move the point inside the domain"
        )
    left = moved_slope + moved_pull / weight
    residual = share(pull - weight * (slope - moved_slope), pull)
    stationarity = max(norm(slope), norm(left))
    result = Hypergradient(outer.tangent(outer.split(value)), stationarity, residual, spent, None)
    doubts: list[str] = []
    if residual > tolerance:
        doubts.append(
            f"the residual is {residual:.3g}, not {tolerance:.3g}: of it, "
            f"{share(moved_pull - pull, pull):.3g} is bias, which a larger weight than "
            f"{weight:.3g} would reduce, and {share(weight * slope, pull):.3g} and "
            f"{share(weight * left, pull):.3g} come from the gradients left at theta and at the "
            "maximum of F + weight J, which training on or more max_iterations would"
        )
    rounding = torch.finfo(value.dtype).eps * weight * norm(near[0])
    if rounding > tolerance * max(norm(direct), norm(indirect)):
        doubts.append(
            f"rounding of dJ/dphi times the weight {weight:.3g} is {rounding:.3g}, the value "
            f"{norm(value):.3g}: pass a smaller weight"
        )
    return judged(result, doubts, strict=strict)


def difference(moved: Tensor, still: Tensor, weight: float) -> Tensor:
    """Return `ς [∂_φJ(θ_ς) - ∂_φJ(θ*)]`, the indirect part."""
    return weight * (moved - still)


def _derivatives(
    J: Level, F: Level, inner: Leaves, outer: Leaves
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return `∂_θJ`, `∂_θF` and `(∂_φJ, ∂_φF)`, all flat and checked."""
    slope, pull, direct = first_derivatives(J, F, inner, outer)
    value = J(inner.tree(), outer.tree())
    mixed = flat(torch.autograd.grad(value, outer.tensors, materialize_grads=True))
    return slope.detach(), pull, (mixed, flat(direct))


def _tracked(
    J: Level,
    F: Level,
    inner: Leaves,
    outer: Leaves,
    weight: float,
    pull: Tensor,
    limit: int,
) -> tuple[Leaves, int]:
    """Return `θ_ς`, found from `θ*`, and the evaluations it took."""
    moved = inner.fresh()
    theta, phi = moved.tree(), outer.tree([t.detach() for t in outer.tensors])

    def loss() -> Tensor:
        return -(J(theta, phi) + F(theta, phi) / weight)

    start, enough = flat(inner.tensors).detach(), ENOUGH * largest_entry(pull) / weight
    # L-BFGS only comes close, and leaves evaluations to the Newton steps should it get stuck
    spent = minimise.lbfgs(moved.tensors, loss, CLOSE, limit // 2)
    stop = minimise.newton(moved.tensors, loss, start, 0.0, limit - spent, enough=enough)
    if not all(bool(torch.isfinite(t).all()) for t in moved.tensors):
        raise HypergradientError(
            f"F + {weight:.3g} J has no maximum near theta at {largest_of(outer)}: pass a larger "
            "weight"
        )
    return moved, spent + stop.evaluations
