"""A Mahalanobis reward that depends on the input: sampled gradients have the mean of the exact one.

For every family, against the closed form `E r = -(m-μ)ᵀU(x)(m-μ) - Tr U(x)(P + Σ)`: z <= 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers.bilevel import likelihood
from tests.draws import F64, normal

N, S, DRAWS, LAM = 4, 3, 200, 0.5


def weights(n: int, *batch: int) -> Tensor:
    """`U(x)`, as unlike from input to input as to show where they are mixed up."""
    C = normal(7, *batch, N, n, n)
    sizes = torch.tensor([0.1, 3.0, 0.5, 1.5], dtype=F64)[:, None, None]
    return sizes * (C @ C.mT + torch.eye(n, dtype=F64))


X = normal(0, N, 2)
REAL = so.Dataset.of(X, normal(1, N, S, 2))
BITS = so.Dataset.of(X, (normal(1, N, S, 2) > 0).double())
CLASSES = so.LabelledData.soft(X, normal(2, N, 3).softmax(-1))
CONDITION = torch.linalg.cholesky(torch.eye(2, dtype=F64) + 0.4).expand(N, 2, 2)


@dataclass(frozen=True)
class Case:
    """A law of leaves, its data, and the estimators that it knows."""

    law: Callable[[list[Tensor]], Any]
    leaves: tuple[Tensor, ...]
    data: Any
    estimators: tuple[Any, ...]


GROUPS = tuple(so.ScoreFunction(3, b) for b in ("none", "leave-one-out"))
BEST = tuple(so.ScoreFunction(3, b) for b in ("optimal", "optimal-per-outcome"))
CASES = {
    "Gaussian, diagonal": Case(
        lambda t: so.Gaussian(t[0], t[1].exp()),
        (normal(3, N, 2), normal(4, N, 2) / 3),
        REAL,
        (*GROUPS, *BEST, so.Pathwise(2)),
    ),
    "Gaussian, full": Case(
        lambda t: so.Gaussian(t[0], t[1].tril()),
        (normal(3, N, 2), CONDITION),
        REAL,
        (*GROUPS, *BEST, so.Pathwise(2)),
    ),
    "bits": Case(lambda t: so.Bernoulli(t[0]), (normal(3, N, 2),), BITS, GROUPS),
    "classes": Case(
        lambda t: so.Categorical(t[0]), (normal(3, N, 3),), CLASSES, (*GROUPS, BEST[0])
    ),
}


def gradient(case: Case, U: Tensor, estimator: Any, noise: Any = None) -> Tensor:
    leaves = [t.clone().requires_grad_() for t in case.leaves]
    objective = so.PolicyGradient(so.MahalanobisReward.full(U), LAM, estimator)
    found = torch.autograd.grad(objective(case.law(leaves), case.data, noise), leaves)
    return torch.cat([g.flatten() for g in found])


def z(case: Case, estimator: Any, U: Tensor, *exact: Tensor) -> list[float]:
    """Largest distances of the mean estimate from exact gradients, in standard errors."""
    noise = so.MemberNoise([so.generator(3)])
    drawn = torch.stack([gradient(case, U, estimator, noise) for _ in range(DRAWS)])
    error = drawn.std(0) / DRAWS**0.5
    off = [(drawn.mean(0) - each).abs() for each in exact]
    varies = error > 1e-12
    assert bool((off[0][~varies] < 1e-9).all())
    return [float((each[varies] / error[varies]).max()) for each in off]


@pytest.mark.parametrize(
    ("family", "estimator"), [(f, e) for f, case in CASES.items() for e in case.estimators],
    ids=str,
)  # fmt: skip
def test_the_mean_of_the_estimates_is_the_exact_gradient(family: str, estimator: Any) -> None:
    case = CASES[family]
    U = weights(case.data.mean.shape[-1])
    exact, mixed_up = (gradient(case, V, so.Analytic()) for V in (U, U.roll(1, 0)))
    right, wrong = z(case, estimator, U, exact, mixed_up)
    assert right <= 5 < wrong


@pytest.mark.parametrize("family", CASES)
def test_members_with_a_reward_of_each_input(family: str) -> None:
    """Members, each with its own `U(x)`, have the gradients of each alone."""
    case = CASES[family]
    n = case.data.mean.shape[-1]
    U = weights(n, 2)
    for estimator in case.estimators:
        both = Case(
            case.law, tuple(t.expand(2, *t.shape) for t in case.leaves), case.data, (estimator,)
        )
        leaves = [t.clone().requires_grad_() for t in both.leaves]
        objective = so.PolicyGradient(so.MahalanobisReward.full(U), LAM, estimator)
        noise = so.MemberNoise([so.generator(1), so.generator(2)], (2,))
        found = objective(both.law(leaves), case.data, noise)
        slopes = torch.autograd.grad(found.sum(), leaves)
        for k in (0, 1):
            alone = gradient(case, U[k], estimator, so.MemberNoise([so.generator(k + 1)]))
            got = torch.cat([g[k].flatten() for g in slopes])
            torch.testing.assert_close(got, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", CASES)
def test_members_with_a_reward_of_their_own(family: str) -> None:
    case = CASES[family]
    U = weights(case.data.mean.shape[-1])[:2]
    leaves = [t.expand(2, *t.shape).clone().requires_grad_() for t in case.leaves]
    for estimator in case.estimators:
        objective = so.PolicyGradient(so.MahalanobisReward.full(U), LAM, estimator)
        noise = so.MemberNoise([so.generator(1), so.generator(2)], (2,))
        slopes = torch.autograd.grad(objective(case.law(leaves), case.data, noise).sum(), leaves)
        for k in (0, 1):
            alone = gradient(case, U[k], estimator, so.MemberNoise([so.generator(k + 1)]))
            got = torch.cat([g[k].flatten() for g in slopes])
            torch.testing.assert_close(got, alone, rtol=1e-10, atol=1e-12)


def test_any_module_pathwise() -> None:
    class Model(torch.nn.Linear):
        def forward(self, x: Tensor) -> torch.distributions.Normal:  # pyright: ignore[reportIncompatibleMethodOverride]
            mean, raw = super().forward(x).chunk(2, -1)
            return torch.distributions.Normal(mean, raw.exp())

    torch.manual_seed(0)
    policy = so.policy(Model(2, 4, dtype=F64))
    leaves = tuple(policy.start().values())
    names = list(policy.start())
    case = Case(lambda t: policy(dict(zip(names, t, strict=True)), X), leaves, REAL, ())

    def as_gaussian(t: list[Tensor]) -> so.Gaussian:
        law = policy(dict(zip(names, t, strict=True)), X).distribution
        assert isinstance(law, torch.distributions.Normal)
        return so.Gaussian(law.mean, law.stddev)

    U = weights(2)
    exact = gradient(Case(as_gaussian, leaves, REAL, ()), U, so.Analytic())
    for estimator in (so.Pathwise(2), so.ScoreFunction(3)):
        assert z(case, estimator, U, exact)[0] <= 5


def test_a_bilevel_problem_with_sampled_inner_gradients() -> None:
    policy, model = so.BernoulliPolicy(2, 2), so.InputReward(2, 2, so.MLP())
    theta = policy.init([so.generator(0)], dtype=F64)
    phi = model.start(so.generator(1))
    problem = likelihood.problem(policy, model, LAM, BITS, estimator=so.ScoreFunction(5))
    assert problem.sampled is not None
    exact = torch.autograd.grad(problem.J(theta, phi), list(theta.values()))
    generator = so.generator(2)
    drawn = [
        torch.autograd.grad(problem.sampled(theta, phi, generator), list(theta.values()))
        for _ in range(DRAWS)
    ]
    for k, want in enumerate(exact):
        found = torch.stack([each[k] for each in drawn])
        assert bool(((found.mean(0) - want).abs() <= 5 * found.std(0) / DRAWS**0.5).all())
