"""What both levels are for a categorical policy and one-hot outcomes."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions


def class_rewards(pi: Any, U: Any) -> Any:
    """r̄(c) = Σ_k π_k r_U(e_c, e_k): each class as generation, the one-hot data averaged."""
    n, one = pi.rows, sp.ImmutableMatrix.eye(pi.rows)
    table = {
        (c, k): definitions.reward(one[:, c], one[:, k], U) for c in range(n) for k in range(n)
    }
    return sp.ImmutableMatrix([sum(pi[k] * table[c, k] for k in range(n)) for c in range(n)])


def objective(p: Any, rewards: Any, lam: Any) -> Any:
    """J(p) = Σ_c p_c r̄(c) + λH(p), H(p) = -Σ_c p_c log p_c."""
    return p.dot(rewards) - lam * p.dot(p.applyfunc(sp.log))


def log_likelihood(log_p: Any, pi: Any) -> Any:
    """E_{c~π} log p_c, from the logarithms of the policy's probabilities."""
    return pi.dot(log_p)


def one_hot_covariance(pi: Any) -> Any:
    """Σ = E yyᵀ - (E y)(E y)ᵀ of one-hot outcomes y = e_c, c ~ π."""
    n, one = pi.rows, sp.ImmutableMatrix.eye(pi.rows)
    square, mean = sp.zeros(n, n), sp.zeros(n, 1)
    for c in range(n):
        square += pi[c] * one[:, c] * one[:, c].T
        mean += pi[c] * one[:, c]
    return sp.ImmutableMatrix(square - mean * mean.T)
