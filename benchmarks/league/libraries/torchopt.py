"""TorchOpt: `custom_root` around the solution with its CG, and `MetaSGD` through the steps."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.league.libraries import Call, Effort
from benchmarks.league.problems import Problem

PACKAGES = ("torchopt",)
torchopt: Any = importlib.import_module("torchopt")


def implicit(problem: Problem, effort: Effort) -> Call:
    """Products by `torch.func`, conjugate gradients in Python."""
    inner, outer = problem.in_torch()
    solve = torchopt.linear_solve.solve_cg(rtol=effort.tolerance, maxiter=effort.limit(problem))

    @torchopt.diff.implicit.custom_root(torch.func.grad(inner), argnums=1, solve=solve)
    def solution(start: Any, phi: Tensor) -> Any:
        return start  # it is given

    def call() -> Tensor:
        phi = problem.phi.detach().requires_grad_()
        return torch.autograd.grad(outer(solution(problem.theta, phi), phi), phi)[0]

    return call


def unrolled(problem: Problem) -> Call:
    """A module holds the inner variables, as it asks for."""
    inner, outer = problem.in_torch()

    def call() -> Tensor:
        phi = problem.phi.detach().requires_grad_()
        module = nn.ParameterList([leaf.clone() for leaf in problem.theta])
        optimiser = torchopt.MetaSGD(module, lr=problem.rate)
        for _ in range(problem.steps or 0):
            optimiser.step(inner(tuple(module), phi))
        return torch.autograd.grad(outer(tuple(module), phi), phi)[0]

    return call
