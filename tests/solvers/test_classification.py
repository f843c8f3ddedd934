"""Policy gradients for classes: every estimate by enumeration of all groups of generations."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from torch import Tensor

from paper_checks.conformance.tolerances import agree, agree_on_average
from solvers.data import LabelledData
from solvers.errors import InputError, ShapeError
from solvers.families import categorical
from solvers.families.baselines import BASELINES, Baseline
from solvers.families.categorical import Categorical, draw_counts
from solvers.rewards.between_classes import ClassReward
from solvers.training import streams
from solvers.training.estimators import ScoreFunction
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import F64, normal

N, INPUTS = 4, 7
baselines = pytest.mark.parametrize(
    "baseline", [name for name in BASELINES if name != "optimal-per-outcome"]
)
SIZES = [(1, 2), (2, 2), (2, 3), (3, 2), (3, 3), (2, 5)]  # M, C


def data_of(C: int, seed: int = 0) -> LabelledData:
    return LabelledData.soft(normal(seed, N, INPUTS), normal(seed + 1, N, C).softmax(-1))


def noise(batch: tuple[int, ...] = ()) -> streams.MemberNoise:
    count = torch.Size(batch).numel()
    return streams.MemberNoise([torch.Generator().manual_seed(k) for k in range(count)], batch)


@dataclass(frozen=True)
class Fixed:
    """Uniform noise that was chosen beforehand."""

    values: Tensor

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        assert (self.values.shape[-2:], self.values.dtype) == (shape, dtype)
        return self.values


@dataclass(frozen=True)
class Groups:
    """All groups of generations `(T, M)`: how likely `(T, N)`, their estimates `(T, N, C)`."""

    tuples: Tensor
    weight: Tensor
    estimate: Tensor
    p: Tensor
    r: Tensor

    @property
    def mean(self) -> Tensor:
        return (self.weight[..., None] * self.estimate).sum(0)

    @property
    def exact(self) -> Tensor:
        """`∂/∂z_j Σ_c p_c r_c = p_j (r_j - Σ_c p_c r_c)`."""
        return self.p * (self.r - (self.p * self.r).sum(-1, keepdim=True))


def enumerate_groups(baseline: Baseline, M: int, C: int) -> Groups:
    z, data = normal(2, N, C), data_of(C)
    reward = ClassReward(2 * normal(3, N, C, C))
    p, tuples = z.softmax(-1), torch.tensor(list(product(range(C), repeat=M)))
    noise = Fixed((p.cumsum(-1) - p / 2).T[tuples])  # inside the interval of each class
    logits = z.expand(len(tuples), N, C).clone().requires_grad_()
    surrogate = ScoreFunction(M, baseline)(Categorical(logits), data, reward, noise)
    estimate = torch.autograd.grad(surrogate.sum(), logits)[0]
    r = torch.einsum("nck,nk->nc", reward.table, data.pi)
    return Groups(tuples, p.T[tuples].prod(1), estimate, p, r)


def by_definition(baseline: Baseline, groups: Groups) -> Tensor:
    """Mean of `(r̄(ŷ_k) - b_k) ∇ log p(ŷ_k)` over the generations of each group."""
    estimates = torch.zeros_like(groups.estimate)
    for t, n in np.ndindex(*groups.weight.shape):
        drawn = groups.tuples[t].tolist()
        rewards = [float(groups.r[n, c]) for c in drawn]
        for k, c in enumerate(drawn):
            others = rewards[:k] + rewards[k + 1 :]
            b = {"none": 0.0, "minimum": min(rewards), "mean": sum(rewards) / len(rewards)}
            b["leave-one-out"] = sum(others) / max(len(others), 1)
            score = torch.eye(groups.p.shape[-1], dtype=F64)[c] - groups.p[n]
            estimates[t, n] += (rewards[k] - b[baseline]) * score / len(drawn)
    return estimates


@pytest.mark.parametrize("baseline", ["none", "minimum", "mean", "leave-one-out"])
@pytest.mark.parametrize(("M", "C"), SIZES)
def test_every_estimate_is_its_definition(baseline: Baseline, M: int, C: int) -> None:
    groups = enumerate_groups(baseline, 4 if (M, baseline) == (1, "leave-one-out") else M, C)
    torch.testing.assert_close(groups.estimate, by_definition(baseline, groups))


def check_mean(baseline: Baseline, M: int, C: int) -> None:
    """The expectation of an estimate is the exact gradient; for "mean", shrunk."""
    groups = enumerate_groups(baseline, M, C)
    want = groups.exact * ((M - 1) / M if baseline == "mean" else 1)
    agree(f"mean of {baseline}", groups.mean, want, rtol=1e-12, inputs=(M, C), scale=1)


@pytest.mark.parametrize(("M", "C"), SIZES[1:])
@pytest.mark.parametrize("baseline", ["none", "mean", "leave-one-out", "optimal"])
def test_expectations(baseline: Baseline, M: int, C: int) -> None:
    check_mean(baseline, M, C)


@pytest.mark.parametrize("C", [2, 3])
def test_the_minimum_is_biased(C: int) -> None:
    """Its expectation, for two generations, by a sum over the *other* one."""
    groups = enumerate_groups("minimum", 2, C)
    p, r = groups.p, groups.r
    advantage = (r[:, :, None] - r[:, None, :]).clamp(min=0)  # r_1 - min(r_1, r_2)
    weights = p * torch.einsum("nb,nab->na", p, advantage)
    torch.testing.assert_close(groups.mean, weights - p * weights.sum(-1, keepdim=True))
    assert bool(((groups.mean - groups.exact).abs() > 1e-3).any(-1).all())


def check_variance(M: int, C: int) -> None:
    """No constant baseline has a smaller variance in any entry than the optimal ones."""
    optimal = enumerate_groups("optimal", M, C)
    found = (optimal.weight[..., None] * (optimal.estimate - optimal.mean).square()).sum(0)

    def variance(b: float, n: int, j: int) -> float:
        p = optimal.p[n].numpy()
        entry = (optimal.r[n].numpy() - b) * (np.eye(C)[j] - p[j])
        return float(p @ entry**2 - (p @ entry) ** 2)

    for n, j in np.ndindex(N, C):
        least = optimize.minimize_scalar(variance, args=(n, j)).fun / M
        assert float(found[n, j]) == pytest.approx(least, rel=1e-9, abs=1e-12), "optimality fails"


@pytest.mark.parametrize(("M", "C"), SIZES)
def test_the_optimal_baseline_has_the_least_variance(M: int, C: int) -> None:
    check_variance(M, C)


def treated_as(baseline: str) -> Callable[..., Any]:
    return lambda right: lambda p, r, share, M, _: right(p, r, share, M, baseline)


def times_M(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p, r, share, M, name: M * right(p, r, share, M, name)


FAULTS: dict[str, tuple[Callable[..., Any], Callable[[], None]]] = {
    "factor dropped": (treated_as("mean"), lambda: check_mean("leave-one-out", 3, 3)),
    "sum for mean": (times_M, lambda: check_mean("none", 2, 3)),
    "another constant for the optimal one": (treated_as("none"), lambda: check_variance(1, 3)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, notices = FAULTS[name]
    notices()
    monkeypatch.setattr(categorical, "_slopes", plant(vars(categorical)["_slopes"]))
    with pytest.raises(AssertionError, match="fails"):
        notices()


@given(C=st.integers(2, 10), M=st.integers(1, 6), seed=st.integers(0, 2**20))
def test_counts_invert_the_cdf(C: int, M: int, seed: int) -> None:
    for batch in ((), (3,), (2, 3)):
        law = Categorical(2 * normal(seed, *batch, N, C))
        uniform = normal(seed + 1, *batch, M, N).sigmoid()
        counts = draw_counts(law, M, Fixed(uniform))
        for index in np.ndindex(*batch, N):
            edges, values = law.p[index].cumsum(-1)[:-1], uniform[index[:-1]][:, index[-1]]
            classes = np.searchsorted(edges.numpy(), values.numpy(), side="right")
            assert counts[index].tolist() == np.bincount(classes, minlength=C).tolist()


def test_counts_at_the_edges() -> None:
    """A number at an edge belongs to the class above it; classes of probability 0 are skipped."""
    law = Categorical(torch.zeros(1, 5, dtype=F64))
    exact = torch.tensor([[0, 0.25, 0.5, 0, 0.25]], dtype=F64)
    object.__setattr__(law, "p", exact)  # probabilities that logits give only nearly
    below = 1 - torch.finfo(F64).eps / 2
    for u, c in [(0, 1), (0.25 * below, 1), (0.25, 2), (0.75 * below, 2), (0.75, 4), (below, 4)]:
        counts = draw_counts(law, 1, Fixed(torch.tensor([[u]], dtype=F64)))
        assert counts.tolist() == [[float(k == c) for k in range(5)]], u


def test_frequencies_are_the_probabilities() -> None:
    law = Categorical(normal(0, 2, 3, N, 5))
    counts = draw_counts(Categorical(law.logits.expand(100, 2, 3, N, 5)), 50, noise((100, 2, 3)))
    agree_on_average("frequencies of classes", counts / 50, law.p, inputs="seed 0")


@baselines
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_members_and_inputs_are_independent(baseline: Any, batch: tuple[int, ...]) -> None:
    C, data, M = 5, data_of(5), 4
    z = normal(2, *batch, N, C).requires_grad_()
    for lead in ((), batch):  # rewards of all members, and of each
        reward = ClassReward(normal(3, *lead, N, C, 1))
        surrogate = ScoreFunction(M, baseline)(Categorical(z), data, reward, noise(batch))
        slopes = torch.autograd.grad(surrogate.sum(), z)[0]
        for k, index in enumerate(np.ndindex(*batch)):
            alone = z[index].detach().requires_grad_()
            r = ClassReward(reward.table[index] if lead else reward.table)
            own = streams.MemberNoise([noise(batch).generators[k]])
            one = ScoreFunction(M, baseline)(Categorical(alone), data, r, own)
            torch.testing.assert_close(one, surrogate[index])
            torch.testing.assert_close(torch.autograd.grad(one[1], alone)[0][1], slopes[index][1])


@baselines
def test_the_gradient_of_the_entropy_is_exact(baseline: Any) -> None:
    """A reward of 0 leaves `λH`, whatever the estimator."""
    z, lam = normal(2, N, 5).requires_grad_(), torch.ones((), dtype=F64) / 3
    nothing = ClassReward(torch.zeros(1, 5, 5, dtype=F64))
    objective = PolicyGradient(nothing, lam, ScoreFunction(3, baseline))
    got = objective(Categorical(z), data_of(5), noise())
    want = -lam * torch.distributions.Categorical(logits=z).entropy().mean()
    torch.testing.assert_close(*(torch.autograd.grad(value, z)[0] for value in (got, want)))


@baselines
def test_saturated_laws_have_finite_estimates(baseline: Any) -> None:
    z = torch.tensor([[1e4, -1e4, 0.0], [0, 40, 0], [1e4, 1e4, -1e4], [0, 0, 0]], dtype=F64)
    law, reward = Categorical(z.requires_grad_()), ClassReward(normal(3, N, 3, 3))
    surrogate = ScoreFunction(3, baseline)(law, data_of(3), reward, noise())
    slopes = torch.autograd.grad(surrogate.sum(), z)[0]
    assert bool(torch.isfinite(slopes).all())
    assert bool((slopes[0] == 0).all())


def test_what_an_estimator_refuses() -> None:
    law, reward = Categorical(normal(0, N, 3)), ClassReward(normal(1, N, 3, 1))
    with pytest.raises(InputError, match=r"samples: pass a noise source, .* or use Analytic"):
        ScoreFunction()(law, data_of(3), reward, None)
    with pytest.raises(InputError, match="M is 1: pass at least 2 for 'leave-one-out'"):
        ScoreFunction(1)
    with pytest.raises(InputError, match="M is 0: pass at least 1"):
        ScoreFunction(0, "optimal")
    wrong = ScoreFunction()
    object.__setattr__(wrong, "baseline", "best")  # past the type checks of the suite
    with pytest.raises(InputError, match=r"'best' \(str\): pass one of 'none', .*, 'optimal'"):
        wrong.__post_init__()


def losses(z: np.ndarray, pi: Tensor, table: Tensor, lam: float) -> float:
    """`-J` by enumeration of generations and outcomes."""
    p, r = special.softmax(z.reshape(pi.shape), -1), table.numpy()
    J = sum(p[n, c] * float(pi[n, k]) * r[n, c, k] for n, c, k in np.ndindex(r.shape))
    return -float(J - lam * (p * np.log(p)).sum()) / len(p)


def test_the_exact_gradient_by_finite_differences() -> None:
    C, lam, data = 3, torch.tensor([0.3, 2.0], dtype=F64), data_of(3)
    table, z = normal(3, 2, N, C, C), normal(2, 2, N, C).requires_grad_()
    objective = PolicyGradient(ClassReward(table), lam)
    found = objective(Categorical(z), data)
    slopes = torch.autograd.grad(found.sum(), z)[0]
    for b in range(2):
        want = partial(losses, pi=data.pi, table=table[b], lam=float(lam[b]))
        at = z[b].detach().numpy().ravel()
        assert found[b].item() == pytest.approx(want(at), rel=1e-12)
        slope = optimize.approx_fprime(at, want, 1e-7)
        np.testing.assert_allclose(slopes[b].numpy().ravel(), slope, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_objectives_are_means_over_inputs(batch: tuple[int, ...]) -> None:
    law, data = Categorical(normal(0, *batch, N, 5)), data_of(5)
    want = -(data.pi * law.p.log()).sum(-1).mean(-1)
    torch.testing.assert_close(NLL()(law, data), want)
    objective = PolicyGradient(ClassReward(normal(0, N, 5, 1)), torch.ones((), dtype=F64))
    assert objective(law, data).shape == batch
    for each in (NLL(), objective):
        with pytest.raises(ShapeError, match="the policy has C = 5 classes, the data 4"):
            each(law, data_of(4))
    for lam in (0.0, -0.5):
        with pytest.raises(InputError, match=f"lam must be positive, got {lam:g}"):
            replace(objective, lam=torch.tensor(lam, dtype=F64))
