"""β-NLL, faithful regression and a temperature per input: one family, by its gradients."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.data import Dataset
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.families.bernoulli import BernoulliPolicy
from solvers.families.gaussian import Gaussian, GaussianPolicy
from solvers.families.networks import MLP
from solvers.rewards.mahalanobis import DiagonalReward, MahalanobisReward
from solvers.training import ensemble, streams
from solvers.training.objectives import MSE, NLL, BetaNLL, Faithful, PolicyGradient
from tests.draws import F64, normal

POLICY = GaussianPolicy(3, 2, "diagonal", MLP((5,), "tanh"), MLP((4,), "tanh"))
LAM = 0.7


@cache
def data_set() -> Dataset:
    return Dataset.of(normal(0, 6, 3), normal(1, 6, 4, 2))


def params(*batch: int) -> dict[str, Tensor]:
    count = torch.Size(batch).numel()
    return POLICY.init([streams.generator(0, i) for i in range(count)], batch, F64)


def slopes(objective: Any, part: str, theta: dict[str, Tensor] | None = None) -> list[Tensor]:
    """The gradient in the parameters of the mean or the scale."""
    theta = params() if theta is None else theta
    leaves = [p for name, p in theta.items() if name.startswith(part)]
    return list(
        torch.autograd.grad(
            objective(POLICY(theta, data_set().x), data_set()).sum(), leaves, materialize_grads=True
        )
    )


def agree(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_mean_moves_as_under_a_temperature(beta: float) -> None:
    """`λ(x) = λ P^β` and `U = ½ λ(x) P⁻¹`: the mean has λ times the gradient of β-NLL."""
    variance = POLICY(params(), data_set().x).scale.detach().square()
    tau = variance**beta
    tempered = PolicyGradient(DiagonalReward(LAM * tau / (2 * variance)), LAM, temperature=tau)
    agree(slopes(tempered, "mean"), [LAM * g for g in slopes(BetaNLL(beta), "mean")])
    # and the scale is at the inner solution (λ(x)/2) U(x)⁻¹
    agree(slopes(tempered, "scale"), [torch.zeros_like(g) for g in slopes(tempered, "scale")])


def test_the_ends_of_the_family() -> None:
    for part in ("mean", "scale"):
        agree(slopes(BetaNLL(0.0), part), slopes(NLL(), part))
    half = [g / 2 for g in slopes(MSE(), "mean")]
    agree(slopes(BetaNLL(1), "mean"), half)
    agree(slopes(Faithful(), "mean"), half)
    agree(slopes(Faithful(), "scale"), slopes(NLL(), "scale"))


def test_members_have_a_beta_each() -> None:
    theta = params(2)
    both = BetaNLL(torch.tensor([0.0, 0.5]))(POLICY(theta, data_set().x), data_set())
    for k, beta in enumerate((0.0, 0.5)):
        one = {name: p[k] for name, p in theta.items()}
        torch.testing.assert_close(both[k], BetaNLL(beta)(POLICY(one, data_set().x), data_set()))


@pytest.mark.parametrize("beta", [-0.1, 1.5, torch.tensor([0.5, 2.0])])
def test_a_beta_outside_the_family_is_refused(beta: Any) -> None:
    with pytest.raises(InputError, match="beta is"):
        BetaNLL(beta)


@pytest.mark.parametrize("objective", [BetaNLL(), Faithful()])
def test_a_full_covariance_is_refused(objective: Any) -> None:
    full = GaussianPolicy(3, 2)
    law = full(full.zeros(), data_set().x)
    with pytest.raises(InputError, match="structure='diagonal'"):
        objective(law, data_set())


def test_one_temperature_for_all_is_an_entropy_weight() -> None:
    reward, law = MahalanobisReward.scalar(1.5, 2), POLICY(params(), data_set().x)
    want = PolicyGradient(reward, 2 * LAM)(law, data_set())
    for tau in (torch.full((6,), 2.0), torch.full((6, 1), 2.0), torch.full((6, 2), 2.0)):
        torch.testing.assert_close(
            PolicyGradient(reward, LAM, temperature=tau)(law, data_set()), want
        )
    of_x = PolicyGradient(reward, LAM, temperature=lambda x: 2 * torch.ones_like(x[:, 0]))
    torch.testing.assert_close(of_x(law, data_set()), want)


def test_entropies_add_up() -> None:
    law = POLICY(params(), data_set().x)
    torch.testing.assert_close(law.entropies().sum(-1), law.entropy())


def test_rows_of_a_temperature_belong_to_rows_of_the_data() -> None:
    tau = normal(3, 6).exp()
    rows, theta = torch.tensor([4, 1]), params()
    reward = MahalanobisReward.scalar(1.0, 2)
    part = data_set().rows(rows)
    found = PolicyGradient(reward, LAM, temperature=tau).rows(rows)(POLICY(theta, part.x), part)
    want = PolicyGradient(reward, LAM, temperature=tau[rows])(POLICY(theta, part.x), part)
    torch.testing.assert_close(found, want)


def test_batches_train_with_their_temperature() -> None:
    """With `U = ½`, `λ(x) = exp(x_1)`: the variance goes to `exp(x_1)`."""
    objective = PolicyGradient(
        MahalanobisReward.scalar(0.5, 2), 1.0, temperature=lambda x: x[..., 0].exp()
    )
    policy = GaussianPolicy(3, 2, "diagonal", scale=MLP())
    data = Dataset.of(normal(0, 12, 3), torch.zeros(12, 1, 2, dtype=F64))
    found = ensemble.train(
        policy,
        policy.init([streams.generator(0)], dtype=F64),
        objective,
        data,
        epochs=300,
        learning_rate=0.03,
        batch_ndim=0,
        batch_size=6,
        shuffle=streams.MemberNoise([streams.generator(1)]),
    )
    variance = policy(found, data.x).scale.square()
    torch.testing.assert_close(variance, data.x[:, :1].exp().expand(-1, 2), rtol=1e-2, atol=0)


REWARD = MahalanobisReward.scalar(1.0, 2)


@pytest.mark.parametrize(
    ("tau", "error", "said"),
    [
        (torch.ones(5), ShapeError, r"\(5, 1\), the data 6 inputs"),
        (torch.ones(6, 3), ShapeError, "n = 3"),
        (-torch.ones(6), InputError, "must be positive"),
        (torch.full((6,), torch.nan), NonFiniteError, "temperature"),
    ],
)
def test_a_wrong_temperature_is_refused(tau: Tensor, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        PolicyGradient(REWARD, LAM, temperature=tau)(POLICY(params(), data_set().x), data_set())


def test_a_temperature_for_each_dimension_asks_for_an_entropy_of_each() -> None:
    full, bits = GaussianPolicy(3, 2), BernoulliPolicy(3, 2)
    votes = Dataset.of(data_set().x, (data_set().y > 0).double())
    for policy, data in ((full, data_set()), (bits, votes)):
        law = policy(policy.zeros(), data.x)
        with pytest.raises(InputError, match="no sum over them"):
            PolicyGradient(REWARD, LAM, temperature=torch.ones(6, 2))(law, data)
    with pytest.raises(ShapeError, match="rows can be taken"):
        PolicyGradient(REWARD, LAM, temperature=torch.ones(2, 6, 1)).rows(torch.tensor([0]))


# --- the diagonal reward of many inputs ---


def test_a_diagonal_reward_is_the_matrix_without_its_zeros() -> None:
    u = normal(4, 6, 2).exp()
    for law in (
        POLICY(params(), data_set().x),
        Gaussian.cholesky(normal(5, 6, 2), torch.eye(2).double()),
    ):
        want = MahalanobisReward.diagonal(u).expected(law, data_set())
        torch.testing.assert_close(DiagonalReward(u).expected(law, data_set()), want)
    rows = torch.tensor([3, 0])
    assert torch.equal(DiagonalReward(u).rows(rows).u, u[rows])
    shared = DiagonalReward(u[:1])
    assert shared.rows(rows) is shared
    assert shared.n == 2


def test_diagonal_rewards_are_checked() -> None:
    with pytest.raises(InputError, match="u must be positive"):
        DiagonalReward(torch.zeros(1, 2))
    with pytest.raises(ShapeError, match="rows are taken"):
        DiagonalReward(torch.ones(2, 6, 2)).rows(torch.tensor([0]))
    with pytest.raises(ShapeError, match="n = 3"):
        DiagonalReward(torch.ones(1, 3)).expected(POLICY(params(), data_set().x), data_set())
