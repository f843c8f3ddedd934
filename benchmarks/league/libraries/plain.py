"""Plain PyTorch, as one writes it in a notebook: textbook conjugate gradients, and no check."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.league.libraries import Call, Effort
from benchmarks.league.problems import Problem

PACKAGES = ("torch",)


def implicit(problem: Problem, effort: Effort) -> Call:
    """Conjugate gradients on double-backward products."""
    inner, outer = problem.in_torch()

    def call() -> Tensor:
        theta = tuple(leaf.detach().requires_grad_() for leaf in problem.theta)
        phi = problem.phi.detach().requires_grad_()
        slope = _flat(torch.autograd.grad(inner(theta, phi), theta, create_graph=True))
        *pull, direct = torch.autograd.grad(
            outer(theta, phi), (*theta, phi), materialize_grads=True
        )

        def product(v: Tensor) -> Tensor:
            return _flat(torch.autograd.grad(slope, theta, v, retain_graph=True))

        x = _cg(product, _flat(pull), effort.tolerance, effort.limit(problem))
        return direct - torch.autograd.grad(slope, phi, x)[0]

    return call


def unrolled(problem: Problem) -> Call:
    """Gradient descent with its graph."""
    inner, outer = problem.in_torch()

    def call() -> Tensor:
        theta = tuple(leaf.detach().requires_grad_() for leaf in problem.theta)
        phi = problem.phi.detach().requires_grad_()
        for _ in range(problem.steps or 0):
            slopes = torch.autograd.grad(inner(theta, phi), theta, create_graph=True)
            theta = tuple(t - problem.rate * g for t, g in zip(theta, slopes, strict=True))
        return torch.autograd.grad(outer(theta, phi), phi)[0]

    return call


def _flat(leaves: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return torch.cat([leaf.reshape(-1) for leaf in leaves])


def _cg(product: Callable[[Tensor], Tensor], b: Tensor, tolerance: float, limit: int) -> Tensor:
    x, r, p = torch.zeros_like(b), b.clone(), b.clone()
    rho, enough = float(r @ r), tolerance**2 * float(b @ b)
    for _ in range(limit):
        if rho <= enough:
            break
        Ap = product(p)
        step = rho / float(p @ Ap)
        x.add_(p, alpha=step)
        r.sub_(Ap, alpha=step)
        rho, before = float(r @ r), rho
        p = r + (rho / before) * p
    return x
