"""The plug-in algorithm of every family whose best reward theory knows."""

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers.rewards.mahalanobis import optimal_weights
from solvers.training.reference import Distilled
from tests.draws import F64

LAM, N = 0.5, 120
DECAY = 1e-6  # in nats: classes need some, and what it moves is far below the tolerances


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


X = 2 * drawn(0, N, 2) - 1
LOGITS = X @ torch.tensor([[1.5, -1.0, 0.5], [0.5, 1.0, -1.0]], dtype=F64) + 0.4
BITS = so.Dataset.of(X, (drawn(1, N, 4, 3) < LOGITS.sigmoid().unsqueeze(-2)).double())
LABELS = (LOGITS.softmax(-1).cumsum(-1)[..., :2] < drawn(2, N, 1)).sum(-1)
CLASSES = so.LabelledData.of(X, LABELS, 3)
FAMILIES = {
    "bits": (so.BernoulliPolicy(2, 3), BITS),
    "classes": (so.CategoricalPolicy(2, 3), CLASSES),
}


def weights_by_definition(family: str, pi: Tensor) -> Tensor:
    """`u` from the condition that the inner solution is `π`, entry by entry."""
    if family == "bits":
        return LAM * (pi / (1 - pi)).log() / (2 * pi - 1)
    k = 2 * pi.amax(-1, keepdim=True) - 1 - pi.amax(-1, keepdim=True).log()
    return LAM * (pi.log() + k) / (2 * pi - 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_plug_in_is_maximum_likelihood(family: str) -> None:
    policy, data = FAMILIES[family]
    found = so.plug_in(policy, policy.zeros(), LAM, data, weight_decay=DECAY)
    likely = so.fit(policy, data, weight_decay=DECAY)
    assert found.converged
    want = policy(likely.value, X).mean
    torch.testing.assert_close(found.estimated, want, rtol=0, atol=1e-6)
    torch.testing.assert_close(policy(found.value, X).mean, want, rtol=0, atol=1e-4)
    u = weights_by_definition(family, found.estimated)
    if isinstance(found.reward, so.ClassReward):
        torch.testing.assert_close(found.reward.table, so.ClassReward.diagonal(u).table)
    else:
        torch.testing.assert_close(found.reward.U, torch.diag_embed(u))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_marginal_costs_likelihood(family: str) -> None:
    policy, data = FAMILIES[family]
    cost: list[float] = []
    for estimate in ("residual", "marginal"):
        found = so.plug_in(policy, policy.zeros(), LAM, data, estimate=estimate, weight_decay=DECAY)
        assert found.converged, found.reason
        cost.append(float(so.NLL()(policy(found.value, X), data)))
    assert cost[1] > cost[0] + 1e-3
    assert found.estimated.shape == (3,)
    torch.testing.assert_close(found.estimated, data.mean.mean(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_learned_reward_gets_there_too(family: str) -> None:
    """Both of the paper's algorithms end at the likelihood's maximum."""
    policy, data = FAMILIES[family]
    model = so.InputReward(2, 3, so.MLP(), "diagonal")
    reward = so.OneHotReward(model) if family == "classes" else model
    problem = so.maximum_likelihood(policy, reward, data, lam=LAM, weight_decay=1e-3)
    learned = so.solve(problem, seed=0, steps=30)
    plugged = so.plug_in(policy, policy.zeros(), LAM, data, weight_decay=1e-3)
    losses = [float(so.NLL()(policy(theta, X), data)) for theta in (learned.theta, plugged.value)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_an_even_bit_has_the_weight_of_its_neighbours() -> None:
    rho = torch.tensor([0.5 - 1e-9, 0.5, 0.5 + 1e-9], dtype=F64)
    torch.testing.assert_close(optimal_weights(rho, LAM), torch.full((3,), 2 * LAM, dtype=F64))


def test_what_theory_does_not_know_is_refused() -> None:
    policy = so.BernoulliPolicy(2, 3)
    with pytest.raises(so.InputError, match="'online', and there are no residuals"):
        so.plug_in(policy, policy.zeros(), LAM, BITS, estimate="online")
    recurrent = so.RecurrentPolicy(2, 3, 4)
    with pytest.raises(so.InputError, match="no best reward for RecurrentPolicy"):
        so.plug_in(recurrent, recurrent.init([so.generator(0)], dtype=F64), LAM, BITS)
    with pytest.raises(so.InputError, match="rho holds 1, a certain bit"):
        optimal_weights(torch.ones(2, dtype=F64), LAM)
    with pytest.raises(so.InputError, match="weight_decay is 0"):
        so.plug_in(so.CategoricalPolicy(2, 3), policy.zeros(), LAM, CLASSES)


def test_data_of_a_teacher_have_its_law_and_no_outcomes() -> None:
    policy = so.BernoulliPolicy(2, 3)
    theta = policy.init([so.generator(0)], dtype=F64)
    data = Distilled(X, so.Reference(policy, theta))
    law = policy(theta, X)
    torch.testing.assert_close(law.cross_entropy(data), law.entropy())
    assert torch.equal(data.rows(torch.tensor([3, 1])).mean, data.mean[[3, 1]])
    noise = so.MemberNoise([so.generator(0)])
    reward = so.MahalanobisReward.scalar(1.0, 3)
    with pytest.raises(so.InputError, match="Distilled has no outcomes y"):
        so.PolicyGradient(reward, LAM, so.ScoreFunction(3))(law, data, noise)
    with pytest.raises(so.InputError, match=r"the mean holds .*: that of bits is in \[0, 1\]"):
        law.check_data(
            Distilled(X, lambda x: so.Gaussian(x @ x.mT[:, :3] + 5, torch.ones(N, 3, dtype=F64)))
        )
