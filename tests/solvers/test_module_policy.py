"""Any module that returns a distribution is a policy, and trains on any function as a reward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
    Poisson,
)

import solvers as so
from paper_checks.conformance.tolerances import agree_on_average
from solvers.families.module import Wrapped

F64 = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Net(torch.nn.Module):
    """One number per input, of any law with a location and a scale."""

    def __init__(self, law: Any = Normal) -> None:
        super().__init__()
        self.law = law
        self.line = torch.nn.Linear(2, 1, dtype=F64)
        self.log_scale = torch.nn.Parameter(torch.zeros(1, dtype=F64))

    def forward(self, x: Tensor) -> Any:
        return self.law(self.line(x)[:, 0], self.log_scale.exp().expand(len(x)))


X = normal(0, 30, 2)
DATA = so.Dataset.of(X, (X.sum(-1, keepdim=True) + 0.1 * normal(1, 30, 1)).unsqueeze(-2))


def distance(y_hat: Tensor, y: Tensor) -> Tensor:
    return -(y_hat - y).square().sum(-1)


@pytest.mark.parametrize("estimator", [so.ScoreFunction(20), so.Pathwise(20)])
def test_it_trains_on_a_function(estimator: Any) -> None:
    """On -(ŷ - y)² with weight λ the variance ends at λ/2; the module itself stays as it was."""
    torch.manual_seed(0)
    net = Net()
    before = {name: p.clone() for name, p in net.named_parameters()}
    policy, lam = so.policy(net), 0.2
    state = torch.get_rng_state()
    theta = so.train(
        policy, policy.start(), so.PolicyGradient(distance, lam, estimator), DATA,
        epochs=400, learning_rate=0.03, batch_ndim=0, noise=so.MemberNoise([so.generator(0)]),
    )  # fmt: skip
    law = policy(theta, X).distribution
    assert float(law.variance.mean()) == pytest.approx(lam / 2, rel=0.1)
    assert float((law.mean - DATA.y[:, 0, 0]).square().mean()) < 0.03
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], p) for name, p in net.named_parameters())
    assert torch.equal(policy.load(theta)(X).mean, law.mean)


def test_it_agrees_with_the_gaussian_policy() -> None:
    """Likelihood, entropy and the gradient of the score function, on the same law."""
    policy = so.policy(Net())
    law = policy(policy.start(), X)
    mean, scale = law.distribution.mean[:, None], law.distribution.stddev[:, None]
    same = so.Gaussian(mean, scale)
    torch.testing.assert_close(law.cross_entropy(DATA), same.cross_entropy(DATA))
    torch.testing.assert_close(law.entropy(), same.entropy())
    means = mean.detach()[:2].expand(3000, 2, 1).clone().requires_grad_()
    data, reward = DATA.rows(torch.arange(2)), so.MahalanobisReward.scalar(1.0, 1)
    exact = torch.autograd.grad(
        reward.expected(so.Gaussian(means[:1], torch.ones_like(means[:1])), data).sum(), means
    )[0][0]
    found = []
    for k in range(300):
        m = mean.detach()[:2].clone().requires_grad_()
        wrapped = Wrapped(Independent(Normal(m, torch.ones_like(m)), 1))
        noise = so.MemberNoise([so.generator(k)])
        surrogate = so.ScoreFunction(10)(wrapped, data, distance, noise)
        found.append(torch.autograd.grad(surrogate.sum(), m)[0])
    agree_on_average("a wrapped score function", torch.stack(found), exact, inputs="300 seeds")


def test_the_same_seed_gives_the_same_generations() -> None:
    law = so.policy(Net())(so.policy(Net()).start(), X)
    first, second, other = (law.draw(5, so.MemberNoise([so.generator(s)])) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (5, 30, 1)


@pytest.mark.parametrize(
    ("distribution", "n"),
    [
        (Laplace(normal(0, 4), torch.ones(4, dtype=F64)), 1),
        (Normal(normal(0, 4, 2), torch.ones(4, 2, dtype=F64)), 2),
        (Independent(Normal(normal(0, 4, 2), torch.ones(4, 2, dtype=F64)), 1), 2),
        (Poisson(normal(0, 4).exp()), 1),
        (
            MixtureSameFamily(
                Categorical(logits=normal(0, 4, 3)),
                Independent(Normal(normal(1, 4, 3, 2), torch.ones(4, 3, 2, dtype=F64)), 1),
            ),
            2,
        ),
    ],
)
def test_shapes_of_any_distribution(distribution: Any, n: int) -> None:
    law = Wrapped(distribution)
    drawn = law.draw(6, so.MemberNoise([so.generator(0)]))
    assert drawn.shape == (6, 4, n)
    assert law.log_prob(drawn).shape == (6, 4)
    data = so.Dataset.of(normal(5, 4, 1), drawn.movedim(0, 1).to(F64))
    torch.testing.assert_close(law.cross_entropy(data), -law.log_prob(drawn).mean(0))


def test_independent_dimensions_are_taken_together() -> None:
    """A law of every entry is the law of the rows that torch makes of it."""
    mean, scale, y = normal(0, 4, 2), normal(1, 4, 2).exp(), normal(2, 4, 2)
    plain, other = Normal(mean, scale), Normal(mean + 1, 2 * scale)
    entries, rows = Wrapped(plain), Wrapped(Independent(plain, 1))
    torch.testing.assert_close(entries.log_prob(y[None]), rows.log_prob(y[None]))
    torch.testing.assert_close(entries.entropy(), rows.entropy())
    found, want = entries.kl(Wrapped(other)), rows.kl(Wrapped(Independent(other, 1)))
    assert found is not None
    assert want is not None
    torch.testing.assert_close(found, want)


def test_what_it_refuses() -> None:
    class Wrong(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(
        so.InputError, match=r"returned Tensor: return a torch\.distributions object"
    ):
        so.policy(Wrong())({}, X)
    mixture = MixtureSameFamily(
        Categorical(logits=normal(0, 4, 3)), Normal(normal(1, 4, 3), torch.ones(4, 3, dtype=F64))
    )
    with pytest.raises(so.InputError, match="knows no entropy of MixtureSameFamily"):
        Wrapped(mixture).entropy()
    noise = so.MemberNoise([so.generator(0)])
    with pytest.raises(so.InputError, match="do not move with its parameters: pass Score"):
        so.Pathwise(3)(Wrapped(Poisson(normal(0, 30).exp())), DATA, distance, noise)
    with pytest.raises(so.InputError, match="has no closed form: pass estimator=ScoreFunction"):
        so.PolicyGradient(distance, 1.0)(so.policy(Net())(so.policy(Net()).start(), X), DATA)
    with pytest.raises(so.ShapeError, match="return one number for each"):
        so.ScoreFunction(3)(Wrapped(Normal(X[:, 0], 1.0)), DATA, lambda a, b: a - b, noise)
