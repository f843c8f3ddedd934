"""Sequences of `T` symbols `0 .. V-1`, and laws that choose them one after another.

`p(y | x) = Π_t p(y_t | y_{<t}, x)`. A sequence is an outcome of dimension `n = T`. Drawing and
`log p` of given sequences take any length, and so does the entropy of a law of finite order; other
entropies and exact expectations are sums over all `V^T` sequences, up to `ENUMERABLE` of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checked, checked_class
from ..errors import (
    InputError,
    ShapeError,
    check_count,
    check_dense,
    check_offers,
    shown,
)
from .categorical import ENTROPY_FLOOR, check_logits, log_softmax
from .law import OUTCOMES, Sampled, UniformNoise

ENUMERABLE = 10_000  # sequences
LARGEST_TABLE = 2**28  # numbers, 2 GiB of them in double precision
NOT_ALLOWED = (
    "the reward of a sequence is -inf where the policy generates it: J is -inf; pass a policy that "
    "excludes it, as rewards.windows.inner_solution does, or a large finite penalty"
)
Following = Callable[[Int[Tensor, "*b M N t"]], Float[Tensor, "*b M N t1 V"]]
"""From symbols to the logits of the symbol after each of them, and of the first one."""


def sequences(V: int, T: int, device: torch.device | None = None) -> Int[Tensor, "Y T"]:
    """Return all sequences, in the order of numbers in base `V`.

    Raises:
        InputError: there are more than `ENUMERABLE`.
    """
    check_count("V", V, 2)
    check_count("T", T, 0)
    if V ** min(T, ENUMERABLE.bit_length()) > ENUMERABLE:  # V^T may have more digits than T
        raise InputError(
            f"V = {V} symbols at T = {T} positions make {V}^{T} sequences: entropies and exact "
            f"expectations enumerate up to {ENUMERABLE}; pass shorter windows or fewer symbols"
        )
    weights = V ** torch.arange(T - 1, -1, -1, device=device)
    return torch.arange(V**T, device=device)[:, None] // weights % V


class Stepwise:
    """A `Following` that goes on from a state: what the next symbol needs of those before it.

    A sequence is then drawn in a time linear in its length.
    """

    def first(self, shape: tuple[int, ...]) -> tuple[Float[Tensor, "*b M N V"], Any]:
        """Return the logits of the first symbol of `shape = (*b, M, N)` sequences, and a state."""
        raise NotImplementedError

    def after(
        self, state: Any, symbol: Int[Tensor, "*#b M N"]
    ) -> tuple[Float[Tensor, "*b M N V"], Any]:
        """Return the logits of the symbol after this one, and the state with it."""
        raise NotImplementedError

    def __call__(self, y: Int[Tensor, "*#b M N _t"]) -> Float[Tensor, "*b M N t1 V"]:
        """Return the logits of every symbol from those before it."""
        logits, state = self.first(y.shape[:-1])
        found = [logits]
        for symbol in y.unbind(-1):
            logits, state = self.after(state, symbol)
            found.append(logits)
        return torch.stack(found, -2)


@dataclass(frozen=True, eq=False)
class _Again(Stepwise):
    """A `Following` that keeps no state, and sees all symbols so far again at every step."""

    following: Following
    device: torch.device | None

    def first(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the logits of the first symbol, and no symbols."""
        y = torch.empty(*shape, 0, dtype=torch.int64, device=self.device)
        return self.following(y)[..., -1, :], y

    def after(self, state: Tensor, symbol: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the next symbol, and the symbols so far."""
        y = torch.cat([state, symbol.unsqueeze(-1)], -1)
        return self.following(y)[..., -1, :], y


@dataclass(frozen=True, eq=False)
class Markov(Stepwise):
    """What follows in a law of order `k`: it sees the last `k` symbols `s`.

    Attributes:
        logits: of `v` after `s`, for position `t` `(*b, V^min(t, k), V)`: the states in the order
            of numbers in base `V`.
        k: the order.
    """

    logits: list[Tensor]
    k: int

    def first(self, shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, Tensor]]:
        """Return the logits of the first symbol, its position 0, and the one state there."""
        state = torch.zeros(shape, dtype=torch.int64, device=self.logits[0].device)
        return self._at(0, state), (0, state)

    def after(self, state: tuple[int, Tensor], symbol: Tensor) -> tuple[Tensor, tuple[int, Tensor]]:
        """Return the logits of the next symbol, its position, and the number of its state."""
        t, before = state
        V = self.logits[0].shape[-1]
        number = (before * V + symbol) % V**self.k
        return self._at(t + 1, number), (t + 1, number)

    def _at(self, t: int, number: Int[Tensor, "*#b M N"]) -> Float[Tensor, "*b M N V"]:
        logits, (M, N) = self.logits[t], number.shape[-2:]
        batch = torch.broadcast_shapes(logits.shape[:-2], number.shape[:-2])
        index = number.flatten(-2).unsqueeze(-1).expand(*batch, M * N, logits.shape[-1])
        return logits.expand(*batch, -1, -1).gather(-2, index).unflatten(-2, (M, N))

    def _joint(self, order: int) -> Iterator[Float[Tensor, "*b _ V"]]:
        """Yield `p_t(s v)` of position `t` after position, of states `s` of up to `order` symbols.

        `order >= k`; the last `k` symbols of a state decide what follows.
        """
        V = self.logits[0].shape[-1]
        reached = torch.ones_like(self.logits[0][..., 0])
        for t, logits in enumerate(self.logits):
            p = log_softmax(logits).exp()
            joint = reached.unsqueeze(-1) * p.tile(reached.shape[-1] // p.shape[-2], 1)
            yield joint
            # The state s v forgets its first symbols, which are the leading digits.
            reached = joint.flatten(-2).unflatten(-1, (-1, V ** min(t + 1, order))).sum(-2)

    def entropy(self) -> Float[Tensor, "*b"]:
        """Return `H = -Σ_t Σ_sv p_t(s v) log p(v | s)`, with `0 log 0 = 0`."""
        found = torch.zeros_like(self.logits[0][..., 0, 0])
        for p, logits in zip(self._joint(self.k), self.logits, strict=True):
            found = found - (p * log_softmax(logits).clamp(min=ENTROPY_FLOOR)).sum((-2, -1))
        return found

    def windows(self, k: int) -> Float[Tensor, "*b places W"]:
        """Return the probability of each window of `k + 1` symbols at each place."""
        W = self.logits[0].shape[-1] ** (k + 1)
        longer = list(self._joint(max(k, self.k)))[k:]
        return torch.stack([p.flatten(-2).unflatten(-1, (-1, W)).sum(-2) for p in longer], -2)


@checked_class
@dataclass(frozen=True, eq=False)
class Autoregressive(Sampled):
    """`p(y) = Π_t p(y_t | y_{<t})` at every input.

    Attributes:
        following: logits of the symbols that follow; position `t` may only see those before it.
            One that is `Stepwise` draws in a time linear in `T`; any other sees all symbols so far
            again for each one it draws.
        V: number of symbols.
        T: length of the sequences.
        N: number of inputs.
        device: of the logits; torch's default if not given.

    Raises:
        InputError: `V < 2`, `T < 1` or `N < 1`.
    """

    following: Following
    V: int
    T: int
    N: int = 1
    device: torch.device | None = None

    def __post_init__(self) -> None:
        check_count("V", self.V, 2)
        check_count("T", self.T)
        check_count("N", self.N)

    @property
    def n(self) -> int:
        """Outcome dimension: `T`."""
        return self.T

    def _logits(self, y: Int[Tensor, "*#b M N t"]) -> Float[Tensor, "*c M N t1 V"]:
        """Return what follows `y`, after checking that `following` knows this alphabet."""
        logits: Any = self.following(y)
        if not isinstance(logits, Tensor):
            raise InputError(f"following returned {shown(logits)}: return a tensor of logits")
        if logits.shape[-4:] != (*y.shape[-3:-1], y.shape[-1] + 1, self.V):
            raise ShapeError(
                f"following returned logits of shape {tuple(logits.shape)} after {y.shape[-1]} "
                f"symbols: return (*b, {y.shape[-3]}, {y.shape[-2]}, {y.shape[-1] + 1}, V = "
                f"{self.V}), for the first symbol and for the one after each"
            )
        return logits

    def check_data(self, data: Any) -> None:
        """Raise unless the outcomes are sequences of `T` symbols `0 .. V-1`."""
        super().check_data(data)
        self._check_length("the data have", data.y)
        check_symbols(data.y, self.V)

    def log_prob(self, y: Float[Tensor, "*#b M N T"]) -> Float[Tensor, "*c M N"]:
        """Return `log p(y) = Σ_t log p(y_t | y_{<t})`.

        Raises:
            InputError: what stands in `y` is no symbol.
            ShapeError: sequences of another length.
        """
        self._check_length("y has", y)
        check_symbols(y, self.V)
        symbols = y.long()
        logs = log_softmax(self._logits(symbols[..., :-1]))
        symbols = symbols.expand(logs.shape[:-1])
        return logs.gather(-1, symbols.unsqueeze(-1))[..., 0].sum(-1)

    def draw(self, M: int, noise: UniformNoise) -> Float[Tensor, "*b M N T"]:
        """Return `M` sequences per input, symbol by symbol.

        Raises:
            NonFiniteError: logits that are no law, such as NaN.
        """
        return self._draw(M, noise, check_logits)

    @checked
    def _draw(
        self, M: int, noise: UniformNoise, look: Callable[[Tensor, str], None] | None = None
    ) -> Float[Tensor, "*b M N T"]:
        check_count("M", M)
        steps = self.following
        if not isinstance(steps, Stepwise):
            steps = _Again(self._logits, self.device)
        with torch.no_grad():
            nothing = torch.empty(M, self.N, 0, dtype=torch.int64, device=self.device)
            dtype = self._logits(nothing).dtype
            uniform = noise.uniform((M, self.N, self.T), dtype)
            logits, state = steps.first(uniform.shape[:-1])
            y = list[Tensor]()
            for t in range(self.T):
                if t:
                    logits, state = steps.after(state, y[-1])
                if look is not None:
                    look(logits, f"the logits of symbol {t}")
                cdf = logits.softmax(-1).cumsum(-1)
                edges = cdf[..., :-1] / cdf[..., -1:]  # 1 behind all symbols that are possible
                y.append((edges <= uniform[..., t, None]).sum(-1))
        return torch.stack(y, -1).to(dtype)

    def _check_length(self, owner: str, y: Tensor) -> None:
        """Raise `ShapeError` unless there are sequences of `T` symbols."""
        if y.shape[-1] != self.T:
            raise ShapeError(
                f"{owner} sequences of {y.shape[-1]} symbols, the policy T = {self.T}: pass "
                f"outcomes of {self.T}"
            )

    @cached_property
    def log_p(self) -> Float[Tensor, "*b N Y"]:
        """`log p(y)` of all sequences, in the order of `sequences`; with gradients in any mode.

        Raises:
            InputError: there are too many of them.
        """
        sequences(self.V, self.T)
        before = sequences(self.V, self.T - 1, self.device)
        with torch.enable_grad():  # what is kept must serve those who differentiate later
            logs = log_softmax(self._logits(before.unsqueeze(1).expand(-1, self.N, -1)))
            seen = before[:, None, :, None].expand(*logs.shape[:-2], self.T - 1, 1)
            of_prefix = logs[..., :-1, :].gather(-1, seen)[..., 0].sum(-1, keepdim=True)
            found = of_prefix + logs[..., -1, :]  # (*b, V^(T-1), N, V)
            return found.movedim(-2, -3).flatten(-2)

    def entropy(self) -> Float[Tensor, "*b N"]:
        """Return `H = -Σ_y p(y) log p(y)`, with `0 log 0 = 0`.

        Of a law of finite order in a time linear in `T`, of any other over all sequences.

        Raises:
            InputError: there are too many of them.
        """
        if isinstance(self.following, Markov):
            H = self.following.entropy().unsqueeze(-1)
            return H.expand(*H.shape[:-1], self.N)
        return -(self.log_p.exp() * self.log_p.clamp(min=ENTROPY_FLOOR)).sum(-1)

    def windows(self, k: int) -> Float[Tensor, "*b N places W"]:
        """Return the probability of each window of `k + 1` symbols at each place.

        Of a law of finite order in a time linear in `T`, of any other over all sequences.

        Args:
            k: how many symbols a window has before its last one, `0 <= k < T`.

        Raises:
            InputError: no window of this size fits, a table of more than `LARGEST_TABLE` numbers,
                or too many sequences.
        """
        check_count("k", k, 0, self.T - 1)
        _check_table(self.V, k, self.T, self.N)
        if isinstance(self.following, Markov):
            p = self.following.windows(k).unsqueeze(-3)
            return p.expand(*p.shape[:-3], self.N, -1, -1)
        p, W = self.log_p.exp(), self.V ** (k + 1)
        places = range(self.T - k)  # digits of the sequences' numbers
        return torch.stack([p.unflatten(-1, (self.V**t, W, -1)).sum((-3, -1)) for t in places], -2)

    def expected(self, rewards: Float[Tensor, "*#b Y"]) -> Float[Tensor, "*b N"]:
        """Return `Σ_y p(y) r(y)` for the rewards of all sequences, the same at every input.

        Raises:
            InputError: a sequence of reward -inf that the law generates.
        """
        return mean_reward(self.log_p.exp(), rewards.unsqueeze(-2))

    def rewards(self, y_hat: Tensor, data: Any, reward: Any) -> Float[Tensor, "*b M N"]:
        """Return what `Sampled.rewards` does.

        Raises:
            InputError: a generation of reward -inf.
        """
        r = super().rewards(y_hat, data, reward)
        if bool((r == -torch.inf).any()):
            raise InputError(NOT_ALLOWED)
        return r


def mean_reward(p: Float[Tensor, "*#b Y"], r: Float[Tensor, "*#b Y"]) -> Float[Tensor, "*b"]:
    """Return `Σ_y p(y) r(y)`, in which `0 · -inf = 0`.

    Raises:
        InputError: a reward of -inf of what is generated.
    """
    forbidden = r == -torch.inf
    if bool(forbidden.any()):
        if bool((forbidden & (p > 0)).any()):
            raise InputError(NOT_ALLOWED)
        r = r.masked_fill(forbidden, 0.0)
    return (p * r).sum(-1)


def counts(data: Any, V: int, k: int) -> Float[Tensor, "*b N places W"]:
    """Return how often each window of `k + 1` symbols stands at each place, as a share.

    Args:
        data: sequences `y`, `(*b, N, S, T)`.
        V: number of symbols.
        k: how many symbols a window has before its last one, `0 <= k < T`.

    Raises:
        InputError: a table of more than `LARGEST_TABLE` numbers.
    """
    check_offers("the data", data, ("y",), OUTCOMES)
    check_window(data.y, V, k)
    *inputs, S, T = data.y.shape
    _check_table(V, k, T, math.prod(inputs))
    numbers = windows(data.y, V, k).movedim(-2, -1)  # (*b, N, places, S)
    one = torch.full_like(numbers, 1 / S, dtype=data.y.dtype)
    return data.y.new_zeros(*numbers.shape[:-1], V ** (k + 1)).scatter_add(-1, numbers, one)


def _check_table(V: int, k: int, T: int, inputs: int) -> None:
    """Raise `InputError` where a number for each window at each place is too much."""
    if V ** (k + 1) * (T - k) * inputs > LARGEST_TABLE:
        raise InputError(
            f"V = {V} symbols make {V}^{k + 1} windows of {k + 1} at each of {T - k} places: more "
            f"numbers than the {LARGEST_TABLE} of the largest table; pass a smaller k"
        )


def entropy_of_rows(y: Float[Tensor, "*b S t"]) -> Float[Tensor, "*b"]:
    """Return `H = -Σ_w q(w) log q(w)` in nats, `q` the frequencies of the rows that occur."""
    *batch, S, _ = y.shape
    owner = torch.arange(math.prod(batch), device=y.device).repeat_interleave(S)
    rows = torch.cat([owner.unsqueeze(-1), y.flatten(0, -2).long()], -1)
    _, kind, times = rows.unique(dim=0, return_inverse=True, return_counts=True)
    share = times[kind].to(y.dtype).reshape(*batch, S) / S
    return -share.log().mean(-1)


def check_symbols(y: Tensor, V: int) -> None:
    """Raise `InputError` unless `y` holds symbols `0 .. V-1`, as numbers of any real dtype."""
    check_count("V", V)
    check_dense("y", y)
    if y.dtype == torch.bool or y.is_complex():
        raise InputError(f"y is {y.dtype}: pass symbols 0 .. {V - 1} as numbers, y.double()")
    wrong = ~((y >= 0) & (y < V) & (y == y.round()))
    if bool(wrong.any()):
        raise InputError(f"y holds {y[wrong][0].item():.6g}: symbols are 0 .. {V - 1}")


def check_window(y: Tensor, V: int, k: int) -> None:
    """Raise `InputError` unless `y` holds symbols `0 .. V-1`, `k + 1` or more of them."""
    check_symbols(y, V)
    T = y.shape[-1]
    check_count("k", k, 0)
    if k >= T:
        raise InputError(f"k is {k}, the sequences have T = {T} symbols: pass k < T")


def windows(y: Tensor, V: int, k: int) -> Int[Tensor, "*b places"]:
    """Return the number, in base `V`, of the window of `k + 1` symbols at each place of `y`.

    Raises:
        InputError: no window of this size fits, there are more than integers can number, or what
            stands in `y` is no symbol.
    """
    check_window(y, V, k)
    if V ** (k + 1) > torch.iinfo(torch.int64).max:
        raise InputError(
            f"V = {V} symbols make {V}^{k + 1} windows of {k + 1}, more than can be numbered: pass "
            f"a smaller k"
        )
    weights = V ** torch.arange(k, -1, -1, device=y.device)
    return (y.long().unfold(-1, k + 1, 1) * weights).sum(-1)
