"""The inner problem of a policy over sequences: its Gibbs law, position by position.

Sequences are classes: the law that maximises J is that of `categorical.inner`. What is new is the
form it takes when a reward adds over positions or windows.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.conditions import zero
from ..calculus.symbols import check_classes, symbol
from ..categorical import inner as classes
from ..derivation import Derivation, Step
from ..result import CLASSES, SAME, result
from . import definitions, stated

LENGTHS = (2, 3)
LAM = symbol("lam")
WORDS = "y: n symbols of two kinds; π: the law of the 2ⁿ sequences, λ > 0"
ONLY = "the sum over all 2ⁿ sequences is written out; solvers.rewards.windows takes any length"
REWARDS = {
    "Hamming": "r = u Σ_t 1[ŷ_t = y_t]: p*(ŷ) = Π_t exp(u q_t(ŷ_t)/λ) / Σ_v exp(u q_t(v)/λ)",
    "exact match": "r = u 1[ŷ = y]: p*(ŷ) = exp(u q(ŷ)/λ) / Σ_y exp(u q(y)/λ)",
}


@result(LENGTHS, tuple(REWARDS), check=check_classes, only=ONLY, statements=REWARDS)
def solution(reward: str, n: int) -> Derivation:
    """p* ∝ exp(r̄/λ): a product over positions for Hamming, whatever the data; as for classes.

    Args:
        reward: "Hamming", u for every position that agrees; "exact match", u if all do.
        n: length of the sequences.
    Returns:
        Derivation in pi, u, lam; shape (2ⁿ,), the probabilities of the sequences. Conditions: they
        sum to 1, and all slopes of J are equal there.
    Raises:
        ArgumentError: for another reward.
        StructureError: unless n = 2, 3.
    Source: new.
    """
    pi, u = symbol("pi", 2**n), symbol("u")
    rewards = definitions.mean_rewards(pi, u, 1 if reward == "Hamming" else n, n)
    form = stated.hamming_solution if reward == "Hamming" else stated.exact_match_solution
    p = classes.law(rewards)
    return Derivation(
        symbol="p*",
        arguments={"pi": pi, "u": u, "lam": LAM},
        closed=("pi",),
        stated=form(pi, u, LAM),
        derived=p,
        assumptions=(WORDS, "u > 0"),
        steps=(Step("r̄(ŷ)", rewards), Step("exp(r̄/λ), scaled to sum to 1", p)),
        conditions=_is_stationary(n),
    )


def _is_stationary(n: int) -> tuple[Any, ...]:
    """Where r = λ log w, the law is w/Σw, and ∂J/∂p is the same for all sequences."""
    w = sp.ImmutableMatrix(sp.symbols(f"w_1:{2**n + 1}", positive=True))
    p, rewards = symbol("p", 2**n), w.applyfunc(lambda x: LAM * sp.log(x))
    J, total = definitions.objective(p, rewards, LAM), sp.Add(*w)
    slopes = [sp.diff(J, x).xreplace(dict(zip(p, w / total, strict=True))) for x in p]
    gaps = sp.Matrix([sp.expand_log(slope - slopes[0]) for slope in slopes])
    return (
        zero("p* = w/Σw where r = λ log w", classes.law(rewards) - w / total),
        zero("all slopes of J are equal at p*", gaps),
    )


@result(CLASSES, check=check_classes, quick=(30, SAME))
def soft_value(n: int) -> Derivation:
    """max_p Σ_c p_c r_c + λH(p) = λ log Σ_c exp(r_c/λ): one step of soft value iteration.

    `r_c` is the reward of symbol c and the value of what it leads to, λ times the entropy of the
    rest included: by the chain rule of entropy J is maximised backwards, step by step.

    Args:
        n: number of symbols.
    Returns:
        Scalar derivation in r, lam.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    r = symbol("r", n)
    p = classes.law(r)
    value = r[n - 1] - LAM * classes.log_law(r)[n - 1]
    w = classes.weights(n)
    at = classes.in_weights(n)
    best = definitions.objective(classes.law(at), at, LAM)
    return Derivation(
        symbol="J(p*)",
        arguments={"r": r, "lam": LAM},
        stated=stated.soft_value(r, LAM),
        derived=value,
        assumptions=("n symbols, λ > 0",),
        steps=(Step("p*", p), Step("r_n - λ log p*(n)", value)),
        conditions=(zero("J(p*) = λ log Σ w where r = λ log w", best - LAM * sp.log(sp.Add(*w))),),
    )


@result(LENGTHS, check=check_classes, only=ONLY)
def soft_value_iteration(n: int) -> Derivation:
    """p*(ŷ) = Π_t exp((g_t(ŷ_{t-1}, ŷ_t) + V_{t+1}(ŷ_t) - V_t(ŷ_{t-1}))/λ), of pair rewards g_t.

    The inner solution is a Markov chain, found backwards in a time linear in n:
    V_t(a) = λ log Σ_b exp((g_t(a, b) + V_{t+1}(b))/λ).

    Args:
        n: length of the sequences.
    Returns:
        Derivation in r (the entries 4(t-1) + 2a + b are g_t(a, b), t = 1 … n-1), lam; shape (2ⁿ,).
    Raises:
        StructureError: unless n = 2, 3.
    Source: new.
    """
    r = symbol("r", 4 * (n - 1))
    tables = [r[4 * t : 4 * t + 4, 0] for t in range(n - 1)]
    rewards = definitions.summed_rewards(tables, 2, n)
    p = classes.law(rewards)
    return Derivation(
        symbol="p*",
        arguments={"r": r, "lam": LAM},
        stated=stated.soft_value_solution(r, LAM),
        derived=p,
        assumptions=("ŷ: n symbols of two kinds, λ > 0",),
        steps=(Step("r(ŷ) = Σ_t g_t(ŷ_{t-1}, ŷ_t)", rewards), Step("exp(r/λ)/Σ exp(r/λ)", p)),
        conditions=_is_stationary(n),
    )
