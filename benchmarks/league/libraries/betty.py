"""Betty: its conjugate gradients, `betty.hypergradient.cg`, called without its training engine.

They run as many iterations as they are told, without a tolerance: as many as there are variables,
unless told otherwise. Version 0.1.1, the last for Python 3.11, takes a new direction from the
residual before the step.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.league.libraries import Call, Effort
from benchmarks.league.problems import Problem

PACKAGES = ("betty-ml",)
cg: Any = importlib.import_module("betty.hypergradient.cg").cg


def implicit(problem: Problem, effort: Effort) -> Call:
    """Both levels as it looks at them: parameters, settings, and the inner loss."""
    inner, outer = problem.in_torch()
    count = problem.size if effort.iterations is None else effort.iterations

    def call() -> Tensor:
        theta = [leaf.detach().requires_grad_() for leaf in problem.theta]
        phi = problem.phi.detach().requires_grad_()
        lower = SimpleNamespace(
            paths=[],
            cur_batch=None,
            config=SimpleNamespace(cg_iterations=count, cg_alpha=1.0),
            training_step_exec=lambda _: inner(tuple(theta), phi),
            parameters=lambda: theta,
            trainable_parameters=lambda: theta,
        )
        upper = SimpleNamespace(trainable_parameters=lambda: [phi])
        *pull, direct = torch.autograd.grad(
            outer(tuple(theta), phi), (*theta, phi), materialize_grads=True
        )
        return direct + cg(pull, lower, upper)[0]

    return call
