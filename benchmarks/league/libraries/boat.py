"""BOAT: the conjugate gradients of its operator `CG`, called without its JSON configuration.

`boat-torch` asks for numpy <= 1.26.4, which the versions of this project exclude; installed without
its requirements, beside `higher` and matplotlib, it imports all the same.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from benchmarks.league.libraries import Call, Effort
from benchmarks.league.problems import Problem

PACKAGES = ("boat-torch",)
tools: Any = importlib.import_module("boat_torch.utils.op_utils")


def implicit(problem: Problem, effort: Effort) -> Call:
    """Its fixed point is a step of gradient descent, of size 1; its tolerance is absolute."""
    inner, outer = problem.in_torch()

    def step(theta: list[Tensor], loss: Tensor) -> list[Tensor]:
        slopes = torch.autograd.grad(loss, theta, create_graph=True)
        return [t - g for t, g in zip(theta, slopes, strict=True)]

    def call() -> Tensor:
        theta = [leaf.detach().requires_grad_() for leaf in problem.theta]
        phi = problem.phi.detach().requires_grad_()
        losses = outer(tuple(theta), phi), inner(tuple(theta), phi)
        return tools.conjugate_gradient(
            theta, [phi], *losses, effort.limit(problem), step, effort.tolerance
        )[0]

    return call
