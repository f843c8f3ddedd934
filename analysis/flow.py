"""The outer gradient flow U̇ = U (∇F) U moves the policy's covariance along a straight line."""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from analysis import gaussian, stated
from analysis.bilevel import hypergradient
from analysis.derivation import Derivation, Step, zero
from analysis.gaussian import MOMENTS, label
from analysis.matrix_calculus import lowest_terms, product
from analysis.normal_form import normal, tidy
from analysis.symbols import ldl_factors, symbol, symbols


@cache
def flow(n: int) -> Derivation:
    """P(t) = Σ + e^{-t/2} (P₀ - Σ) under U̇ = U (∇F) U, whatever the conditioning.

    The chain rule through P*(U) gives Ṗ, which is written in P; each entry is then a linear
    differential equation ṗ = αp + β with solution -β/α + (p₀ + β/α) e^{αt}.

    Args:
        n: dimension.
    Returns:
        Derivation in P0, Sigma, t; shape (n, n). Conditions: P(0) = P₀, and P(t) solves Ṗ.
    Source: new.
    """
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
        name=label("outer.flow", n),
        statement="U̇ = U (∇F) U gives P(t) = Σ + e^{-t/2} (P₀ - Σ)",
        symbol="P(t)",
        arguments={"P0": P0, "Sigma": Sigma, "t": t},
        stated=claim,
        derived=path.as_immutable(),
        assumptions=("P₀, Σ symmetric positive definite, λ > 0, t > 0", "P full", MOMENTS),
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


def _along_the_flow(n: int) -> tuple[Any, Any]:
    """P*(U) and Ṗ = dP*(U)/dt along U̇ = U (∇F) U, in LDL coordinates of U."""
    U = symbol("U", n)
    best = gaussian.inner_solution("full", n).derived
    speed = product(U, hypergradient("full", n).derived, U)
    velocity = sp.zeros(n, n)
    for i in range(n):
        for j in range(i, n):
            velocity += sp.diff(best, U[i, j]) * speed[i, j]
    return normal(best), normal(velocity)
