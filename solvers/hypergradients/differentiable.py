"""The inner solution as a differentiable function `φ -> θ*(φ) = argmax_θ J(θ, φ)`.

Forward, J is maximised numerically; backward, the implicit function theorem gives

    (∂θ*/∂φ)ᵀ g = (∂²_{φθ}J) v,    (-∂²_{θθ}J) v = g    at θ*,

written in differentiable operations of `θ*`, `φ` and `g`, so that second derivatives follow from
the first. The Hessian is dense: meant for up to some hundreds of inner parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]

from ..arguments import checked
from ..errors import (
    InputError,
    NonFiniteError,
    SolverError,
    check_count,
    check_finite,
    check_limit,
)
from ..numerics import linear_solve, minimise
from ..numerics.norms import digits
from ..numerics.trees import Leaves, Tree, check_alike, flat
from ..numerics.values import check_depends, check_repeats, finite_number, number
from .implicit import Level, where


class InnerSolutionError(SolverError, RuntimeError):
    """`J` has no strict maximum where the search ended, or the search did not end."""


@checked
def inner_solution(
    J: Level,
    theta0: Tree,
    phi: Tree,
    *,
    methods: Sequence[minimise.Method] | None = None,
    tolerance: float | None = None,
    max_iterations: int = 2000,
) -> Tree:
    """Return `θ*(φ) = argmax_θ J(θ, φ)`, differentiable in `φ` any number of times.

    Works under `torch.autograd` and under `torch.func` (`grad`, `jacrev`, `vmap`: one search for
    each element of the batch). Anything else `J` is to be differentiated or mapped in belongs
    into `phi`, too. Forward mode (`torch.func.jvp`, `jacfwd`) is refused by torch itself.

    Args:
        J: inner objective, strictly concave near its maximum, three times differentiable for
            second derivatives; made of operations `torch.func` can differentiate and map.
        theta0: starting point, a tree of floating-point tensors; the result does not depend on it
            smoothly, so its gradient is 0.
        phi: outer variables, a tree of tensors of the same dtype.
        methods: of the search, from `numerics.minimise`; Newton steps go on from there to the
            resolution of the dtype.
        tolerance: on the distance of the solution (see `solution.Solution`); by default 1e-8, and
            as large a share of the digits of another dtype.
        max_iterations: evaluations of gradients and Hessian-vector products.

    Returns:
        `θ*`, a tree like `theta0`.

    Raises:
        InputError: `tolerance` is no number >= 0, `max_iterations` no int >= 1; trees that hold no
            tensors; or `J` depends on a tensor that requires gradients and is not in `phi`, whose
            gradient would be lost.
        ShapeError: `J` is not a single number.
        NonFiniteError: NaN or infinity in `theta0`, `phi`, `J` or the solution.
        InnerSolutionError: the tolerance is not reached, or the Hessian at the solution is not
            negative definite: the maximum is then no differentiable function of `phi`.

    Source: implicit function theorem; new.
    """
    check_limit("tolerance", tolerance)
    check_count("max_iterations", max_iterations)
    start = Leaves.of("theta0", theta0, values=False)
    outer = Leaves.of("phi", phi, values=False, freeze=False)
    check_alike(start, outer)
    problem = _Problem(
        J,
        start,
        outer,
        methods,
        digits(1e-8, start.tensors[0].dtype) if tolerance is None else float(tolerance),
        max_iterations,
    )
    if torch._C._are_functorch_transforms_active():  # pyright: ignore[reportPrivateUsage]
        _check_capture(problem, flat(start.tensors), outer.tensors)
    solution = _Argmax.apply(problem, flat(start.tensors), *outer.tensors)
    return problem.theta(solution)


@dataclass(frozen=True, eq=False)
class _Problem:
    """What the search needs beside tensors.

    Attributes:
        J: inner objective.
        start: the tree of `θ`.
        outer: the tree of `φ`; its names and structure only are used.
        methods: of the search.
        tolerance: on the distance.
        max_iterations: evaluations.
    """

    J: Level
    start: Leaves
    outer: Leaves
    methods: Sequence[minimise.Method] | None
    tolerance: float
    max_iterations: int

    def theta(self, vector: Tensor) -> Tree:
        """Return the tree of a flat vector."""
        shapes = [t.shape for t in self.start.tensors]
        parts = vector.split([shape.numel() for shape in shapes])
        leaves = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        return self.start.tree(leaves)

    def objective(self, vector: Tensor, *phi: Tensor) -> Tensor:
        """Return `J` of a flat `θ` and the leaves of `φ`."""
        return number("J", self.J(self.theta(vector), self.outer.tree(phi)))

    def slope(self, vector: Tensor, *phi: Tensor) -> Tensor:
        """Return `∂_θJ`, flat."""
        return torch.func.grad(self.objective)(vector, *phi)

    def curvature(self, vector: Tensor, *phi: Tensor) -> Tensor:
        """Return `-∂²_{θθ}J`, symmetrised against rounding."""
        H = torch.func.jacrev(self.slope)(vector, *phi)
        return -(H + H.mT) / 2

    def solve(self, start: Tensor, *phi: Tensor) -> Tensor:
        """Return `θ*`, flat, without a graph."""
        for name, leaf in zip(self.outer.names, phi, strict=True):
            check_finite(name, leaf)
        check_finite("theta0", start)
        theta = start.detach().clone().requires_grad_()
        # what was made under inference_mode takes part in derivatives as a copy only
        fixed = [leaf.clone() if leaf.is_inference() else leaf.detach() for leaf in phi]
        self._check_objective(theta, fixed)

        def loss() -> Tensor:
            return -self.objective(theta, *fixed)

        stop = minimise.search(
            [theta], loss, self.tolerance, self.max_iterations, methods=self.methods
        )
        if stop.converged:
            # to the resolution of the dtype: the derivatives are those of the exact solution
            left = self.max_iterations - stop.evaluations
            minimise.newton([theta], loss, start.detach(), 0.0, left)
        found = theta.detach()
        if not bool(torch.isfinite(found).all()) or not math.isfinite(stop.stationarity):
            raise NonFiniteError(
                f"the search for the maximum of J went to {found.tolist()}, where the gradient is "
                f"{stop.stationarity}: J has no maximum near theta0, or is undefined on the way"
            )
        if not stop.converged:
            raise InnerSolutionError(
                f"no solution to a distance of {self.tolerance:.3g} after {stop.evaluations} "
                f"evaluations, where the gradient of J is {stop.stationarity:.3g}: {stop.reason}; "
                "raise max_iterations or tolerance, start nearer, or give J a maximum that is "
                "strictly concave"
            )
        A = self.curvature(found, *fixed)
        w = torch.linalg.eigvalsh(linear_solve.scaled(A)[0])
        if not float(w[0]) > linear_solve.resolution(A) * float(w[-1]):
            raise InnerSolutionError(
                f"-∂²J has the eigenvalue {float(torch.linalg.eigvalsh(A)[0]):.3g} at the "
                "solution: its maximum is not strict, but for rounding, so that it is no "
                "differentiable function of phi; remove parameters J does not depend on, or add "
                "a term that is strictly concave in theta"
            )
        return found

    def _check_objective(self, theta: Tensor, phi: list[Tensor]) -> None:
        start = replace(self.start, tensors=self.start.split(theta.detach()))
        point = f"the start{where(start, replace(self.outer, tensors=tuple(phi)))}"
        value = finite_number("J", self.objective(theta, *phi), point)
        check_depends("J", value, "theta")
        check_repeats("J", value, self.objective(theta, *phi), point)
        for leaf in _graph_leaves(value):
            if leaf is not theta:
                raise InputError(
                    f"J depends on a tensor of shape {tuple(leaf.shape)} that requires gradients "
                    "and is not in phi: its gradient would be lost; put it into phi, or detach it"
                )


class _Argmax(torch.autograd.Function):
    """`(problem, θ₀, *φ) -> θ*`, flat."""

    @staticmethod
    def forward(problem: _Problem, start: Tensor, *phi: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.inference_mode(False), torch.enable_grad():
            return problem.solve(start, *phi)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        problem, _, *phi = inputs
        ctx.problem = problem
        ctx.save_for_backward(output, *phi)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        theta, *phi = ctx.saved_tensors
        problem: _Problem = ctx.problem
        A, d = linear_solve.scaled(problem.curvature(theta, *phi))
        v = torch.linalg.solve(A, gradients[0] / d) / d
        pull = torch.func.vjp(lambda *p: problem.slope(theta, *p), *phi)[1]
        return None, None, *pull(v)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:  # pyright: ignore[reportIncompatibleMethodOverride]
        problem, *tensors = inputs
        # a search has its own number of steps, so that there is nothing to share
        rows = [
            [
                t if dim is None else t.select(dim, k)
                for t, dim in zip(tensors, in_dims[1:], strict=True)
            ]
            for k in range(info.batch_size)
        ]
        return torch.stack([_Argmax.apply(problem, *row) for row in rows]), 0


def _check_capture(problem: _Problem, start: Tensor, phi: tuple[Tensor, ...]) -> None:
    """Raise if `J` of plain numbers is still followed by a transform of `torch.func`.

    The search sees plain numbers only, so that such a dependence would be lost without a trace.
    """
    value = problem.objective(_plain(start), *map(_plain, phi))
    followed = torch.autograd.forward_ad.unpack_dual(value).tangent is not None
    while _functorch.is_functorch_wrapped_tensor(value):  # by each transform in turn
        followed = followed or value.requires_grad or _functorch.maybe_get_bdim(value) >= 0
        value = _functorch.get_unwrapped(value)
    if followed:
        raise InputError(
            "J depends on a tensor that torch.func differentiates or maps and that is not in phi: "
            "its gradient would be lost; put it into phi"
        )


def _plain(wrapped: Tensor) -> Tensor:
    """Return the numbers under all transforms, of the first element where one maps."""
    while _functorch.is_functorch_wrapped_tensor(wrapped):
        dim = _functorch.maybe_get_bdim(wrapped)
        wrapped = _functorch.get_unwrapped(wrapped)
        wrapped = wrapped if dim < 0 else wrapped.select(dim, 0)
    return wrapped.detach()


def _graph_leaves(value: Tensor) -> list[Tensor]:
    """Return the tensors a value was computed from that require gradients themselves."""
    seen: set[Any] = set()
    found: list[Tensor] = []
    stack: list[Any] = [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        stack += [parent for parent, _ in node.next_functions]
    return found
