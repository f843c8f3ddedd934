"""The mean or the minimum of a group of generations as baseline: each moves the variance."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions
from ..calculus.conditions import positive, zero
from ..calculus.stationary import solve_linear
from ..calculus.symbols import symbol, symbols
from ..derivation import Derivation, Step
from ..result import SAME, SIZES, result
from . import scalar_policy as scalar
from . import stated

_INSTEAD = "minimum(2) takes E max, 2 H_M, as the argument `maximum`"


def _stationary(reward: Any, baseline: Any, n: int) -> tuple[Any, Any]:
    """The v where E r - E b/M + λH(N(·, vI)) is stationary, and -d/dv of v times its slope."""
    v, lam = symbol("s") ** 2, symbol("lam")
    level = sp.Dummy("v", positive=True)
    J = reward - baseline / symbol("generations") + lam * definitions.entropy(v * sp.eye(n))
    J = J.xreplace({symbol("s"): sp.sqrt(level)})
    slope = sp.expand(level * sp.diff(J, level))
    return solve_linear([slope], [level])[0], -sp.diff(slope, level)


@result(n=1)
def mean() -> Derivation:
    """v = v∞ M/(M-1), v∞ = λ/(2u): subtracting the group's mean shrinks the reward term.

    Subtracting one b(ŷ₁..ŷ_M) from every sample gives the expected gradient ∇(E r - E b/M), by
    E b ∇log Π p = ∇ E b. The mean has E b = E r.

    Returns:
        Scalar derivation in u, lam, generations: the stationary variance of a scalar policy.
        Conditions: the expected gradient, for any M and for M = 2, 3; the stationary point is
        stable, with m = μ.
    Source: new.
    """
    u, delta, lam, M = symbols("u delta lam generations")
    e = sp.symbols("epsilon_1:4", real=True)
    r = [scalar.reward("averaged", x) for x in e]
    scores = [scalar.score(x) for x in e]
    level = definitions.normal_expectation(r[0], e[0])
    gradient = scalar.gradient(level - level / M)
    # ε₂..ε_M are exchangeable: given ε₁, one of them stands for all
    any_size = (r[0] - (r[0] + (M - 1) * r[1]) / M) * scores[0]
    estimates = [any_size]
    for size in (2, 3):
        terms = [(r[k] - sp.Add(*r[:size]) / size) * scores[k] for k in range(size)]
        estimates.append(sum(terms, sp.zeros(2, 1)) / size)
    means = [f.applyfunc(lambda x: definitions.normal_expectation(x, *e)) for f in estimates]
    derived, curve = _stationary(level, level, 1)
    excess = sp.Symbol("k", positive=True)
    return Derivation(
        symbol="v",
        arguments={"u": u, "lam": lam, "generations": M},
        stated=stated.group_mean(u, lam, M),
        derived=derived,
        assumptions=(scalar.POLICY, scalar.ABOUT["averaged"], "λ > 0, M >= 2 generations"),
        steps=(Step("E r", level), Step("∇(E r - E r/M)", gradient)),
        conditions=(
            zero("expected gradient", means[0] - gradient),
            zero("expected gradient, M = 2", means[1] - gradient.xreplace({M: 2})),
            zero("expected gradient, M = 3", means[2] - gradient.xreplace({M: 3})),
            zero("m = μ is stationary", gradient[0].xreplace({delta: 0})),
            positive("so is v, stably (M = 1 + k)", curve.xreplace({M: 1 + excess})),
        ),
    )


@result(SIZES, quick=(60, SAME))
def minimum(n: int) -> Derivation:
    """v = v∞/(1 - X/(nM)), v∞ = λ/(2u), X = E[max of M χ²_n]: the group's minimum as baseline.

    Averaged over the data, at m = μ, r = const - uv‖ε‖², so that the minimum over the group has
    E b = const - uvX; the expected gradient is ∇(E r - E b/M), as for `mean`.

    Args:
        n: dimension, U = uI, policy N(μ, vI).
    Returns:
        Scalar derivation in u, lam, generations, maximum (X, less than nM). Conditions: r
        decreases in ‖ε‖², and E b ∇log Π p = ∇ E b for a product of two rewards.
    Source: new.
    """
    u, s, lam, M, X = symbols("u s lam generations maximum")
    mu, Sigma = symbols("mu Sigma", n)
    noise = sp.ImmutableMatrix(sp.symbols(f"epsilon_1:{n + 1}", real=True))

    def reward(at: Any) -> Any:
        weight = u * sp.ImmutableMatrix.eye(n)
        return sp.expand(definitions.mean_reward(mu + s * at, mu, Sigma, weight))

    r, pole = reward(noise), sp.ImmutableMatrix([sp.sqrt(X)] + [0] * (n - 1))
    baseline = reward(pole)  # where ‖ε‖² = X; r is linear in ‖ε‖²
    derived, _ = _stationary(definitions.normal_expectation(r, *noise), baseline, n)
    e = sp.symbols("epsilon_1:3", real=True)
    product = scalar.reward("averaged", e[0]) * scalar.reward("averaged", e[1])
    scores = scalar.score(e[0]) + scalar.score(e[1])
    means = (product * scores).applyfunc(lambda f: definitions.normal_expectation(f, *e))
    slope = scalar.gradient(definitions.normal_expectation(product, *e))
    return Derivation(
        symbol="v",
        arguments={"u": u, "lam": lam, "generations": M, "maximum": X},
        stated=stated.group_minimum(u, lam, M, n, X),
        derived=derived,
        assumptions=("policy N(μ, vI), U = uI, λ > 0", scalar.ABOUT["averaged"], "M >= 2, X < nM"),
        steps=(Step("r at μ + √v ε, v = s²", r), Step("E min r", baseline)),
        conditions=(
            zero("r is linear in ‖ε‖²", r - baseline.xreplace({X: noise.dot(noise)})),
            positive("and decreasing", -sp.diff(baseline, X)),
            zero("E r₁r₂ ∇log p₁p₂ = ∇E r₁r₂", means - slope),
        ),
    )


@result(variants=(2, 3, 5), n=2, quick=(200, _INSTEAD))
def minimum_planar(generations: int) -> Derivation:
    """v = v∞/(1 - H_M/M), H_M = 1 + 1/2 + ... + 1/M: `minimum` for n = 2.

    Args:
        generations: M >= 2.
    Returns:
        Scalar derivation in u, lam. Conditions: χ²₂ has P(χ² > x) = e^{-x/2}, from the density.
    Raises:
        ArgumentError: if generations is not an integer >= 2.
    Source: new.
    """
    M = generations
    x, radius = sp.symbols("x rho", positive=True)
    polar = sp.ImmutableMatrix([radius, 0])
    zeros, one = sp.ImmutableMatrix([0, 0]), sp.ImmutableMatrix.eye(2)
    density = 2 * sp.pi * radius * sp.exp(definitions.log_density(polar, zeros, one))
    below = sp.integrate(density, (radius, 0, sp.sqrt(x)))
    tail = sp.expand(1 - below**M)  # P(max > x), whose integral is the expected maximum
    maximum = sp.integrate(tail, (x, 0, sp.oo))
    general = minimum(2)
    values = {symbol("generations"): sp.Integer(M), symbol("maximum"): maximum}
    return Derivation(
        symbol="v",
        arguments={"u": symbol("u"), "lam": symbol("lam")},
        stated=stated.group_minimum_planar(symbol("u"), symbol("lam"), M),
        derived=general.derived.xreplace(values),
        assumptions=(*general.assumptions[:2], f"M = {M}, n = 2"),
        steps=(Step("P(max > x)", tail), Step("E max", maximum), *general.steps),
        conditions=(zero("P(χ²₂ > x) = e^{-x/2}", 1 - below - sp.exp(-x / 2)),),
    )
