"""What both levels are for sequences: every expectation is a sum over the Vᵀ sequences.

A law of sequences is a column of probabilities, in the order of the sequences as numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import sympy as sp

SYMBOLS = 2  # V, in what is written out: the sequences of length n are the 2ⁿ words of bits

Word = tuple[int, ...]


def sequences(T: int) -> list[Word]:
    """Every sequence of length T, the first symbol the slowest."""
    return list(product(range(SYMBOLS), repeat=T))


def agreement(y_hat: Word, y: Word, window: int) -> int:
    """At how many places a window of so many symbols is the same in both sequences."""
    places = range(len(y) - window + 1)
    return sum(y_hat[t : t + window] == y[t : t + window] for t in places)


def mean_rewards(pi: Any, u: Any, window: int, T: int) -> Any:
    """r̄(ŷ) = E_y r(ŷ, y) of every sequence, r(ŷ, y) = u · agreement."""
    words = sequences(T)
    return sp.ImmutableMatrix(
        [
            sum(u * agreement(y_hat, y, window) * pi[i] for i, y in enumerate(words))
            for y_hat in words
        ]
    )


def summed_rewards(tables: Sequence[Any], window: int, T: int) -> Any:
    """r(ŷ) = Σ_t g_t(ŷ_t … ŷ_{t+window-1}) of every sequence, from a table of g for every place."""
    inside = sequences(window)
    return sp.ImmutableMatrix(
        [
            sum(table[inside.index(y[t : t + window])] for t, table in enumerate(tables))
            for y in sequences(T)
        ]
    )


def objective(p: Any, rewards: Any, lam: Any) -> Any:
    """J(p) = Σ_ŷ p(ŷ) [r(ŷ) - λ log p(ŷ)]."""
    return sum(x * (r - lam * sp.log(x)) for x, r in zip(p, rewards, strict=True))


def log_likelihood(log_p: Any, pi: Any) -> Any:
    """F = E_y log p(y)."""
    return pi.dot(log_p)


def of_prefix(pi: Any, prefix: Word, T: int) -> Any:
    """The probability that a sequence begins so."""
    return sum(x for x, y in zip(pi, sequences(T), strict=True) if y[: len(prefix)] == prefix)


def on_prefixes(chosen: dict[Word, Any], pi: Any, u: Any, lam: Any, T: int) -> Any:
    """J where position t continues the data's own prefix s = y_{<t}, matched with y_t for u_s.

    J = Σ_s q(s) [E_y E_ŷ u_s 1[ŷ = y] + λ H(p(· | s))]; `chosen` holds p(1 | s) for every s.
    """
    total = sp.S.Zero
    for s, x in chosen.items():
        p = (1 - x, x)
        for symbol in range(SYMBOLS):
            matched = u[s] * p[symbol] * of_prefix(pi, (*s, symbol), T)
            surprise = lam * p[symbol] * sp.log(p[symbol]) * of_prefix(pi, s, T)
            total += matched - surprise
    return total
