"""The penalty (value function) hypergradient of scalar quadratics: first derivatives only.

θ_ς = argmax_θ F + ςJ, and ∇F_ς = d/dφ of max_θ [F + ςJ] - ς max_θ J, which by the envelope theorem
is ∂_φF(θ_ς) + ς[∂_φJ(θ_ς) - ∂_φJ(θ*)] (Kwon, Kwon, Wright, Nowak, 2023).
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.conditions import positive, zero
from ..calculus.stationary import solve_linear
from ..calculus.symbols import named, symbol
from ..derivation import Derivation, Step
from ..result import result
from . import quadratic, stated
from .quadratic import THETA, implicit, inner, outer, solution, total

DOMAIN = (*quadratic.DOMAIN, "θ_ς = argmax F + ςJ, ς > 0")


def _penalised() -> Any:
    """F + ςJ."""
    return outer(THETA) + symbol("weight") * inner(THETA)


def _tracked() -> Any:
    """θ_ς from ∂_θ(F + ςJ) = 0."""
    return solve_linear([sp.diff(_penalised(), THETA)], [THETA])[0]


@result()
def hypergradient() -> Derivation:
    """∇F_ς = ∂_φF(θ_ς) + ς[∂_φJ(θ_ς) - ∂_φJ(θ*)] = d + ςνγ(τ - θ*)/(ν + ςκ).

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, d, weight (ς). Conditions: θ_ς is a
        maximum, and the formula is the total derivative of max (F + ςJ) - ς max J.
    Source: new; the method is that of Kwon, Kwon, Wright, Nowak (2023).
    """
    arguments = named("kappa gamma nu phi tau d weight")
    phi, weight = symbol("phi"), symbol("weight")
    moved, best = _tracked(), solution()
    direct, pull = sp.diff(outer(THETA), phi), sp.diff(inner(THETA), phi)
    change = pull.xreplace({THETA: moved}) - pull.xreplace({THETA: best})
    derived = direct.xreplace({THETA: moved}) + weight * change
    envelope = total(_penalised(), moved) - weight * total(inner(THETA), best)
    return Derivation(
        symbol="∇F_ς",
        arguments=arguments,
        stated=stated.penalty(*arguments.values()),
        derived=derived,
        assumptions=DOMAIN,
        steps=(Step("θ_ς", moved), Step("∂_φJ(θ_ς) - ∂_φJ(θ*)", change)),
        conditions=(
            positive("θ_ς is a maximum", -sp.diff(_penalised(), THETA, 2)),
            zero("d/dφ of max (F + ςJ) - ς max J", envelope - derived),
        ),
    )


@result()
def bias() -> Derivation:
    """∇F_ς - ∇F = -ν²γ(τ - θ*)/(κ(ν + ςκ)).

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, weight. Condition: relative to the
        indirect part of ∇F it is ν/(ν + ςκ), the relative change of ∂_θF from θ* to θ_ς.
    Source: new.
    """
    arguments = named("kappa gamma nu phi tau weight")
    exact, pull = implicit(), sp.diff(outer(THETA), THETA)
    derived = hypergradient().derived - exact
    there, here = (pull.xreplace({THETA: x}) for x in (_tracked(), solution()))
    return Derivation(
        symbol="∇F_ς - ∇F",
        arguments=arguments,
        stated=stated.penalty_bias(*arguments.values()),
        derived=derived,
        assumptions=DOMAIN,
        steps=(Step("∇F, by the implicit function theorem", exact),),
        conditions=(
            zero(
                "relative to the indirect part it is the relative change of ∂_θF",
                derived * here - (exact - symbol("d")) * (there - here),
            ),
        ),
    )


@result()
def bias_limit() -> Derivation:
    """ς(∇F_ς - ∇F) → -ν²γ(τ - θ*)/κ² as ς → ∞: the bias is O(1/ς).

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau.
    Source: new.
    """
    arguments = named("kappa gamma nu phi tau")
    weight = symbol("weight")
    scaled = sp.together(weight * bias().derived)
    return Derivation(
        symbol="lim",
        arguments=arguments,
        stated=stated.penalty_limit(*arguments.values()),
        derived=sp.limit(sp.cancel(scaled), weight, sp.oo),
        assumptions=DOMAIN,
        steps=(Step("ς(∇F_ς - ∇F)", scaled),),
    )
