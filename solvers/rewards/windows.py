"""Rewards of sequences that add over windows of `k + 1` symbols, and their inner solutions.

`r(ŷ) = Σ_t g_t(ŷ_t … ŷ_{t+k})`: additive over positions for `k = 0`, any reward for `k = T - 1`.
The inner solution is a Markov law of order `k`, found by soft value iteration. `WindowMatch` is the
reward that compares: Hamming for `k = 0`, exact match for `k = T - 1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checked, checked_class
from ..errors import (
    InputError,
    NonFiniteError,
    Number,
    ShapeError,
    as_number,
    as_positive,
    check_broadcast,
    check_count,
    check_dtype,
    check_offers,
)
from ..families.categorical import log_softmax
from ..families.law import OUTCOMES
from ..families.sequences import (
    Autoregressive,
    Markov,
    check_window,
    counts,
    entropy_of_rows,
    mean_reward,
    sequences,
    windows,
)
from .mahalanobis import check_pair


@checked_class
@dataclass(frozen=True)
class WindowReward:
    """`r(ŷ) = Σ_t g_t(ŷ_t … ŷ_{t+k})`.

    Attributes:
        table: `g_t(w)`, `(*b, T - k, V^(k+1))`; windows in the order of numbers in base `V`.
        V: number of symbols.

    Raises:
        ShapeError: a table of another shape.
        NonFiniteError: NaN or +inf in it; -inf forbids a window.
    """

    table: Float[Tensor, "*b places W"]
    V: int

    def __post_init__(self) -> None:
        check_dtype("table", self.table)
        check_count("V", self.V, 2)
        if self.table.ndim < 2 or self.V ** (self.k + 1) != self.table.shape[-1] or self.k < 0:
            raise ShapeError(
                f"table has shape {tuple(self.table.shape)} for V = {self.V}: pass (*b, T - k, "
                f"V^(k+1)), a number for each window of k + 1 symbols at each place"
            )
        bad = self.table.isnan() | (self.table == torch.inf)
        if bool(bad.any()):
            at = tuple(bad.nonzero()[0].tolist())
            raise NonFiniteError(
                f"table{list(at)} is {self.table[at].item()}: pass finite rewards, and -inf for "
                f"windows that are forbidden"
            )

    @property
    def k(self) -> int:
        """How many symbols of a window stand before its last one."""
        size, k = self.table.shape[-1], -1
        while size > 1:
            size, k = size // self.V, k + 1
        return k

    @property
    def T(self) -> int:
        """Length of the sequences."""
        return self.table.shape[-2] + self.k

    def of(self, y_hat: Float[Tensor, "*#b M N T"]) -> Float[Tensor, "*c M N"]:
        """Return `r(ŷ)` of generations."""
        self._check(y_hat.shape[-1])
        check_broadcast("the reward", self.table.shape[:-2], "y_hat", y_hat.shape[:-3])
        numbers = windows(y_hat, self.V, self.k)
        table = self.table.to(y_hat).unsqueeze(-3).unsqueeze(-3)  # (*b, 1, 1, places, W)
        shape = torch.broadcast_shapes(numbers.shape, table.shape[:-1])
        chosen = numbers.expand(shape).unsqueeze(-1)
        return table.expand(*shape, table.shape[-1]).gather(-1, chosen)[..., 0].sum(-1)

    def __call__(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """Return `r(ŷ)`, whatever the outcomes: a number for each pair, of each member."""
        check_pair(y_hat, y)
        r = self.of(y_hat)
        check_broadcast("the reward of generations", r.shape, "outcomes", y.shape[:-1])
        return r.expand(torch.broadcast_shapes(r.shape, y.shape[:-1]))

    def of_all(self) -> Float[Tensor, "*b Y"]:
        """Return `r(ŷ)` of all sequences."""
        numbers = windows(sequences(self.V, self.T, self.table.device), self.V, self.k)
        return self.table.gather(-1, numbers.mT.expand(*self.table.shape[:-1], -1)).sum(-2)

    def expected(self, law: Autoregressive, data: Any) -> Float[Tensor, "*b N"]:
        """Return `E_ŷ r(ŷ)` at each input, exact.

        Raises:
            InputError: another alphabet, or a law that generates what has reward -inf.
            ShapeError: sequences of another length, or other members.
        """
        self._check(law.T)
        _check_symbols(self.V, law)
        p = law.windows(self.k)
        check_broadcast("the reward", self.table.shape[:-2], "the law", p.shape[:-3])
        return mean_reward(p.flatten(-2), self.table.to(p).flatten(-2).unsqueeze(-2))

    def _check(self, T: int) -> None:
        if self.T != T:
            raise ShapeError(
                f"the reward has T = {self.T} positions, the sequences {T}: pass sequences of "
                f"that length, or a table of {max(T - self.k, 1)} places"
            )


@checked_class
@dataclass(frozen=True)
class WindowMatch:
    """`r(ŷ, y) = u Σ_t 1[ŷ_t … ŷ_{t+k} = y_t … y_{t+k}]`.

    Attributes:
        u: reward of a window that agrees, `u > 0`, a number.
        V: number of symbols.
        k: how many symbols a window has before its last one: 0 is Hamming, `T - 1` exact match.
    """

    u: Number | Float[Tensor, ""]
    V: int
    k: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "u", as_number("u", self.u))
        check_count("V", self.V, 2)
        check_count("k", self.k, 0)

    def __call__(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """Return `r(ŷ, y)` for broadcastable sequences."""
        check_pair(y_hat, y)
        for sequence in (y_hat, y):
            check_window(sequence, self.V, self.k)
        same = (y_hat == y).unfold(-1, self.k + 1, 1).all(-1)
        return torch.as_tensor(self.u).to(y_hat) * same.sum(-1)

    def against(self, data: Any) -> WindowReward:
        """Return `r̄(ŷ) = E_y r(ŷ, y) = u Σ_t q_t(ŷ_t … ŷ_{t+k})`, at the one input of the data.

        Raises:
            ShapeError: the data have several inputs.
            InputError: there are more windows than a table can have.
        """
        share = _at_one_input(data, self.V, self.k)
        return WindowReward(torch.as_tensor(self.u).to(share) * share, self.V)

    def expected(self, law: Autoregressive, data: Any) -> Float[Tensor, "*b N"]:
        """Return `E_y E_ŷ r(ŷ, y)` at each input, exact.

        Raises:
            InputError, ShapeError: sequences of other symbols, of another length or at another
                number of inputs than the law's.
        """
        law.check_data(data)
        _check_symbols(self.V, law)
        share = counts(data, self.V, self.k)  # (*b, N, places, W)
        p = law.windows(self.k)
        check_broadcast("the data", share.shape[:-2], "the law", p.shape[:-2])
        return torch.as_tensor(self.u).to(share) * (p * share).sum((-2, -1))


def _at_one_input(data: Any, V: int, k: int) -> Float[Tensor, "*b places W"]:
    """Return the shares of windows in the data, of which there must be one input."""
    check_offers("the data", data, ("y",), OUTCOMES)
    if data.y.shape[-3] != 1:
        raise ShapeError(f"the data have {data.y.shape[-3]} inputs: pass those of one, y (1, S, T)")
    return counts(data, V, k)[..., 0, :, :]


def _check_symbols(V: int, law: Autoregressive) -> None:
    if law.V != V:
        raise InputError(f"the reward has V = {V} symbols, the law {law.V}: use one alphabet")


@checked
def soft_values(
    reward: WindowReward, lam: Number | Float[Tensor, "*#b"]
) -> list[Float[Tensor, "*b _ V"]]:
    """Return `log p*(v | s)` for every position, by soft value iteration from the last one.

    `V_t(s) = λ log Σ_v exp((g(s v) + V_{t+1}(s v))/λ)`, of the last `k` symbols `s`; a time linear
    in `T`, whatever the number of sequences. A window of reward -inf is never generated; what
    follows symbols that allow no way on is uniform, as nothing gets there.

    Returns:
        For position `t`, `(*b, V^min(t, k), V)`: the states in the order of numbers in base `V`.

    Raises:
        InputError: `lam` is not positive, or so small that rewards in units of it overflow; or
            every sequence has reward -inf.
        ShapeError: `lam` of other members than the reward.

    Source: new (analysis.sequences.inner.soft_value_iteration).
    """
    V, k = reward.V, reward.k
    lam = as_positive("lam", lam, reward.table)
    check_broadcast("lam", lam.shape, "the reward", reward.table.shape[:-2])
    weights = reward.table / lam[..., None, None]
    limit = torch.finfo(weights.dtype).max / (2 * reward.T)
    bad = (weights.abs() > limit) & (reward.table > -torch.inf)
    if bool(bad.any()):
        place, window = bad.nonzero()[0][-2:].tolist()
        raise InputError(
            f"table[..., {place}, {window}] is beyond {limit:.3g} in units of lam: a sum over "
            f"{reward.T} positions overflows; pass a larger lam, or -inf for what is forbidden"
        )
    batch = weights.shape[:-2]
    value = weights.new_zeros(*batch, V**k)
    found: list[Tensor] = []
    for t in reversed(range(reward.T)):
        # After symbol v the state s v forgets its first symbol, if it has k + 1 of them.
        q = value
        if t >= k:
            q = (weights[..., t - k, :].unflatten(-1, (V, V**k)) + value.unsqueeze(-2)).flatten(-2)
        q = q.unflatten(-1, (-1, V))
        stuck = (q == -torch.inf).all(-1)
        q = q.masked_fill(stuck.unsqueeze(-1), 0.0)
        found.append(log_softmax(q))
        value = q.logsumexp(-1).masked_fill(stuck, -torch.inf)
    if bool((value == -torch.inf).any()):
        raise InputError(
            "table forbids every sequence: with a reward of -inf for all there is no inner "
            "solution; leave a way through the windows, or use large finite penalties"
        )
    return found[::-1]


@checked
def inner_solution(reward: WindowReward, lam: Number | Float[Tensor, "*#b"]) -> Autoregressive:
    """Return `p*(ŷ) ∝ exp(r(ŷ)/λ)`, the inner solution of a free policy over sequences.

    Args:
        reward: of windows; `WindowMatch(...).against(data)` for one that compares.
        lam: entropy weight `λ > 0`.

    Raises:
        InputError: as `soft_values`.

    Source: new (analysis.sequences.inner).
    """
    return markov(soft_values(reward, lam), reward.k)


def markov(logs: list[Float[Tensor, "*b _ V"]], k: int) -> Autoregressive:
    """Return the law of order `k` with these `log p(v | s)`, as `soft_values` returns them."""
    return Autoregressive(Markov(logs, k), logs[0].shape[-1], len(logs), device=logs[0].device)


@checked
def optimal_windows(data: Any, lam: Number | Float[Tensor, ""], V: int, k: int) -> WindowReward:
    """Return the likeliest reward of windows: `g_t = λ log q(last symbol | those before it)`.

    Its inner solution is the Markov law of order `k` that has the data's windows; the first window
    has `λ log q`. For `k = 0` that is the product of the marginals.

    Args:
        data: sequences at one input, `y` `(1, S, T)`.
        lam: entropy weight `λ > 0`.
        V: number of symbols.
        k: how many symbols a window has before its last one.

    Raises:
        ShapeError: the data have several inputs.
        InputError: more windows than a table can have; or one that the data never show: its best
            reward is -inf. Learn the reward instead, with as many steps as you like.

    Source: new (analysis.sequences.outer.cost).
    """
    share = _at_one_input(data, V, k)
    if bool((share == 0).any()):
        t, w = (int(i) for i in (share == 0).nonzero()[0][-2:])
        raise InputError(
            f"the data never show window {w} at position {t}: its best reward is -inf; pass a "
            f"smaller k or more data, or learn a WindowReward's table by bilevel.solve"
        )
    before = share.unflatten(-1, (-1, V)).sum(-1, keepdim=True)
    before = torch.cat([torch.ones_like(before[..., :1, :, :]), before[..., 1:, :, :]], -3)
    conditional = (share.unflatten(-1, (-1, V)) / before).flatten(-2)
    return WindowReward(as_positive("lam", lam, share) * conditional.log(), V)


@checked
def cost(data: Any, V: int, k: int) -> Float[Tensor, "*b N"]:
    """Return the likelihood that the best reward of windows loses, per sequence in nats.

    `Σ_t H(windows at t) - Σ_t H(their overlaps) - H(q)`; for `k = 0` the total correlation. Only
    windows that occur are counted: any `k < T`, in a time linear in `T` and the sequences.

    Source: new (analysis.sequences.outer.cost).
    """
    check_offers("the data", data, ("y",), OUTCOMES)
    y = data.y
    check_window(y, V, k)
    found = -entropy_of_rows(y)
    for t in range(y.shape[-1] - k):
        found = found + entropy_of_rows(y[..., t : t + k + 1])
        if t:
            found = found - entropy_of_rows(y[..., t : t + k])
    return found
