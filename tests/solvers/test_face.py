"""The public face: names at hand, methods as objects, a bilevel run in five lines."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

import solvers as so
from tests.draws import F64, normal

X = normal(0, 40, 2)
Y = X @ normal(1, 2, 2) + normal(2, 40, 2) @ torch.tensor([[1.0, 0.4], [0.0, 0.5]], dtype=F64)
DATA = so.Dataset.pairs(X, Y)


def test_every_public_name_is_there() -> None:
    assert len({*so.__all__}) == len(so.__all__) > 40
    assert all(hasattr(so, name) for name in so.__all__)


def test_importing_brings_no_sympy_and_no_tables() -> None:
    code = "import solvers, sys; print({'sympy', 'pandas', 'sklearn'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.strip() == "set()"


def test_a_bilevel_run_finds_the_optimal_reward() -> None:
    """U* = (λ/2)Σ⁻¹ of the residual covariance, and its policy is maximum likelihood."""
    problem = so.maximum_likelihood(so.GaussianPolicy(2, 2), so.ConstantReward(2), DATA, lam=0.5)
    found = so.solve(problem, seed=0)
    assert found.converged, found.reason
    residual = Y - found.law(X).mean
    Sigma = residual.mT @ residual / len(X)
    torch.testing.assert_close(found.reward.U, 0.25 * torch.linalg.inv(Sigma), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.law(X).covariance[0], Sigma, rtol=1e-5, atol=1e-8)
    again = so.solve(problem, seed=0)
    assert torch.equal(found.reward.U, again.reward.U)


@pytest.mark.parametrize(
    "method",
    [
        so.Implicit(),
        so.Implicit(so.Dense(), strict=True),
        so.Implicit(so.CG(tolerance=1e-10)),
        so.Implicit(so.Neumann(tolerance=1e-8, max_iterations=10_000)),
        so.Implicit(so.Nystrom(2)),
        so.Unrolled(so.SGD(0.2), steps=200),
        so.Penalty(1e6),
    ],
    ids=lambda method: repr(method)[:40],
)
def test_methods_are_objects(method: so.Implicit | so.Unrolled | so.Penalty) -> None:
    """All give dF/dφ = -2(θ* - 1)/(1 + φ) of J = -½θ² (1 + φ) + θ, F = -(θ - 1)², θ* = 1/(1+φ)."""
    phi = torch.tensor([0.5, 1.0], dtype=F64)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return (-theta.square() * (1 + phi) / 2 + theta).sum()

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return -(theta - 1).square().sum()

    theta = 1 / (1 + phi)
    want = 2 * (theta - 1) * theta.square()
    found = method(J, F, theta, phi).value
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-7)


def test_quadratic_rewards_serve_classes() -> None:
    """Of a one-hot outcome the Mahalanobis reward is the one between classes."""
    root = normal(3, 3, 3)
    U = root @ root.mT + torch.eye(3, dtype=F64)
    law = so.Categorical(normal(4, 5, 3))
    data = so.LabelledData.soft(normal(5, 5, 2), normal(6, 5, 3).softmax(-1))
    vectors, table = so.MahalanobisReward.full(U), so.ClassReward.full(U.unsqueeze(0))
    torch.testing.assert_close(vectors.expected(law, data), table.expected(law, data))
    noise = [so.MemberNoise([so.generator(0)]) for _ in range(2)]
    z = law.logits.clone().requires_grad_()
    slopes = [
        torch.autograd.grad(so.ScoreFunction(4)(so.Categorical(z), data, reward, own).sum(), z)[0]
        for reward, own in zip((vectors, table), noise, strict=True)
    ]
    torch.testing.assert_close(*slopes)


def test_data_of_one_outcome_each() -> None:
    assert torch.equal(DATA.y, Y.unsqueeze(-2))
    with pytest.raises(so.ShapeError, match="for n = 1 with a last dimension of 1"):
        so.Dataset.pairs(X, Y[:, 0])


def test_what_cannot_start_says_so() -> None:
    same = so.Dataset.pairs(X, torch.cat([Y, torch.ones(40, 1, dtype=F64)], -1))
    problem = so.maximum_likelihood(so.GaussianPolicy(2, 3), so.ConstantReward(3), same, lam=0.5)
    with pytest.raises(so.InputError, match=r"says y\[..., 2\] exactly"):
        so.solve(problem)
