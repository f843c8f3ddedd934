"""Independent bits: the third family, by enumeration of all outcomes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers as so
from paper_checks.conformance.tolerances import agree_on_average
from solvers.families.baselines import Baseline
from solvers.families.bernoulli import inner_solution
from solvers.rewards.mahalanobis import DiagonalReward
from solvers.tasks import bits as bits_task
from tests.draws import F64, normal

N, n, LAM = 3, 3, 0.7
POINTS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=F64)


def bits(S: int = 4) -> so.Dataset:
    return so.Dataset.of(normal(1, N, 2), (normal(2, N, S, n) > 0).double())


def probabilities(law: so.Bernoulli) -> Tensor:
    """Of the 2ⁿ outcomes at each input, by products."""
    m = law.mean.unsqueeze(-2)
    return torch.where(POINTS == 1, m, 1 - m).prod(-1)


def spd(seed: int) -> Tensor:
    root = normal(seed, n, n)
    return root @ root.mT + torch.eye(n, dtype=F64)


LAW = so.Bernoulli(normal(0, N, n))


def test_moments_entropy_and_likelihood_are_sums_over_outcomes() -> None:
    p, data = probabilities(LAW), bits()
    torch.testing.assert_close(LAW.mean, p @ POINTS)
    second = torch.einsum("nk,ki,kj->nij", p, POINTS, POINTS)
    want = second - LAW.mean.unsqueeze(-1) * LAW.mean.unsqueeze(-2)
    torch.testing.assert_close(LAW.covariance, want)
    U = spd(3)
    torch.testing.assert_close(LAW.trace(U), (want * U).sum((-2, -1)))
    torch.testing.assert_close(LAW.entropy(), -(p * p.log()).sum(-1))
    found = LAW.log_prob(POINTS.unsqueeze(1).expand(-1, N, -1))
    torch.testing.assert_close(found.mT, p.log())
    index = (data.y.unsqueeze(-2) == POINTS).all(-1).long().argmax(-1)
    torch.testing.assert_close(LAW.cross_entropy(data), -p.log().gather(-1, index).mean(-1))


def test_the_expected_reward_is_a_sum_over_pairs() -> None:
    reward, data, p = so.MahalanobisReward.full(spd(3)), bits(), probabilities(LAW)
    pairs = reward(POINTS[:, None, None], data.y)  # (2ⁿ, N, S)
    want = (p.mT.unsqueeze(-1) * pairs).sum(0).mean(-1)
    torch.testing.assert_close(reward.expected(LAW, data), want)


@pytest.mark.parametrize("baseline", ["none", "mean", "leave-one-out"])
def test_the_sampled_gradient_has_the_exact_mean(baseline: Baseline) -> None:
    """ "mean" shrinks it by (M-1)/M, as derived."""
    data, M, runs = bits(), 3, 4000
    reward = so.MahalanobisReward.full(spd(3))
    z = LAW.logits.clone().requires_grad_()
    exact = torch.autograd.grad(reward.expected(so.Bernoulli(z), data).sum(), z)[0]
    noise = so.MemberNoise([so.generator(0, k) for k in range(runs)], (runs,))
    many = z.detach().expand(runs, N, n).clone().requires_grad_()
    estimator = so.ScoreFunction(M, baseline)
    surrogate = estimator(so.Bernoulli(many), data, reward, noise)
    found = torch.autograd.grad(surrogate.sum(), many)[0]
    factor = (M - 1) / M if baseline == "mean" else 1.0
    agree_on_average("the score function of bits", found, factor * exact, inputs=baseline)


def test_draws_have_the_frequencies_of_the_law() -> None:
    drawn = LAW.draw(4000, so.MemberNoise([so.generator(1)]))
    assert {*drawn.unique().tolist()} == {0.0, 1.0}
    agree_on_average("frequencies of bits", drawn, LAW.mean, inputs="seed 1")


def test_training_reaches_the_closed_form() -> None:
    """Diagonal U, one input: z = U(2μ - 1)/λ; and with U = λ logit(μ)/(2μ - 1) it is μ."""
    y = torch.tensor(
        [[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]], dtype=F64
    )
    data = so.Dataset.of(torch.ones(1, 1, dtype=F64), y.unsqueeze(0))
    policy, mu = so.BernoulliPolicy(1, n), data.mean
    u = LAM * torch.logit(mu[0]) / (2 * mu[0] - 1)
    for weights in (torch.tensor([0.5, 1.0, 2.0], dtype=F64), u):
        U = torch.diag(weights)
        objective = so.PolicyGradient(so.MahalanobisReward.full(U), LAM)
        found = so.fit(policy, data, objective, weight_decay=1e-12)
        got = policy(found.value, data.x)
        torch.testing.assert_close(got.logits, inner_solution(U, LAM, mu).logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(got.mean, mu, atol=1e-6, rtol=0)


def test_a_bilevel_problem_of_bits_reaches_the_likelihood() -> None:
    data = bits(8)
    problem = so.maximum_likelihood(
        so.BernoulliPolicy(2, n), so.ConstantReward(n, "diagonal"), data, lam=LAM, weight_decay=0.01
    )
    found = so.solve(problem, steps=5)
    first, last = found.result.history[0].F, found.result.history[-1].F
    best = so.fit(so.BernoulliPolicy(2, n), data, weight_decay=0.01)
    top = -float(so.NLL()(so.BernoulliPolicy(2, n)(best.value, data.x), data))
    assert first < last <= top + 1e-9


def test_a_diagonal_reward_of_bits_is_that_of_its_matrix() -> None:
    u = normal(5, 1, n).exp()
    want = so.MahalanobisReward.diagonal(u[0]).expected(LAW, bits())
    torch.testing.assert_close(DiagonalReward(u).expected(LAW, bits()), want)


def test_what_bits_refuse() -> None:
    with pytest.raises(so.InputError, match=r"y holds 0.5: binary outcomes are 0 or 1"):
        LAW.cross_entropy(so.Dataset.of(normal(1, N, 2), torch.full((N, 1, n), 0.5, dtype=F64)))
    with pytest.raises(so.ShapeError, match="n = 3, the data n = 2"):
        LAW.cross_entropy(so.Dataset.of(normal(1, N, 2), torch.ones(N, 1, 2, dtype=F64)))
    with pytest.raises(so.InputError, match="couple the bits"):
        inner_solution(spd(0), 1.0, LAW.mean[0])
    for outside in (-2.0, 1.5, math.nan):
        mu = torch.tensor([0.5] * (n - 1) + [outside], dtype=F64)
        with pytest.raises(so.InputError, match=rf"mu holds {outside:.6g}: .* in \[0, 1\]"):
            inner_solution(torch.eye(n, dtype=F64), 1.0, mu)
    with pytest.raises(so.InputError, match="baseline 'optimal' is not known for Bernoulli"):
        so.ScoreFunction(3, "optimal")(
            LAW, bits(), so.MahalanobisReward.full(spd(3)), so.MemberNoise([so.generator(0)])
        )
    assert np.isfinite(float(LAW.entropy().sum()))


def test_the_task_has_the_frequencies_of_its_law() -> None:
    task = bits_task.draw(so.generator(0), rows=3, samples=4000, n=2)
    agree_on_average(
        "bits of the task", task.train.y.movedim(1, 0), task.law(task.train.x).mean, inputs="seed 0"
    )
    again = bits_task.draw(so.generator(0), rows=3, samples=4000, n=2)
    assert torch.equal(task.train.y, again.train.y)
    assert {*task.validation.y.unique().tolist()} <= {0.0, 1.0}


def test_policy_gradient_on_the_task_beats_chance() -> None:
    """By score function, on held-out rows: closer to the truth than fair coins."""
    task = bits_task.draw(so.generator(1), rows=60)
    policy = so.BernoulliPolicy(3, 4)
    objective = so.PolicyGradient(so.MahalanobisReward.scalar(1.0, 4), 0.5, so.ScoreFunction(5))
    theta = so.train(
        policy, policy.zeros(), objective, task.train,
        epochs=200, learning_rate=0.05, batch_ndim=0, noise=so.MemberNoise([so.generator(2)]),
    )  # fmt: skip
    held_out = so.NLL()(policy(theta, task.validation.x), task.validation)
    assert float(held_out) < 0.85 * 4 * np.log(2)
