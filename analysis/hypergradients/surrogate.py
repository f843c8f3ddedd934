"""Score-function surrogates with held samples under a second derivative.

The surrogate of `E r`, to be maximised, is the mean of `(r - b) log p(ŷ; θ)` over samples ŷ that
stay where they were drawn. Its gradient is that of `E r` on average; its second derivative lacks
`E (r - b) ∇log p ∇log pᵀ`, and at an inner solution has the wrong sign. Implicit differentiation
through it turns the hypergradient round. Surrogates whose samples move with θ (pathwise) or whose
weights do (`r p(ŷ; θ)/p(ŷ)`, DiCE: Foerster et al., 2018) lack nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import sympy as sp

from .. import definitions
from ..calculus.conditions import positive, zero
from ..calculus.matrices import lowest_terms
from ..calculus.stationary import solve_linear
from ..calculus.structures import shape
from ..calculus.symbols import Structure, symbol, symbols
from ..derivation import Derivation, Step
from ..estimators import scalar_policy as scalar
from ..estimators.score_function import optimal_baseline
from ..result import SIZES, result
from . import stated
from .outputs import argument

HELD = "samples ŷ = m + sε held where they were drawn"
_STATEMENTS: dict[Structure, str] = {
    "diagonal": "curvature of the surrogate in log s_i: 2 Tr U(P+Σ) + 4U_ii P_ii, not -4U_ii P_ii",
    "isotropic": "curvature of the surrogate in log s: 2(n+2) Tr(U) s + 2n Tr(UΣ), not -4 Tr(U) s",
}


def _slopes(f: Any) -> Any:
    """(∂f/∂m, ∂f/∂log s) of a function of m and s."""
    m, s = symbol("m", 1)[0], symbol("s")
    return sp.ImmutableMatrix([sp.diff(f, m), s * sp.diff(f, s)])


def _hessian(f: Any) -> Any:
    """The second derivatives of f in (m, log s)."""
    first = _slopes(f)
    return sp.ImmutableMatrix.hstack(_slopes(first[0]), _slopes(first[1]))


def _log_density() -> Any:
    """log p at a given generation."""
    variance = sp.ImmutableMatrix([symbol("s") ** 2])
    return definitions.log_density(symbol("y_hat", 1), symbol("m", 1), variance)


def _drawn(f: Any) -> Any:
    """f at the generation m + sε, entry by entry a polynomial in the noise."""
    place = {symbol("y_hat", 1)[0]: symbol("m", 1)[0] + symbol("s") * scalar.EPS}
    return f.xreplace(place).applyfunc(lambda x: sp.expand(lowest_terms(x)))


def _average(f: Any) -> Any:
    return f.applyfunc(lambda x: definitions.normal_expectation(sp.expand(x), scalar.EPS))


def _curves(f: Any) -> Any:
    """The second derivatives in (m, log s) of a function of δ and s."""
    first = scalar.gradient(f)
    return sp.ImmutableMatrix.hstack(scalar.gradient(first[0]), scalar.gradient(first[1]))


def _exact() -> Any:
    """The second derivatives of E r in (m, log s)."""
    return _curves(definitions.normal_expectation(scalar.reward("averaged"), scalar.EPS))


def _weights() -> Any:
    """r - b at the generation m + sε."""
    return scalar.reward("averaged") - symbol("baseline")


@result(n=1)
def hessian() -> Derivation:
    """E (r - b)∇²log p = [[(ud + us² + b)/s², 4uδ], [4uδ, 2u(d + 3s²) + 2b]], d = δ² + σ².

    Returns:
        Derivation in u, delta, s, sigma, baseline; shape (2, 2), coordinates (m, log s).
        Conditions: the gradient of the surrogate is that of E r; what its Hessian lacks to that of
        E r, diag(-2u, -4us²), is E (r - b)∇log p ∇log pᵀ; with the baseline -u(δ² + 5s² + σ²) of
        least variance for log s, nothing is lacking there; with E r, as leave-one-out has it, the
        sign at δ = 0 is the wrong one.
    Source: new.
    """
    u, delta, s, sigma, b = symbols("u delta s sigma baseline")
    log_p = _log_density()
    curves, scores = _drawn(_hessian(log_p)), _drawn(_slopes(log_p))
    derived = _average(_weights() * curves)
    lacking = _average(_weights() * scores * scores.T)
    exact = _exact()
    mean = definitions.normal_expectation(scalar.reward("averaged"), scalar.EPS)
    best = optimal_baseline("averaged").derived[1]
    return Derivation(
        symbol="E (r - b)∇²log p",
        arguments={"u": u, "delta": delta, "s": s, "sigma": sigma, "baseline": b},
        stated=stated.surrogate_hessian(u, delta, s, sigma, b),
        derived=derived,
        assumptions=(scalar.POLICY, scalar.ABOUT["averaged"], HELD),
        steps=(
            Step("∇²log p at m + sε", curves),
            Step("E (r - b)∇log p ∇log pᵀ", lacking),
            Step("∇² E r", exact),
        ),
        conditions=(
            zero("its gradient is ∇ E r", _average(_weights() * scores) - scalar.gradient(mean)),
            zero("what it lacks to ∇² E r", derived + lacking - exact),
            zero("the best b for log s", (derived - exact)[1, 1].xreplace({b: best})),
            zero(
                "b = E r at δ = 0: minus the right one in log s",
                (derived + exact)[1, 1].xreplace({b: mean}).xreplace({delta: 0}),
            ),
        ),
    )


@result(
    variants=("pathwise", "DiCE"),
    n=1,
    statements={
        "pathwise": "the reward of ŷ = m + sε, which moves, has the Hessian diag(-2u, -4us²)",
        "DiCE": "(r - b) p(ŷ; θ)/p(ŷ), ŷ held, has the Hessian diag(-2u, -4us²) on average",
    },
)
def differentiable(surrogate: Literal["pathwise", "DiCE"]) -> Derivation:
    """The Hessian of surrogates that may be differentiated twice: diag(-2u, -4us²).

    Args:
        surrogate: "pathwise" (the samples move) or "DiCE" (their weights do).
    Returns:
        Derivation in u, delta, s; shape (2, 2), coordinates (m, log s). Condition: it is ∇² E r.
    Raises:
        ArgumentError: for another surrogate.
    Source: new; DiCE is that of Foerster et al. (2018).
    """
    u, delta, s = symbols("u delta s")
    if surrogate == "pathwise":
        curves = _curves(scalar.reward("averaged"))
        step = Step("∇² r(m + sε)", curves)
    else:
        log_p = _log_density()
        # ∇²p/p, of the weight p(ŷ; θ)/p(ŷ) where both are the same
        weight = _hessian(log_p) + _slopes(log_p) * _slopes(log_p).T
        curves, step = _weights() * _drawn(weight), Step("∇²p/p at ŷ", weight)
    derived = _average(curves).applyfunc(sp.expand)
    return Derivation(
        symbol="∇²",
        arguments={"u": u, "delta": delta, "s": s},
        stated=stated.reward_hessian(u, s),
        derived=derived,
        assumptions=(scalar.POLICY, scalar.ABOUT["averaged"]),
        steps=(step,),
        conditions=(zero("it is ∇² E r", derived - _exact()),),
    )


@result(
    SIZES,
    tuple(_STATEMENTS),
    statements=_STATEMENTS,
    only="it averages polynomials in n noises",
)
def curvature(structure: Structure, n: int) -> Derivation:
    """The second derivative of the surrogate in log s at m = μ, no baseline: of the wrong sign.

    Args:
        structure: of the policy covariance, "diagonal" or "isotropic".
        n: dimension, 1 to 3.
    Returns:
        Derivation in U, Sigma and L (P_ii = L_ii²) or s (P = sI): the diagonal matrix of second
        derivatives in the log s_i, or the one number. Conditions: the log s_i do not couple; what
        is lacking to the right ones, -4U_ii P_ii or -4 Tr(U) s, is E r (∂log p/∂log s_i)²; at U* it
        is -(n + 1) times the right one, and so it is at P = Σ for every multiple of U*.
    Raises:
        StructureError: for "full", and for other sizes.
    Source: new.
    """
    Sigma, U = symbols("Sigma U", n)
    m, y_hat, mu = symbols("m y_hat mu", n)
    known = argument(shape(structure), n)
    shared = structure == "isotropic"
    scales = sp.symbols(f"s_1:{(1 if shared else n) + 1}", positive=True)
    each = [scales[0] if shared else scale for scale, _ in zip(scales * n, range(n), strict=False)]
    noise = sp.symbols(f"epsilon_1:{n + 1}", real=True)
    P = sp.ImmutableMatrix.diag(*(scale**2 for scale in each))
    log_p = definitions.log_density(y_hat, m, P)
    place = {
        entry: mean + scale * e for entry, mean, scale, e in zip(y_hat, m, each, noise, strict=True)
    }
    r = sp.expand(
        definitions.mean_reward(y_hat, mu, Sigma, U)
        .xreplace(place)
        .xreplace(dict(zip(m, mu, strict=True)))
    )

    def along(f: Any, i: int) -> Any:
        return scales[i] * sp.diff(f, scales[i])

    def average(f: Any) -> Any:
        drawn = sp.expand(lowest_terms(f.xreplace(place)))
        return definitions.normal_expectation(sp.expand(r * drawn), *noise)

    count = len(scales)
    curves = sp.Matrix(count, count, lambda i, j: average(along(along(log_p, i), j)))
    scores = [along(log_p, i) for i in range(count)]
    lacking = sp.Matrix(count, count, lambda i, j: average(scores[i] * scores[j]))
    reward = definitions.expected_reward(mu, P, mu, Sigma, U)
    exact = sp.Matrix(count, count, lambda i, j: along(along(reward, i), j))
    lam, variances = symbol("lam"), [Sigma[i, i] for i in range(n)]
    if shared:
        variances = [sum(variances) / n] * n
    best = {
        U[i, j]: lam / (2 * variances[i]) if i == j else sp.S.Zero
        for i in range(n)
        for j in range(n)
    } | {scale: sp.sqrt(v) for scale, v in zip(scales, variances, strict=False)}
    named = {
        scale: sp.sqrt(known["s"]) if shared else known["L"][i, i] for i, scale in enumerate(scales)
    }
    derived = curves.xreplace(named).as_immutable()
    return Derivation(
        symbol="∂²",
        arguments={"U": U, "Sigma": Sigma, **known},
        stated=stated.surrogate_curvature(structure, U, Sigma, *known.values()),
        derived=derived[0, 0] if shared else derived,
        assumptions=(
            "U, Σ symmetric positive definite",
            f"P {structure}, coordinates log s at m = μ",
            "reward averaged over the data",
            HELD,
        ),
        steps=(Step("r at ŷ = μ + Sε", r), Step("E r ∂log p ∂log p", lacking)),
        conditions=(
            zero("log s_i do not couple", curves - sp.diag(*curves.diagonal())),
            zero("what it lacks to the right one", curves + lacking - exact),
            zero(
                "at U* it is -(n + 1) times the right one",
                (curves + (n + 1) * exact).xreplace(best),
            ),
        ),
    )


@result(n=1)
def hypergradient() -> Derivation:
    """Implicit differentiation through it: -2λ/(3λ + 2uσ²) times ∇F = 1/(2u) - σ²/λ.

    Returns:
        Scalar derivation in u, lam, sigma, at the inner solution m = μ, s² = λ/(2u), without a
        baseline. Conditions: the mean does not take part; the surrogate's derivative in u of its
        slope is the right one; at u* the factor is -1/2, and it is negative everywhere.
    Source: new; the published figure 3 negates it.
    """
    u, lam, sigma, s, delta = symbols("u lam sigma s delta")
    at = {symbol("baseline"): 0, delta: 0}
    H = hessian().derived.xreplace(at)
    log_p = _log_density()
    slope = _average(scalar.reward("averaged") * _drawn(_slopes(log_p))).xreplace(at)
    mean, variance = symbol("mu", 1), sp.ImmutableMatrix([s**2])
    spread = sp.ImmutableMatrix([sigma**2])
    F = definitions.log_likelihood(symbol("m", 1), variance, mean, spread)
    pulls = _slopes(F).xreplace({symbol("m", 1)[0]: mean[0]})
    entropy = s * sp.diff(definitions.entropy(variance), s)
    stationary = sp.expand(slope[1] + lam * entropy)
    width = solve_linear([stationary.subs(s**2, sp.Symbol("v"))], [sp.Symbol("v")])[0]
    best = {s: sp.sqrt(width)}
    mixed = sp.diff(slope, u)
    derived, right = (
        sp.cancel((-mixed[1] * pulls[1] / bend).xreplace(best))
        for bend in (H[1, 1], _exact()[1, 1])
    )
    factor = stated.surrogate_factor(u, lam, sigma)
    return Derivation(
        symbol="∇F through the surrogate",
        arguments={"u": u, "lam": lam, "sigma": sigma},
        stated=stated.surrogate_hypergradient(u, lam, sigma),
        derived=derived,
        assumptions=(scalar.POLICY, scalar.ABOUT["averaged"], HELD, "at m = μ, s² = λ/(2u)"),
        steps=(
            Step("slope in (m, log s)", slope),
            Step("its curvature", H),
            Step("s² at the inner solution", width),
            Step("∇F by the right curvature", right),
        ),
        conditions=(
            zero("the mean does not take part", sp.Matrix([pulls[0], H[0, 1], mixed[0]])),
            zero("the right one times a factor", derived - factor * right),
            positive("the factor is negative", -factor),
            zero("at u* it is -1/2", factor.xreplace({u: lam / (2 * sigma**2)}) + sp.S.Half),
        ),
    )
