"""Sequences as stated: this module imports no definition and no derivation.

Sequences are words of two symbols, numbered in base 2 by their last T digits: symbol t of sequence
i is the digit of weight 2^(T-1-t). Columns of probabilities have that order.
"""

from __future__ import annotations

from typing import Any

import sympy as sp


def length(column: Any) -> int:
    """T of a column with an entry for each of the 2ᵀ sequences."""
    return int(column.rows).bit_length() - 1


def digit(i: int, t: int, T: int) -> int:
    """Symbol t of sequence i."""
    return i >> (T - 1 - t) & 1


def marginal(pi: Any, t: int, size: int) -> list[Any]:
    """Probabilities of the windows of `size` symbols that begin at t, by their number."""
    T = length(pi)
    found: list[Any] = [sp.S.Zero] * 2**size
    for i, x in enumerate(pi):
        found[i >> (T - t - size) & (2**size - 1)] += x
    return found


def hamming_solution(pi: Any, u: Any, lam: Any) -> Any:
    """Π_t exp(u q_t(ŷ_t)/λ) / Σ_v exp(u q_t(v)/λ): position by position, from the marginals q_t."""
    T = length(pi)
    by_position: list[list[Any]] = []
    for t in range(T):
        weights = [sp.exp(u * x / lam) for x in marginal(pi, t, 1)]
        by_position.append([w / sum(weights) for w in weights])
    return sp.ImmutableMatrix(
        [sp.prod(by_position[t][digit(i, t, T)] for t in range(T)) for i in range(pi.rows)]
    )


def exact_match_solution(pi: Any, u: Any, lam: Any) -> Any:
    """exp(u q(ŷ)/λ) / Σ_y exp(u q(y)/λ)."""
    weights = pi.applyfunc(lambda x: sp.exp(u * x / lam))
    return weights / sum(weights)


def soft_value(r: Any, lam: Any) -> Any:
    """λ log Σ_c exp(r_c/λ)."""
    return lam * sp.log(sum(sp.exp(x / lam) for x in r))


def soft_value_solution(r: Any, lam: Any) -> Any:
    """Π_t exp((g_t(ŷ_{t-1}, ŷ_t) + V_{t+1}(ŷ_t) - V_t(ŷ_{t-1}))/λ), backwards from V_T = 0.

    V_t(a) = λ log Σ_b exp((g_t(a, b) + V_{t+1}(b))/λ). Of `r`, entries 4(t-1) + 2a + b are
    g_t(a, b); position 0 has no reward of its own.
    """
    T = r.rows // 4 + 1
    Z = [sp.S.One, sp.S.One]  # exp(V_{t+1}/λ) by the symbol before
    steps: list[list[Any]] = []
    for t in range(T - 1, 0, -1):
        w = [[sp.exp(r[4 * (t - 1) + 2 * a + b] / lam) * Z[b] for b in (0, 1)] for a in (0, 1)]
        Z = [sum(row) for row in w]
        steps.insert(0, [w[a][b] / Z[a] for a in (0, 1) for b in (0, 1)])
    first = [z / sum(Z) for z in Z]
    return sp.ImmutableMatrix(
        [
            first[digit(i, 0, T)]
            * sp.prod(steps[t - 1][2 * digit(i, t - 1, T) + digit(i, t, T)] for t in range(1, T))
            for i in range(2**T)
        ]
    )


def hypergradient(pi: Any, p: Any, lam: Any, size: int) -> Any:
    """(q_t(w) - p_t(w))/λ for every place t and window w."""
    places = range(length(pi) - size + 1)
    return sp.ImmutableMatrix(
        [
            (x - y) / lam
            for t in places
            for x, y in zip(marginal(pi, t, size), marginal(p, t, size), strict=True)
        ]
    )


def entropy(probabilities: Any) -> Any:
    """-Σ x log x."""
    return -sum(x * sp.log(x) for x in probabilities)


def cost(pi: Any, size: int) -> Any:
    """Σ_t H(windows at t) - Σ_t H(their overlaps) - H(q); of single symbols, total correlation."""
    last = length(pi) - size
    windows = sum(entropy(marginal(pi, t, size)) for t in range(last + 1))
    inner = range(1, last + 1) if size > 1 else ()  # single symbols do not overlap
    overlaps = sum(entropy(marginal(pi, t, size - 1)) for t in inner)
    return windows - overlaps - entropy(pi)


def prefix_weights(pi: Any, lam: Any) -> Any:
    """λ log(q(1|s)/q(0|s)) / (q(1|s) - q(0|s)) for every prefix s, the shortest first."""
    found: list[Any] = []
    for size in range(1, length(pi) + 1):
        q = marginal(pi, 0, size)
        for zero, one in zip(q[::2], q[1::2], strict=True):
            found.append(lam * sp.log(one / zero) * (zero + one) / (one - zero))
    return sp.ImmutableMatrix(found)
