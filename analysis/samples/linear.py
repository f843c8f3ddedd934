"""A linear mean fitted on N rows: overconfident residuals, and an outer level on held-out rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from .. import definitions as problem
from ..calculus import general_n
from ..calculus.conditions import Condition, positive, zero
from ..calculus.factors import factored
from ..calculus.general_n import normal as in_words
from ..calculus.matrices import inverse, lowest_terms
from ..calculus.stationary import solve_linear
from ..calculus.symbols import DIMENSION, STRUCTURES, Structure, symbol, symbols
from ..derivation import Derivation, Step
from ..gaussian import misspecification
from ..result import SIZES, result
from . import definitions, stated
from .excess import QUICK, expected_cost, least_freedom

FIT = "least squares, d coefficients per outcome, N rows, noise of covariance Σ of any law"
INPUTS = "inputs x ~ N(0, I_d) and noise N(0, Σ), d coefficients per outcome, no intercept"
_OPTIMISM: dict[Structure, str] = {
    "full": "new rows cost (n/2)[ρν/(ν-n-1) - 1] more than those of the fit",
    "diagonal": "new rows cost (n/2)[ρν/(ν-2) - 1] more than those of the fit",
    "isotropic": "new rows cost (n/2)[ρnν/(nν-2) - 1] more than those of the fit, for Σ ∝ I",
}


@result(SIZES, quick=QUICK)
def residual_covariance(n: int) -> Derivation:
    """Σ (1 - d/N): what the residuals on the rows of the fit show of Σ.

    Args:
        n: dimension.
    Returns:
        Derivation in Sigma, features, rows (N > d); shape (n, n). Conditions: I - H leaves what the
        trace needs, H² = H and Tr H = d, for X of three rows, d = 1, 2.
    Source: new.
    """
    Sigma, N, d = symbols("Sigma rows features", n)
    H = symbol("H", None)
    left = sp.Identity(H.rows) - H  # residuals (I - H)ε; E εεᵀ is I for each entry of Σ
    traces = {0: N, 1: d, 2: d}
    kept = sum(value * traces[len(word)] for word, value in general_n.words_of(left * left).items())
    return Derivation(
        symbol="E rᵀr/N",
        arguments={"Sigma": Sigma, "features": d, "rows": N},
        stated=stated.residual_covariance(Sigma, d, N),
        derived=(Sigma * kept / N).as_immutable(),
        assumptions=(FIT, "H = X(XᵀX)⁻¹Xᵀ"),
        steps=(Step("Tr (I - H)(I - H), with Tr H = Tr H² = d", kept),),
        conditions=(*_projects(1), *_projects(2)),
        above={"rows": d},
    )


def _design(d: int) -> Any:
    """X: three rows, an intercept where d = 2."""
    columns = [sp.symbols("x_1:4", real=True), (1, 1, 1)]
    return sp.ImmutableMatrix(columns[:d]).T


@cache
def _projects(d: int) -> tuple[Condition, ...]:
    X = _design(d)
    H = lowest_terms(X * inverse((X.T * X).applyfunc(sp.expand)) * X.T)
    return (zero(f"H² = H, d = {d}", H * H - H), zero(f"Tr H = d = {d}", H.trace() - d))


@result(SIZES, quick=QUICK)
def error_covariance(n: int) -> Derivation:
    """Σ (1 + h): the errors on a new row, h = x(XᵀX)⁻¹xᵀ its leverage.

    Args:
        n: dimension.
    Returns:
        Derivation in Sigma, leverage; shape (n, n). Condition: the variance of the fitted mean at
        x is h, for X of three rows, d = 1, 2.
    Source: new.
    """
    Sigma, h = symbols("Sigma leverage", n)
    conditions: list[Condition] = []
    for d in (1, 2):
        X = _design(d)
        x = sp.ImmutableMatrix([[sp.Symbol("x", real=True), 1][:d]])
        G = inverse((X.T * X).applyfunc(sp.expand))
        noise = sp.ImmutableMatrix(sp.symbols("e_1:4", real=True))
        error = (x * G * X.T * noise)[0, 0]
        square = problem.expectation(error**2, noise, sp.zeros(3, 1), sp.eye(3))
        conditions.append(zero(f"the fit varies by h, d = {d}", square - (x * G * x.T)[0, 0]))
    both = Sigma + h * Sigma
    return Derivation(
        symbol="E eᵀe",
        arguments={"Sigma": Sigma, "leverage": h},
        stated=stated.error_covariance(Sigma, h),
        derived=both.as_immutable(),
        assumptions=(FIT, "the noise of the new row is independent of the fit"),
        steps=(Step("noise, and error of the fit", both),),
        conditions=tuple(conditions),
    )


@result(SIZES, quick=QUICK)
def leverage(n: int) -> Derivation:
    """E x(XᵀX)⁻¹xᵀ = d/(N-d-1), for d = n Gaussian inputs: Tr E W⁻¹ of W ~ Wishart(I, N).

    Args:
        n: number d of inputs.
    Returns:
        Scalar derivation in rows (N > d + 1). Condition: the law of W.
    Source: new.
    """
    N, W = symbol("rows"), symbol("W", None)
    return Derivation(
        symbol="E h",
        arguments={"rows": N},
        stated=stated.leverage(n, N),
        derived=definitions.expected(sp.Trace(sp.Inverse(W)), n, N),
        assumptions=(INPUTS,),
        steps=(Step("E over the new row x, given W = XᵀX", sp.Trace(sp.Inverse(W))),),
        conditions=definitions.of_rows(n),
        above={"rows": n + 1},
    )


@result(SIZES, quick=QUICK)
def overconfidence(n: int) -> Derivation:
    """(n/2)(ρ - 1 - log ρ), ρ = (1+h)/(1-d/N): what U* on held-out rows gains in test nats.

    Both rewards have seen so many rows that their sampling does not count, the mean only N.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in features, rows (N > d), leverage.
    Source: new.
    """
    d, N, h = symbols("features rows leverage")
    cost = misspecification.cost_of_covariance(None)
    S, Sigma = cost.arguments["S"], cost.arguments["Sigma"]
    inner, outer = (1 - d / N), 1 + h
    # Σ stands for its symbol in both, so that one replacement does
    value = in_words(cost.derived.xreplace({S: inner * Sigma, Sigma: outer * Sigma}))
    value = value.xreplace({sp.log(inner): sp.log(N - d) - sp.log(N)})
    derived = value.xreplace({DIMENSION: sp.Integer(n)})
    return Derivation(
        symbol="gain",
        arguments={"features": d, "rows": N, "leverage": h},
        stated=stated.overconfidence(n, d, N, h),
        derived=derived,
        assumptions=(FIT, "in-sample reward at Σ(1 - d/N), held-out one at Σ(1 + h)"),
        steps=(Step("cost of Σ(1 - d/N) where errors have Σ(1 + h)", value),),
        above={"rows": d},
    )


@result(SIZES, STRUCTURES, statements=_OPTIMISM, quick=QUICK)
def optimism(structure: Structure, n: int) -> Derivation:
    """E[loss on new rows - loss on the rows of the fit] = (n/2)[ρν/(ν-n-1) - 1] for a full reward.

    ρ = (1+h)/(1-d/N) is the covariance of errors on new rows over that of residuals. Added to the
    loss on the rows of the fit, it says without held-out rows which structure is best on new ones.

    Args:
        structure: of reward and policy.
        n: dimension.
    Returns:
        Scalar derivation in freedom (ν = N - d > n + 1; diagonal 2; isotropic 2/n), ratio (ρ).
        Condition: the law of S.
    Raises:
        StructureError: for an unknown structure.
    Source: new; "full" is AIC as corrected for small samples (Bedrick and Tsai, 1994).
    """
    nu, rho, m, P, Sigma, W = *symbols("freedom ratio"), *symbols("m P Sigma W", None)
    K = sp.MatrixSymbol("K", *W.shape)
    # residuals have covariance S = KWK/ν, which the policy learns; errors on new rows ρΣ, Σ = K²
    gap = problem.log_likelihood(m, P, m, P) - problem.log_likelihood(m, P, m, rho * Sigma)
    gap = in_words(in_words(gap).xreplace({P: K * W * K / nu, Sigma: K * K}))
    if structure == "full":
        derived = definitions.expected(gap, n, nu)
    else:  # n scalar ones, of χ²_ν or χ²_{nν}
        degrees = nu if structure == "diagonal" else n * nu
        scalar = definitions.expected(gap, 1, nu).xreplace({nu: degrees})
        derived = n * scalar
    return Derivation(
        symbol="optimism",
        arguments={"freedom": nu, "ratio": rho},
        stated=stated.optimism(structure, n, nu, rho),
        derived=derived,
        assumptions=(FIT, "Gaussian noise", f"P {structure}")
        + (("Σ ∝ I",) if structure == "isotropic" else ()),
        steps=(Step("loss on new rows less that on the rows of the fit", gap),),
        conditions=definitions.of_rows(n if structure == "full" else 1),
        above={"freedom": least_freedom(structure, n)},
    )


@result(SIZES, quick=QUICK)
def in_sample(n: int) -> Derivation:
    """½[nN(N-1)/((N-d-1)(N-d-n-1)) - n + Σ_i ψ((N-d+1-i)/2) + n log(2/N)]: maximum likelihood.

    The excess of the policy whose mean and reward are both fitted on the same N rows, on new rows.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in features, rows (N > d + n + 1). Condition: the law of S, ν = N - d.
    Source: new.
    """
    d, N, spread = symbols("features rows leverage")
    loss = definitions.expected(definitions.lost(1 / N, spread), n, N - d)
    h = d * definitions.mean_of_power(-1, N - d + 1)  # as in `leverage`, for a symbol d
    return Derivation(
        symbol="E[F(true) - F]",
        arguments={"features": d, "rows": N},
        stated=stated.in_sample(n, d, N),
        derived=loss.xreplace({spread: h}),
        assumptions=(INPUTS, "the fit is independent of its residuals"),
        steps=(Step("loss at Σ̂ = LWLᵀ/N, mean errors of covariance hΣ", loss), Step("E h", h)),
        conditions=(
            *definitions.of_rows(n),
            *(
                zero(f"E h, d = {k}", h.xreplace({d: sp.Integer(k)}) - leverage(k).derived)
                for k in SIZES
            ),
        ),
        above={"rows": d + n + 1},
    )


@result(SIZES, quick=QUICK)
def rescaled(n: int) -> Derivation:
    """`in_sample` less (n/2)(c - 1 - log c), c = N(N-1)/((N-d-1)(N-d-n-1)): reward Û/c instead.

    The overconfidence of maximum likelihood is a known factor, taken out without held-out rows.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in features, rows (N > d + n + 1). Conditions: c minimises the loss, which
        is strictly convex in log c: the reward's part of it is positive.
    Source: new.
    """
    d, N, spread, k = symbols("features rows leverage k")
    before = in_sample(n)
    loss = definitions.expected(definitions.lost(1 / (k * N), spread), n, N - d)
    (best,) = solve_linear([sp.expand(k * sp.diff(loss, k))], [k])
    above = sp.Symbol("x", positive=True)  # N = d + n + 1 + x
    curve = k * sp.diff(k * sp.diff(loss, k), k)
    h = d * definitions.mean_of_power(-1, N - d + 1)
    best = factored(best.xreplace({spread: h}))
    at_best = sp.expand_log(loss.xreplace({k: best, spread: h}), force=True)
    return Derivation(
        symbol="E[F(true) - F]",
        arguments=before.arguments,
        stated=stated.rescaled(n, d, N),
        derived=at_best,
        assumptions=before.assumptions,
        steps=(Step("loss at kÛ", loss), Step("the best k", best)),
        conditions=(
            *before.conditions,
            positive("convex in log k", factored(curve.xreplace({N: d + n + 1 + above}))),
        ),
        above=before.above,
    )


@result(SIZES, quick=QUICK)
def held_out(n: int) -> Derivation:
    """½ Σ_j [ψ((N+j)/2) - ψ((N+j-d)/2)] + the excess of K rows: reward of K held-out rows.

    Given the fit on N rows, errors on new ones are N(0, V), V = Σ + δᵀδ, δ the error of the
    coefficients: Û of K rows has the excess of `excess.expected` to U*(V), and U*(V) costs
    ½ log det(VΣ⁻¹). With z_j the whitened columns of δ times XᵀX, W_j = W_{j-1} + z_j z_jᵀ, that is
    a sum of ½ log det W_j/det W_{j-1}, W_j ~ Wishart(I_d, N + j).

    Args:
        n: dimension.
    Returns:
        Scalar derivation in features, rows (N >= d), held (K > n + 1). Conditions: the law of S;
        det(W + zzᵀ) = det W (1 + zᵀW⁻¹z) for d = 1, 2; the sum over i telescopes.
    Source: new.
    """
    d, N, K = symbols("features rows held")
    i = sp.Symbol("i", positive=True, integer=True)

    def upper(j: Any, row: Any) -> Any:
        """The i-th term of E log det W_j, a log of χ² with N + j + 1 - i degrees."""
        return definitions.mean_of_log(N + j + 1 - row)

    price = sum(upper(j, 1) - upper(j, d + 1) for j in range(1, n + 1))
    steps = sp.Matrix(
        [upper(j, i) - upper(j - 1, i) - (upper(j, i) - upper(j, i + 1)) for j in range(1, n + 1)]
    )
    lemma: list[Any] = []
    for size in (1, 2):
        W, z = symbol("W", size), symbol("h", size)
        lemma.append((W + z * z.T).det() - W.det() * (1 + (z.T * inverse(W) * z)[0, 0]))
    return Derivation(
        symbol="E[F(true) - F]",
        arguments={"features": d, "rows": N, "held": K},
        stated=stated.held_out(n, d, N, K),
        derived=price / 2 + expected_cost("full", n, K),
        assumptions=(INPUTS, "mean of N rows, reward of K others"),
        steps=(Step("Σ_j E log det W_j - E log det W_{j-1}", price),),
        conditions=(
            *definitions.of_rows(n),
            zero("the sum over i telescopes", steps),
            zero("det(W + zzᵀ) = det W (1 + zᵀW⁻¹z)", sp.Matrix(lemma)),
        ),
        above={"rows": d - 1, "held": n + 1},
    )
