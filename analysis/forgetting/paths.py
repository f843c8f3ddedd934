"""Natural-gradient flows from a base N(m₀, P₀): likelihood moves η straight, policy gradient θ.

η = (m, P + mmᵀ) are the mean parameters, θ = (P⁻¹m, P⁻¹) the natural ones, up to factors.
"""

from __future__ import annotations

from typing import Any, Literal

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS
from ..calculus.conditions import zero
from ..calculus.matrices import (
    differential,
    gradient,
    inverse,
    outer,
    product,
    quadratic,
    replace,
    second_differential,
    trace,
    zip_entries,
)
from ..calculus.normal_form import reduced
from ..calculus.symbols import named, symbol, symbols
from ..derivation import Derivation, Step
from ..gaussian.outer import optimal_reward
from ..result import ANY, result
from . import stated

Method = Literal["NLL", "PG"]
METHODS: tuple[Method, ...] = ("NLL", "PG")
DOMAIN = "P₀, Σ symmetric positive definite, λ > 0"
FLOW = "natural gradient of a full Gaussian policy, exact gradients"
TIME = {"NLL": "ζ = 1 - exp(-t)", "PG": "U = U* = (λ/2)Σ⁻¹, ζ = 1 - exp(-λt)"}


@result(ANY)
def metric(n: int | None) -> Derivation:
    """½ Tr(K⁻¹HK⁻¹H): the Fisher metric of N(m, K⁻¹) along H, in the precision K.

    With hᵀKh along the mean, the natural gradient of f is ṁ = K⁻¹ ∇_m f, K̇ = 2K (∇_K f) K.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in M (which stands for K) and H. Conditions: hᵀKh along the mean, nothing
        that mixes them, and ⟨2KGK, H⟩ = Tr GH.
    Source: new.
    """
    m, K, mu, Sigma, h, H, G = symbols("m M mu Sigma h H U", n)
    f = definitions.log_likelihood(m, inverse(K), mu, Sigma)
    own, along, mixed = (
        _at_itself(curve, n)
        for curve in (
            second_differential(f, (K, H)),
            second_differential(f, (m, h)),
            differential_along(gradient(f, m), K, H),
        )
    )
    gift = product(inverse(K), 2 * product(K, G, K), inverse(K), H)
    return Derivation(
        symbol="⟨H, H⟩",
        arguments={"M": K, "H": H},
        stated=stated.fisher(K, H),
        derived=-own,
        assumptions=("K symmetric positive definite",),
        steps=(Step("E_y log N(y; m, K⁻¹)", f), Step("-d² along H, at (μ, Σ) = (m, K⁻¹)", -own)),
        conditions=(
            zero("-d² along the mean = hᵀKh", along + quadratic(K, h)),
            zero("no term mixes mean and precision", mixed),
            zero("⟨2KGK, H⟩ = Tr GH", trace(gift) / 2 - trace(G * H)),
        ),
    )


@result(
    ANY,
    METHODS,
    statements={
        "NLL": "P = (1-ζ)P₀ + ζΣ + ζ(1-ζ)(μ-m₀)(μ-m₀)ᵀ along the flow of likelihood",
        "PG": "P⁻¹ = (1-ζ)P₀⁻¹ + ζΣ⁻¹ along the flow of policy gradient with U*",
    },
)
def covariance(method: Method, n: int | None) -> Derivation:
    """P(ζ) along the flow of likelihood, P⁻¹(ζ) along that of policy gradient with U*.

    Args:
        method: "NLL" or "PG".
        n: dimension, or None for general size.
    Returns:
        Derivation in P0, Sigma, zeta, for likelihood also in m0, mu; shape (n, n).
    Raises:
        ArgumentError: unknown method.
    Source: new.
    """
    m, K, zeta = *symbols("m M", n), symbol("zeta")
    v, V = velocity(method, n)
    if method == "PG":
        names = named("P0 Sigma zeta", n)
        rate = -product(K, V, K)
        aim = _at_best(reduced(rate / symbol("lam") + K), n)
        derived = (1 - zeta) * inverse(names["P0"]) + zeta * aim
        claim = stated.mixed_precision(**names)
        steps = (Step("d(P⁻¹)/dt", rate), Step("d(P⁻¹)/dt / λ + P⁻¹, where it ends", aim))
    else:
        names = named("m0 P0 mu Sigma zeta", n)
        m0, P0 = names["m0"], names["P0"]
        aim = reduced(V + outer(v, m) + outer(m, v) + inverse(K) + outer(m, m))
        mean = (1 - zeta) * m0 + zeta * reduced(v + m)
        derived = (1 - zeta) * (P0 + outer(m0, m0)) + zeta * aim - outer(mean, mean)
        claim = stated.mixed_covariance(**names)
        steps = (Step("Ṗ", V), Step("d(P + mmᵀ)/dt + P + mmᵀ, where it ends", aim))
    return Derivation(
        symbol="P⁻¹(ζ)" if method == "PG" else "P(ζ)",
        arguments=names,
        stated=claim,
        derived=derived,
        assumptions=(DOMAIN, FLOW, TIME[method], MOMENTS),
        steps=steps,
    )


