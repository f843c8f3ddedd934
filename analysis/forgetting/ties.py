"""Equal rewards: what softmax policy gradient conserves, and what it makes of the base.

ż = ∇_z E_p r for logits z, without entropy. Among equal rewards the base's likeliest takes all.
"""

from __future__ import annotations

import sympy as sp

from ..calculus.conditions import positive, zero
from ..calculus.factors import factored
from ..calculus.matrices import inverse, lowest_terms, product
from ..calculus.symbols import DIMENSION, check_classes, symbol, symbols
from ..categorical.inner import probabilities
from ..derivation import Derivation, Step
from ..result import CLASSES, SAME, result
from . import stated

EXACT = "exact gradient, no entropy"


@result(CLASSES, check=check_classes, quick=(25, SAME))
def conserved(n: int) -> Derivation:
    """Σ_k e^{z_k} · d e^{-z_c}/dt = E_p r - r_c: equal rewards conserve e^{-z_c} - e^{-z_d}.

    Args:
        n: number of classes.
    Returns:
        Derivation in p, r; shape (n,). Condition: Σ_c z_c is conserved too.
    Raises:
        StructureError: n < 2.
    Source: new.
    """
    r, law = symbol("r", n), probabilities("p", n)
    odds = sp.symbols(f"x_1:{n + 1}", positive=True)  # e^{z_c}: d/dz_c = x_c d/dx_c
    total = sp.Add(*odds)
    value = sum(x / total * reward for x, reward in zip(odds, r, strict=True))
    flow = [x * sp.diff(value, x) for x in odds]
    rates = [-v / x * total for v, x in zip(flow, odds, strict=True)]
    at = dict(zip(odds, law, strict=True))  # of degree 0 in the odds
    return Derivation(
        symbol="Σe^z · d e^{-z}/dt",
        arguments={"p": symbol("p", n), "r": r},
        stated=stated.rate_of_inverse_odds(law, r),
        derived=lowest_terms(sp.ImmutableMatrix([sp.cancel(rate.xreplace(at)) for rate in rates])),
        assumptions=("softmax policy, ż = ∇_z E_p r", EXACT),
        steps=(Step("ż, with x_c = e^{z_c}", sp.Matrix(flow)),),
        conditions=(zero("Σ_c ż_c = 0", sp.cancel(sp.Add(*flow))),),
    )


@result()
def decay() -> Derivation:
    """ȯ/o^{2+1/n} → -n k^{1+2/n} for the odds o of the runner-up of two best classes.

    So o ~ t^{-n/(n+1)}. There are n other classes, of one logit and reward 0; the best have
    reward 1; Σz = 0; k = e^{-z_2} - e^{-z_1} > 0 is conserved.

    Returns:
        Scalar derivation in tie (k) and n. Condition: o falls at every o > 0: its limit is 0, and
        the base's likeliest takes all.
    Source: new.
    """
    k, n, o = symbol("tie"), DIMENSION, sp.Symbol("o", positive=True)
    first = k * o / (1 - o)  # e^{-z_1}, from o = e^{z_2 - z_1} and k
    second = first + k  # e^{-z_2}
    other = sp.Symbol("x_3", positive=True)  # e^{z_3} = (e^{-z_1} e^{-z_2})^{1/n}, from Σz = 0
    total = 1 / first + 1 / second + n * other
    missing = n * other / total  # 1 - E r
    rate = sp.diff(first, o)
    speed = -missing / total / rate
    # With o → 0 the parts have these limits, each times a power of o.
    parts = {
        "o Σe^z": sp.limit(sp.cancel(o * (1 / first + 1 / second)), o, 0),
        "e^{-z_1}/o": sp.limit(sp.cancel(first / o), o, 0),
        "e^{-z_2}": sp.limit(sp.cancel(second), o, 0),
        "de^{-z_1}/do": sp.limit(sp.cancel(rate), o, 0),
    }
    Z, a, b, c = parts.values()
    derived = -n * (a * b) ** (1 / n) / Z**2 / c
    odds = sp.Symbol("x", positive=True)
    falling = (-speed).xreplace({o: odds / (1 + odds)})
    return Derivation(
        symbol="lim ȯ/o^{2+1/n}",
        arguments={"tie": k, "n": n},
        stated=stated.decay(k, n),
        derived=sp.powsimp(sp.expand_power_base(derived)),
        assumptions=("softmax policy, ż = ∇_z E_p r, rewards 1, 1, 0, …, 0", EXACT, "Σz = 0"),
        steps=(Step("ȯ", speed), *(Step(f"limit of {text}", x) for text, x in parts.items())),
        conditions=(positive("-ȯ > 0", factored(falling)),),
    )


@result(CLASSES, check=check_classes, quick=(8, SAME))
def natural(n: int) -> Derivation:
    """d log(p_c/p_n)/dt = r_c - r_n under natural gradient: equal rewards keep the base's ratio.

    Args:
        n: number of classes.
    Returns:
        Derivation in r; shape (n - 1,).
    Raises:
        StructureError: n < 2.
    Source: new.
    """
    r, free = symbol("r", n), probabilities("p", n)
    odds = sp.symbols(f"x_1:{n}", positive=True)  # against the last class: d/dz_c = x_c d/dx_c
    total = 1 + sp.Add(*odds)
    law = sp.Matrix([*(x / total for x in odds), 1 / total])
    at = {x: p / free[-1] for x, p in zip(odds, free, strict=False)}
    slopes = (law.jacobian(list(odds)) * sp.diag(*odds)).xreplace(at)
    slopes = lowest_terms(slopes.as_immutable())  # ∂p_c/∂z_d
    scores = sp.ImmutableMatrix.diag(*(1 / p for p in free)) * slopes
    fisher = product(slopes.T, scores)
    slope = product(slopes.T, r)
    derived = product(inverse(fisher), slope)
    return Derivation(
        symbol="d log(p_c/p_n)/dt",
        arguments={"r": r},
        stated=stated.log_ratios(r),
        derived=derived,
        assumptions=("softmax policy, F ż = ∇_z E_p r, F = E ∇log p ∇log pᵀ", EXACT),
        steps=(Step("F", fisher), Step("∇_z E_p r", slope)),
    )


@result(CLASSES, check=check_classes, quick=(150, SAME))
def projection(n: int) -> Derivation:
    """log p*(c)/p*(n) = log p₀(c)/p₀(n) + (r_c - r_n)/λ maximises E_p r - λ KL(p‖p₀).

    With λ → 0 it is the base restricted to the best classes.

    Args:
        n: number of classes.
    Returns:
        Derivation in p0, r, lam; shape (n - 1,).
    Raises:
        StructureError: n < 2.
    Source: new.
    """
    p, p0, r, lam = *symbols("p p0 r", n), symbol("lam")
    J = p.dot(r) - lam * p.dot(p.applyfunc(sp.log) - p0.applyfunc(sp.log))
    logs = {sp.log(x): sp.Dummy(f"log p_{c}") for c, x in enumerate(p)}
    slopes = [sp.expand(sp.diff(J, x)).xreplace(logs) for x in p]
    found = [log + slope / lam for log, slope in zip(logs.values(), slopes, strict=True)]
    return Derivation(
        symbol="log p*(c)/p*(n)",
        arguments={"p0": p0, "r": r, "lam": lam},
        stated=sp.expand(stated.projection(p0, r, lam)).as_immutable(),
        derived=sp.ImmutableMatrix([sp.expand(x - found[-1]) for x in found[:-1]]),
        assumptions=("p₀(c) > 0, λ > 0",),
        steps=(Step("∂J/∂p_c", sp.Matrix(slopes)),),
    )
