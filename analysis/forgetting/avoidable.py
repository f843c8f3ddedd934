"""Avoidable forgetting: where only a part of the outcome matters, the rest can be kept."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions
from ..calculus.conditions import zero
from ..calculus.matrices import gradient, inverse, lowest_terms, product
from ..calculus.symbols import check_classes, named, symbol, symbols
from ..derivation import Derivation, Step
from ..result import CLASSES, SAME, result
from . import stated


@result(n=2)
def chain() -> Derivation:
    """KL(q‖p₀) - KL(q_1‖p₀_1) = E KL(q(y_2|y_1) ‖ p₀(y_2|y_1)): what likelihood pays in vain.

    Returns:
        Scalar derivation in m0, P0, mu, Sigma of planar normal laws.
    Source: new.
    """
    names = named("m0 P0 mu Sigma", 2)
    m0, P0, mu, Sigma = names.values()
    own, other = (definitions.log_likelihood(*law, mu, Sigma) for law in ((mu, Sigma), (m0, P0)))
    first = [x[:1, :1].as_immutable() for x in names.values()]
    # the same definitions for n = 1, whose symbols have other names
    at: dict[Any, Any] = {}
    for name, value in zip(names, first, strict=True):
        at |= dict(zip(symbol(name, 1), value, strict=True))
    a0, A0, a, A = symbols("m0 P0 mu Sigma", 1)
    marginal = definitions.log_likelihood(a, A, a, A) - definitions.log_likelihood(a0, A0, a, A)
    joint, marginal = own - other, marginal.xreplace(at)
    return Derivation(
        symbol="ΔKL",
        arguments=names,
        stated=stated.conditional_kl(**names),
        derived=joint - marginal,
        assumptions=("P₀, Σ symmetric positive definite",),
        steps=(Step("KL(q ‖ p₀)", joint), Step("KL of y_1", marginal)),
    )


@result(n=2)
def kept() -> Derivation:
    """E r_U - λ KL(p‖p₀) with U = diag(u, 0) keeps the law of y_2 given y_1: slope, variance.

    Returns:
        Derivation in P0; shape (2,): the slope of y_2 on y_1 under p*, and the variance around it,
        whatever u and λ. Condition: so is the intercept, m*_2 - slope m*_1.
    Source: new.
    """
    m, P, mu, Sigma, m0, P0 = symbols("m P mu Sigma m0 P0", 2)
    u, lam = symbol("u"), symbol("lam")
    U = sp.ImmutableMatrix.diag(u, 0)
    rest = definitions.expected_reward(m, P, mu, Sigma, U)
    rest += lam * definitions.log_likelihood(m0, P0, m, P)  # J less the entropy
    best = inverse(lowest_terms(-2 / lam * gradient(rest, P)))  # ½λP⁻¹ + ∂_P rest = 0
    g = gradient(rest, m)
    there = g.jacobian(m)
    at_zero = g.xreplace(dict.fromkeys(m, sp.S.Zero))
    mean = -product(inverse(lowest_terms(there)), lowest_terms(at_zero))
    slope = lowest_terms(best[0, 1] / best[0, 0])
    return Derivation(
        symbol="slope, variance",
        arguments={"P0": P0},
        stated=stated.regression(P0),
        derived=sp.ImmutableMatrix([slope, lowest_terms(best[1, 1] - slope * best[0, 1])]),
        assumptions=("P₀ symmetric positive definite, λ > 0, u > 0",),
        steps=(Step("P*", best), Step("m*", mean)),
        conditions=(zero("intercepts agree", mean[1] - slope * mean[0] - m0[1] + slope * m0[0]),),
    )


@result(CLASSES, check=check_classes, quick=(50, SAME))
def classes(n: int) -> Derivation:
    """KL(q‖p₀) = -log p₀(C) + KL(q‖p₀|C) for data q on the classes C, all but the last.

    A reward of C with KL to the base pays -log p₀(C) only.

    Args:
        n: number of classes.
    Returns:
        Scalar derivation in pi (of which q is the law without the last class) and p0.
    Raises:
        StructureError: n < 2.
    Source: new.
    """
    pi, p0 = symbols("pi p0", n)
    inside = sp.Add(*pi[:-1])
    q = [x / inside for x in pi[:-1]]
    derived = sum(x * (sp.log(x) - sp.log(y)) for x, y in zip(q, p0, strict=False))
    return Derivation(
        symbol="KL(q ‖ p₀)",
        arguments={"pi": pi, "p0": p0},
        closed=("pi",),
        stated=stated.class_kl(q, p0),
        derived=derived,
        assumptions=("q_c = π_c/(1-π_n)", "p₀(c) > 0"),
        steps=(Step("Σ_c q_c log q_c/p₀(c)", derived),),
    )
