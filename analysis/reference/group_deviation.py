"""GRPO's division of rewards by the deviation of their group: the scale of U cancels.

Large groups, of generations of an isotropic policy N(m, sI) for one data point y each, U = uI.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions as entropic
from ..calculus.conditions import Condition, positive, zero
from ..calculus.matrices import lowest_terms
from ..calculus.symbols import dimension, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, SAME, SIZES, result
from . import stated

GROUPS = ("policy N(m, sI), U = uI, one data point y for each group", "many generations to a group")


def _rewards(n: int) -> tuple[Any, tuple[Any, ...]]:
    """r at ŷ = m + √s ε, a polynomial of the noise."""
    m, y, s, u = *symbols("m y", n), *symbols("s u")
    noise = sp.ImmutableMatrix(sp.symbols(f"epsilon_1:{n + 1}", real=True))
    weight = u * sp.ImmutableMatrix.eye(n)
    return entropic.reward(m + sp.sqrt(s) * noise, y, weight), tuple(noise)


@result(SIZES, quick=(8, SAME))
def variance(n: int) -> Derivation:
    """Var r = u²(2ns² + 4s‖m - y‖²) among the generations for a data point y.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in m, y, s, u.
    Source: new.
    """
    m, y, s, u = *symbols("m y", n), *symbols("s u")
    r, noise = _rewards(n)
    derived = entropic.normal_covariance(r, r, *noise)
    return Derivation(
        symbol="Var r",
        arguments={"m": m, "y": y, "s": s, "u": u},
        stated=stated.group_variance(m, y, s, u),
        derived=derived,
        assumptions=GROUPS,
        steps=(Step("r at m + √s ε", r), Step("E r² - (E r)²", derived)),
    )


@result(SIZES, quick=(8, SAME))
def entropy_weight(n: int) -> Derivation:
    """λ = 1/√(n/2 + ‖m - y‖²/s): where the pull of one group balances the entropy, whatever u.

    Averaged over data of variance σ² around m it is E 1/√(n/2 + σ²χ²_n/s): the data's own variance
    s = σ² is stationary at λ_n = E[2/√(2n + 4χ²_n)] = .998, .656, .517 only.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in m, y, s. Condition: the reward pulls s down, against the entropy.
    Source: new.
    """
    m, y, s = *symbols("m y", n), symbol("s")
    r, noise = _rewards(n)
    pull = sp.diff(entropic.normal_expectation(r, *noise), s)
    push = n * sp.diff(entropic.entropy(sp.ImmutableMatrix([s])), s)
    square = lowest_terms(variance(n).derived * (push / pull) ** 2)
    return Derivation(
        symbol="λ",
        arguments={"m": m, "y": y, "s": s},
        stated=stated.entropy_weight(m, y, s),
        derived=1 / sp.sqrt(sp.expand(square)),
        assumptions=(*GROUPS, "the deviation is held fixed where rewards are differentiated"),
        steps=(Step("∂E r/∂s", pull), Step("∂H/∂s", push), Step("1/λ²", square)),
        conditions=(positive("-(∂E r/∂s)/(∂H/∂s) > 0", -pull / push),),
    )


@result(n=2)
def planar_weight() -> Derivation:
    """λ = √(πs/2)/σ · exp(s/2σ²) erfc(√(s/2)/σ), n = 2: `entropy_weight` over Gaussian data.

    At s = σ² it is √(π/2) e^{1/2} erfc(1/√2) = 0.6557.

    Returns:
        Scalar derivation in s, sigma.
    Source: new.
    """
    s, sigma = symbols("s sigma")
    m, y, radius = *symbols("m y", 2), sp.Symbol("rho", positive=True)
    polar = sp.ImmutableMatrix([radius, 0])
    zeros, one = sp.ImmutableMatrix([0, 0]), sp.ImmutableMatrix.eye(2)
    density = 2 * sp.pi * radius * sp.exp(entropic.log_density(polar, zeros, one))
    points = zip((*m, *y), (0, 0, sigma * radius, 0), strict=True)
    weight = entropy_weight(2).derived.xreplace({k: sp.sympify(v) for k, v in points})
    derived = sp.integrate(density * weight, (radius, 0, sp.oo))
    return Derivation(
        symbol="λ",
        arguments={"s": s, "sigma": sigma},
        stated=stated.planar_weight(s, sigma),
        derived=derived,
        assumptions=(*GROUPS, "n = 2, y ~ N(m, σ²I)"),
        steps=(Step("λ at ‖m - y‖ = σρ", weight), Step("its mean, ρ² ~ χ²₂", derived)),
    )


def _inverse_square(n: int, gap: Any) -> Any:
    """1/λ² of `entropy_weight` where ‖m - y‖² = gap."""
    m, y = symbols("m y", n)
    apart = dict(zip(y, (m[0] - sp.sqrt(gap), *m[1:]), strict=True))
    return sp.expand(1 / entropy_weight(n).derived.xreplace(apart) ** 2)


@result(ANY)
def largest_weight(n: int | None) -> Derivation:
    """√(2/n): for λ >= √(2/n) no variance is stationary, and the entropy drives it to infinity.

    Args:
        n: dimension, or None for a symbol.
    Returns:
        Scalar derivation without arguments, in n if it is a symbol. Conditions: λ of
        `entropy_weight`, 1/λ² = n/2 + ‖m - y‖²/s, grows with s and stays below its limit; for a
        symbol n, 1/λ² is linear in n, as n = 1, 2, 3 have it.
    Source: new.
    """
    s, size = symbol("s"), dimension(n)
    gap = sp.Symbol("g", positive=True)  # ‖m - y‖²
    linear: tuple[Condition, ...] = ()
    if n is None:
        first, second, third = (_inverse_square(k, gap) for k in SIZES)
        inverse = sp.expand(first + (size - 1) * (second - first))
        linear = (zero("1/λ² is linear in n", third - inverse.xreplace({size: sp.Integer(3)})),)
    else:
        inverse = _inverse_square(n, gap)
    limit = sp.limit(inverse, s, sp.oo)
    return Derivation(
        symbol="sup λ",
        arguments={"n": size} if n is None else {},
        stated=stated.largest_weight(size),
        derived=1 / sp.sqrt(limit),
        assumptions=GROUPS,
        steps=(Step("1/λ², ‖m - y‖² = g", inverse), Step("its limit as s -> ∞", limit)),
        conditions=(
            *linear,
            positive("1/λ² falls with s", -sp.diff(inverse, s)),
            positive("and stays above its limit", sp.expand(inverse - limit)),
        ),
    )
