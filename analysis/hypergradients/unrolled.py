"""Hypergradients through K steps of gradient ascent: exact, with their bias.

For the scalar quadratics of `quadratic`, and for the Gaussian setting from the inner optimum.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from ..calculus.conditions import Condition, positive, zero
from ..calculus.matrices import lowest_terms
from ..calculus.symbols import named, symbol, symbols
from ..derivation import Derivation, Step
from ..result import result
from . import quadratic, stated
from .quadratic import THETA, implicit, inner, outer, solution, total

ASCENT = (*quadratic.DOMAIN, "θ_{k+1} = θ_k + η ∂_θJ(θ_k), ρ = 1 - ηκ")
_EXPLICIT = (1, 2, 3, 5)  # numbers of steps that are also taken one by one
_RATIO = sp.Symbol("x", positive=True)  # parametrises step sizes below the limit of stability


def _ascend(theta: Any) -> Any:
    """One step θ + η ∂_θJ(θ)."""
    return theta + symbol("eta") * sp.diff(inner(THETA), THETA).xreplace({THETA: theta})


def after(steps: Any, start: Any, rate: Any, shift: Any) -> Any:
    """x_K of x_{k+1} = rate x_k + shift, x_0 = start, as SymPy solves the recursion."""
    x, K = sp.Function("x"), sp.Symbol("K", integer=True)
    r, c = sp.symbols("r c")
    solved = sp.rsolve(x(K + 1) - r * x(K) - c, x(K), {x(0): sp.Symbol("x_0")})
    values = {sp.Symbol("x_0"): start, r: rate, c: shift, K: steps}
    return solved.xreplace(values)


@cache
def _path(steps: Any, start: Any) -> Any:
    """θ_K from the recursion that the definition of the step gives."""
    step = sp.expand(_ascend(THETA))
    rate = sp.diff(step, THETA)
    return after(steps, start, rate, step.xreplace({THETA: sp.S.Zero}))


def _contracts() -> Condition:
    """ρ² < 1 for every step size 0 < η < 2/κ: with ηκ = 2/(1 + x), x > 0."""
    kappa, eta = symbols("kappa eta")
    rho = sp.diff(_ascend(THETA), THETA)
    square = (rho**2).xreplace({kappa: 2 / (eta * (1 + _RATIO))})
    return positive("1 - ρ² > 0 where ηκ < 2", lowest_terms(1 - square))


@result()
def hypergradient() -> Derivation:
    """∇F_K = d + (νγ/κ)(τ - θ_K)(1 - ρ^K), θ_K = θ* + ρ^K(θ₀ - θ*), after K steps from θ₀.

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, theta_0, d, eta, steps (K >= 1).
        Conditions: the path solves its recursion (induction over K), and K = 1, 2, 3, 5 steps
        taken one by one and differentiated give the same; ρ^K → 0 where ηκ < 2.
    Source: new.
    """
    arguments = named("kappa gamma nu phi tau theta_0 d eta steps")
    K, start = symbol("steps"), symbol("theta_0")
    path = _path(K, start)
    derived = total(outer(THETA), path)
    conditions = [
        zero("θ_0 is the start", path.subs(K, 0) - start),
        zero("θ_{K+1} = θ_K + η ∂_θJ(θ_K)", path.subs(K, K + 1) - _ascend(path)),
        _contracts(),
    ]
    for count in _EXPLICIT:
        theta = start
        for _ in range(count):
            theta = sp.expand(_ascend(theta))
        difference = total(outer(THETA), theta) - derived.subs(K, count)
        conditions.append(zero(f"{count} steps taken one by one", difference))
    return Derivation(
        symbol="∇F_K",
        arguments=arguments,
        stated=stated.hypergradient(*arguments.values()),
        derived=derived,
        assumptions=ASCENT,
        steps=(Step("θ_K", path), Step("dF(θ_K, φ)/dφ", derived)),
        conditions=tuple(conditions),
    )


@result()
def bias() -> Derivation:
    """∇F_K - ∇F = -(νγ/κ) ρ^K [(τ - θ*) + (θ₀ - θ*)(1 - ρ^K)], of order ρ^K.

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, theta_0, eta, steps. Conditions: from
        θ₀ = θ* each step multiplies it by ρ; from anywhere it is a sum of ρ^K and ρ^{2K}.
    Source: new.
    """
    arguments = named("kappa gamma nu phi tau theta_0 eta steps")
    K, exact = symbol("steps"), implicit()
    derived = hypergradient().derived - exact
    rho = sp.diff(_ascend(THETA), THETA)
    ahead = [derived.subs(K, K + i) for i in range(3)]
    settled = [value.xreplace({symbol("theta_0"): solution()}) for value in ahead]
    return Derivation(
        symbol="∇F_K - ∇F",
        arguments=arguments,
        stated=stated.bias(*arguments.values()),
        derived=derived,
        assumptions=ASCENT,
        steps=(Step("∇F, by the implicit function theorem", exact),),
        conditions=(
            zero(
                "∇F = d + (νγ/κ)(τ - θ*)",
                exact - stated.implicit(*symbols("kappa gamma nu phi tau d")),
            ),
            zero("from θ* it shrinks by ρ at each step", settled[1] - rho * settled[0]),
            zero(
                "from anywhere it is αρ^K + βρ^{2K}",
                ahead[2] - (rho + rho**2) * ahead[1] + rho**3 * ahead[0],
            ),
            _contracts(),
        ),
    )


@result()
def truncated() -> Derivation:
    """∇F_T = d + (νγ/κ)(τ - θ_{K₀+K₁})(1 - ρ^K₁): K₀ steps, then K₁ differentiated.

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, theta_0, d, eta, earlier (K₀), last (K₁).
        Conditions: from θ* the indirect part is that of the implicit hypergradient times
        1 - ρ^K₁; without earlier steps it is the unrolled hypergradient.
    Source: new.
    """
    arguments = named("kappa gamma nu phi tau theta_0 d eta earlier last")
    j, k, start = symbol("earlier"), symbol("last"), symbol("theta_0")
    detached = sp.Dummy("theta_j", real=True)  # does not vary with φ
    cut = total(outer(THETA), _path(k, detached))
    derived = cut.xreplace({detached: _path(j, start)})
    indirect = implicit() - symbol("d")
    rho = sp.diff(_ascend(THETA), THETA)
    settled = derived.xreplace({start: solution()}) - symbol("d")
    return Derivation(
        symbol="∇F_T",
        arguments=arguments,
        stated=stated.truncated(*arguments.values()),
        derived=derived,
        assumptions=(*ASCENT, "K₀ steps without derivative, then K₁ with it"),
        steps=(Step("through k steps from a fixed point", cut),),
        conditions=(
            zero("from θ*: (1 - ρ^K₁) times the exact one", settled - (1 - rho**k) * indirect),
            zero(
                "K₀ = 0 is the unrolled one",
                derived.subs(j, 0) - hypergradient().derived.subs(symbol("steps"), k),
            ),
            _contracts(),
        ),
    )


@result()
def one_step() -> Derivation:
    """∇F_1 = d + ηνγ(τ - θ₁), θ₁ = θ₀ + η(γφ - κθ₀); from θ* its indirect part is ηκ times exact.

    Returns:
        Scalar derivation in kappa, gamma, nu, phi, tau, theta_0, d, eta. Conditions: the factor
        ηκ from θ*, and η = 1/κ (a Newton step) is exact from any start.
    Source: new.
    """
    arguments = named("kappa gamma nu phi tau theta_0 d eta")
    kappa, eta, start = symbol("kappa"), symbol("eta"), symbol("theta_0")
    theta = _ascend(start)
    derived = total(outer(THETA), theta)
    indirect = implicit() - symbol("d")
    settled = derived.xreplace({start: solution()}) - symbol("d")
    return Derivation(
        symbol="∇F_1",
        arguments=arguments,
        stated=stated.one_step(*arguments.values()),
        derived=derived,
        assumptions=ASCENT,
        steps=(Step("θ₁", theta),),
        conditions=(
            zero("from θ*: ηκ times the exact one", settled - eta * kappa * indirect),
            zero("η = 1/κ is exact", derived.xreplace({eta: 1 / kappa}) - implicit()),
        ),
    )
