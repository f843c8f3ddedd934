"""The gate, continued: functional hypergradients and the differentiable inner solution."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from analysis.calculus.symbols import STRUCTURES
from paper_checks.conformance.strategies import Problem, make_problem, one_in, problems
from solvers.families.gaussian import Structure
from solvers.hypergradients import differentiable, functional
from tests.faults import Fault, each_is_noticed
from tests.gate.identities import functional as identities

PROBLEM = make_problem(n=2, seed=7)


@pytest.mark.gate
@pytest.mark.parametrize("structure", STRUCTURES)
@given(problem=problems(5))
def test_at_solution(structure: Structure, problem: Problem) -> None:
    identities.at_solution(problem, structure)


@pytest.mark.gate
@pytest.mark.parametrize("structure", STRUCTURES)
@given(problem=problems(3))
def test_at_any_outputs(structure: Structure, problem: Problem) -> None:
    identities.at_any_outputs(problem, structure)


@pytest.mark.gate
@pytest.mark.parametrize("structure", STRUCTURES)
@given(problem=problems(3))
def test_adjoints(structure: Structure, problem: Problem) -> None:
    identities.adjoints(problem, structure)


@pytest.mark.gate
@given(problem=problems(3))
def test_restricted_mean(problem: Problem) -> None:
    identities.restricted_mean(problem)


@one_in(5)
@pytest.mark.gate
@pytest.mark.parametrize("structure", STRUCTURES)
@given(problem=problems(3))
def test_differentiable(structure: Structure, problem: Problem) -> None:
    identities.differentiable(problem, structure)


@one_in(5)
@pytest.mark.gate
@given(problem=problems(3))
def test_gradcheck(problem: Problem) -> None:
    """θ* of a quadratic with a random SPD Hessian, first and second derivatives.

    The second ones along random directions, in which no wrong entry vanishes.
    """
    t = problem.tensors()
    A = (t["U"] / t["U"].norm() + t["Sigma"] / t["Sigma"].norm()).requires_grad_()
    b = t["mu"].clone().requires_grad_()

    def J(theta: Tensor, phi: tuple[Tensor, Tensor]) -> Tensor:
        H, slope = phi
        quartic = 0.05 * theta.pow(4).sum()
        return slope @ theta - 0.5 * theta @ (H + H.mT) @ theta / 2 - quartic

    def solve(A: Tensor, b: Tensor) -> Tensor:
        return differentiable.inner_solution(J, torch.zeros_like(b), (A, b))

    assert torch.autograd.gradcheck(solve, (A, b))
    assert torch.autograd.gradgradcheck(solve, (A, b), fast_mode=True)


def halved(right: Any) -> Any:
    """1/λ for 2/λ."""
    return lambda *args: right(*args) / 2


def doubled(right: Any) -> Any:
    """(U)⁻¹ for (2U)⁻¹."""
    return lambda *args: 2 * right(*args)


def transposed(right: Any) -> Any:
    """(∂_PF) P P for P (∂_PF) P."""
    return lambda spread, pull, lam, policy: 2 / lam * pull @ spread @ spread


def dropped(right: Any) -> Any:
    """No covariance part of the cross derivative."""
    return lambda *args: 0 * right(*args)


def unsolved(right: Any) -> Any:
    """The identity for the Hessian."""
    return lambda self, theta, *phi: torch.eye(len(theta), dtype=theta.dtype)


FAULTS: dict[str, Fault] = {
    **{
        f"1/λ for 2/λ, {check.__name__}, {structure}": (
            functional,
            "covariance_adjoint",
            halved,
            partial(check, PROBLEM, structure),
        )
        for structure in STRUCTURES
        for check in (identities.at_solution, identities.at_any_outputs, identities.adjoints)
    },
    **{
        f"U for 2U, {check.__name__}, {structure}": (
            functional,
            "mean_adjoint",
            doubled,
            partial(check, PROBLEM, structure),
        )
        for structure in STRUCTURES
        for check in (identities.at_any_outputs, identities.adjoints)
    },
    "U for 2U, restricted mean": (
        functional,
        "mean_adjoint",
        doubled,
        partial(identities.restricted_mean, PROBLEM),
    ),
    "GPP for PGP": (
        functional,
        "covariance_adjoint",
        transposed,
        partial(identities.adjoints, PROBLEM, "full"),
    ),
    **{
        f"cross term of {name} dropped, {structure}": (
            functional,
            f"{name}_adjoint",
            dropped,
            partial(identities.at_any_outputs, PROBLEM, structure),
        )
        for structure in STRUCTURES
        for name in ("mean", "covariance")
    },
    **{
        f"Hessian forgotten, {structure}": (
            differentiable._Problem,
            "curvature",
            unsolved,
            partial(identities.differentiable, PROBLEM, structure),
        )
        for structure in STRUCTURES
    },
}

test_a_planted_fault_is_noticed = each_is_noticed(FAULTS)
