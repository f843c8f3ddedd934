"""Policy gradient and maximum likelihood as gradient flows of a scalar policy: who is faster?

Coordinates (m, log s) of N(m, s²), v = s², δ = m - μ; data of variance σ². Policy gradient ascends
J with the reward -u(ŷ - y)², NLL the log-likelihood. With the optimal u = λ/(2σ²), J is -λ times a
divergence, so that λ only sets the unit of time: both are compared at λ = 1.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS
from ..calculus.conditions import Condition, positive, zero
from ..calculus.factors import factored
from ..calculus.matrices import lowest_terms
from ..calculus.stationary import solve_linear
from ..calculus.symbols import named, symbol, symbols
from ..derivation import Derivation, Step
from ..estimators import scalar_policy as scalar
from ..hypergradients.unrolled import after
from ..result import result
from . import stated

Objective = Literal["PG", "NLL"]
BOTH: tuple[Objective, ...] = ("PG", "NLL")
_POLICY = "policy N(m, s²), gradient flow in (m, log s), v = s², δ = m - μ"
_DOMAIN: dict[Objective, tuple[str, ...]] = {
    "PG": (_POLICY, MOMENTS, "reward -u(ŷ - y)², u > 0, λ > 0"),
    "NLL": (_POLICY, MOMENTS),
}
_NAMES: dict[Objective, str] = {"PG": "u lam", "NLL": "sigma"}  # what the flow depends on
_LOOSE = sp.Symbol("x", positive=True)
_VELOCITY: dict[Objective, str] = {
    "PG": "policy gradient: ṁ = -2uδ, d(log s)/dt = λ - 2us², decoupled",
    "NLL": "likelihood: ṁ = -δ/s², d(log s)/dt = -1 + (σ² + δ²)/s²",
}
_RATES: dict[Objective, str] = {
    "PG": "policy gradient at its optimum: rates 2u and 2λ of (m, log s)",
    "NLL": "likelihood at its optimum: rates 1/σ² and 2 of (m, log s), those of PG(U*) at λ = 1",
}
_STEPS: dict[Objective, str] = {
    "PG": "gradient ascent is stable at the optimum of J iff η < 1/u and η < 1/λ",
    "NLL": "gradient ascent is stable at the optimum of the likelihood iff η < 2σ² and η < 1",
}


@cache
def _objective(objective: Objective) -> Any:
    """J, or the expected log-likelihood, of N(μ + δ, s²)."""
    delta, s, sigma, u, lam = symbols("delta s sigma u lam")
    mu, cell = symbol("mu", 1), sp.ImmutableMatrix
    m, P, Sigma = mu + cell([delta]), cell([s**2]), cell([sigma**2])
    if objective == "PG":
        return definitions.objective(m, P, mu, Sigma, cell([u]), lam)
    return definitions.log_likelihood(m, P, mu, Sigma)


@cache
def _velocity(objective: Objective) -> Any:
    return scalar.gradient(_objective(objective)).applyfunc(lambda f: sp.expand(lowest_terms(f)))


@cache
def _rate_of_change(objective: Objective, f: Any) -> Any:
    """df/dt along the flow, of a function of δ and s."""
    return sp.expand((scalar.gradient(f).T * _velocity(objective))[0, 0])


@result((), BOTH, statements=_VELOCITY)
def velocity(objective: Objective) -> Derivation:
    """(ṁ, d log s/dt), the gradient of J or of the log-likelihood in (m, log s).

    Args:
        objective: "PG" (J) or "NLL".
    Returns:
        Derivation in u, lam or sigma, and delta, s; shape (2, 1). Condition, of PG: decoupled.
    Source: new.
    """
    found = _velocity(objective)
    arguments = named(f"{_NAMES[objective]} delta s")
    claim = {"PG": stated.policy_gradient_velocity, "NLL": stated.likelihood_velocity}[objective]
    delta, s = symbols("delta s")
    mixed = sp.Matrix([sp.diff(found[0], s), sp.diff(found[1], delta)])
    return Derivation(
        symbol="d(m, log s)/dt",
        arguments=arguments,
        stated=claim(*arguments.values()),
        derived=found,
        assumptions=_DOMAIN[objective],
        steps=(Step("what is ascended", _objective(objective)),),
        conditions=(zero("mean and variance do not meet", mixed),) if objective == "PG" else (),
    )


def _linear(rate: Any, x: Any) -> tuple[Any, Any]:
    """(α, β) of ẋ = αx + β."""
    alpha = sp.diff(rate, x)
    return alpha, sp.expand(rate - alpha * x)


def _solution(alpha: Any, beta: Any, start: Any) -> Any:
    """x(t) of ẋ = αx + β, x(0) = start."""
    return (start + beta / alpha) * sp.exp(alpha * symbol("t")) - beta / alpha


@result()
def mean_error() -> Derivation:
    """δ(t) = δ₀ e^{-2ut} under policy gradient, whatever the variance.

    Returns:
        Scalar derivation in u, delta_0, t. Conditions: δ(0) = δ₀, and δ(t) solves the flow.
    Source: new.
    """
    arguments = named("u delta_0 t")
    delta, t = symbols("delta t")
    rate = _velocity("PG")[0]
    alpha, beta = _linear(rate, delta)
    claim = stated.mean_error(*arguments.values())
    return Derivation(
        symbol="δ(t)",
        arguments=arguments,
        stated=claim,
        derived=_solution(alpha, beta, symbol("delta_0")),
        assumptions=_DOMAIN["PG"],
        steps=(Step("δ̇", rate),),
        conditions=(
            zero("δ(0) = δ₀", claim.subs(t, 0) - symbol("delta_0")),
            zero("δ(t) solves the flow", sp.diff(claim, t) - rate.xreplace({delta: claim})),
        ),
    )


@result()
def precision() -> Derivation:
    """1/v(t) = 1/v∞ + (1/v₀ - 1/v∞) e^{-2λt}, v∞ = λ/(2u), under policy gradient.

    The flow of 1/v is linear, and does not contain the mean.

    Returns:
        Scalar derivation in u, lam, v_0, t. Conditions: v(0) = v₀, v(t) solves the flow, and is
        v∞/(1 + (v∞/v₀ - 1) e^{-2λt}); it comes to v∞/2 at log(v∞/v₀ - 1)/(2λ).
    Source: new.
    """
    arguments = named("u lam v_0 t")
    (_, lam, v_0, t), s = arguments.values(), symbol("s")
    w = sp.Symbol("w", positive=True)
    rate = sp.expand(_rate_of_change("PG", s**-2).subs(s, 1 / sp.sqrt(w)))
    alpha, beta = _linear(rate, w)
    claim = stated.precision(*arguments.values())
    v_end = -alpha / beta
    logistic = 1 + (v_end / v_0 - 1) * sp.exp(-2 * lam * t)
    half_way = sp.log(v_end / v_0 - 1) / (2 * lam)
    return Derivation(
        symbol="1/v(t)",
        arguments=arguments,
        stated=claim,
        derived=_solution(alpha, beta, 1 / v_0),
        assumptions=_DOMAIN["PG"],
        steps=(Step("d(1/v)/dt in w = 1/v", rate), Step("v∞", v_end)),
        conditions=(
            zero("v(0) = v₀", claim.subs(t, 0) - 1 / v_0),
            zero("v(t) solves the flow", sp.diff(claim, t) - rate.xreplace({w: claim})),
            zero("v = v∞/(1 + (v∞/v₀ - 1) e^{-2λt})", v_end * claim - logistic),
            zero("2/v∞ at log(v∞/v₀ - 1)/(2λ)", claim.subs(t, half_way) - 2 / v_end),
            zero("linear, without the mean", sp.diff(sp.Matrix([alpha, beta]), w)),
        ),
    )


def _upper_gamma(integrand: Any, x: Any) -> Any:
    """∫_x^∞ c y^{a-1} e^{-y} dy = c Γ(a, x), from such an integrand at y = x."""
    a = sp.expand(1 + x + x * sp.diff(integrand, x) / integrand)
    c = sp.powsimp(sp.expand(integrand * sp.exp(x) * x ** (1 - a)))
    return c * sp.uppergamma(a, x)


@result()
def orbit() -> Derivation:
    """1/v = e^D D^{σ²} [C + Γ(-σ², D)], D = δ²: the path of NLL, its mean and variance coupled.

    Along the flow 1/v is a function of D with d(1/v)/dD = (1 + σ²/D)/v - 1/D, which is linear.

    Returns:
        Scalar derivation in sigma, delta_0, v_0 (the start, which fixes C) and delta_t (δ_t < δ₀):
        1/v where the mean error is δ_t. Conditions: it begins at v₀, and follows the flow.
    Source: new.
    """
    arguments = named("sigma delta_0 v_0 delta_t")
    _, delta_0, v_0, delta_t = arguments.values()
    delta, s = symbols("delta s")
    w, D = sp.symbols("w D", positive=True)
    rates = [_rate_of_change("NLL", f) for f in (s**-2, delta**2)]
    slope = sp.expand((rates[0] / rates[1]).subs({s: 1 / sp.sqrt(w), delta: sp.sqrt(D)}))
    alpha, beta = _linear(slope, w)
    terms = sp.Add.make_args(sp.integrate(alpha, D))
    pairs = [term.as_independent(sp.log, as_Add=False) for term in terms]
    growth = sp.Mul(*(sp.exp(log) ** multiple for multiple, log in pairs))  # solves it without β
    tail = _upper_gamma(sp.powsimp(-beta / growth), D)
    start, end = delta_0**2, delta_t**2
    C = 1 / (v_0 * growth.subs(D, start)) - tail.subs(D, start)
    claim = stated.orbit(*arguments.values())
    along = sp.diff(claim, delta_t) / (2 * delta_t)  # d/dD
    return Derivation(
        symbol="1/v",
        arguments=arguments,
        stated=claim,
        derived=(growth * (C + tail)).subs(D, end),
        assumptions=_DOMAIN["NLL"],
        steps=(Step("d(1/v)/dD in w = 1/v", slope), Step("growth", growth), Step("C", C)),
        conditions=(
            zero("it begins at v₀", claim.subs(delta_t, delta_0) - 1 / v_0),
            zero("it follows the flow", along - slope.subs(D, end).xreplace({w: claim})),
            zero("linear", sp.diff(sp.Matrix([alpha, beta]), w)),
        ),
    )


@result()
def clock() -> Derivation:
    """t = σ² log(δ₀/δ_t) + ½(δ₀² - δ_t²) + ½ log(v₀/v_t): the time that NLL takes.

    As δ̇ and d(log s)/dt are both affine in 1/v, some combination of them is constant: the time is
    that of policy gradient with u = 1/(2σ²), plus what the variance costs or gains.

    Returns:
        Scalar derivation in sigma and the ends delta_0, v_0, delta_t, v_t of a path of the flow.
        Conditions: it is 0 at the start, and grows by 1 per unit of time.
    Source: new.
    """
    arguments = named("sigma delta_0 v_0 delta_t v_t")
    _, delta_0, v_0, delta_t, v_t = arguments.values()
    delta, s, w = *symbols("delta s"), sp.Symbol("w", positive=True)
    speeds = [_linear(f.subs(s, 1 / sp.sqrt(w)), w) for f in _velocity("NLL")]
    (of_mean, rest), (of_scale, drift) = speeds
    ratio = sp.expand(of_scale / of_mean)  # d(log s) = drift dt + ratio dδ
    x = sp.Symbol("x", positive=True)
    moved = sp.integrate(ratio.subs(delta, x), (x, delta_0, delta_t))
    elapsed = sp.expand((sp.log(v_t / v_0) / 2 - moved) / drift)
    claim = stated.clock(*arguments.values())
    end = {delta_t: delta, v_t: s**2}
    slopes = (sp.diff(claim, delta_t), 2 * v_t * sp.diff(claim, v_t))
    tick = sum(a.xreplace(end) * b for a, b in zip(slopes, _velocity("NLL"), strict=True))
    return Derivation(
        symbol="t",
        arguments=arguments,
        stated=claim,
        derived=elapsed,
        assumptions=_DOMAIN["NLL"],
        steps=(Step("d(log s)/dδ where the clock stands", ratio), Step("t", elapsed)),
        conditions=(
            zero("t = 0 at the start", claim.subs({delta_t: delta_0, v_t: v_0})),
            zero("dt/dt = 1 along the flow", tick - 1),
            zero("the mean moves only as 1/v", rest),
        ),
    )


@result()
def lead() -> Derivation:
    """½ [δ₀² - log(σ²/v₀)]: by how much policy gradient has the mean sooner than NLL, λ = 1.

    The limit, as the mean error goes to 0, of the time NLL takes minus the time PG(U*) takes. PG is
    faster iff v₀ > σ² e^{-δ₀²}: NLL wins from a collapsed variance near the mean, and nowhere else.

    Returns:
        Scalar derivation in sigma, delta_0, v_0. Conditions: what depends on the error that is left
        goes to 0 with it; the boundary.
    Source: new.
    """
    arguments = named("sigma delta_0 v_0")
    sigma, delta_0, v_0 = arguments.values()
    u, delta, t, delta_t, v_t = symbols("u delta t delta_t v_t")
    rate = -sp.diff(_velocity("PG")[0], delta)
    best = solve_linear([sp.expand(rate - 1 / sigma**2)], [u])[0]  # as fast as NLL at the end
    taken = sp.expand_log(sp.log(delta_0 / delta_t)) / rate.xreplace({u: best})
    later = clock().derived.xreplace({v_t: sigma**2})
    ahead = sp.expand(sp.expand_log(sp.expand(later - taken)))
    derived = ahead.subs(delta_t, 0)
    arrival = mean_error().derived.subs(t, sp.log(delta_0 / delta_t) / rate)
    claim = stated.lead(*arguments.values())
    return Derivation(
        symbol="t(NLL) - t(PG)",
        arguments=arguments,
        stated=claim,
        derived=derived,
        assumptions=(*_DOMAIN["NLL"], "u = 1/(2σ²), λ = 1", "δ_t -> 0, where v_t -> σ²"),
        steps=(Step("t(PG)", taken), Step("t(NLL) - t(PG) at v_t = σ²", ahead)),
        conditions=(
            zero("PG is at δ_t then", arrival - delta_t),
            zero("the rest goes to 0 with δ_t", ahead - derived + delta_t**2 / 2),
            zero("0 at v₀ = σ² e^{-δ₀²}", claim.subs(v_0, sigma**2 * sp.exp(-(delta_0**2)))),
        ),
    )


def _optimum(objective: Objective) -> Any:
    """v where the flow stands still at δ = 0."""
    v = sp.Symbol("v", positive=True)
    still = _velocity(objective)[1].subs({symbol("delta"): 0, symbol("s"): sp.sqrt(v)})
    return solve_linear([sp.expand(sp.fraction(sp.together(still))[0])], [v])[0]


@cache
def _jacobian(objective: Objective) -> Any:
    """Of the velocity in (m, log s), at the optimum."""
    rows = [scalar.gradient(f).T for f in _velocity(objective)]
    at = {symbol("delta"): sp.S.Zero, symbol("s"): sp.sqrt(_optimum(objective))}
    return lowest_terms(sp.ImmutableMatrix.vstack(*rows).subs(at)).as_immutable()


@result((), BOTH, statements=_RATES)
def linearisation(objective: Objective) -> Derivation:
    """diag(-2u, -2λ) or diag(-1/σ², -2): the Jacobian of the flow at its optimum, in (m, log s).

    Args:
        objective: "PG" (J) or "NLL".
    Returns:
        Derivation in u, lam or sigma; shape (2, 2). Condition: with u = λ/(2σ²) those of PG are λ
        times those of NLL, so they are equal at λ = 1.
    Source: new.
    """
    arguments = named(_NAMES[objective])
    claim = {"PG": stated.policy_gradient_rates, "NLL": stated.likelihood_rates}[objective]
    u, lam, sigma = symbols("u lam sigma")
    both = _jacobian("PG").xreplace({u: lam / (2 * sigma**2)}) - lam * _jacobian("NLL")
    return Derivation(
        symbol="∂(ṁ, d log s/dt)",
        arguments=arguments,
        stated=claim(*arguments.values()),
        derived=_jacobian(objective),
        assumptions=_DOMAIN[objective],
        steps=(Step("v at the optimum", _optimum(objective)),),
        conditions=(zero("PG(U*) is λ times NLL", both),),
    )


@result((), BOTH, statements=_STEPS)
def largest_step(objective: Objective) -> Derivation:
    """(1/u, 1/λ) or (2σ², 1): the step sizes below which ascent is stable at the optimum.

    In (m, log s), θ + η ∂θ: the Jacobian 1 + ηκ of a step with the rate κ < 0 has modulus 1 there.
    The mean of PG is linear, so that beyond 1/u it diverges from anywhere; in the variance a step
    of PG is v e^{2ηλ(1 - v/v∞)}, Ricker's map, which beyond 1/λ cycles and stays bounded.

    Args:
        objective: "PG" (J) or "NLL".
    Returns:
        Derivation in u, lam or sigma; shape (2, 1). Conditions: contraction below, expansion
        above; Ricker's map.
    Source: new.
    """
    arguments = named(_NAMES[objective])
    claim = {"PG": stated.policy_gradient_steps, "NLL": stated.likelihood_steps}[objective]
    rates, eta = list(_jacobian(objective).diagonal()), symbol("eta")
    limits = [solve_linear([1 + eta * rate + 1], [eta])[0] for rate in rates]
    conditions: list[Condition] = []
    for rate, limit in zip(rates, limits, strict=True):
        below, above = ((1 + rate * f) ** 2 for f in (limit / (1 + _LOOSE), limit * (1 + _LOOSE)))
        conditions += [
            positive("contraction below", factored(lowest_terms(1 - below))),
            positive("expansion above", factored(lowest_terms(above - 1))),
        ]
    if objective == "PG":
        lam, v, end = symbol("lam"), symbol("v_t"), _optimum("PG")
        moved = 2 * eta * _velocity("PG")[1].subs(symbol("s"), sp.sqrt(v))
        conditions.append(zero("Ricker's map", moved - 2 * eta * lam * (1 - v / end)))
    return Derivation(
        symbol="η",
        arguments=arguments,
        stated=claim(*arguments.values()),
        derived=sp.ImmutableMatrix(limits),
        assumptions=_DOMAIN[objective],
        steps=(Step("rates", sp.Matrix(rates)),),
        conditions=tuple(conditions),
    )


@result()
def mean_error_after() -> Derivation:
    """δ_K = (1 - 2ηu)^K δ₀ after K steps of ascent on J, whatever the variance.

    Returns:
        Scalar derivation in u, eta, steps, delta_0. Conditions: the recursion, by induction over K.
    Source: new.
    """
    arguments = named("u eta steps delta_0")
    delta, eta, K = symbols("delta eta steps")
    step = sp.expand(delta + eta * _velocity("PG")[0])
    rate, shift = _linear(step, delta)
    path = after(K, symbol("delta_0"), rate, shift)
    return Derivation(
        symbol="δ_K",
        arguments=arguments,
        stated=stated.mean_error_after(*arguments.values()),
        derived=path,
        assumptions=(*_DOMAIN["PG"], "θ_{k+1} = θ_k + η ∂_θJ(θ_k)"),
        steps=(Step("δ after a step", step),),
        conditions=(
            zero("δ_0 is the start", path.subs(K, 0) - symbol("delta_0")),
            zero("δ_{K+1} = δ_K + ηδ̇", path.subs(K, K + 1) - step.xreplace({delta: path})),
        ),
    )
