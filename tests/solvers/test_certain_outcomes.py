"""Bits and symbols of probability 0 or 1: `0 log 0 = 0`, in values and in slopes of any order."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.families.sequences import Autoregressive, sequences
from tests.draws import normal

F32, F64, INF = torch.float32, torch.float64, math.inf
precisions = pytest.mark.parametrize("dtype", [F32, F64])
NOISE = so.MemberNoise([so.generator(0)])


def chance(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def orders(value: Tensor, z: Tensor, along: Tensor) -> list[Tensor]:
    """The value, its slope, and how that changes along a direction."""
    (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    (bend,) = torch.autograd.grad((slope * along).sum(), z)
    return [value.detach(), slope.detach(), bend]


@pytest.mark.gate
@given(n=st.integers(1, 5), seed=st.integers(0, 2**20), spread=st.sampled_from([1.0, 30.0, 300.0]))
def test_a_law_with_certain_bits_is_that_of_the_others(n: int, seed: int, spread: float) -> None:
    """The others may be as good as certain: every order is that of logarithms written out."""
    certain, along = chance(seed, n) < 0.4, normal(seed + 1, n)
    z = spread * normal(seed + 2, n)
    y = (z > 0).double() if n % 2 else (chance(seed + 3, n) > 0.5).double()
    mu = torch.where(certain, y, chance(seed + 4, n))
    logits = torch.where(certain, (2 * y - 1) * INF, z).expand(1, n).clone().requires_grad_()
    data = so.Dataset.of(torch.ones(1, 1, dtype=F64), torch.where(certain, y, z > 0)[None, None])
    law, q = (
        so.Bernoulli(logits),
        so.Bernoulli(torch.where(certain, logits[0], mu.logit()).detach()),
    )

    free = z[~certain].clone().requires_grad_()
    log = torch.nn.functional.logsigmoid

    def against(weights: Tensor, rest: Tensor) -> Tensor:
        return -(weights * log(free) + rest * log(-free)).sum(-1)

    seen, m = data.y[0, 0][~certain], mu[~certain]
    pairs = [
        (law.entropy(), against(free.sigmoid(), (-free).sigmoid())),
        (law.cross_entropy(law), against(free.sigmoid(), (-free).sigmoid())),
        (law.cross_entropy(data), against(seen, 1 - seen)),
        (law.cross_entropy(q), against(m, 1 - m)),
        (-law.log_prob(data.y.movedim(-2, -3)), against(seen, 1 - seen)),
    ]
    for found, want in pairs:
        if bool(certain.all()):
            assert found.item() == 0
            continue
        value, *slopes = orders(found.sum(), logits, along)
        right, *others = orders(want, free, along[~certain])
        torch.testing.assert_close(value, right, atol=1e-12, rtol=1e-9)
        for one, other in zip(slopes, others, strict=True):
            torch.testing.assert_close(one[0, ~certain], other, atol=1e-12, rtol=1e-9)
            assert bool((one[0, certain] == 0).all())
    assert law.kl(law).abs().item() < 1e-12
    drawn = law.draw(20, NOISE)[:, 0]
    assert bool((drawn[:, certain] == y[certain]).all())


@precisions
def test_certain_bits_train(dtype: torch.dtype) -> None:
    """Entropy, likelihood, policy gradient and KL of bits that cannot come otherwise are 0."""
    z = torch.tensor([[INF, -INF]], dtype=dtype, requires_grad=True)
    law, seen = so.Bernoulli(z), torch.tensor([[[1.0, 0.0]]], dtype=dtype)
    data = so.Dataset.of(torch.zeros(1, 1, dtype=dtype), seen)
    reward = so.MahalanobisReward.scalar(1.0, 2)
    losses = [law.entropy(), law.cross_entropy(data), law.log_prob(seen), law.kl(law)]
    for estimator in (so.Analytic(), so.ScoreFunction(4)):
        losses.append(so.PolicyGradient(reward, 0.5, estimator)(law, data, NOISE))
    for loss in [so.NLL()(law, data), *losses]:
        assert loss.item() == 0
        assert bool((torch.autograd.grad(loss.sum(), z, retain_graph=True)[0] == 0).all())


@precisions
def test_what_a_certain_bit_excludes(dtype: torch.dtype) -> None:
    """It has probability 0; against a law that has it, KL is infinite, and refused."""
    half = so.Bernoulli(torch.zeros(1, 2, dtype=dtype))
    law = so.Bernoulli(torch.tensor([[0.0, INF]], dtype=dtype))
    other = torch.tensor([[[1.0, 0.0]]], dtype=dtype)
    assert law.log_prob(other).item() == -INF
    assert law.cross_entropy(so.Dataset.of(torch.zeros(1, 1, dtype=dtype), other)).item() == INF
    assert law.cross_entropy(half).item() == INF
    assert half.cross_entropy(law).item() == pytest.approx(2 * math.log(2), rel=1e-6)
    assert law.kl(half).item() == pytest.approx(math.log(2), rel=1e-6)
    with pytest.raises(InputError, match=r"gives 0 as bit 1 probability 0, the policy 0\.5: KL"):
        half.kl(law)


def test_entropy_of_bits_that_are_nearly_certain() -> None:
    """To the digits that its value has: `H = (1 + z) e^{-z}` up to `e^{-2z}`."""
    z = torch.tensor([[25.0], [35.0], [300.0]], dtype=F64)
    found = so.Bernoulli(z).entropy()
    torch.testing.assert_close(found, ((1 + z) * (-z).exp())[:, 0], rtol=1e-10, atol=0)


def chain(logits: Tensor) -> Callable[[Tensor], Tensor]:
    """A law of order 1: logits `(V + 1, V)`, by the symbol before; the last row is the start."""

    def following(y: Tensor) -> Tensor:
        start = torch.full_like(y[..., :1], len(logits) - 1) if y.shape[-1] else None
        first = y.new_full((*y.shape[:-1], 1), len(logits) - 1) if start is None else start
        return logits[torch.cat([first, y], -1)]

    return following


@pytest.mark.gate
@given(V=st.integers(2, 3), T=st.integers(1, 3), seed=st.integers(0, 2**20))
def test_the_entropy_of_sequences_is_that_of_those_that_can_come(V: int, T: int, seed: int) -> None:
    """Symbols that are shut, or whose probability underflows, take part in no slope."""
    shut, along = chance(seed, V + 1, V) < 0.3, normal(seed + 1, V + 1, V)
    shut[torch.arange(V + 1), torch.arange(V + 1) % V] = False
    z = torch.where(chance(seed + 2, V + 1, V) < 0.2, -800.0, normal(seed + 3, V + 1, V))
    logits = z.masked_fill(shut, -INF).requires_grad_()
    law = Autoregressive(chain(logits), V, T)

    free = z.clone().requires_grad_()
    rows = [free[i] - free[i][~shut[i]].logsumexp(-1) for i in range(V + 1)]
    want = torch.zeros((), dtype=F64)
    for word in product(range(V), repeat=T):
        steps = list(zip((V, *word), word, strict=False))
        if not any(bool(shut[step]) for step in steps):
            log_p = sum((rows[i][c] for i, c in steps), torch.zeros((), dtype=F64))
            want = want - log_p.exp() * log_p
    got = orders(law.entropy(), logits, along.masked_fill(shut, 0))
    for one, other in zip(got, orders(want, free, along.masked_fill(shut, 0)), strict=True):
        torch.testing.assert_close(one.reshape(other.shape), other, atol=1e-12, rtol=1e-9)
    r = normal(seed + 4, V**T)
    again = Autoregressive(chain(logits), V, T).expected(r).sum()
    (slope,) = torch.autograd.grad(again, logits)
    assert bool(torch.isfinite(slope).all())
    drawn = law.draw(50, NOISE)
    assert bool(torch.isfinite(law.log_prob(drawn)).all())


@pytest.mark.parametrize(("dtype", "gap"), [(F32, 110.0), (F32, 1e4), (F64, 800.0), (F64, INF)])
def test_a_symbol_that_never_comes_trains(dtype: torch.dtype, gap: float) -> None:
    policy = so.RecurrentPolicy(1, 2, 3)
    theta = {k: p.detach().clone() for k, p in policy.init([so.generator(0)], dtype=dtype).items()}
    theta["out_bias"] = torch.tensor([0.0, gap if gap < INF else 1e6], dtype=dtype)
    data = so.Dataset.of(torch.zeros(1, 1, dtype=dtype), torch.ones(1, 2, 3, dtype=dtype))
    for estimator in (so.Analytic(), so.ScoreFunction(4)):
        objective = so.PolicyGradient(so.WindowMatch(1.0, 2, 1), 0.5, estimator)
        trained = so.train(
            policy, theta, objective, data,
            epochs=2, learning_rate=0.01, batch_ndim=0, noise=NOISE,
        )  # fmt: skip
        assert all(bool(torch.isfinite(p).all()) for p in trained.values())


@pytest.mark.parametrize("row", [[math.nan, 0.0, 0.0], [INF, 0.0, 0.0], [-INF] * 3])
def test_no_symbol_is_drawn_where_logits_are_no_law(row: list[float]) -> None:
    logits = torch.zeros(4, 3, dtype=F64)
    logits[:3] = torch.tensor(row, dtype=F64)  # after the first symbol
    law = Autoregressive(chain(logits), 3, 2)
    with pytest.raises(NonFiniteError, match=r"logits of symbol 1\[0, 0\] are \[.*no law"):
        law.draw(2, NOISE)


def test_no_bit_is_drawn_of_nan() -> None:
    policy = so.BernoulliPolicy(1, 2)
    theta = {name: math.nan * p for name, p in policy.zeros().items()}
    with pytest.raises(NonFiniteError, match="logits hold 2 NaN of 2"):
        policy(theta, torch.ones(1, 1, dtype=F64)).draw(3, NOISE)


@pytest.mark.parametrize(
    ("policy", "reward"),
    [
        (so.BernoulliPolicy(1, 2), so.MahalanobisReward.scalar(1.0, 2)),
        (so.RecurrentPolicy(1, 2, 2, 3), so.WindowMatch(1.0, 2)),
    ],
)
def test_a_member_that_diverges_is_nan_alone(policy: Any, reward: Any) -> None:
    """By score function: the other member has the slopes it has without it."""
    data = so.Dataset.of(torch.ones(1, 1, dtype=F64), torch.ones(1, 2, 2, dtype=F64))
    objective = so.PolicyGradient(reward, 0.5, so.ScoreFunction(4))

    def slopes(seeds: tuple[int, ...], first: float) -> dict[str, Tensor]:
        batch, streams = (len(seeds),), [so.generator(s) for s in seeds]
        start = policy.init(streams, batch, dtype=F64)
        theta = {name: p.detach().clone() for name, p in start.items()}
        for p in theta.values():
            p[0] *= first
            p.requires_grad_()
        noise = so.MemberNoise([so.generator(s, "noise") for s in seeds], batch)
        loss = objective(policy(theta, data.x), data, noise)
        return dict(zip(theta, torch.autograd.grad(loss.sum(), list(theta.values())), strict=True))

    together, alone = slopes((0, 1), math.nan), slopes((1,), 1.0)
    for name, slope in alone.items():
        torch.testing.assert_close(together[name][1:], slope, rtol=1e-9, atol=1e-12)
    assert bool(torch.cat([g[0].flatten() for g in together.values()]).isnan().any())


WORDS = Autoregressive(lambda y: torch.zeros(*y.shape[:-1], y.shape[-1] + 1, 3, dtype=F64), 3, 2)
BITS = so.Bernoulli(torch.zeros(1, 2, dtype=F64))


@pytest.mark.parametrize("value", [0.7, 2.9, 3.0, -1.0, math.nan, INF])
@pytest.mark.parametrize(("law", "word"), [(WORDS, "symbols are"), (BITS, "outcomes are 0 or 1")])
def test_what_is_no_outcome_has_no_likelihood(law: Any, word: str, value: float) -> None:
    y = torch.tensor([[[0.0, value]]], dtype=F64)
    with pytest.raises(InputError, match=rf"y holds {value:.3g}: .*{word}"):
        law.log_prob(y)


def test_sequences_of_another_length_have_no_likelihood() -> None:
    with pytest.raises(ShapeError, match="y has sequences of 1 symbols, the policy T = 2"):
        WORDS.log_prob(torch.zeros(1, 1, 1, dtype=F64))
    total = WORDS.log_prob(sequences(3, 2).double().unsqueeze(1)).exp().sum()
    assert total.item() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(z=st.floats(-80, 80))
def test_the_entropy_of_a_bit_keeps_its_digits(dtype: torch.dtype, z: float) -> None:
    """However rare the other value, and its slope `-z m(1-m)` those of its probability."""
    logit = torch.tensor([z], dtype=dtype, requires_grad=True)
    H = so.Bernoulli(logit).entropy()
    (slope,) = torch.autograd.grad(H, logit, create_graph=True)
    (bend,) = torch.autograd.grad(slope, logit)
    with mpmath.workdps(60):
        x = mpmath.mpf(float(logit.detach()))
        m = 1 / (1 + mpmath.exp(-x))
        both = m * (1 - m)
        right = -m * mpmath.log(m) - (1 - m) * mpmath.log(1 - m)
        bends = both * (x * (2 * m - 1) - 1)
        expected, rare = [float(right), float(-x * both), float(bends)], float(min(m, 1 - m))
    rtol = 64 * torch.finfo(dtype).eps
    got = [float(v.detach()) for v in (H, slope, bend)]
    assert got[0] == pytest.approx(expected[0], rel=rtol, abs=0)
    assert got[1] == pytest.approx(expected[1], rel=rtol, abs=rtol * rare)
    assert got[2] == pytest.approx(expected[2], rel=rtol, abs=rtol)  # autograd's loses digits


@pytest.mark.parametrize("bit", [0.0, 1.0])
@pytest.mark.parametrize("ratio", [20.0, 30.0])
def test_both_values_of_a_bit_are_trained_alike(bit: float, ratio: float) -> None:
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]
    data = so.Dataset.of(x, torch.full((6, 1, 1), bit, dtype=torch.float64))
    policy = so.BernoulliPolicy(1, 1)
    objective = so.PolicyGradient(so.MahalanobisReward.scalar(1.0, 1), 1 / ratio)
    found = so.fit(policy, data, objective)
    logits = policy(found.value, x).logits
    assert found.converged, found.reason
    right = torch.full_like(logits, ratio if bit else -ratio)
    torch.testing.assert_close(logits, right, rtol=1e-5, atol=0)
