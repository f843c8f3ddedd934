"""Estimators of the policy gradient of a scalar policy: means, optimal baselines, variances."""

from __future__ import annotations

from typing import Any, Literal

import sympy as sp

from .. import definitions
from ..calculus.conditions import positive, zero
from ..calculus.factors import factored
from ..calculus.symbols import named, symbol, symbols
from ..derivation import Derivation, Step
from ..result import result
from . import scalar_policy as scalar
from . import stated
from .baselines import B, best_baseline

Data = Literal["averaged", "sampled"]


@result(variants=("averaged", "sampled"), n=1)
def score_gradient(data: Data) -> Derivation:
    """E (r - b)∇log p = (-2uδ, -2us²) for every constant b.

    Args:
        data: "averaged" (reward averaged over the data) or "sampled" (one data point).
    Returns:
        Derivation in u, delta, s; shape (2,), coordinates (m, log s). Condition: it is ∇ E r.
    Raises:
        ArgumentError: for other data.
    Source: new.
    """
    u, delta, s = symbols("u delta s")
    r, noise = scalar.reward(data), (scalar.EPS, scalar.ETA)
    terms = ((r - B) * scalar.score()).applyfunc(sp.expand)
    derived = terms.applyfunc(lambda f: definitions.normal_expectation(f, *noise))
    mean = definitions.normal_expectation(r, *noise)
    return Derivation(
        symbol="E g",
        arguments=named("u delta s"),
        stated=stated.score_gradient(u, delta, s),
        derived=derived,
        assumptions=(scalar.POLICY, scalar.ABOUT[data]),
        steps=(Step("∇log p at m + sε", scalar.score()), Step("(r - b)∇log p", terms)),
        conditions=(zero("it is ∇ E r", derived - scalar.gradient(mean)),),
    )


@result(
    variants=tuple(scalar.ABOUT),
    n=1,
    statements={
        "averaged": "b* = -u(d + 3s²) for m, -u(d + 5s²) for log s, d = δ² + σ²",
        "sampled": "b* = -u(d + 3s²) for m, -u(d + 5s²) for log s, d = δ² + σ²",
        "conditional": "b* = -u(d + 3s²) for m, -u(d + 5s²) for log s, d = (m-y)²",
    },
)
def optimal_baseline(data: Literal["averaged", "sampled", "conditional"]) -> Derivation:
    """b* = (-u(δ²+3s²+σ²), -u(δ²+5s²+σ²)); knowing y, (m-y)² in place of δ²+σ².

    Args:
        data: "averaged", "sampled" (a constant baseline), or "conditional" (a function of y).
    Returns:
        Derivation in u, delta, s, sigma, or u, m, y, s for "conditional"; shape (2,), the baseline
        of least variance for each of (m, log s). Condition: the variance is convex in b.
    Raises:
        ArgumentError: for other data.
    Source: new.
    """
    u, delta, s, sigma = symbols("u delta s sigma")
    noise = (scalar.EPS,) if data == "conditional" else (scalar.EPS, scalar.ETA)
    pairs = [best_baseline(scalar.reward(data), g, *noise) for g in scalar.score()]
    m, y = symbols("m y", 1)
    known = {"u": u, "m": m, "y": y, "s": s}
    free = {"u": u, "delta": delta, "s": s, "sigma": sigma}
    square = (m[0] - y[0]) ** 2 if data == "conditional" else delta**2 + sigma**2
    return Derivation(
        symbol="b*",
        arguments=known if data == "conditional" else free,
        stated=stated.optimal_baseline(u, square, s),
        derived=sp.ImmutableMatrix([best for best, _ in pairs]),
        assumptions=(scalar.POLICY, scalar.ABOUT[data]),
        steps=(Step("∇log p at m + sε", scalar.score()), Step("r", scalar.reward(data))),
        conditions=(positive("∂²Var/∂b² > 0", sp.Matrix([curve for _, curve in pairs])),),
    )