@result(
    ANY,
    METHODS,
    statements={
        "NLL": "m = (1-ζ)m₀ + ζμ along the flow of likelihood",
        "PG": "P⁻¹m = (1-ζ)P₀⁻¹m₀ + ζΣ⁻¹μ along the flow of policy gradient with U*",
    },
)
def mean(method: Method, n: int | None) -> Derivation:
    """m(ζ) along the flow of likelihood, P⁻¹m along that of policy gradient with U*.

    Args:
        method: "NLL" or "PG".
        n: dimension, or None for general size.
    Returns:
        Derivation in m0, mu, zeta, for policy gradient also in P0, Sigma; shape (n,).
    Raises:
        ArgumentError: unknown method.
    Source: new.
    """
    m, K, zeta, lam = *symbols("m M", n), symbol("zeta"), symbol("lam")
    v, V = velocity(method, n)
    if method == "PG":
        names = named("m0 P0 mu Sigma zeta", n)
        P0 = names["P0"]
        rate = product(K, v) - product(K, V, K, m)
        aim = _at_best(reduced(rate / lam + product(K, m)), n)
        derived = (1 - zeta) * inverse(P0) * names["m0"] + zeta * aim
        claim = stated.mixed_pull(**names)
    else:
        names = named("m0 mu zeta", n)
        rate, aim = v, reduced(v + m)
        derived = (1 - zeta) * names["m0"] + zeta * aim
        claim = stated.straight(names["m0"], names["mu"], zeta)
    return Derivation(
        symbol="P⁻¹m (ζ)" if method == "PG" else "m(ζ)",
        arguments=names,
        stated=claim,
        derived=derived,
        assumptions=(DOMAIN, FLOW, TIME[method], MOMENTS),
        steps=(Step("its velocity", rate), Step("where it ends", aim)),
    )


def velocity(method: Method, n: int | None) -> tuple[Any, Any]:
    """ṁ = K⁻¹ ∇_m f and Ṗ = -K⁻¹K̇K⁻¹ = -2∇_K f, of the likelihood or of J, P = K⁻¹."""
    m, K, mu, Sigma, U = symbols("m M mu Sigma U", n)
    if method == "PG":
        f = definitions.objective(m, inverse(K), mu, Sigma, U, symbol("lam"))
    else:
        f = definitions.log_likelihood(m, inverse(K), mu, Sigma)
    return reduced(product(inverse(K), gradient(f, m))), reduced(-2 * gradient(f, K))


def _at_best(X: Any, n: int | None) -> Any:
    """X at U = U*."""
    return reduced(replace(X, symbol("U", n), optimal_reward("full", n).derived))


def differential_along(g: Any, K: Any, H: Any) -> Any:
    """dg(K + tH)/dt at t = 0."""
    if not isinstance(K, sp.MatrixBase):
        return differential(g, K, H)
    t = sp.Dummy("t")
    return g.xreplace(dict(zip_entries((K, K + t * H)))).diff(t).subs(t, 0)


def _at_itself(f: Any, n: int | None) -> Any:
    """f with the law of the policy for that of the data."""
    m, K, mu, Sigma = symbols("m M mu Sigma", n)
    return replace(replace(f, Sigma, inverse(K)), mu, m)
