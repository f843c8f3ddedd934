"""Long sequences, long windows, many sequences: counted, drawn and measured as short ones are."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.families import sequences
from solvers.families.sequences import Autoregressive, Markov, Stepwise
from solvers.rewards import windows
from tests.draws import F64, normal

NO = -math.inf


def words(seed: int, V: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, shape, generator=generator).to(F64)


def data_of(y: Tensor) -> so.Dataset:
    return so.Dataset.of(torch.zeros(*y.shape[:-2], 1, dtype=F64), y)


def entropy_of(rows: list[tuple[float, ...]]) -> float:
    times = Counter(rows).values()
    return -math.fsum(n / len(rows) * math.log(n / len(rows)) for n in times)


def lost(y: Tensor, k: int) -> float:
    """`Σ_t H(windows at t) - Σ_t H(overlaps) - H(q)`, of Python's tuples."""
    rows, T = [tuple(row) for row in y.tolist()], y.shape[-1]
    found = -entropy_of(rows)
    for t in range(T - k):
        found += entropy_of([row[t : t + k + 1] for row in rows])
        found -= entropy_of([row[t : t + k] for row in rows]) if t else 0.0
    return found


@given(
    V=st.sampled_from([2, 3, 26]),
    T=st.sampled_from([1, 2, 5, 40, 70]),
    S=st.integers(1, 12),
    k=st.integers(0, 69),
    seed=st.integers(0, 2**20),
)
def test_costs_are_of_the_windows_that_occur(V: int, T: int, S: int, k: int, seed: int) -> None:
    """Also where more are possible than integers can number; each input has its own."""
    assume(k < T)
    kinds = words(seed, V, 3, T)  # few, so that some occur again
    y = kinds[words(seed + 1, 3, 2, S).long()]
    found = windows.cost(data_of(y), V, k)
    want = torch.tensor([lost(rows, k) for rows in y], dtype=F64)
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("at", [0, 1, 34, 68])
def test_bits_that_are_independent_lose_nothing(at: int) -> None:
    y = torch.zeros(1, 4, 70, dtype=F64)
    y[0, :, at], y[0, :, 69] = torch.tensor([[0.0, 1, 0, 1], [0, 0, 1, 1]], dtype=F64)
    assert windows.cost(data_of(y), 2, 0).item() == pytest.approx(0.0, abs=1e-12)
    y[0, :, 69] = y[0, :, at]
    assert windows.cost(data_of(y), 2, 0).item() == pytest.approx(math.log(2))
    match = so.WindowMatch(1.0, 2, 69)
    same = match(y[0].unsqueeze(1), y[0]) == 1
    assert same.tolist() == [[a == b for b in y[0].tolist()] for a in y[0].tolist()]


def test_many_sequences_are_counted_once() -> None:
    y = words(0, 3, 1, 20_000, 4)
    for k in (0, 2):
        assert windows.cost(data_of(y), 3, k).item() == pytest.approx(lost(y[0], k), abs=1e-10)


