"""`conform` tells right solvers of independent bits from wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from paper_checks.conformance import Report, bits, conform, signatures
from solvers.families import bernoulli
from solvers.hypergradients.implicit import implicit
from solvers.rewards.mahalanobis import MahalanobisReward, optimal_weights
from solvers.training.objectives import PolicyGradient
from solvers.training.reference import Distilled

Array = np.ndarray
DERIVED_Z, MAXIMISES = (identity.name for identity in bits.INNER)
DERIVED_G, IMPLICIT = (identity.name for identity in bits.HYPERGRADIENT)
DERIVED_U, ATTAINED = (identity.name for identity in bits.OPTIMAL)


def logits(u: Array, rho: Array, lam: float) -> Array:
    return u * (2 * rho - 1) / lam


def slope(u: Array, rho: Array, lam: float, z: Array) -> Array:
    return (rho - 1 / (1 + np.exp(-z))) * (2 * rho - 1) / lam


def weights(rho: Array, lam: float) -> Array:
    return lam * np.log(rho / (1 - rho)) / (2 * rho - 1)


def own_logits(u: Array, rho: Array, lam: float) -> Array:
    """This project's."""
    U = torch.diag(torch.tensor(u))
    return bernoulli.inner_solution(U, lam, torch.tensor(rho)).logits.numpy()


def own_weights(rho: Array, lam: float) -> Array:
    """This project's."""
    return optimal_weights(torch.tensor(rho), lam).numpy()


def own_slope(u: Array, rho: Array, lam: float, z: Array) -> Array:
    """This project's implicit differentiation, on the objective that training uses."""
    of_data = bernoulli.Bernoulli(torch.tensor(rho).logit()[None])
    data = Distilled(torch.ones(1, 1, dtype=torch.float64), lambda x: of_data)

    def J(z: Any, u: Any) -> torch.Tensor:
        reward = MahalanobisReward(torch.diag_embed(u.sqrt()), check=False)
        return -PolicyGradient(reward, lam)(bernoulli.Bernoulli(z[None], check=False), data)

    def F(z: Any, u: Any) -> torch.Tensor:
        return -bernoulli.Bernoulli(z[None], check=False).cross_entropy(data).mean()

    found = implicit(J, F, torch.tensor(z), torch.tensor(u), method="dense").value
    assert isinstance(found, torch.Tensor)
    return found.numpy()


def failing(report: Report) -> list[str]:
    return [row.identity for row in report.failures]


@pytest.mark.parametrize("solve", [logits, slope, weights, own_logits, own_weights, own_slope])
def test_right_solvers_pass(solve: Callable[..., Any]) -> None:
    report = conform(solve, examples=10)
    assert report.passed, str(report)
    assert len(report.rows) == 3
    assert "of bits" in report.kind


@pytest.mark.parametrize(
    ("solve", "fail"),
    [
        (lambda u, rho, lam: 2 * logits(u, rho, lam), [DERIVED_Z, MAXIMISES]),
        (lambda u, rho, lam: -logits(u, rho, lam), [DERIVED_Z, MAXIMISES]),
        (lambda u, rho, lam: u * (2 * rho - 1), [DERIVED_Z, MAXIMISES]),
        (lambda u, rho, lam, z: -slope(u, rho, lam, z), [DERIVED_G, IMPLICIT]),
        (lambda u, rho, lam, z: (rho - 1 / (1 + np.exp(-z))) / lam, [DERIVED_G, IMPLICIT]),
        (lambda u, rho, lam, z: slope(u, rho, lam, -z), [DERIVED_G, IMPLICIT]),
        (lambda rho, lam: weights(rho, lam) / 2, [DERIVED_U, ATTAINED]),
        (lambda rho, lam: lam / (2 * rho * (1 - rho)), [DERIVED_U, ATTAINED]),  # of Gaussians
    ],
)
def test_wrong_solvers_fail(solve: Callable[..., Any], fail: list[str]) -> None:
    report = conform(solve, examples=10)
    assert failing(report) == fail
    assert "BitProblem(lam=" in str(report.failures[0].message)


def test_unusable_results_are_failures_of_their_own() -> None:
    report = conform(lambda rho, lam: np.diag(weights(rho, lam)), examples=2)
    (row,) = report.rows
    assert row.message is not None
    assert "return shape (" in row.message


def test_the_search_finds_what_is_stationary() -> None:
    """The witness is tested itself: its maximum has no slope, and is one among perturbed laws."""
    problem = bits.make_bit_problem(3, 5)
    U = torch.diag(torch.tensor(problem.u))
    z = torch.tensor(problem.z, requires_grad=True)
    best = bits.J(z, problem.rho, U, problem.lam)
    (gradient,) = torch.autograd.grad(best, z)
    best = best.detach()
    assert float(gradient.abs().max()) < 1e-12 * problem.lam
    for k in range(20):
        near = z.detach() + 0.1 * torch.randn(
            3, generator=torch.Generator().manual_seed(k), dtype=torch.float64
        )
        assert float(bits.J(near, problem.rho, U, problem.lam)) < float(best)


def test_kinds_are_told_apart() -> None:
    kinds = {signatures.recognise(f).signature.kind for f in (logits, slope, weights)}
    assert kinds == {signature.kind for signature in signatures.BITS}
