"""Estimators: advantages, shapes, errors. Their gradients are checked by the gate."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import solvers as so
from solvers.data import Dataset
from solvers.errors import InputError
from solvers.families.baselines import BASELINES, advantage
from solvers.families.gaussian import Gaussian, GaussianPolicy, Structure
from solvers.families.module import Wrapped
from solvers.rewards.bounded import BoundedReward
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import streams
from solvers.training.estimators import Analytic, Estimator, Pathwise, ScoreFunction
from tests.draws import normal

ESTIMATORS = [Analytic(), Pathwise(5), *(ScoreFunction(5, b) for b in BASELINES)]


@given(M=st.integers(2, 7), seed=st.integers(0, 2**20))
def test_advantages_are_their_definitions(M: int, seed: int) -> None:
    r = normal(seed, 3, 4, M)
    others = [torch.cat([r[..., :k], r[..., k + 1 :]], -1).mean(-1) for k in range(M)]
    torch.testing.assert_close(advantage(r), r - torch.stack(others, -1))
    torch.testing.assert_close(advantage(r, "mean"), r - r.mean(-1, keepdim=True))
    assert torch.equal(advantage(r, "minimum"), r - r.min(-1, keepdim=True).values)
    assert torch.equal(advantage(r, "none"), r)
    scaled = (r - r.mean(-1, keepdim=True)) / r.std(-1, keepdim=True)
    torch.testing.assert_close(advantage(r, "standardised"), scaled)


@given(
    M=st.integers(2, 7),
    seed=st.integers(0, 2**20),
    power=st.integers(-300, 300),
    shift=st.sampled_from([0.0, -3.0, 1e3]),
)
def test_the_scale_of_standardised_rewards_cancels(M: int, seed: int, power: int, shift: float):
    r = normal(seed, 3, M) + shift
    found = advantage(10.0**power * r, "standardised")
    torch.testing.assert_close(found, advantage(r, "standardised"), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.std(-1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("level", [0.0, 0.1, -1e300, 1e-300])
@pytest.mark.parametrize("M", [2, 3, 5, 1000])
def test_a_group_of_equal_rewards_says_nothing(level: float, M: int) -> None:
    assert not advantage(torch.full((M,), level, dtype=torch.float64), "standardised").any()
    nearly = level * (1 + torch.finfo(torch.float64).eps * (torch.arange(M) % 2).double())
    assert not advantage(nearly, "standardised").any()


@pytest.mark.parametrize("worst", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_not_standardised_away(worst: float) -> None:
    assert bool(advantage(torch.tensor([1.0, 2.0, worst]), "standardised").isnan().all())


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1e-3, 1e3, 1e200])
@pytest.mark.parametrize("family", ["gaussian", "classes"])
def test_the_standardised_gradient_does_not_depend_on_the_scale_of_the_reward(scale, family):
    one, other = (_standardised_gradient(family, u) for u in (1.0, scale))
    assert float(one.abs().max()) > 0.01
    torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)


def _standardised_gradient(family: str, scale: float) -> torch.Tensor:
    estimator, noise = ScoreFunction(5, "standardised"), streams.MemberNoise([so.generator(3)])
    at = normal(1, 4, 3).requires_grad_()
    if family == "gaussian":
        law = so.Gaussian(at, torch.ones_like(at))
        data = so.Dataset.of(normal(2, 4, 1), normal(3, 4, 2, 3))
        reward = so.MahalanobisReward.scalar(scale, 3)
    else:
        law = so.Categorical(at)
        data = so.LabelledData(normal(2, 4, 1), normal(3, 4, 3).softmax(-1))
        reward = so.ClassReward(scale * normal(4, 1, 3, 3))
    surrogate = estimator(law, data, reward, noise)
    return torch.autograd.grad(surrogate.sum(), at)[0]


@given(M=st.integers(2, 7), seed=st.integers(0, 2**20))
def test_group_mean_is_leave_one_out_shrunk(M: int, seed: int) -> None:
    r = normal(seed, 3, M)
    torch.testing.assert_close(advantage(r, "mean") * M / (M - 1), advantage(r))


@pytest.mark.parametrize("baseline", ["minimum", "mean", "leave-one-out", "standardised"])
def test_baselines_ignore_a_constant_and_leave_their_argument_alone(baseline) -> None:
    r = normal(0, 3, 5)
    before = r.clone()
    torch.testing.assert_close(advantage(r + 100, baseline), advantage(r, baseline))
    assert torch.equal(r, before)


def test_one_generation() -> None:
    r = normal(0, 4, 1)
    assert torch.equal(advantage(r, "none"), r)
    assert bool((advantage(r, "mean") == 0).all())
    with pytest.raises(InputError, match="M is 1: pass at least 2 for 'leave-one-out'"):
        advantage(r)
    with pytest.raises(InputError, match="M is 1: pass at least 2 for 'leave-one-out'"):
        ScoreFunction(1)
    with pytest.raises(InputError, match="M is 1: pass at least 2 for 'standardised'"):
        ScoreFunction(1, "standardised")
    assert ScoreFunction(1, "none").M == 1


@pytest.mark.parametrize("M", [0, -2])
def test_no_generation(M: int) -> None:
    with pytest.raises(InputError, match=f"M is {M}: pass at least 1"):
        ScoreFunction(M, "none")


def problem(batch: tuple[int, ...], full: bool, shared: bool = False):
    N, S, n = 4, 3, 2
    data = Dataset.of(normal(0, *batch, N, 5), normal(1, *batch, N, S, n))
    deviations = 0.5 + normal(2, *batch, 1 if shared else N, n).square()
    scale = torch.diag_embed(deviations) if full else deviations
    law = Gaussian(normal(3, *batch, N, n).requires_grad_(), scale.requires_grad_())
    reward = MahalanobisReward.diagonal(0.5 + normal(4, *batch, n).square())
    noise = streams.MemberNoise(
        [torch.Generator().manual_seed(k) for k in range(torch.Size(batch).numel())], batch
    )
    return law, data, reward, noise


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_surrogate_is_per_input(
    batch: tuple[int, ...], full: bool, shared: bool, estimator: Estimator
) -> None:
    law, data, reward, noise = problem(batch, full, shared)
    surrogate = estimator(law, data, reward, noise)
    assert surrogate.shape == (*batch, 4)
    slopes = torch.autograd.grad(surrogate.sum(), [law.mean, law.scale])
    assert all(bool(torch.isfinite(slope).all()) for slope in slopes)


@pytest.mark.parametrize("baseline", BASELINES)
def test_inputs_are_independent(baseline) -> None:
    """The surrogate of an input depends on the policy at that input only."""
    law, data, reward, noise = problem((), False)
    surrogate = ScoreFunction(5, baseline)(law, data, reward, noise)
    for slope in torch.autograd.grad(surrogate[1], [law.mean, law.scale]):
        assert bool((slope[[0, 2, 3]] == 0).all())
        assert bool((slope[1] != 0).all())


def test_a_sampled_estimator_needs_noise() -> None:
    law, data, reward, _ = problem((), False)
    with pytest.raises(InputError, match="samples: pass a noise source"):
        ScoreFunction()(law, data, reward, None)
    with pytest.raises(InputError, match="samples: pass a noise source"):
        Pathwise()(law, data, reward, None)
    assert Analytic()(law, data, reward).shape == (4,)


def test_what_an_estimator_refuses() -> None:
    law, data, _, noise = problem((), False)
    with pytest.raises(InputError, match="M is 0: pass at least 1"):
        Pathwise(0)
    bounded = BoundedReward(torch.tensor(1.0, dtype=torch.float64))
    with pytest.raises(InputError, match="known for MahalanobisReward, not BoundedReward"):
        ScoreFunction(2, "optimal")(law, data, bounded, noise)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("baseline", ["optimal", "optimal-per-outcome"])
def test_optimal_baselines_of_a_diagonal_policy(baseline, batch: tuple[int, ...]) -> None:
    """They are those of the same law with a diagonal Cholesky factor, which the gate checks."""
    laws = [problem(batch, full) for full in (False, True)]
    slopes = [
        torch.autograd.grad(
            ScoreFunction(3, baseline)(law, data, reward, noise).sum(), [law.mean, law.scale]
        )
        for law, data, reward, noise in laws
    ]
    torch.testing.assert_close(slopes[0][0], slopes[1][0])
    torch.testing.assert_close(slopes[0][1], slopes[1][1].diagonal(dim1=-2, dim2=-1))


def test_members_do_not_mix_in_the_optimal_baseline() -> None:
    law, data, reward, noise = problem((3,), True)
    both = ScoreFunction(3, "optimal")(law, data, reward, noise)
    _, _, _, again = problem((3,), True)
    one = Gaussian(law.mean[1], law.scale[1])
    alone = ScoreFunction(3, "optimal")(
        one,
        Dataset.of(data.x[1], data.y[1]),
        MahalanobisReward(reward.cholesky[1]),
        streams.MemberNoise([again.generators[1]]),
    )
    torch.testing.assert_close(alone, both[1])


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
def test_a_constant_scale_counts_for_every_input(structure: Structure) -> None:
    """A scale stored once for all inputs gives the gradient of the same scale repeated."""
    data = Dataset.of(normal(0, 5, 3), normal(1, 5, 4, 2))
    policy = GaussianPolicy(3, 2, structure)
    params = policy.init([torch.Generator().manual_seed(1)], dtype=torch.float64)
    reward = MahalanobisReward.scalar(torch.tensor(0.7, dtype=torch.float64), 2)
    law = policy(params, data.x)
    assert law.scale.shape[0] == 1
    repeated = Gaussian(law.mean, law.scale.expand(5, *law.scale.shape[1:]))
    slopes = [
        torch.autograd.grad(
            ScoreFunction(3)(
                each, data, reward, streams.MemberNoise([torch.Generator().manual_seed(2)])
            ).sum(),
            list(params.values()),
            retain_graph=True,
        )
        for each in (law, repeated)
    ]
    for once, often in zip(*slopes, strict=True):
        assert bool((once != 0).any())
        torch.testing.assert_close(once, often)


class SameAtEachInput:
    """Noise of chosen inputs out of `N`, the same whether one is asked for or all of them."""

    def __init__(self, N: int, chosen: slice) -> None:
        self.N, self.chosen = N, chosen

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        of_all = (*shape[:-1], self.N)  # inputs last
        found = torch.randn(of_all, generator=streams.generator(0, "noise"), dtype=dtype)
        return found[..., self.chosen]


@pytest.mark.parametrize("estimator", [ScoreFunction(5), Pathwise(5)], ids=["score", "pathwise"])
def test_a_reward_per_input_is_not_taken_for_one_per_generation(estimator):
    """As many inputs as generations: the shapes alone would let one pass for the other."""
    N = 5
    mean = torch.zeros(N, 2, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(N, 2, dtype=torch.float64)
    u = 1 + torch.rand(N, 2, generator=streams.generator(0, "u"), dtype=torch.float64)

    def slope(chosen: slice) -> torch.Tensor:
        law = Gaussian.diagonal(mean[chosen], ones[chosen])
        data = Dataset.of(ones[chosen, :1], ones[chosen].unsqueeze(-2))
        reward = MahalanobisReward.diagonal(u[chosen])
        surrogate = estimator(law, data, reward, SameAtEachInput(N, chosen))
        return torch.autograd.grad(surrogate.sum(), mean)[0][chosen]

    each = torch.cat([slope(slice(i, i + 1)) for i in range(N)])
    torch.testing.assert_close(slope(slice(0, N)), each)
    assert bool((each != 0).all())


def test_no_generations_have_no_mean_reward() -> None:
    normal = torch.distributions.Normal(torch.zeros(3, 2), torch.ones(3, 2))
    laws = Gaussian(normal.mean, normal.stddev), Wrapped(torch.distributions.Independent(normal, 1))
    data, noise = (
        Dataset.pairs(torch.ones(3, 1), torch.ones(3, 2)),
        streams.MemberNoise([so.generator(0)]),
    )
    for law in laws:
        with pytest.raises(InputError, match="M is 0"):
            law.pathwise(data, MahalanobisReward.scalar(1.0, 2), 0, noise)
