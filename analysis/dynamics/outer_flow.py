"""The outer gradient flow U̇ = U (∇F) U moves the policy's covariance along a straight line."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..assumptions import MOMENTS
from ..calculus import general_n
from ..calculus.conditions import zero
from ..calculus.ldl import ldl_factors
from ..calculus.matrices import differential, lowest_terms, product
from ..calculus.normal_form import normal, tidy
from ..calculus.symbols import symbol, symbols
from ..derivation import Derivation, Step
from ..gaussian import inner
from ..gaussian.outer import hypergradient
from ..result import ANY, result
from . import stated

_ASSUMPTIONS = ("P₀, Σ symmetric positive definite, λ > 0, t > 0", "P full", MOMENTS)


@result(ANY)
def covariance(n: int | None) -> Derivation:
    """P(t) = Σ + e^{-t/2} (P₀ - Σ) under U̇ = U (∇F) U, whatever the conditioning.

    The chain rule through P*(U) gives Ṗ, which is written in P; each entry is then a linear
    differential equation ṗ = αp + β with solution -β/α + (p₀ + β/α) e^{αt}.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in P0, Sigma, t; shape (n, n). Conditions: P(0) = P₀, and P(t) solves Ṗ.
    Source: new.
    """
    if n is None:
        return _general_flow()
    P0, Sigma, t = *symbols("P0 Sigma", n), symbol("t")
    P, velocity = _along_the_flow(n)
    alpha, beta = sp.zeros(n, n), sp.zeros(n, n)
    _, D = ldl_factors("U", n)
    last = D[n - 1, n - 1]  # every entry of P = (λ/2)U⁻¹ depends on the last pivot of U
    for i in range(n):
        for j in range(n):
            alpha[i, j] = lowest_terms(sp.diff(velocity[i, j], last) / sp.diff(P[i, j], last))
            beta[i, j] = tidy(velocity[i, j] - alpha[i, j] * P[i, j])
    rest = beta.multiply_elementwise(alpha.applyfunc(lambda rate: 1 / rate))
    decay = alpha.applyfunc(lambda rate: sp.exp(rate * t))
    path = (P0 + rest).multiply_elementwise(decay) - rest
    moving = [x for x in (*alpha, *beta) if x.has(*symbol("U", n))]
    free = sp.Matrix(moving or [0])
    claim = stated.flow(P0, Sigma, t)
    return Derivation(
        symbol="P(t)",
        arguments={"P0": P0, "Sigma": Sigma, "t": t},
        stated=claim,
        derived=path.as_immutable(),
        assumptions=_ASSUMPTIONS,
        steps=(Step("Ṗ in LDL coordinates of U", velocity), Step("each entry solved", path)),
        conditions=(
            zero("P(0) = P₀", claim.subs(t, 0) - P0),
            zero(
                "P(t) solves ṗ = αp + β",
                sp.diff(claim, t) - beta - alpha.multiply_elementwise(claim),
            ),
            zero("α and β do not depend on U", free),
        ),
    )


def _general_flow() -> Derivation:
    """The same for general n: Ṗ is one multiple of P and a rest without U or P."""
    P0, Sigma, P, U, t = *symbols("P0 Sigma P U", None), symbol("t")
    lam, best = symbol("lam"), inner.solution("full", None).derived
    speed = U * hypergradient("full", None).derived * U
    velocity = normal(differential(best, U, speed))
    in_policy = normal(velocity.xreplace({sp.Inverse(U): 2 / lam * P}))  # P = (λ/2)U⁻¹
    terms = general_n.words_of(in_policy)
    alpha = terms.pop(((P.name, 1, False),))
    rest = general_n.matrix_from(terms, P.shape)
    path = normal(sp.exp(alpha * t) * (P0 + rest / alpha) - rest / alpha)
    claim = stated.flow(P0, Sigma, t)
    moving = {w: sp.diff(value, t) for w, value in general_n.words_of(claim).items()}
    return Derivation(
        symbol="P(t)",
        arguments={"P0": P0, "Sigma": Sigma, "t": t},
        stated=claim,
        derived=path,
        assumptions=_ASSUMPTIONS,
        steps=(
            Step("Ṗ along U̇ = U (∇F) U", velocity),
            Step("Ṗ = αP + β in P = (λ/2)U⁻¹", in_policy),
            Step("solved", path),
        ),
        conditions=(
            zero("P(0) = P₀", claim.subs(t, 0) - P0),
            zero(
                "P(t) solves ṗ = αp + β",
                general_n.matrix_from(moving, P.shape) - rest - alpha * claim,
            ),
            zero(
                "β does not depend on U or P", differential(rest, U, P) + differential(rest, P, U)
            ),
        ),
    )


def _along_the_flow(n: int) -> tuple[Any, Any]:
    """P*(U) and Ṗ = dP*(U)/dt along U̇ = U (∇F) U, in LDL coordinates of U."""
    U = symbol("U", n)
    best = inner.solution("full", n).derived
    speed = product(U, hypergradient("full", n).derived, U)
    velocity = sp.zeros(n, n)
    for i in range(n):
        for j in range(i, n):
            velocity += sp.diff(best, U[i, j]) * speed[i, j]
    return normal(best), normal(velocity)
