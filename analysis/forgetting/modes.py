"""A reward learned from new data only does not retain an old mode.

p = w N(-δ, 1) + (1-w) N(0, 1), new data N(0, 1), which is also the new mode; ℓ = log w/(1-w), and
ℓ̇ = dJ/dℓ. Leading order: what is left out is of order δ² e^{-δ²/8}, the overlap of the modes.
"""

from __future__ import annotations

import sympy as sp

from .. import definitions
from ..calculus.conditions import zero
from ..calculus.symbols import symbol, symbols
from ..derivation import Derivation, Step
from ..gaussian.outer import optimal_reward
from ..result import result
from . import stated

APART = "two unit modes at distance δ, no overlap; new data N(0, 1)"


@result()
def likelihood() -> Derivation:
    """ℓ̇ = -w under maximum likelihood: at a data point of the new mode the old one has no density.

    Returns:
        Scalar derivation in old (w).
    Source: new.
    """
    w, ratio = symbol("old"), sp.Symbol("x", positive=True)  # N(y; -δ, 1)/N(y; 0, 1)
    log_p = sp.log(1 - w + w * ratio)  # and log N(y; 0, 1), which does not depend on w
    slope = sp.diff(log_p, w) * w * (1 - w)  # dw/dℓ = w(1-w)
    return Derivation(
        symbol="ℓ̇",
        arguments={"old": w},
        stated=stated.likelihood_drift(w),
        derived=sp.cancel(slope.subs(ratio, 0)),
        assumptions=(APART,),
        steps=(Step("∂ log p(y)/∂ℓ, x the ratio of the modes at y", slope),),
    )


@result()
def reward() -> Derivation:
    """ℓ̇ = -λ w(1-w)(δ²/2 + ℓ) under policy gradient with the reward U* of the new data.

    It ends at ℓ = -δ²/2: the old mode is left only the weight that the new law has there.

    Returns:
        Scalar derivation in old (w), lam, delta. Condition: it rests at ℓ = -δ²/2.
    Source: new.
    """
    w, lam, delta = symbols("old lam delta")
    m, P, mu, Sigma = symbols("m P mu Sigma", 1)
    U = optimal_reward("full", 1).derived
    one = {Sigma[0, 0]: 1, mu[0]: 0, P[0, 0]: 1}
    means = (-delta, sp.S.Zero)
    rewards = [
        definitions.expected_reward(m, P, mu, Sigma, U).xreplace({m[0]: a}).xreplace(one)
        for a in means
    ]
    entropy = definitions.entropy(P).xreplace(one)
    # H = Σ_k w_k [H(mode k) - log w_k] where the modes do not overlap
    J = sum(x * (r + lam * (entropy - sp.log(x))) for x, r in zip((w, 1 - w), rewards, strict=True))
    derived = sp.expand(sp.diff(J, w)) * w * (1 - w)
    new = sp.Symbol("x", real=True)  # log(1-w); log w is it plus ℓ
    at_rest = {sp.log(w): new - delta**2 / 2, sp.log(1 - w): new}
    return Derivation(
        symbol="ℓ̇",
        arguments={"old": w, "lam": lam, "delta": delta},
        stated=stated.reward_drift(w, lam, delta),
        derived=derived,
        assumptions=(APART, "λ > 0", "U = U* = λ/2"),
        steps=(Step("J(w)", J),),
        conditions=(zero("it rests at ℓ = -δ²/2", derived.xreplace(at_rest)),),
    )
