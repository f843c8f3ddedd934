"""What a reward learned from finitely many rows loses on average, in nats per row."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.conditions import Condition, positive, zero
from ..calculus.general_n import normal as in_words
from ..calculus.matrices import differential, second_differential
from ..calculus.stationary import solve_linear
from ..calculus.symbols import (
    DIMENSION,
    EXPLICIT,
    STRUCTURES,
    Structure,
    dimension,
    symbol,
    symbols,
)
from ..derivation import Derivation, Step
from ..gaussian import misspecification, outer
from ..gaussian.rays import relative_cost_is_positive
from ..result import ANY, SAME, SIZES, result
from . import definitions, stated
from .wishart import GAUSSIAN

LEARNED = "Û = U* of the structure at S, in place of Σ; loss F(U*) - F(Û), averaged over S"
QUICK = (30, SAME)
_EXCESS: dict[Structure, str] = {
    "full": "½[Σ_i ψ((ν+1-i)/2) - n log(ν/2) + nν/(ν-n-1) - n]",
    "diagonal": "(n/2)[ψ(ν/2) - log(ν/2) + ν/(ν-2) - 1], however the outcomes correlate",
    "isotropic": "(n/2)[ψ(nν/2) - log(nν/2) + nν/(nν-2) - 1] for Σ ∝ I",
}
_KURTOSIS: dict[Structure, str] = {
    "full": "(κ-n)/(4ν) for many rows of any law, κ = E‖Σ^{-½}e‖⁴",
    "diagonal": "(κ-n)/(4ν) for many rows of any law, κ = Σ_i E e_i⁴/Σ_ii²",
    "isotropic": "(κ-n)/(4ν) for many rows of any law, κ = n E‖e‖⁴/(Tr Σ)²",
}


@result(SIZES, STRUCTURES, statements=_EXCESS, quick=(40, SAME))
def expected(structure: Structure, n: int) -> Derivation:
    """E[F(U*) - F(Û)] of the reward Û learned from a sample covariance S, by structure.

    Args:
        structure: of the policy covariance.
        n: dimension.
    Returns:
        Scalar derivation in freedom (ν > n + 1; diagonal: 2; isotropic: 2/n). Conditions: the law
        of S; F of a diagonal or isotropic policy is a sum of scalar ones; for many rows the excess
        is n(n+1)/(4ν), n/(2ν) or 1/(2ν): half the number of parameters.
    Raises:
        StructureError: for an unknown structure.
    Source: new.
    """
    nu = symbol("freedom")
    derived = expected_cost(structure, n, nu)
    return Derivation(
        symbol="E[F(U*) - F(Û)]",
        arguments={"freedom": nu},
        stated=stated.excess(structure, n, nu),
        derived=derived,
        assumptions=(GAUSSIAN, LEARNED, f"P {structure}")
        + (("Σ ∝ I",) if structure == "isotropic" else ()),
        steps=(Step("F(U*) - F(Û), S = KWK/ν, Σ = K²", definitions.lost(1 / nu)),),
        conditions=(
            *definitions.of_rows(n if structure == "full" else 1),
            *_splits(structure, min(n, EXPLICIT)),
            zero("ν times it for many rows", _leading(derived, nu) - stated.leading(structure, n)),
        ),
        above={"freedom": least_freedom(structure, n)},
    )


def least_freedom(structure: Structure, n: int) -> Any:
    """The ν above which the expected loss of a learned reward is finite."""
    return {"full": sp.Integer(n + 1), "diagonal": sp.Integer(2)}.get(structure, sp.Rational(2, n))


def expected_cost(structure: Structure, n: int, nu: Any) -> Any:
    """The expected excess with ν degrees of freedom, an expression."""
    if structure == "full":
        return definitions.expected(definitions.lost(1 / nu), n, nu)
    degrees = nu if structure == "diagonal" else n * nu
    return sp.expand(n * definitions.expected(definitions.lost(1 / degrees), 1, degrees))


def _splits(structure: Structure, n: int) -> tuple[Condition, ...]:
    """F of a restricted policy is n scalar ones, at (U_ii, Σ_ii) or at the means of these."""
    if structure == "full":
        return ()
    F, scalar = outer.objective(structure, n), outer.objective("full", 1)
    U, Sigma = F.arguments["U"], F.arguments["Sigma"]
    pairs = [(U[i, i], Sigma[i, i]) for i in range(n)]
    if structure == "isotropic":
        pairs = [(U.trace() / n, Sigma.trace() / n)] * n
    names = (scalar.arguments["U"][0], scalar.arguments["Sigma"][0])
    parts = sum(scalar.derived.xreplace(dict(zip(names, pair, strict=True))) for pair in pairs)
    return (zero("F is a sum of n scalar ones", F.derived - parts),)


def _leading(f: Any, nu: Any) -> Any:
    """lim ν f for ν → ∞, f of digammas and logarithms of a + bν: its slope in x = 1/ν at x = 0.

    SymPy's own limit of a digamma function is wrong, so that it is expanded; and of a logarithm
    log x is taken apart, so that what is left is smooth.
    """
    x, log_x, y = sp.symbols("x log_x y", positive=True)
    digamma = sp.expand_log(sp.series(sp.digamma(1 / x), x, 0, 3).removeO().subs(x, 1 / y))
    f = f.xreplace({node: digamma.subs(y, node.args[1]) for node in f.atoms(sp.polygamma)})
    large = [node for node in f.atoms(sp.log) if node.has(nu)]
    apart = {node: sp.log(sp.cancel(node.args[0].subs(nu, 1 / x) * x)) - log_x for node in large}
    f = sp.expand(f.xreplace(apart).xreplace({nu: 1 / x}))
    smooth = sp.Add(*(t if t.has(sp.log) else sp.cancel(t) for t in sp.Add.make_args(f)))
    at_once = sp.expand_log(smooth.subs(x, 0), factor=True)
    if sp.expand(at_once) != 0:
        return sp.oo
    return sp.diff(smooth, x).subs(x, 0)


@result(ANY, STRUCTURES, statements=_KURTOSIS)
def second_order(structure: Structure, n: int | None) -> Derivation:
    """(κ-n)/(4ν): the expected excess for many rows of any law, κ a fourth moment.

    Args:
        structure: of the policy covariance; κ is E‖Σ^{-½}e‖⁴, Σ_i E e_i⁴/Σ_ii² or n E‖e‖⁴/(Tr Σ)².
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in kurtosis, freedom, and n if it is a symbol. Conditions: the cost has no
        slope at S = Σ; with the κ of Gaussian data it is the leading term of `expected`, Σ ∝ I
        where P is isotropic.
    Source: new.
    """
    kappa, nu = symbols("kurtosis freedom")
    cost = misspecification.cost_of_covariance(None).derived
    S, Sigma, H, z = symbols("S Sigma H y", None)
    K = sp.MatrixSymbol("K", *S.shape)
    curved = second_differential(cost, (S, H)).xreplace({S: Sigma})
    row = K * (z * z.T - sp.Identity(K.rows)) * K  # eeᵀ - Σ of one row e = Kz
    quartic = in_words(in_words(curved.xreplace({H: row})).xreplace({Sigma: K * K}))
    fourth, second = (sp.Trace(X) for X in (z * z.T * z * z.T, z * z.T))
    # rows are independent: the mean of ν of them has 1/ν of the second moment of one
    one = quartic.xreplace({in_words(fourth): kappa, in_words(second): DIMENSION}) / (2 * nu)
    size = dimension(n)
    if structure == "full":
        derived = one.xreplace({DIMENSION: size})
    else:  # n scalar ones, whose fourth moments have the sum κ
        scalar = one.xreplace({DIMENSION: sp.S.One})
        derived = size * scalar.xreplace({kappa: kappa / size})
    gaussian = derived.xreplace({kappa: gaussian_kurtosis(structure, size, 1 / size)})
    flat = differential(cost, S, H).xreplace({S: Sigma})
    return Derivation(
        symbol="E[F(U*) - F(Û)]",
        arguments={"kurtosis": kappa, "freedom": nu} | ({"n": size} if n is None else {}),
        stated=stated.second_order(kappa, size, nu),
        derived=sp.expand(derived),
        assumptions=("independent rows of any law with four moments, to order 1/ν", LEARNED),
        steps=(Step("d² cost", curved), Step("at H = eeᵀ - Σ, e = Σ^½z", quartic)),
        conditions=(
            zero("no slope at S = Σ", flat),
            zero(
                "the leading term of `expected` for Gaussian data",
                gaussian * nu - stated.leading(structure, size),
            ),
        ),
    )


def gaussian_kurtosis(structure: Structure, n: Any, spread: Any) -> Any:
    """κ of Gaussian data; spread = Tr Σ²/(Tr Σ)², which is 1/n for Σ ∝ I."""
    return {"full": n * (n + 2), "diagonal": 3 * n, "isotropic": n + 2 * n * spread}[structure]


@result(SIZES, quick=QUICK)
def best_scale(n: int) -> Derivation:
    """(ν-n-1)/ν, the factor of Û that loses least on average.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in freedom (ν > n + 1). Condition: the expected loss is strictly convex.
    Source: new.
    """
    nu, k = symbols("freedom k")
    loss = definitions.expected(definitions.lost(1 / (k * nu)), n, nu)
    slope = sp.expand(k * sp.diff(loss, k))
    excess = sp.Symbol("x", positive=True)
    return Derivation(
        symbol="k*",
        arguments={"freedom": nu},
        stated=stated.best_scale(n, nu),
        derived=solve_linear([slope], [k])[0],
        assumptions=(GAUSSIAN, LEARNED, "P full, U = kÛ"),
        steps=(Step("E[F(U*) - F(kÛ)]", loss), Step("k d/dk", slope)),
        conditions=(
            *definitions.of_rows(n),
            positive(
                "its slope in log k grows (ν = n + 1 + x)",
                sp.cancel((k * sp.diff(slope, k)).xreplace({nu: n + 1 + excess})),
            ),
        ),
        above={"freedom": n + 1},
    )


@result(SIZES, quick=QUICK)
def gain_of_scaling(n: int) -> Derivation:
    """(n/2)(c - 1 - log c), c = ν/(ν-n-1): the nats that the best scale of Û gains on average.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in freedom (ν > n + 1). Conditions: it is >= 0, zero iff c = 1.
    Source: new.
    """
    nu, k = symbols("freedom k")
    loss = definitions.expected(definitions.lost(1 / (k * nu)), n, nu)
    best = best_scale(n)
    return Derivation(
        symbol="gain",
        arguments={"freedom": nu},
        stated=stated.gain_of_scaling(n, nu),
        # ν > n + 1: logs of products of positive numbers
        derived=sp.expand_log(
            loss.xreplace({k: sp.S.One}) - loss.xreplace({k: best.derived}), force=True
        ),
        assumptions=best.assumptions,
        steps=best.steps,
        conditions=relative_cost_is_positive(),
        above={"freedom": n + 1},
    )


@result(SIZES, quick=QUICK)
def estimated_mean(n: int) -> Derivation:
    """nν/(2N(ν-n-1)), ν = N - 1: what an estimated mean adds to the excess of Û.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in rows (N > n + 2).
    Source: new.
    """
    N = symbol("rows")
    nu = N - 1
    both = definitions.expected(definitions.lost(1 / nu, 1 / N), n, nu)
    known = definitions.expected(definitions.lost(1 / nu), n, nu)
    return Derivation(
        symbol="added",
        arguments={"rows": N},
        stated=stated.estimated_mean(n, N),
        derived=both - known,
        assumptions=(GAUSSIAN, "their mean has covariance Σ/N and is independent of S"),
        steps=(Step("loss with a mean error of covariance Σ/N", both), Step("without", known)),
        above={"rows": n + 2},
    )


@result(SIZES, quick=QUICK)
def plug_in(n: int) -> Derivation:
    """E KL(true ‖ plug-in) = ½[n(N+1)/(N-n-2) - n + Σ_i ψ((N-i)/2) + n log(2/N)].

    Args:
        n: dimension.
    Returns:
        Scalar derivation in rows (N > n + 2): maximum likelihood, mean and covariance (1/N) of N
        Gaussian rows. Condition: the law of S.
    Source: new.
    """
    N = symbol("rows")
    return Derivation(
        symbol="E KL",
        arguments={"rows": N},
        stated=stated.plug_in(n, N),
        derived=definitions.expected(definitions.lost(1 / N, 1 / N), n, N - 1),
        assumptions=(GAUSSIAN, "policy N(ȳ, Σ̂), Σ̂ = (1/N) Σ (y-ȳ)(y-ȳ)ᵀ"),
        steps=(Step("loss at Σ̂ = LWLᵀ/N", definitions.lost(1 / N, 1 / N)),),
        conditions=definitions.of_rows(n),
        above={"rows": n + 2},
    )
