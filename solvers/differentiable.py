"""The inner solution as a differentiable function `φ -> θ*(φ) = argmax_θ J(θ, φ)`.

Forward, J is maximised numerically; backward, the implicit function theorem gives

    (∂θ*/∂φ)ᵀ g = (∂²_{φθ}J) v,    (-∂²_{θθ}J) v = g    at θ*,

written in differentiable operations of `θ*`, `φ` and `g`, so that second derivatives follow from
the first. The Hessian is dense: meant for up to some hundreds of inner parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]
from torch.utils import _pytree as pytree

from solvers import minimise
from solvers.errors import InputError, NonFiniteError, ShapeError, check_finite
from solvers.hypergradient import Objective
from solvers.trees import Leaves, Tree, flat


class InnerSolutionError(RuntimeError):
    """`J` has no strict maximum where the search ended, or the search did not end."""


def inner_solution(
    J: Objective,
    theta0: Tree,
    phi: Tree,
    *,
    method: minimise.Method = minimise.lbfgs,
    tolerance: float = 1e-8,
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
        method: of the search, from `solvers.minimise`; Newton steps go on from there to the
            resolution of the dtype.
        tolerance: on the largest entry of `∂_θJ`.
        max_iterations: evaluations of gradients and Hessian-vector products.

    Returns:
        `θ*`, a tree like `theta0`.

    Raises:
        InputError: trees that hold no tensors; or `J` depends on a tensor that requires gradients
            and is not in `phi`, whose gradient would be lost.
        ShapeError: `J` is not a single number.
        NonFiniteError: NaN or infinity in `theta0`, `phi`, `J` or the solution.
        InnerSolutionError: the tolerance is not reached, or the Hessian at the solution is not
            negative definite: the maximum is then no differentiable function of `phi`.

    Source: implicit function theorem; new.
    """
    start, outer = _take_apart("theta0", theta0), _take_apart("phi", phi)
    if start.tensors[0].dtype != outer.tensors[0].dtype:
        raise InputError(
            f"theta0 is {start.tensors[0].dtype}, phi {outer.tensors[0].dtype}: use one dtype"
        )
    shapes = tuple(t.shape for t in start.tensors)
    problem = _Problem(
        J, shapes, start.structure, outer.names, outer.structure, method, tolerance, max_iterations
    )
    if torch._C._are_functorch_transforms_active():  # pyright: ignore[reportPrivateUsage]
        _check_capture(problem, flat(start.tensors), outer.tensors)
    solution = _Argmax.apply(problem, flat(start.tensors), *outer.tensors)
    return problem.theta(solution)


@dataclass(frozen=True, eq=False)
class _Problem:
    """What the search needs beside tensors. Of `phi` it keeps the structure only."""

    J: Objective
    shapes: tuple[torch.Size, ...]
    structure: pytree.TreeSpec
    names: tuple[str, ...]
    phi_structure: pytree.TreeSpec
    method: minimise.Method
    tolerance: float
    max_iterations: int

    def theta(self, vector: Tensor) -> Tree:
        """Return the tree of a flat vector."""
        parts = vector.split([shape.numel() for shape in self.shapes])
        leaves = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return pytree.tree_unflatten(leaves, self.structure)

    def objective(self, vector: Tensor, *phi: Tensor) -> Tensor:
        """Return `J` of a flat `θ` and the leaves of `φ`."""
        return self.J(self.theta(vector), pytree.tree_unflatten(list(phi), self.phi_structure))

    def slope(self, vector: Tensor, *phi: Tensor) -> Tensor:
        """Return `∂_θJ`, flat."""
        return torch.func.grad(self.objective)(vector, *phi)

    def curvature(self, vector: Tensor, *phi: Tensor) -> Tensor:
        """Return `-∂²_{θθ}J`, symmetrised against rounding."""
        H = torch.func.jacrev(self.slope)(vector, *phi)
        return -(H + H.mT) / 2

    def solve(self, start: Tensor, *phi: Tensor) -> Tensor:
        """Return `θ*`, flat, without a graph."""
        for name, leaf in zip(self.names, phi, strict=True):
            check_finite(name, leaf)
        check_finite("theta0", start)
        theta = start.detach().clone().requires_grad_()
        fixed = [leaf.detach() for leaf in phi]
        self._check_objective(theta, fixed)

        def loss() -> Tensor:
            return -self.objective(theta, *fixed)

        spent = self.method([theta], loss, self.tolerance, self.max_iterations)
        # to the resolution of the dtype: the derivatives are those of the exact solution
        left = max(self.max_iterations - spent, 0)
        _, stationarity = minimise.polish([theta], loss, 0.0, left)
        found = theta.detach()
        if not bool(torch.isfinite(found).all()) or not stationarity < float("inf"):
            raise NonFiniteError(
                f"the search for the maximum of J went to {found.tolist()}, where the gradient is "
                f"{stationarity}: J has no maximum near theta0, or is undefined on the way"
            )
        if stationarity > self.tolerance:
            raise InnerSolutionError(
                f"the gradient of J is {stationarity:.3g} after {self.max_iterations} evaluations "
                f"at most, not {self.tolerance:.3g}: raise max_iterations or tolerance, start "
                "nearer, or scale J"
            )
        smallest = float(torch.linalg.eigvalsh(self.curvature(found, *fixed))[0])
        if not smallest > 0:
            raise InnerSolutionError(
                f"-∂²J has the eigenvalue {smallest:.3g} at the solution: its maximum is not "
                "strict, so that it is no differentiable function of phi; remove parameters J does "
                "not depend on, or add a term that is strictly concave in theta"
            )
        return found

    def _check_objective(self, theta: Tensor, phi: list[Tensor]) -> None:
        value = self.objective(theta, *phi)
        if value.ndim:
            raise ShapeError(f"J has shape {tuple(value.shape)}: return a single number")
        if not bool(torch.isfinite(value)):
            raise NonFiniteError(f"J is {value.item()} at theta0: start inside its domain")
        if not value.requires_grad:
            raise InputError("J does not depend on theta: build it from its arguments")
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
        with torch.enable_grad():
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
        v = torch.linalg.solve(problem.curvature(theta, *phi), gradients[0])
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


def _take_apart(name: str, tree: Tree) -> Leaves:
    """Take a tree apart without looking at values, which a transform may hide."""
    paired, structure = pytree.tree_flatten_with_path(tree)
    names = tuple(name + pytree.keystr(path) for path, _ in paired)
    if not paired:
        raise InputError(f"{name} holds no tensor: pass at least one")
    for label, (_, leaf) in zip(names, paired, strict=True):
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            kind = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
            raise InputError(f"{label} is {kind}: pass floating-point tensors only")
        if leaf.dtype != paired[0][1].dtype:
            raise InputError(f"{label} is {leaf.dtype}, not {paired[0][1].dtype}: use one dtype")
    return Leaves(tuple(leaf for _, leaf in paired), names, structure)


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
