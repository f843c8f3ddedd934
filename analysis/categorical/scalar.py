"""Scalar rewards U = uI of a categorical policy: the best u, and the published β* beside it."""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from ..calculus.conditions import positive, zero
from ..calculus.factors import factored
from ..calculus.matrices import lowest_terms, trace
from ..calculus.normal_form import normal
from ..calculus.stationary import solve_linear
from ..calculus.symbols import DIMENSION, check_classes, symbol
from ..derivation import Derivation, Step
from ..gaussian.outer import optimal_reward
from ..result import CLASSES, result
from . import definitions, stated
from .inner import LAM, ONE_HOT, ONLY_SIZES, SCALAR, law, log_law, probabilities, scalar_rewards
from .outer import at_solution, likelihood_curvature, likelihood_slopes

BINARY = ("2 classes, π = π_1 in (0, 1), λ > 0", SCALAR)
AWAY = "π ≠ ½ (at ½ every u is optimal)"
SCALE = symbol("u")
_X, _Y = sp.symbols("x y", positive=True)
_ODDS = (1 + _X) / (2 + _X)  # every π > ½; π < ½ is the other class
STEP = sp.Symbol("epsilon", real=True)


@cache
def slope_in_policy(n: int) -> Any:
    """dF/du in p and π, through the rewards of the classes."""
    slopes = likelihood_slopes(n)
    return sp.expand(slopes.dot(sp.diff(scalar_rewards(n), SCALE)))


@cache
def likelihood_of_scale(n: int) -> Any:
    """F(u)."""
    logs = log_law(scalar_rewards(n))
    return definitions.log_likelihood(logs, probabilities("pi", n))


@cache
def _bend(n: int) -> Any:
    """d²F/du² in p and π."""
    curve, x = likelihood_curvature(n)
    rates = sp.diff(scalar_rewards(n), SCALE)
    return curve.xreplace({x[c]: sp.expand(rates[c] - rates[n - 1]) for c in range(n - 1)})


