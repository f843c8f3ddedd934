"""Classes of probability 0: `0 log 0 = 0`, and never generated."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from solvers.data import LabelledData
from solvers.errors import InputError, NonFiniteError
from solvers.families.baselines import BASELINES, Baseline
from solvers.families.categorical import Categorical, draw_counts
from solvers.metrics import accuracy, calibration_error
from solvers.rewards.between_classes import ClassReward, exact_scale, gibbs, heuristic_scale
from solvers.training.estimators import Analytic, Estimator, ScoreFunction
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import normal
from tests.labelled import labelled_by

F32, F64 = torch.float32, torch.float64
Metric = Callable[[Categorical, LabelledData], Tensor]
precisions = pytest.mark.parametrize("dtype", [F32, F64])


def with_zeros(seed: int, N: int, C: int) -> tuple[Tensor, Tensor]:
    """Logits with some classes shut at every input, and which of them are open."""
    z = 2 * normal(seed, N, C)
    chance = torch.rand(N, C, generator=torch.Generator().manual_seed(seed + 1))
    open_ = (chance > 0.5) | (chance == chance.amax(-1, keepdim=True))
    return z.masked_fill(~open_, -math.inf), open_


def laid_out(z: Tensor, transposed: bool) -> Tensor:
    return z.mT.contiguous().mT if transposed else z


@pytest.mark.gate
@pytest.mark.parametrize("transposed", [False, True])
@given(C=st.integers(2, 8), N=st.integers(1, 4), seed=st.integers(0, 2**20))
def test_the_law_is_that_of_the_open_classes(transposed: bool, C: int, N: int, seed: int) -> None:
    """Entropy, cross-entropy and gradients are those of a law without the shut classes."""
    logits, open_ = with_zeros(seed, N, C)
    z = laid_out(logits, transposed).clone().requires_grad_()
    pi = normal(seed + 2, N, C).masked_fill(~open_, -math.inf).softmax(-1)
    law = Categorical(z)
    H, cross = law.entropy(), law.cross_entropy(labelled_by(pi))
    assert bool((law.p[~open_] == 0).all())
    slopes = torch.autograd.grad(H.sum() + 2 * cross.sum(), z, create_graph=True)[0]
    (curvature,) = torch.autograd.grad((slopes * normal(seed + 3, N, C)).sum(), z)
    for i in range(N):
        alone = z[i, open_[i]].detach().requires_grad_()
        want = torch.distributions.Categorical(logits=alone)
        torch.testing.assert_close(H[i], want.entropy())
        wanted = -(pi[i, open_[i]] * want.logits).sum()
        torch.testing.assert_close(cross[i], wanted)
        (slope,) = torch.autograd.grad(want.entropy() + 2 * wanted, alone, create_graph=True)
        (bend,) = torch.autograd.grad((slope * normal(seed + 3, N, C)[i, open_[i]]).sum(), alone)
        torch.testing.assert_close(slopes[i, open_[i]], slope)
        torch.testing.assert_close(curvature[i, open_[i]], bend)
    assert bool((slopes[~open_] == 0).all())
    assert bool((curvature[~open_] == 0).all())


@precisions
def test_a_class_that_the_data_have_and_the_law_excludes(dtype: torch.dtype) -> None:
    """The likelihood is 0: its logarithm is -inf, and its slope that of the open classes."""
    z = torch.tensor([[0.0, 0.0, -math.inf]], dtype=dtype, requires_grad=True)
    law, pi = Categorical(z), torch.tensor([[0.5, 0.0, 0.5]], dtype=dtype)
    assert law.cross_entropy(labelled_by(pi)).item() == math.inf
    (slope,) = torch.autograd.grad(law.cross_entropy(labelled_by(pi)).sum(), z)
    torch.testing.assert_close(slope, law.p.detach() - pi)


@precisions
def test_cross_entropy_of_a_law_with_itself_has_a_slope(dtype: torch.dtype) -> None:
    z = torch.tensor([[0.3, 0.0, -math.inf]], dtype=dtype, requires_grad=True)
    law = Categorical(z)
    both = law.cross_entropy(law)
    torch.testing.assert_close(both, law.entropy())
    (slope,) = torch.autograd.grad(both.sum(), z, create_graph=True)
    (want,) = torch.autograd.grad(law.entropy().sum(), z, retain_graph=True)
    torch.testing.assert_close(slope, want)
    (bend,) = torch.autograd.grad(slope[0, 0], z)
    assert bool(torch.isfinite(bend).all())


def test_underflow_is_a_zero_too() -> None:
    z = torch.tensor([[0.0, -5e3, -2e4]], dtype=F64, requires_grad=True)
    law = Categorical(z)
    assert law.entropy().item() == 0
    half = labelled_by(torch.tensor([[0.0, 0.5, 0.5]], dtype=F64))
    assert law.cross_entropy(half).item() == 12500.0
    (slope,) = torch.autograd.grad(law.entropy().sum(), z)
    assert bool((slope == 0).all())


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ([-math.inf] * 3, r"\[-inf, -inf, -inf\]"),
        ([0.0, math.inf, 0.0], "inf"),
        ([0.0, math.nan, 0.0], "nan"),
    ],
)
@precisions
def test_logits_that_are_no_law(row: list[float], shown: str, dtype: torch.dtype) -> None:
    z = torch.zeros(2, 4, 3, dtype=dtype)
    z[1, 2] = torch.tensor(row, dtype=dtype)
    with pytest.raises(NonFiniteError, match=rf"logits\[1, 2\] are .*{shown}.* no law"):
        Categorical(z)
    with pytest.raises(NonFiniteError, match="no law"):
        ClassReward(z[..., None])


def test_one_member_that_diverges_stays_alone() -> None:
    z = torch.zeros(2, 4, 3, dtype=F64)
    z[1, 2, 0] = math.nan
    law = Categorical(z, check=False)
    assert law.entropy().isnan().any(-1).tolist() == [False, True]


@pytest.mark.parametrize("metric", [accuracy, calibration_error])
@pytest.mark.parametrize("row", [[math.nan] * 3, [0.0, math.nan, 0.0], [math.inf, 0.0, 0.0]])
def test_no_metric_is_computed_of_what_is_no_law(metric: Metric, row: list[float]) -> None:
    """Nor of a member among others: the most likely of NaN would be any class."""
    data = LabelledData.of(normal(0, 4, 1), torch.tensor([0, 1, 2, 0]), 3)
    z = torch.zeros(2, 4, 3, dtype=F64)
    assert bool(torch.isfinite(metric(Categorical(z), data)).all())
    z[1, 2] = torch.tensor(row, dtype=F64)
    with pytest.raises(NonFiniteError, match=r"the law's logits\[1, 2\] are \[.* no law"):
        metric(Categorical(z, check=False), data)


@dataclass(frozen=True)
class Fixed:
    """The same noise for all: what the edges of the CDF are asked about."""

    numbers: Tensor

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        M, N = shape
        return self.numbers.to(dtype).unsqueeze(-1).expand(M, N)


def edges(p: Tensor) -> Tensor:
    """0, the largest number below 1, the sums of probabilities and their neighbours."""
    below = torch.nextafter(p.new_ones(()), p.new_zeros(()))
    cdf = p.cumsum(-1).flatten()
    near = [cdf, torch.nextafter(cdf, cdf - 1), torch.nextafter(cdf, cdf + 1)]
    return torch.cat([p.new_zeros(1), below[None], *near]).clamp(0, float(below)).unique()


@pytest.mark.gate
@precisions
@given(C=st.integers(2, 12), seed=st.integers(0, 2**20), spread=st.sampled_from([0.1, 3.0, 30.0]))
def test_a_class_of_probability_0_is_never_drawn(
    dtype: torch.dtype, C: int, seed: int, spread: float
) -> None:
    logits, open_ = with_zeros(seed, 6, C)
    law = Categorical((spread * logits).to(dtype))
    noise = torch.rand(2000, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    uniform = torch.cat([edges(law.p), noise])
    counts = draw_counts(law, len(uniform), Fixed(uniform))
    assert bool((counts >= 0).all())
    assert bool((counts.sum(-1) == len(uniform)).all())
    assert bool((counts[~open_] == 0).all())


@precisions
@pytest.mark.parametrize("place", [0, 1, -1])
def test_rounding_of_the_sum_draws_nothing(dtype: torch.dtype, place: int) -> None:
    """Many equal classes: their sum is not 1 in floating point, and one of them is shut."""
    for C in range(3, 60):
        z = torch.zeros(1, C, dtype=dtype)
        z[0, place] = -math.inf
        law = Categorical(z)
        counts = draw_counts(law, len(edges(law.p)), Fixed(edges(law.p)))
        assert counts[0, place] == 0, C


@precisions
def test_draws_invert_the_distribution_function(dtype: torch.dtype) -> None:
    law = Categorical(normal(0, 1, 5).to(dtype))
    noise = torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=dtype)
    counts = draw_counts(law, 500, Fixed(noise))[0]
    cdf = law.p[0].double().cumsum(0)[:-1].numpy()
    want = np.bincount(np.searchsorted(cdf, noise.double().numpy(), side="right"), minlength=5)
    assert bool(((counts - torch.tensor(want)).abs() <= 1).all())


def forbidding(N: int, C: int, seed: int) -> tuple[ClassReward, Tensor, Tensor]:
    r = normal(seed, N, C)
    shut = ~with_zeros(seed, N, C)[1]
    return ClassReward(r.masked_fill(shut, -math.inf)[..., None]), r, shut


@pytest.mark.gate
@given(C=st.integers(2, 6), N=st.integers(1, 4), seed=st.integers(0, 2**20))
def test_a_forbidden_class_is_one_that_is_not_there(C: int, N: int, seed: int) -> None:
    """The Gibbs law maximises `J`, whose value there is `λ log Σ exp(r/λ)` of the others."""
    reward, r, shut = forbidding(N, C, seed)
    pi, lam = normal(seed + 1, N, C).softmax(-1), 0.7
    law = gibbs(reward, lam, pi)
    assert bool((law.p[shut] == 0).all())
    data = LabelledData.soft(normal(seed, N, 2), pi)
    best = -PolicyGradient(reward, lam)(law, data)
    want = lam * (r.masked_fill(shut, -math.inf) / lam).logsumexp(-1).mean()
    torch.testing.assert_close(best, want)
    z = law.logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(PolicyGradient(reward, lam)(Categorical(z), data), z)
    assert float(slope.abs().max()) < 1e-12


@pytest.mark.parametrize("baseline", [name for name in BASELINES if name != "optimal-per-outcome"])
def test_estimators_do_not_mind_forbidden_classes(baseline: Baseline) -> None:
    """They estimate what they do where the reward of the shut classes is any number."""
    N, C, M = 3, 4, 6
    reward, r, shut = forbidding(N, C, 3)
    data = LabelledData.soft(normal(0, N, 2), normal(1, N, C).softmax(-1))
    noise = Fixed(torch.rand(M, generator=torch.Generator().manual_seed(0), dtype=F64))
    slopes = []
    for table in (reward, ClassReward(r.masked_fill(shut, -5.0)[..., None])):
        z = normal(2, N, C).masked_fill(shut, -math.inf).requires_grad_()
        loss = PolicyGradient(table, 0.3, ScoreFunction(M, baseline))
        value = loss(Categorical(z), data, noise)
        assert math.isfinite(value.item())
        slopes.append(torch.autograd.grad(value, z)[0])
    assert torch.equal(slopes[0], slopes[1])
    assert bool(torch.isfinite(slopes[0]).all())


@pytest.mark.parametrize("estimator", [Analytic(), ScoreFunction(4)])
def test_a_policy_that_generates_a_forbidden_class(estimator: Estimator) -> None:
    reward, _, _ = forbidding(3, 4, 3)
    data = LabelledData.soft(normal(0, 3, 2), normal(1, 3, 4).softmax(-1))
    law, noise = Categorical(normal(2, 3, 4)), Fixed(torch.zeros(4, dtype=F64))
    objective = PolicyGradient(reward, 1.0, estimator)
    with pytest.raises(InputError, match=r"reward of a class is -inf.*pass a policy whose logit"):
        objective(law, data, noise)


def test_rewards_that_forbid_pairs_are_refused() -> None:
    table = torch.zeros(1, 3, 3, dtype=F64)
    table[0, 1, 2] = -math.inf
    with pytest.raises(NonFiniteError, match=r"table\[0, 1, 2\] is -inf"):
        ClassReward(table)


def test_other_functions_of_laws_with_zeros() -> None:
    z = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]], dtype=F64)
    data = LabelledData.of(normal(0, 2, 1), torch.tensor([0, 0]), 2)
    law = Categorical(z)
    assert accuracy(law, data).item() == 0.5
    assert calibration_error(law, data).item() == 0.5
    assert NLL()(law, data).item() == math.inf
    with_zero = torch.tensor([[0.6, 0.4, 0.0]], dtype=F64)
    u = exact_scale(with_zero, 0.5)
    p = gibbs(ClassReward.scalar(u, 3), 0.5, with_zero).p
    assert float(((with_zero - p) * with_zero).sum()) == pytest.approx(0, abs=1e-12)
    assert bool(torch.isfinite(heuristic_scale(with_zero, 0.5)).all())


def test_metrics_do_not_depend_on_the_order_of_classes() -> None:
    """Of classes that are equally likely each is taken as often."""
    z = torch.tensor([[0.0, 0.0, -1.0], [2.0, 2.0, 2.0], [0.0, 1.0, 3.0]], dtype=F64)
    labels = torch.tensor([0, 1, 2])
    for order in ([0, 1, 2], [1, 2, 0], [2, 1, 0]):
        place = torch.tensor(order)
        data = LabelledData.of(normal(0, 3, 1), place.argsort()[labels], 3)
        law = Categorical(z[:, place])
        assert accuracy(law, data).item() == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
        p = z.softmax(-1).amax(-1)
        gaps = torch.tensor([1 / 2, 1 / 3, 1.0], dtype=F64) - p
        assert calibration_error(law, data).item() == pytest.approx(gaps.abs().mean().item())
