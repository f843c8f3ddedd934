"""Windows of reward -inf are never generated, and long windows are all of their symbols."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import solvers as so
from solvers.errors import InputError, NonFiniteError
from solvers.families.sequences import windows as numbered
from solvers.rewards import windows
from tests.draws import F64

NO = -math.inf
NOISE = so.MemberNoise([so.generator(0)])


def forbidding(V: int, T: int, k: int, seed: int, share: float) -> Tensor:
    """Return a table with about this share of -inf, that allows some sequence."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(T - k, V ** (k + 1), generator=generator, dtype=F64)
    shut = torch.rand(table.shape, generator=generator) < share
    return table.masked_fill(shut, NO)


@given(
    V=st.integers(2, 3),
    T=st.integers(1, 4),
    k=st.integers(0, 3),
    seed=st.integers(0, 2**20),
    share=st.sampled_from([0.0, 0.2, 0.5, 0.8]),
)
def test_the_inner_solution_is_that_of_the_sequences_left(
    V: int, T: int, k: int, seed: int, share: float
) -> None:
    assume(k < T)
    table = forbidding(V, T, k, seed, share).requires_grad_()
    reward = so.WindowReward(table, V)
    r = reward.of_all()
    if bool((r == NO).all()):
        with pytest.raises(InputError, match="forbids every sequence"):
            windows.soft_values(reward, 0.5)
        return
    law = windows.inner_solution(reward, 0.5)
    want = so.Categorical((r / 0.5)[None])
    torch.testing.assert_close(law.log_p[0], want.log_p[0])
    torch.testing.assert_close(law.entropy(), want.entropy())
    for logs in windows.soft_values(reward, 0.5):  # laws, also where nothing gets
        torch.testing.assert_close(logs.exp().sum(-1), torch.ones_like(logs[..., 0]))
    mean = reward.expected(law, None)
    left = r > NO
    torch.testing.assert_close(mean[0], (want.p[0][left] * r[left]).sum())
    drawn = law.draw(20, NOISE)
    assert torch.isfinite(reward.of(drawn)).all()
    assert torch.isfinite(law.log_prob(drawn)).all()
    (slopes,) = torch.autograd.grad((mean + law.entropy()).sum(), table)
    assert torch.isfinite(slopes).all()
    assert (slopes[table == NO] == 0).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_table_of_no_rewards_is_refused(value: float) -> None:
    with pytest.raises(NonFiniteError, match=r"table\[1, 1\] is"):
        so.WindowReward(torch.tensor([[0.0, 1.0], [0.0, value]], dtype=F64), 2)


def test_members_are_solved_each_on_its_own() -> None:
    tables = torch.stack([forbidding(2, 3, 1, seed, share) for seed, share in ((1, 0.0), (5, 0.3))])
    together = windows.inner_solution(so.WindowReward(tables, 2), 0.5)
    for i, table in enumerate(tables):
        alone = windows.inner_solution(so.WindowReward(table, 2), 0.5)
        torch.testing.assert_close(together.log_p[i], alone.log_p)


def test_what_a_law_generates_may_not_be_forbidden() -> None:
    reward = so.WindowReward(torch.tensor([[0.0, NO], [0.0, 0.0]], dtype=F64), 2)
    law = windows.inner_solution(so.WindowReward(torch.zeros(2, 2, dtype=F64), 2), 1.0)
    with pytest.raises(InputError, match="J is -inf"):
        reward.expected(law, None)
    data = so.Dataset.of(torch.zeros(1, 1, dtype=F64), torch.zeros(1, 1, 2, dtype=F64))
    with pytest.raises(InputError, match="J is -inf"):
        law.reinforce(data, reward, 50, "mean", NOISE)


@pytest.mark.parametrize(("V", "T"), [(2, 63), (2, 64), (2, 100), (4, 33), (26, 40)])
@pytest.mark.parametrize("at", [0, -1])
def test_windows_longer_than_integers_can_number_are_compared_whole(
    V: int, T: int, at: int
) -> None:
    y = torch.zeros(1, 2, T, dtype=F64)
    y[0, 1, at] = 1
    match = so.WindowMatch(1.0, V, T - 1)
    assert match(y[:, :1], y).tolist() == [[1.0, 0.0]]
    torch.testing.assert_close(so.WindowMatch(1.0, V, 0)(y[0, 0], y[0, 1]).item(), T - 1.0)
    if V**T >= 2**63:
        with pytest.raises(InputError, match="more than can be numbered"):
            numbered(y, V, T - 1)
    # half of the sequences are the other one: Σ_t H(marginals) - H(q) = log 2 - log 2
    data = so.Dataset.of(torch.zeros(1, 1, dtype=F64), y)
    assert windows.cost(data, V, 0).item() == pytest.approx(0.0, abs=1e-12)


def test_one_symbol_alone_is_no_alphabet() -> None:
    with pytest.raises(InputError, match="V is 1: pass at least 2"):
        so.WindowReward(torch.zeros(3, 1, dtype=F64), 1)