@result(
    variants=tuple(scalar.ABOUT),
    n=1,
    statements={
        "averaged": "least variance of (r - b)∇log p, b constant",
        "sampled": "least variance of (r - b)∇log p, b constant",
        "conditional": "least variance of (r - b)∇log p, b a function of y",
    },
)
def minimal_variance(data: Literal["averaged", "sampled", "conditional"]) -> Derivation:
    """Var[(r - b*)∇log p]: u²(8δ²+6s²), u²(40δ²s²+24s⁴) for the reward averaged over the data.

    A sampled data point adds 12u²σ², 40u²σ²s² with a baseline that knows it, and a further
    u²(2σ⁴+4δ²σ²)/s², 2u²(2σ⁴+4δ²σ²) with a constant one.

    Args:
        data: "averaged", "sampled" (a constant baseline), or "conditional" (a function of y).
    Returns:
        Derivation in u, delta, s, and sigma unless averaged; shape (2,), coordinates (m, log s).
    Raises:
        ArgumentError: for other data.
    Source: new.
    """
    u, delta, s, sigma = symbols("u delta s sigma")
    mu = symbol("mu", 1)[0]
    baselines = optimal_baseline(data).derived
    values = {symbol("m", 1)[0]: mu + delta, symbol("y", 1)[0]: mu + sigma * scalar.ETA}
    gaps = [(scalar.reward(data) - b).xreplace(values) for b in baselines]
    terms = [sp.expand(gap * g) for gap, g in zip(gaps, scalar.score(), strict=True)]
    variances = [definitions.normal_covariance(f, f, scalar.EPS, scalar.ETA) for f in terms]
    claims = {
        "averaged": stated.minimal_variance(u, delta, s),
        "sampled": stated.sampled_variance(u, delta, s, sigma),
        "conditional": stated.conditional_variance(u, delta, s, sigma),
    }
    return Derivation(
        symbol="Var",
        arguments=named("u delta s" if data == "averaged" else "u delta s sigma"),
        stated=claims[data],
        derived=sp.ImmutableMatrix(variances),
        assumptions=(scalar.POLICY, scalar.ABOUT[data]),
        steps=(Step("b*", baselines), Step("(r - b*)∇log p", sp.Matrix(terms))),
    )


@result(variants=("averaged", "sampled"), n=1)
def variance(data: Data) -> Derivation:
    """Var[(r - b)∇log p] = least value + ((b - b*)²/s², 2(b - b*)²), b constant, b* of each.

    Args:
        data: "averaged" or "sampled".
    Returns:
        Derivation in u, delta, s, sigma, baseline; shape (2,), coordinates (m, log s).
    Raises:
        ArgumentError: for other data.
    Source: new.
    """
    u, delta, s, sigma, b = symbols("u delta s sigma baseline")
    terms = [sp.expand((scalar.reward(data) - b) * g) for g in scalar.score()]
    least = (
        stated.minimal_variance(u, delta, s)
        if data == "averaged"
        else stated.sampled_variance(u, delta, s, sigma)
    )
    variances = [definitions.normal_covariance(f, f, scalar.EPS, scalar.ETA) for f in terms]
    return Derivation(
        symbol="Var",
        arguments=named("u delta s sigma baseline"),
        stated=least + stated.price_of_baseline(u, delta, s, sigma, b),
        derived=sp.ImmutableMatrix(variances),
        assumptions=(scalar.POLICY, scalar.ABOUT[data]),
        steps=(Step("(r - b)∇log p", sp.Matrix(terms)),),
    )