@result(CLASSES, check=check_classes, quick=(10, ONLY_SIZES))
def stationarity(n: int) -> Derivation:
    """dF/du = (2/λ) Σ_c (π_c - p_c) π_c, p = p*(u): zero at u*, which has no closed form for n > 2.

    Args:
        n: number of classes, >= 2.
    Returns:
        Scalar derivation in pi, u, lam. Conditions: d²F/du² is minus a sum of squares that vanish
        together only where π is uniform, so that u* is unique.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, p, slope = probabilities("pi", n), probabilities("p", n), slope_in_policy(n)
    free = symbol("p", n)
    weights = [free[c] * free[k] for k in range(n) for c in range(k)]
    return Derivation(
        symbol="dF/du",
        arguments={"pi": symbol("pi", n), "u": SCALE, "lam": LAM},
        stated=stated.scalar_slope(stated.gibbs(stated.scalar_weights(SCALE, pi), LAM), pi, LAM),
        derived=at_solution(slope, law(scalar_rewards(n))),
        assumptions=(ONE_HOT, SCALAR),
        steps=(Step("g_c = E_y r(e_c, y)", scalar_rewards(n)), Step("dF/du", slope)),
        conditions=(
            zero(
                "d²F/du² = -(4/λ²) Σ_{c<k} p_c p_k (π_c - π_k)²",
                _bend(n) + 4 * stated.pairs(p, pi) / LAM**2,
            ),
            positive("p_c p_k > 0", sp.Matrix(weights)),
        ),
    )


@result(n=2)
def binary() -> Derivation:
    """u* = λ log(π/(1-π)) / (2(2π-1)): the best scalar reward for two classes, exactly.

    Returns:
        Scalar derivation in pi (both probabilities, not ½), lam. Conditions: F is strictly concave
        in u, u* > 0, the classes can be exchanged; at π = ½, F does not depend on u.
    Source: new.
    """
    pi, p = probabilities("pi", 2)[0], symbol("p", 2)[0]
    slope, logs = slope_in_policy(2), log_law(scalar_rewards(2))
    best = solve_linear([slope], [p])[0]
    logit = sp.expand(logs[0] - logs[1])
    derived = (sp.log(best) - sp.log(1 - best)) / factored(sp.diff(logit, SCALE))
    exchanged = derived.xreplace({pi: 1 - pi})
    back = {_X: (2 * pi - 1) / (1 - pi)}
    bend = lowest_terms(_bend(2).xreplace({pi: _ODDS, p: 1 / (1 + _Y)}))
    even = likelihood_of_scale(2).xreplace({pi: sp.Rational(1, 2)})
    return Derivation(
        symbol="u*",
        arguments={"pi": symbol("pi", 2), "lam": LAM},
        stated=stated.binary_scalar(pi, LAM),
        derived=derived,
        assumptions=(*BINARY, AWAY),
        steps=(
            Step("dF/du", slope),
            Step("its root in p*(1)", best),
            Step("logit p*", logit),
        ),
        conditions=(
            zero("logit p* is linear in u", logit - SCALE * sp.diff(logit, SCALE)),
            zero("π = (1+x)/(2+x) is every π > ½", _ODDS.xreplace(back) - pi),
            positive("-d²F/du² > 0 (π = (1+x)/(2+x))", factored(-bend)),
            positive("u* > 0 (π = (1+x)/(2+x))", normal(derived.xreplace({pi: _ODDS}))),
            zero("u* is the same with the classes exchanged", exchanged - derived),
            zero("F = -log 2 for every u at π = ½", even + sp.log(2)),
        ),
    )


@result(n=2)
def binary_limit() -> Derivation:
    """lim u* = λ as π → ½, n = 2.

    Returns:
        Scalar derivation in lam.
    Source: new.
    """
    near = binary().derived.xreplace({symbol("pi", 2)[0]: sp.Rational(1, 2) + STEP})
    return Derivation(
        symbol="lim u*",
        arguments={"lam": LAM},
        stated=stated.binary_scalar_limit(LAM),
        derived=sp.limit(near, STEP, 0),
        assumptions=BINARY,
        steps=(Step("u* at π = ½ + ε", near),),
    )


@result(CLASSES, check=check_classes, quick=(30, ONLY_SIZES))
def heuristic_scale(n: int) -> Derivation:
    """β* = λn/(2 Tr Σ) = λn/(2(1 - Σ_c π_c²)): the published scale, Σ the one-hot covariance.

    It is the best reward of an isotropic Gaussian policy, with this Σ in place of a Gaussian's.

    Args:
        n: number of classes C, >= 2; one-hot outcomes have this dimension.
    Returns:
        Scalar derivation in pi, lam. Conditions: Tr Σ = 2 Σ_{c<k} π_c π_k > 0; for n = 2,
        β* = λ/(2π(1-π)).
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: paper (λn/(2 Tr Σ), exact for Gaussian policies); new (its value here).
    """
    pi, free = probabilities("pi", n), symbol("pi", n)
    Sigma = definitions.one_hot_covariance(pi)
    gaussian, _ = optimal_reward("isotropic", None).derived.as_coeff_mmul()  # of the identity
    spread = sp.Trace(symbol("Sigma", None))
    derived = gaussian.xreplace({spread: trace(Sigma), DIMENSION: sp.Integer(n)})
    pairs = [2 * free[c] * free[k] for k in range(n) for c in range(k)]
    last = {free[n - 1]: pi[n - 1]}
    binary = [zero("β* = λ/(2π(1-π))", derived - stated.binary_heuristic(pi[0], LAM))]
    return Derivation(
        symbol="β*",
        arguments={"pi": free, "lam": LAM},
        stated=stated.heuristic_scale(pi, LAM),
        derived=derived,
        assumptions=(ONE_HOT,),
        steps=(
            Step("U* of an isotropic Gaussian policy, times I", gaussian),
            Step("Σ of one-hot outcomes", Sigma),
        ),
        conditions=(
            zero("Tr Σ = 2 Σ_{c<k} π_c π_k", trace(Sigma) - sp.Add(*pairs).xreplace(last)),
            positive("Tr Σ > 0", sp.Add(*pairs)),
            *(binary if n == 2 else []),
        ),
        source="paper; new for categorical policies",
    )


@result(n=2)
def heuristic_ratio() -> Derivation:
    """u*/β* = π(1-π) log(π/(1-π)) / (2π-1) <= ½: the heuristic is at least twice too sharp, n = 2.

    Returns:
        Scalar derivation in pi (both probabilities, not ½). Conditions: with odds r = π/(1-π) > 1,
        β* - 2u* = λ e(r) (r+1)/(r-1), e(r) = (r² - 1)/(2r) - log r, e(1) = 0 and e rises.
    Source: new.
    """
    pi = probabilities("pi", 2)[0]
    best, heuristic = binary().derived, heuristic_scale(2).derived
    r = sp.Symbol("r", positive=True)
    excess = (r**2 - 1) / (2 * r) - sp.log(r)
    gap = (heuristic - 2 * best).xreplace({pi: _ODDS})
    at = excess.xreplace({r: 1 + _X})
    return Derivation(
        symbol="u*/β*",
        arguments={"pi": symbol("pi", 2)},
        stated=stated.binary_heuristic_ratio(pi),
        derived=best / heuristic,
        assumptions=(*BINARY, AWAY),
        steps=(Step("u*", best), Step("β*", heuristic)),
        conditions=(
            zero("β* - 2u* = λ e(r) (r+1)/(r-1)", gap - LAM * at * (2 + _X) / _X),
            zero("e(1) = 0", excess.xreplace({r: sp.S.One})),
            positive("e'(1 + x) > 0", factored(sp.diff(at, _X))),
        ),
    )
