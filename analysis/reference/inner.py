"""The inner problem with KL to a reference N(m₀, P₀): the solution keeps a part of the reference.

In the precision the reward adds to the reference; the mean stops between data and reference.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions as entropic
from ..assumptions import MOMENTS
from ..calculus import general_n
from ..calculus.conditions import Condition, zero
from ..calculus.matrices import (
    gradient,
    identity,
    inverse,
    lowest_terms,
    quadratic,
    replace,
    second_differential,
    solve_word_equation,
)
from ..calculus.normal_form import normal, reduced
from ..calculus.stationary import solve_linear
from ..calculus.symbols import dimension, named, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, result
from . import definitions, stated

DOMAIN = ("covariances and U symmetric positive definite, λ > 0", "P full")


@result(ANY)
def objective(n: int | None) -> Derivation:
    """J = -(m-μ)ᵀU(m-μ) - Tr U(P+Σ) - λ KL(N(m,P) ‖ N(m₀,P₀)), written out.

    Args:
        n: dimension, or None for a matrix expression of general size.
    Returns:
        Scalar derivation in m, P, mu, Sigma, U, m0, P0, lam.
    Source: new.
    """
    arguments = named("m P mu Sigma U m0 P0 lam", n)
    derived = definitions.objective(**arguments)
    return Derivation(
        symbol="J",
        arguments=arguments,
        stated=stated.objective(**arguments, n=dimension(n)),
        derived=derived,
        assumptions=(*DOMAIN, MOMENTS),
        steps=(Step("E r - λ KL(p ‖ p₀)", derived),),
    )


@result(ANY)
def precision(n: int | None) -> Derivation:
    """P*⁻¹ = P₀⁻¹ + (2/λ)U: the precision of the reference, and that of the reward.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in U, P0, lam; shape (n, n). Conditions: J differs from the objective with
        entropy by a function linear in P and strictly concave in m, so that it has one maximum.
    Source: new.
    """
    P, U, P0 = symbols("P U P0", n)
    lam, J = symbol("lam"), objective(n).derived
    slope = gradient(J, P)
    if n is None:
        slope = normal(slope)
        words = general_n.words_of(slope)
        moving = {word: x for word, x in words.items() if any(name == P.name for name, *_ in word)}
        moving = general_n.matrix_from(moving, P.shape)
        derived = solve_word_equation(slope, inverse(P))
    else:
        slope = slope.applyfunc(sp.expand)
        moving = slope.applyfunc(lambda f: f.as_independent(*P, as_Add=True)[1])
        derived = -2 / lam * (slope - moving)  # where ∇_P J = moving + the rest is 0
        moving = lowest_terms(moving)
    return Derivation(
        symbol="P*⁻¹",
        arguments={"U": U, "P0": P0, "lam": lam},
        stated=stated.precision(U, P0, lam),
        derived=derived,
        assumptions=(*DOMAIN, MOMENTS),
        steps=(Step("∇_P J", slope), Step("where it is 0", derived)),
        conditions=(
            zero("what moves with P in ∇_P J is (λ/2)P⁻¹", moving * P - lam / 2 * identity(P)),
            *_concavity(n, J),
        ),
    )


@result(ANY)
def mean(n: int | None) -> Derivation:
    """m* = μ + P* P₀⁻¹ (m₀ - μ): the mean of the data is not reached.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in P (= P*), P0, m0, mu; a vector of shape (n,).
    Source: new.
    """
    m, P, P0, m0, mu, U = symbols("m P P0 m0 mu U", n)
    lam = symbol("lam")
    slope = gradient(objective(n).derived, m)
    weight = lam / 2 * (inverse(P) - inverse(P0))  # the U of which P is the inner solution
    at_P = replace(slope, U, weight)
    if n is None:
        derived = solve_word_equation(normal(at_P), m)
    else:
        derived = lowest_terms(type(m)(solve_linear(list(lowest_terms(at_P)), list(m))))
    return Derivation(
        symbol="m*",
        arguments={"P": P, "P0": P0, "m0": m0, "mu": mu},
        stated=stated.mean(P, P0, m0, mu),
        derived=derived,
        assumptions=(*DOMAIN, MOMENTS, "P = P*, the covariance of the inner solution"),
        steps=(Step("∇_m J", slope), Step("with U = (λ/2)(P*⁻¹ - P₀⁻¹)", at_P)),
    )


@result(ANY)
def free_centre(n: int | None) -> Derivation:
    """J = -λ KL(N(m,P) ‖ N(μ,Σ)) for r = λ log(q/p₀): with a centre of its own nothing is lost.

    For any densities: E_p r - λ KL(p ‖ p₀) = -λ KL(p ‖ q). The reward is quadratic in ŷ, but not
    around the data: its weight is (λ/2)(Σ⁻¹ - P₀⁻¹), its centre another than μ.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in m, P, mu, Sigma, lam; the reference cancels.
    Source: new.
    """
    m, P, mu, Sigma, m0, P0, y_hat = symbols("m P mu Sigma m0 P0 y_hat", n)
    lam = symbol("lam")
    ratio = entropic.log_density(y_hat, mu, Sigma) - entropic.log_density(y_hat, m0, P0)
    reward = lam * entropic.expectation(ratio, y_hat, m, P)
    derived = reward - lam * definitions.divergence(m, P, m0, P0)
    return Derivation(
        symbol="J",
        arguments={"m": m, "P": P, "mu": mu, "Sigma": Sigma, "lam": lam},
        stated=stated.free_centre(m, P, mu, Sigma, lam, dimension(n)),
        derived=reduced(derived),
        assumptions=("covariances symmetric positive definite, λ > 0", "q = N(μ, Σ)"),
        steps=(Step("E_p λ log(q/p₀)", reward), Step("- λ KL(p ‖ p₀)", derived)),
    )


def _concavity(n: int | None, J: Any) -> tuple[Condition, ...]:
    """d²J is that of the objective with entropy (gaussian.inner.solution), less λ hᵀP₀⁻¹h."""
    m, P, mu, Sigma, U, P0, h, H = symbols("m P mu Sigma U P0 h H", n)
    lam = symbol("lam")
    more = J - entropic.objective(m, P, mu, Sigma, U, lam)
    along_mean = second_differential(more, (m, h))
    return (
        zero("d²J along P is that with entropy", second_differential(more, (P, H))),
        zero("d²J along m is less by λ hᵀP₀⁻¹h", along_mean + lam * quadratic(inverse(P0), h)),
    )
