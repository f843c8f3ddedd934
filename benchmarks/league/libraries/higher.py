"""higher: differentiation through the steps of an optimiser; it has no implicit one."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.league.libraries import Call
from benchmarks.league.problems import Problem

PACKAGES = ("higher",)
higher: Any = importlib.import_module("higher")


class Inner(nn.Module):
    """The inner variables, as parameters of a module."""

    def __init__(self, theta: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.leaves = nn.ParameterList([leaf.clone() for leaf in theta])

    def forward(self) -> tuple[Tensor, ...]:
        """Return them."""
        return tuple(self.leaves)


def unrolled(problem: Problem) -> Call:
    """`innerloop_ctx` around SGD."""
    inner, outer = problem.in_torch()

    def call() -> Tensor:
        phi = problem.phi.detach().requires_grad_()
        module = Inner(problem.theta)
        optimiser = torch.optim.SGD(module.parameters(), lr=problem.rate)
        with higher.innerloop_ctx(module, optimiser) as (_, steps):
            fast = list(module.parameters())
            for _ in range(problem.steps or 0):
                fast = steps.step(inner(tuple(fast), phi), params=fast)
            return torch.autograd.grad(outer(tuple(fast), phi), phi)[0]

    return call