@given(
    V=st.integers(2, 3),
    T=st.integers(1, 5),
    k=st.integers(0, 4),
    seed=st.integers(0, 2**20),
    share=st.sampled_from([0.0, 0.3]),
)
def test_the_entropy_of_a_chain_is_that_of_all_sequences(
    V: int, T: int, k: int, seed: int, share: float
) -> None:
    """In values and slopes, for logits that are no logarithms, and with symbols shut."""
    shapes = [(2, V ** min(t, k), V) for t in range(T)]
    logits = [normal(seed + t, *shape) for t, shape in enumerate(shapes)]
    for t, z in enumerate(logits):
        shut = torch.rand(z.shape, generator=torch.Generator().manual_seed(seed + t)) < share
        shut[..., 0] = False
        z.masked_fill_(shut, NO).requires_grad_()
    law = windows.markov(logits, k)
    logs = law.log_p
    want = -torch.where(logs > NO, logs.exp() * logs, 0.0).sum(-1)
    torch.testing.assert_close(law.entropy(), want)
    kept = [z.detach().clone().requires_grad_() for z in logits]
    again = Autoregressive(partial(windows.markov(kept, k).following), V, T)
    assert not isinstance(again.following, Markov)
    slopes = torch.autograd.grad(law.entropy().sum(), logits)
    for one, other in zip(slopes, torch.autograd.grad(again.entropy().sum(), kept), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_the_entropy_of_a_long_law(k: int) -> None:
    """Windows that are rewarded for their last symbol alone: a sum over positions."""
    T, alone = 600, normal(k, 600, 2)
    table = alone[k:].repeat(1, 2**k)
    law = windows.inner_solution(so.WindowReward(table, 2), 1.0)
    p = alone[k:].softmax(-1)
    want = -(p * p.log()).sum() + k * math.log(2)
    torch.testing.assert_close(law.entropy()[0], want)
    y = law.draw(400, so.MemberNoise([so.generator(0)]))
    assert y.shape == (400, 1, T)
    nats = -law.log_prob(y)[:, 0]
    assert abs(nats.mean() - want) < 5 * nats.std() / 20


@given(
    V=st.integers(2, 3),
    T=st.integers(1, 5),
    k=st.integers(0, 4),
    order=st.integers(0, 4),
    seed=st.integers(0, 2**20),
    share=st.sampled_from([0.0, 0.3]),
)
def test_windows_are_as_probable_as_the_sequences_that_have_them(
    V: int, T: int, k: int, order: int, seed: int, share: float
) -> None:
    """Of any law, and of a chain whatever its order; so are the rewards of windows."""
    assume(k < T)
    logits = [normal(seed + t, 2, V ** min(t, order), V) for t in range(T)]
    for z in logits:
        shut = torch.rand(z.shape, generator=torch.Generator().manual_seed(seed)) < share
        shut[..., 0] = False
        z.masked_fill_(shut, NO)
    chain = windows.markov(logits, order)
    any_law = Autoregressive(partial(chain.following), V, T, N=2)
    y = sequences.sequences(V, T)
    want = torch.zeros(2, T - k, V ** (k + 1), dtype=F64)
    for t in range(T - k):
        number = sum(y[:, t + i] * V ** (k - i) for i in range(k + 1))
        want[:, t].index_add_(-1, torch.as_tensor(number), chain.log_p[:, 0].exp())
    torch.testing.assert_close(chain.windows(k), want.unsqueeze(1))
    torch.testing.assert_close(any_law.windows(k), want.unsqueeze(1).expand(-1, 2, -1, -1))

    table = normal(seed + 9, T - k, V ** (k + 1)).masked_fill((want == 0).all(0), NO)
    reward, data = so.WindowReward(table, V), data_of(words(seed, V, 1, 4, T))
    r = reward.of_all()
    mean = torch.where(r > NO, chain.log_p[:, 0].exp() * r, 0.0).sum(-1)
    torch.testing.assert_close(reward.expected(chain, None)[:, 0], mean)
    match = so.WindowMatch(0.7, V, k)
    torch.testing.assert_close(
        match.expected(chain, data)[:, 0], match.against(data).expected(chain, None)[:, 0]
    )


def test_a_long_law_has_a_mean_reward() -> None:
    """And its gradient: at the inner solution that of `E r + λH` vanishes."""
    T, lam = 300, 0.5
    reward = so.WindowReward(normal(0, T - 1, 4), 2)
    logits = [z.requires_grad_() for z in windows.soft_values(reward, lam)]
    law = windows.markov(logits, 1)
    J = reward.expected(law, None) + lam * law.entropy()
    slopes = torch.autograd.grad(J.sum(), logits)
    assert max(float(g.abs().max()) for g in slopes) < 1e-11
    # J* = λ log Z: adding a constant to the rewards of one place adds it to J*.
    moved = so.WindowReward(reward.table + torch.eye(T - 1, 1, dtype=F64), 2)
    best = windows.inner_solution(moved, lam)
    again = moved.expected(best, None) + lam * best.entropy()
    torch.testing.assert_close(again, J.detach() + 1)
    data = data_of(words(0, 2, 1, 5, T))
    drawn = law.draw(2000, so.MemberNoise([so.generator(0)]))
    r = so.WindowMatch(1.0, 2, 1)(drawn, data.y.movedim(-2, 0).unsqueeze(1)).mean(0)
    mean = so.WindowMatch(1.0, 2, 1).expected(law, data)
    assert abs(r.mean() - mean.item()) < 5 * r.std() / math.sqrt(2000)


def laws() -> dict[str, Autoregressive]:
    reward = so.WindowReward(normal(0, 2, 4, 27), 3)
    policy = so.RecurrentPolicy(2, 3, 6, width=4)
    x = normal(1, 5, 2)
    theta = policy.init([so.generator(s) for s in (0, 1)], (2,), dtype=F64)
    return {"chain": windows.inner_solution(reward, 0.7), "recurrent": policy(theta, x)}


@pytest.mark.parametrize("name", laws())
def test_drawing_from_a_state_is_drawing_from_all_symbols_so_far(name: str) -> None:
    law = laws()[name]
    again = Autoregressive(partial(law.following), law.V, law.T, law.N)

    def noise() -> so.MemberNoise:
        return so.MemberNoise([so.generator(s) for s in (3, 4)], (2,))

    y = law.draw(7, noise())
    assert y.shape == (2, 7, law.N, law.T)
    assert torch.equal(y, again.draw(7, noise()))
    torch.testing.assert_close(law.log_prob(y), again.log_prob(y))


@pytest.mark.parametrize("T", [1, 20, 80])
@pytest.mark.parametrize("kind", ["chain", "recurrent"])
def test_drawing_takes_a_step_for_each_symbol(
    T: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = so.RecurrentPolicy(1, 2, T, width=2)
    law = {
        "chain": lambda: windows.inner_solution(so.WindowReward(normal(0, T, 2), 2), 1.0),
        "recurrent": lambda: policy(
            policy.init([so.generator(0)], dtype=F64), torch.ones(1, 1, dtype=F64)
        ),
    }[kind]()
    steps, calls = law.following, list[int]()
    assert isinstance(steps, Stepwise)
    after = type(steps).after

    def counted(self: Any, state: Any, symbol: Tensor) -> Any:
        calls.append(1)
        return after(self, state, symbol)

    monkeypatch.setattr(type(steps), "after", counted)
    law.draw(3, so.MemberNoise([so.generator(0)]))
    assert len(calls) == T - 1


class Peeks(torch.nn.Module):
    """A table of logits by position and symbol before; one position sees a later symbol."""

    def __init__(self, V: int, T: int, at: int, sees: int, size: float) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(normal(0, T, V + 1, V))
        self.at, self.sees, self.size = at, sees, size

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        found = self.logits[torch.arange(before.shape[1]), before] + 0 * x.sum()
        if before.shape[1] > self.sees:  # the symbol at position t stands at t + 1, after the start
            move = torch.zeros_like(found)
            move[:, self.at, 0] = self.size * (before[:, self.sees] == 1)
            found = found + move
        return found


@pytest.mark.parametrize("size", [1.0, 1e-6])
@pytest.mark.parametrize(("at", "sees"), [(i, j) for j in range(1, 5) for i in range(j)])
def test_no_position_may_see_what_follows(at: int, sees: int, size: float) -> None:
    for V in (2, 5):
        with pytest.raises(InputError, match="without the symbols that come after: mask"):
            so.causal_policy(Peeks(V, 5, at, sees, size), 1, V, 5)
        so.causal_policy(Peeks(V, 5, at, sees, 0.0), 1, V, 5)


class Attention(torch.nn.Module):
    """One layer of attention, in which the first `prefix` positions see each other."""

    def __init__(self, V: int, T: int, prefix: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.symbols = torch.nn.Embedding(V + 1, 8, dtype=dtype)
        self.places = torch.nn.Parameter(torch.randn(T, 8, dtype=dtype))
        self.mix = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=dtype)
        self.out = torch.nn.Linear(8, V, dtype=dtype)
        self.prefix = prefix

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        t = before.shape[1]
        h = self.symbols(before) + self.places[:t]
        shut = torch.ones(t, t, dtype=torch.bool).triu(1)
        shut[: self.prefix, : self.prefix] = False
        return self.out(h + self.mix(h, h, h, attn_mask=shut, need_weights=False)[0])


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("T", [3, 12])
def test_a_mask_is_causal_or_refused(T: int, dtype: torch.dtype) -> None:
    """Rounding of the kernels is no symbol; a prefix whose positions see each other is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for prefix in (0, 1):
            policy = so.causal_policy(Attention(3, T, prefix, dtype), 1, 3, T)
        law = policy(policy.start(), torch.ones(1, 1, dtype=dtype))
        if T == 3:
            assert law.log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
        for prefix in range(2, T):
            with pytest.raises(InputError, match="without the symbols that come after"):
                so.causal_policy(Attention(3, T, prefix, dtype), 1, 3, T)


class Fixed(torch.nn.Module):
    def __init__(self, logits: list[float], dtype: torch.dtype = F64) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits, dtype=dtype))

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        return self.logits.expand(*before.shape, -1)


def test_symbols_that_never_come_are_taken_and_what_is_no_law_is_not() -> None:
    so.causal_policy(Fixed([0.0, NO, -1e9]), 1, 3, 4)
    with pytest.raises(NonFiniteError, match=r"the module's logits\[0, 0, 0\] are .*no law"):
        so.causal_policy(Fixed([0.0, math.nan, 1.0]), 1, 3, 4)
    with pytest.raises(InputError, match="pass float32 or float64"):
        so.causal_policy(Fixed([0.0, 1.0], torch.bfloat16), 1, 2, 4)


@pytest.mark.parametrize("T", [14, 20_000, 2**31 - 1])
def test_too_many_sequences_are_refused_in_a_few_characters(T: int) -> None:
    with pytest.raises(InputError, match=rf"make 2\^{T} sequences") as caught:
        sequences.sequences(2, T)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("k", [28, 40, 70, 700])
def test_tables_too_large_are_refused(k: int) -> None:
    """Before they are made; costs need none."""
    y = words(0, 2, 1, 3, k + 2)
    data, match = data_of(y), so.WindowMatch(1.0, 2, k)
    law = windows.inner_solution(so.WindowReward(normal(0, k + 2, 2), 2), 1.0)
    for call in (
        lambda: windows.optimal_windows(data, 0.5, 2, k),
        lambda: match.against(data),
        lambda: sequences.counts(data, 2, k),
        lambda: match.expected(law, data),
        lambda: law.windows(k),
    ):
        with pytest.raises(InputError, match=rf"make 2\^{k + 1} windows .* pass a smaller k"):
            call()
    assert windows.cost(data, 2, k).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("inputs", [2, 3])
def test_one_reward_is_of_one_input(inputs: int) -> None:
    data = data_of(words(0, 2, inputs, 9, 3))
    match = so.WindowMatch(1.0, 2)
    for call in (lambda: windows.optimal_windows(data, 0.5, 2, 0), lambda: match.against(data)):
        with pytest.raises(ShapeError, match=f"the data have {inputs} inputs: pass those of one"):
            call()


@given(
    batch=st.sampled_from([(), (2,)]),
    k=st.integers(0, 2),
    value=st.sampled_from([math.nan, math.inf]),
    seed=st.integers(0, 2**20),
)
def test_what_is_no_reward_is_named(
    batch: tuple[int, ...], k: int, value: float, seed: int
) -> None:
    table = normal(seed, *batch, 2, 2 ** (k + 1))
    at = seed % table.numel()
    table.view(-1)[at] = value
    index = [int(i) for i in torch.unravel_index(torch.tensor(at), table.shape)]
    with pytest.raises(NonFiniteError) as caught:
        so.WindowReward(table, 2)
    assert str(caught.value).startswith(f"table{index} is {value}")
    table.view(-1)[at] = NO
    so.WindowReward(table, 2)


@pytest.mark.parametrize("e", [200, 300, 306, 308])
@pytest.mark.parametrize("lam", [1e-8, 1e-2, 1.0, 1e8])
def test_rewards_too_large_for_their_temperature_are_refused(e: int, lam: float) -> None:
    """Never a law of NaN."""
    table = normal(0, 8, 4).clamp(-1, 1) * 10.0**e
    table[0, 1] = NO
    reward = so.WindowReward(table, 2)
    if 10.0**e > 1e307 * lam:
        with pytest.raises(InputError, match=r"table\[\.\.\., \d, \d\] is beyond .* larger lam"):
            windows.inner_solution(reward, lam)
    else:
        law = windows.inner_solution(reward, lam)
        best = so.WindowReward(table / 10.0**e, 2).of_all().argmax()
        assert law.log_p[0].argmax() == best
        assert law.log_p[0, best] == 0
        assert law.entropy().item() == 0
