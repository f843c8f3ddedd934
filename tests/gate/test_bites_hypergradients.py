"""The gate bites, continued: faults seen in hypergradient libraries, planted here."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from paper_checks.conformance.strategies import make_problem
from solvers.hypergradients import implicit
from solvers.numerics import linear_solve
from solvers.numerics.linear_solve import Solve
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import hypergradients as identities
from tests.gate.identities.hypergradients import make_quadratic

QUADRATIC = make_quadratic(5, 2, 1)


def last_iterate_dropped(right: Any) -> Any:
    """CG that returns the iterate before its last."""

    def faulty(product: Any, b: Tensor, max_iterations: int | None = None, **rest: Any) -> Any:
        limit = (10 * len(b) if max_iterations is None else max_iterations) - 1
        return right(product, b, max_iterations=limit, **rest)

    return faulty


def fixed_step(right: Any) -> Any:
    """Richardson steps of 0.5 in place of CG's."""

    def faulty(product: Any, b: Tensor, **options: Any) -> Solve:
        x = torch.zeros_like(b)
        for _ in range(50):
            x = x + 0.5 * (b - product(x)) / 100
        return Solve(x, 1e-13, 50, 1.0)

    return faulty


def one_iteration(right: Any) -> Any:
    """A single CG step, said to be the solution."""

    def faulty(product: Any, b: Tensor, **options: Any) -> Solve:
        found = right(product, b, tolerance=1e-12, max_iterations=1)
        return Solve(found.x, 0.0, 1, found.curvature)

    return faulty


def blocks_lost(right: Any) -> Any:
    """The Hessian without its off-diagonal blocks: one block per tensor."""

    def faulty(slope: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        H = right(slope, tensors)
        rows = H.split([t.numel() for t in tensors])
        start, blocks = 0, list[Tensor]()
        for row in rows:
            blocks.append(row[:, start : start + len(row)])
            start += len(row)
        return torch.block_diag(*blocks)

    return faulty


FAULTS: dict[str, Fault] = {
    "last CG iterate dropped": (
        linear_solve, "cg", last_iterate_dropped, partial(identities.cg_is_exact, QUADRATIC),
    ),
    "CG step fixed": (
        linear_solve, "cg", fixed_step, partial(identities.coupled_tensors, QUADRATIC, "cg"),
    ),
    "one iteration by default": (
        linear_solve, "cg", one_iteration, partial(identities.coupled_tensors, QUADRATIC, "cg"),
    ),
    "off-diagonal blocks lost": (
        implicit, "hessian", blocks_lost,
        partial(identities.coupled_tensors, QUADRATIC, "dense"),
    ),
    "dense solution halved": (
        linear_solve, "dense",
        lambda right: lambda A, b: Solve(right(A, b).x / 2, 0.0, 0, 1.0),
        partial(identities.gaussian_hypergradient, make_problem(2, 7), "full", "dense"),
    ),
    "absolute tolerance": (
        linear_solve, "cg",
        lambda right: lambda product, b, *, tolerance, **rest: right(
            product, b, tolerance=tolerance / float(b.norm()), **rest),
        partial(identities.scale_free, QUADRATIC, "cg", 1e-13),
    ),
    "damping not used": (
        linear_solve, "dense",
        lambda right: lambda A, b: right(A - 0.1 * torch.eye(len(A), dtype=A.dtype), b),
        partial(identities.damping_is_exact, QUADRATIC, 0.1),
    ),
}  # fmt: skip

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS)
