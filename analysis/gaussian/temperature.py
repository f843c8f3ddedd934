"""An entropy weight λ(x) that depends on the input: likelihood, β-NLL and squared error in one.

J = E_x [E r_{U(x)} + λ(x) H], where x takes two values and both means share one parameter,
m(x) = θ a(x). `U(x)` alone shapes the mean, `U(x)/λ(x)` the covariance. With λ(x) = P(x)^β and the
reward whose covariance is P(x), the mean is that of β-NLL (Seitzer et al., arXiv 2203.09168):
weights P^(β-1), those of likelihood at β = 0 and of squared error at β = 1. Where the outer level
has other inputs than the inner one, the best λ(x) is the ratio of their densities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS, SPD
from ..calculus.conditions import Condition, positive, zero
from ..calculus.ldl import ldl_factors
from ..calculus.matrices import (
    diagonal_part,
    gradient,
    identity,
    inverse,
    lowest_terms,
    replace,
    slope,
    solve_inverse_equation,
)
from ..calculus.normal_form import normal
from ..calculus.stationary import ldl_product, solve_ldl
from ..calculus.symbols import EXPLICIT, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, SAME, SIZES, result
from . import stated
from .inner import solution
from .misspecification import TWO

SHARED = "m(x) = θ a(x), one θ for all inputs"
STOPPED = "⌊·⌋ has no gradient; P diagonal and given"
QUICK = (80, SAME)
Level = Literal["likelihood", "error"]
_SLOPES = {
    "likelihood": "dF/dβ = s (P_a^-β - P_b^-β) log(P_a/P_b) < 0 for β > 0",
    "error": "d E e²/dβ = 2s (P_b^(1-β) - P_a^(1-β)) log(P_a/P_b) < 0 for β < 1",
}
theta = sp.Symbol("theta", real=True)
_held = sp.Symbol("theta_held", real=True)


@result(ANY)
def covariance(n: int | None) -> Derivation:
    """P*(x) = (λ(x)/2) U(x)⁻¹, whatever the mean.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in U_a, lam_a; shape (n, n), at the first input. Condition: at the second alike.
    Source: new.
    """
    U_a, U_b, P_a, P_b = symbols("U_a U_b P_a P_b", n)
    lam_a, lam_b = symbols("lam_a lam_b")
    J = _objective(n)
    if n is None:
        best = solve_inverse_equation(gradient(J, P_a), P_a)
    else:
        C, D = ldl_factors("P_a", n)
        factored = sp.expand(replace(J, P_a, C * D * C.T))
        best = ldl_product(C, D, solve_ldl(factored, C, D))
    second = replace(gradient(J, P_b), P_b, stated.inner_solution("full", U_b, lam_b))
    return Derivation(
        symbol="P*(x)",
        arguments={"U_a": U_a, "lam_a": lam_a},
        stated=stated.inner_solution("full", U_a, lam_a),
        derived=best,
        assumptions=(SPD, MOMENTS, TWO, SHARED, "P full"),
        steps=(Step("J, averaged over x", J), Step("solve ∂J/∂P(x) = 0", best)),
        conditions=(zero("∂J/∂P = 0 at (λ/2) U⁻¹ of the second input", second),),
    )


@result(ANY)
def mean(n: int | None) -> Derivation:
    """θ* = E aᵀU(x)μ(x) / E aᵀU(x)a: least squares weighted by U(x), whatever λ(x).

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in w, mu_a, mu_b, a, b, U_a, U_b.
    Source: new.
    """
    w, mu_a, mu_b, a, b, U_a, U_b = symbols("w mu_a mu_b a b U_a U_b", n)
    J = _objective(n)
    rate = slope(normal(J), theta) if n is None else sp.expand(sp.diff(J, theta))
    return Derivation(
        symbol="θ*",
        arguments={"w": w, "mu_a": mu_a, "mu_b": mu_b, "a": a, "b": b, "U_a": U_a, "U_b": U_b},
        stated=stated.weighted_mean(w, a, b, mu_a, mu_b, U_a, U_b),
        derived=_root(rate),
        assumptions=(SPD, MOMENTS, TWO, SHARED),
        steps=(Step("J, averaged over x", J), Step("its slope in θ", rate)),
    )


@result(ANY)
def optimal_reward(n: int | None) -> Derivation:
    """U*(x) = ½ λ(x) Σ(x)⁻¹ where the mean is attained: λ(x) is free, the likelihood the same.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in Sigma_a, lam_a; shape (n, n), at the first input. Condition: at the second
        alike.
    Source: new.
    """
    w, mu_a, mu_b, Sigma_a, Sigma_b, U_a, U_b = symbols("w mu_a mu_b Sigma_a Sigma_b U_a U_b", n)
    lam_a, lam_b = symbols("lam_a lam_b")
    F = w * definitions.log_likelihood(mu_a, _at_inner(U_a, lam_a, n), mu_a, Sigma_a)
    F += (1 - w) * definitions.log_likelihood(mu_b, _at_inner(U_b, lam_b, n), mu_b, Sigma_b)
    G = gradient(F, U_a)
    if n is None:
        best = solve_inverse_equation(G, U_a)
    else:  # ∂F/∂U = w (½ U⁻¹ - Σ/λ): what is left of U⁻¹ is the solution's inverse
        best = inverse(lowest_terms(inverse(U_a) - 2 * G / w))
    second = replace(gradient(F, U_b), U_b, stated.optimal_reward("full", Sigma_b, lam_b))
    return Derivation(
        symbol="U*(x)",
        arguments={"Sigma_a": Sigma_a, "lam_a": lam_a},
        stated=stated.optimal_reward("full", Sigma_a, lam_a),
        derived=best,
        assumptions=("Σ(x) symmetric positive definite, λ(x) > 0", MOMENTS, TWO, "m(x) = μ(x)"),
        steps=(Step("F, averaged over x", F), Step("solve ∂F/∂U(x) = 0", best)),
        conditions=(zero("∂F/∂U = 0 at ½ λ Σ⁻¹ of the second input", second),),
    )


@result(SIZES, quick=QUICK)
def beta_nll(n: int) -> Derivation:
    """θ of β-NLL, E Σ_i ⌊P_ii^β⌋ (-log N(y_i; m_i, P_ii)): least squares with weights P_ii^(β-1).

    Args:
        n: dimension.
    Returns:
        Scalar derivation in w, mu_a, mu_b, a, b, P_a, P_b (their diagonals), power (β). Conditions:
        it is the mean of J with λ(x) = λ P^β and U = ½ λ(x) P⁻¹, that of likelihood at β = 0, of
        squared error at β = 1; the variances are stationary at Σ_ii + e_i² for every β.
    Source: new; the loss is Seitzer et al., arXiv 2203.09168.
    """
    w, mu_a, mu_b, a, b, P_a, P_b = symbols("w mu_a mu_b a b P_a P_b", n)
    power, lam = symbols("power lam")
    rates, tempered = _rates(_beta_loss, n), _rates(_tempered_loss, n)
    arguments = {"w": w, "mu_a": mu_a, "mu_b": mu_b, "a": a, "b": b, "P_a": P_a, "P_b": P_b}
    return Derivation(
        symbol="θ",
        arguments=arguments | {"power": power},
        stated=stated.weighted_mean(
            w, a, b, mu_a, mu_b, *(stated.beta_weights(P, power) for P in (P_a, P_b))
        ),
        derived=_common_root(rates),
        assumptions=(MOMENTS, TWO, SHARED, STOPPED),
        steps=(Step("the loss", _averaged(_beta_loss, n)), Step("its slope in θ", _mean(rates))),
        conditions=(
            zero("-1/λ that of J with λ(x) = λ P^β, U = ½ λ(x) P⁻¹", rates - tempered / lam),
            _splits(n),
            zero("that of likelihood at β = 0", rates.subs(power, 0) - _rates(_likelihood_loss, n)),
            zero(
                "half that of error at β = 1", rates.subs(power, 1) - _rates(_squared_error, n) / 2
            ),
            _variances(_beta_loss, n),
        ),
        source="new; the loss is Seitzer et al., arXiv 2203.09168",
    )


@result(SIZES, quick=QUICK)
def faithful(n: int) -> Derivation:
    """θ of faithful regression, E [½‖y - m‖² - log N(y; ⌊m⌋, P)]: that of β = 1, whatever P.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in w, mu_a, mu_b, a, b. Conditions: it is that of β-NLL at β = 1; the
        variances are stationary at Σ_ii + e_i².
    Source: new; the loss is Stirn et al., 2023.
    """
    w, mu_a, mu_b, a, b = symbols("w mu_a mu_b a b", n)
    rates, unit = _rates(_faithful_loss, n), sp.ImmutableMatrix.eye(n)
    return Derivation(
        symbol="θ",
        arguments={"w": w, "mu_a": mu_a, "mu_b": mu_b, "a": a, "b": b},
        stated=stated.weighted_mean(w, a, b, mu_a, mu_b, unit, unit),
        derived=_common_root(rates),
        assumptions=(MOMENTS, TWO, SHARED, STOPPED),
        steps=(
            Step("the loss", _averaged(_faithful_loss, n)),
            Step("its slope in θ", _mean(rates)),
        ),
        conditions=(
            zero("that of β-NLL at β = 1", rates - _rates(_beta_loss, n).subs(symbol("power"), 1)),
            _variances(_faithful_loss, n),
        ),
        source="new; the loss is Stirn et al., 2023",
    )


@result((), ("likelihood", "error"), n=1, statements=_SLOPES)
def power_slope(of: Level) -> Derivation:
    """dF/dβ < 0 and d E e²/dβ < 0 for 0 < β < 1: β chooses between likelihood and mean error.

    One mean for both inputs, so that data means μ_a ≠ μ_b are not attained. λ(x) = λ P(x)^β and
    U = ½ λ(x) P(x)⁻¹ leave the covariances P(x) as they are, and move the mean: the slope is the
    implicit one, -(∂²_{βθ}J/∂²_{θθ}J) ∂_θ. s = (w(1-w)(μ_a-μ_b) q_a q_b)²/(E q)³, q = P^(β-1).

    Args:
        of: "likelihood", F, or "error", the squared error of the mean.
    Returns:
        Scalar derivation in w, mu_a, mu_b, P_a, P_b, power. Conditions: the covariances do not
        move; the sign where P_a ≠ P_b, by (1 - e^(-ct))/t, which is 0 at c = 0 and grows with c.
    Source: new.
    """
    w, mu_a, mu_b, P_a, P_b = symbols("w mu_a mu_b P_a P_b", 1)
    power, lam, (v_a, v_b) = symbol("power"), symbol("lam"), sp.symbols("v_a v_b", positive=True)
    one = {symbol("a")[0]: sp.S.One, symbol("b")[0]: sp.S.One}
    # The variances v of the reward stay where J is differentiated in those of the policy.
    rewarded = {symbol("lam_a"): lam * v_a**power, symbol("lam_b"): lam * v_b**power}
    rewarded |= {symbol("U_a")[0]: lam / 2 * v_a ** (power - 1)}
    rewarded |= {symbol("U_b")[0]: lam / 2 * v_b ** (power - 1)}
    J = _objective(1).xreplace(rewarded | one)
    at_solution = {v_a: P_a[0], v_b: P_b[0]}
    outer = -_averaged(_likelihood_loss, 1)
    if of == "error":
        outer = w * (mu_a[0] - theta) ** 2 + (1 - w) * (mu_b[0] - theta) ** 2
    rate = sp.expand(sp.diff(J, theta) / lam)
    pull = -sp.diff(rate, power) / sp.diff(rate, theta) * sp.diff(outer.xreplace(one), theta)
    centre = _root(rate).xreplace(at_solution)
    moved = sp.Matrix([sp.diff(J, P, power) for P in (P_a[0], P_b[0])]).xreplace(at_solution)
    t, c = sp.Symbol("t", real=True, nonzero=True), sp.Symbol("c", positive=True)
    ratio = (1 - sp.exp(-c * t)) / t
    return Derivation(
        symbol="dF/dβ" if of == "likelihood" else "d E e²/dβ",
        arguments={"w": w, "mu_a": mu_a, "mu_b": mu_b, "P_a": P_a, "P_b": P_b, "power": power},
        stated=stated.power_slope(of, w, mu_a, mu_b, P_a, P_b, power),
        derived=pull.xreplace(at_solution).xreplace({theta: centre}),
        assumptions=(MOMENTS, TWO, "m(x) = θ", "λ(x) = λ P(x)ᵝ, U = ½ λ(x) P(x)⁻¹"),
        steps=(
            Step("(1/λ) ∂J/∂θ", rate),
            Step("θ*", centre),
            Step("-(∂²_{βθ}J/∂²_{θθ}J) ∂_θ", pull),
        ),
        conditions=(
            zero("∂²J/∂β∂P = 0 at P(x)", moved),
            zero("(1 - e^(-ct))/t = 0 at c = 0", ratio.subs(c, 0)),
            positive("its slope in c is positive", sp.diff(ratio, c)),
        ),
    )


@result(n=1)
def density_ratio() -> Derivation:
    """λ*(x_a)/λ*(x_b) = w'(1-w)/(w(1-w')): an outer level of other inputs learns their density.

    One mean for both inputs; the first has probability w in the inner problem and w' in the outer
    one. Of all λ(x), with U = ½ λ(x) P(x)⁻¹, the held-out likelihood is largest where λ(x) is the
    ratio p'(x)/p(x), up to a factor: the weight of importance sampling. Of the powers P(x)^β it is
    the one with (P_a/P_b)^β* that ratio; β* = 0 where the inputs are the same.

    Returns:
        Scalar derivation in w, w_held; neither means nor variances of the data matter. Conditions:
        θ moves one way with λ_a/λ_b, and F is concave in θ, so that it is the only maximum where
        μ_a ≠ μ_b (else F is flat in λ); J with λ(x) = λ p'(x)/p(x) has the slope of F in θ.
    Source: new.
    """
    w, held, mu_a, mu_b, P_a, P_b = symbols("w w_held mu_a mu_b P_a P_b", 1)
    lam, lam_a, lam_b = symbols("lam lam_a lam_b")
    one = {symbol("a")[0]: sp.S.One, symbol("b")[0]: sp.S.One}
    given = {symbol("U_a")[0]: lam_a / (2 * P_a[0]), symbol("U_b")[0]: lam_b / (2 * P_b[0])}
    rate = sp.expand(sp.diff(_objective(1), theta).xreplace(one).xreplace(given))
    outer = -_averaged(_likelihood_loss, 1).xreplace(one)
    pull = sp.expand(sp.diff(outer, theta).xreplace({w: held}))
    centre, k = _root(rate), sp.Symbol("k", positive=True)
    apart = (centre - _root(pull)).xreplace({lam_a: k * lam_b})
    (ratio,) = sp.solve(sp.numer(sp.cancel(apart)), k)
    shares = w * lam_a / P_a[0], (1 - w) * lam_b / P_b[0]
    moved = shares[0] * shares[1] / lam_a * (mu_a - mu_b)[0] / (shares[0] + shares[1]) ** 2
    imported = rate.xreplace({lam_a: lam * held / w, lam_b: lam * (1 - held) / (1 - w)})
    return Derivation(
        symbol="λ*(x_a)/λ*(x_b)",
        arguments={"w": w, "w_held": held},
        stated=stated.density_ratio(w, held),
        derived=ratio,
        assumptions=(MOMENTS, TWO, "m(x) = θ, μ_a and μ_b differ", "U = ½ λ(x) P(x)⁻¹"),
        steps=(
            Step("θ*(λ_a, λ_b)", centre),
            Step("∂F/∂θ, of the outer inputs", pull),
            Step("λ_a/λ_b where it is 0 at θ*", ratio),
        ),
        conditions=(
            zero("dθ*/dλ_a has the sign of μ_a - μ_b", sp.diff(centre, lam_a) - moved),
            zero(
                "∂²F/∂θ² = -E' 1/P(x)", sp.diff(pull, theta) + held / P_a[0] + (1 - held) / P_b[0]
            ),
            zero("λ ∂F/∂θ is ∂J/∂θ at λ(x) = λ p'(x)/p(x)", imported - lam * pull),
        ),
    )


def _objective(n: int | None) -> Any:
    """J, averaged over x."""
    w, U_a, U_b, P_a, P_b = symbols("w U_a U_b P_a P_b", n)
    mu_a, mu_b, a, b, Sigma_a, Sigma_b = symbols("mu_a mu_b a b Sigma_a Sigma_b", n)
    lam_a, lam_b = symbols("lam_a lam_b")
    J = w * definitions.objective(theta * a, P_a, mu_a, Sigma_a, U_a, lam_a)
    return J + (1 - w) * definitions.objective(theta * b, P_b, mu_b, Sigma_b, U_b, lam_b)


# --- losses with stopped gradients, of one outcome dimension. Those of n dimensions are their
# sums, and so are slopes. ---


@dataclass(frozen=True)
class _At:
    """A policy (m, P) and the data (μ, Σ) at one input, and ⌊m⌋, ⌊P⌋, whose gradient is stopped."""

    m: Any
    P: Any
    mu: Any
    Sigma: Any
    m_held: Any
    P_held: Any


Loss = Callable[[_At], Any]


def _likelihood_loss(x: _At) -> Any:
    """-E_y log N(y; m, P)."""
    return -definitions.log_likelihood(x.m, x.P, x.mu, x.Sigma)


def _beta_loss(x: _At) -> Any:
    """-E_y ⌊P^β⌋ log N(y; m, P)."""
    return x.P_held[0] ** symbol("power") * _likelihood_loss(x)


def _squared_error(x: _At) -> Any:
    """E_y (y - m)²."""
    return -definitions.mean_reward(x.m, x.mu, x.Sigma, identity(x.P))


def _faithful_loss(x: _At) -> Any:
    """E_y [½(y - m)² - log N(y; ⌊m⌋, P)]."""
    return _squared_error(x) / 2 - definitions.log_likelihood(x.m_held, x.P, x.mu, x.Sigma)


def _tempered_loss(x: _At) -> Any:
    """-E r of U = ½ λ(x) P⁻¹, λ(x) = λ P^β; the entropy does not depend on the mean."""
    U = symbol("lam") / 2 * sp.ImmutableMatrix([x.P_held[0] ** (symbol("power") - 1)])
    return -definitions.expected_reward(x.m, x.P, x.mu, x.Sigma, U)


def _by_dimension(f: Any, n: int) -> list[Any]:
    """A function of the symbols of one dimension, at those of each."""
    names = "m P mu Sigma U mu_a mu_b a b P_a P_b Sigma_a Sigma_b"
    pairs = {x[0]: X for x, X in zip(symbols(names), symbols(names, n), strict=True)}
    return [
        f.xreplace({x: X[i] if X.cols == 1 else X[i, i] for x, X in pairs.items()})
        for i in range(n)
    ]


def _losses(loss: Loss) -> tuple[Any, Any]:
    """A loss of one dimension at m(x) = θ a(x), by input."""
    mu_a, mu_b, a, b = symbols("mu_a mu_b a b", 1)
    Sigma_a, Sigma_b, P_a, P_b = symbols("Sigma_a Sigma_b P_a P_b", 1)
    first = loss(_At(theta * a, P_a, mu_a, Sigma_a, _held * a, P_a))
    return first, loss(_At(theta * b, P_b, mu_b, Sigma_b, _held * b, P_b))


def _mean(by_input: Any) -> Any:
    """E_x."""
    w, (first, second) = symbol("w"), by_input
    return w * first + (1 - w) * second


def _averaged(loss: Loss, n: int) -> Any:
    """E_x of a loss at m(x) = θ a(x)."""
    return _mean([sp.Add(*_by_dimension(value, n)) for value in _losses(loss)])


def _rates(loss: Loss, n: int) -> Any:
    """The slope of a loss in θ, held copies aside, by input."""
    slopes = [sp.diff(value, theta).xreplace({_held: theta}) for value in _losses(loss)]
    return sp.ImmutableMatrix([sp.Add(*_by_dimension(sp.expand(x), n)) for x in slopes])


def _splits(n: int) -> Condition:
    """E r of diagonal P and U is a sum over dimensions, up to n = 3 as everywhere."""
    m, mu, P, Sigma, U = symbols("m mu P Sigma U", min(n, EXPLICIT))
    whole = definitions.expected_reward(m, diagonal_part(P), mu, Sigma, diagonal_part(U))
    one = definitions.expected_reward(*symbols("m P mu Sigma U", 1))
    return zero("E r is a sum over dimensions", whole - sp.Add(*_by_dimension(one, m.rows)))


def _common_root(rates: Any) -> Any:
    """Where E_x of functions linear in θ is 0; a sum by dimension in numerator and denominator."""
    constants = (-rates.subs(theta, 0)).applyfunc(sp.expand)
    return _mean(constants) / _mean(rates.diff(theta))


def _root(rate: Any) -> Any:
    """Where a function linear in θ is 0."""
    return -rate.subs(theta, 0) / slope(rate, theta)


def _variances(loss: Loss, n: int) -> Condition:
    """The slope in P_ii, held copies aside, is 0 at Σ_ii + e_i²."""
    m, P, mu, Sigma = symbols("m P mu Sigma", 1)
    held = sp.ImmutableMatrix([sp.Symbol("P_held", positive=True)])
    slope_in_P = sp.diff(loss(_At(m, P, mu, Sigma, m, held)), P[0]).xreplace({held[0]: P[0]})
    there = slope_in_P.xreplace({P[0]: Sigma[0] + (m[0] - mu[0]) ** 2})
    return zero("∂/∂P_ii = 0 at Σ_ii + e_i²", sp.Matrix(_by_dimension(there, n)))


def _at_inner(U: Any, lam: Any, n: int | None) -> Any:
    """P* of a reward."""
    found = solution("full", n)
    P = replace(found.derived, found.arguments["U"], U)
    return P.xreplace({found.arguments["lam"]: lam})