@result(variants=("averaged", "sampled"), n=1)
def pathwise_variance(data: Data) -> Derivation:
    """Var ∇r(m + sε): 4u²s², u²(4δ²s²+8s⁴); a sampled data point adds 4u²σ², 4u²s²σ².

    Args:
        data: "averaged" or "sampled".
    Returns:
        Derivation in u, delta, s, and sigma if sampled; shape (2,), coordinates (m, log s).
        Condition: the estimator is unbiased.
    Raises:
        ArgumentError: for other data.
    Source: new.
    """
    u, delta, s, sigma = symbols("u delta s sigma")
    slope = scalar.gradient(scalar.reward(data)).applyfunc(sp.expand)
    noise = (scalar.EPS, scalar.ETA)
    mean = slope.applyfunc(lambda f: definitions.normal_expectation(f, *noise))
    return Derivation(
        symbol="Var",
        arguments=named("u delta s" if data == "averaged" else "u delta s sigma"),
        stated=stated.pathwise_variance(u, delta, s, sigma if data == "sampled" else sp.S.Zero),
        derived=slope.applyfunc(lambda f: definitions.normal_covariance(f, f, *noise)),
        assumptions=(scalar.POLICY, scalar.ABOUT[data]),
        steps=(Step("∇r(m + sε)", slope),),
        conditions=(zero("unbiased", mean - score_gradient(data).derived),),
    )


@result(n=1)
def leave_one_out_variance() -> Derivation:
    """2u²(4Mδ²+(5M-4)s²)/(M(M-1)), 8u²s²((5M-4)δ²+(7M-6)s²)/(M(M-1)): leave-one-out, M samples.

    The estimator is the U-statistic of the kernel ½(r₁ - r₂)(g₁ - g₂): by Hoeffding its variance is
    [4(M-2)ζ₁ + 2ζ₂]/(M(M-1)), ζ₁ the variance of the kernel's mean given ε₁, ζ₂ that of the kernel.

    Returns:
        Derivation in u, delta, s, generations (M >= 2); shape (2,), coordinates (m, log s).
        Conditions: the estimator itself for M = 2, 3; the limits of M Var.
    Source: new.
    """
    u, delta, s, M = symbols("u delta s generations")
    e = sp.symbols("epsilon_1:4", real=True)
    r = [scalar.reward("averaged", x) for x in e]
    scores = [scalar.score(x) for x in e]

    def hoeffding(i: int) -> Any:
        kernel = sp.expand((r[0] - r[1]) * (scores[0][i] - scores[1][i]) / 2)
        given = definitions.normal_expectation(kernel, e[1])
        first = definitions.normal_covariance(given, given, e[0])
        both = definitions.normal_covariance(kernel, kernel, *e[:2])
        return (4 * (M - 2) * first + 2 * both) / (M * (M - 1))

    def direct(i: int, size: int) -> Any:
        others = [sum(r[:size]) - r[k] for k in range(size)]
        f = sum((r[k] - others[k] / (size - 1)) * scores[k][i] for k in range(size)) / size
        return definitions.normal_covariance(sp.expand(f), sp.expand(f), *e[:size])

    derived = sp.ImmutableMatrix([hoeffding(0), hoeffding(1)])
    checks = [sp.Matrix([direct(0, k), direct(1, k)]) - derived.xreplace({M: k}) for k in (2, 3)]
    limit = (M * derived).xreplace({delta: 0}).applyfunc(lambda f: sp.limit(factored(f), M, sp.oo))
    return Derivation(
        symbol="Var",
        arguments={"u": u, "delta": delta, "s": s, "generations": M},
        stated=stated.leave_one_out_variance(u, delta, s, M),
        derived=derived,
        assumptions=(scalar.POLICY, scalar.ABOUT["averaged"], "M >= 2 generations"),
        steps=(Step("[4(M-2)ζ₁ + 2ζ₂]/(M(M-1))", derived), Step("lim M Var at δ = 0", limit)),
        conditions=(
            zero("the estimator for M = 2", checks[0]),
            zero("the estimator for M = 3", checks[1]),
            zero("M Var -> 10u²s², 56u²s⁴ at δ = 0", limit - stated.leave_one_out_limit(u, s)),
        ),
    )
