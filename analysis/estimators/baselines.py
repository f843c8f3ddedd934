"""Baselines of least variance: of an estimator in standard normals, and of a matrix policy."""

from __future__ import annotations

from typing import Any, Literal

import sympy as sp

from .. import definitions
from ..calculus.conditions import positive, zero
from ..calculus.expanding import expanded
from ..calculus.stationary import solve_linear
from ..calculus.symbols import symbols
from ..derivation import Derivation, Step
from ..result import SIZES, result
from . import stated

_MOMENTS = "the moments are those of polynomials in n normals, with terms by the hundred thousand"
_STATEMENTS = {
    "mean": "b_j = E r - 2A_jj, A = LᵀUL",
    "scale": "B_ij = E r - 2A_ii - 2A_jj, A = LᵀUL",
}
B = sp.Symbol("b", real=True)


def best_baseline(r: Any, g: Any, *noise: Any) -> tuple[Any, Any]:
    """The b minimising Var[(r - b) g], and ∂²Var/∂b²; ∂Var/∂b = 2 Cov[(r - b) g, -g]."""
    slope = 2 * definitions.normal_covariance(expanded((r - B) * g), -g, *noise)
    return expanded(solve_linear([slope], [B])[0]), sp.diff(slope, B)


@result(SIZES, ("mean", "scale"), only=_MOMENTS, statements=_STATEMENTS)
def matrix(parameter: Literal["mean", "scale"], n: int) -> Derivation:
    """b_j = E r - 2A_jj for the scores ε_j, B_ij = E r - 2A_ii - 2A_jj for (εεᵀ - I)_ij, A = LᵀUL.

    The scores are whitened: Lᵀ∇_m log p and Lᵀ∇_L log p at ŷ = m + Lε, policy N(m, LLᵀ).

    Args:
        parameter: "mean" or "scale".
        n: dimension, 1 to 3.
    Returns:
        Derivation in m, mu, L, U, Sigma; the constant baselines of least variance, shape (n,) for
        "mean", (n, n) for "scale". Conditions: the scores, the variances are convex.
    Raises:
        ArgumentError: for another parameter.
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    m, mu, L, U, Sigma = symbols("m mu L U Sigma", n)
    noise = sp.ImmutableMatrix(sp.symbols(f"epsilon_1:{n + 1}", real=True))
    one, nothing = sp.ImmutableMatrix.eye(n), sp.ImmutableMatrix.zeros(n, n)
    r = expanded(definitions.mean_reward(m + L * noise, mu, Sigma, U))
    if parameter == "mean":
        moves = {(j, 0): (L[:, j], nothing) for j in range(n)}
        claim, expected = stated.mean_baseline(m, mu, L, U, Sigma), noise
    else:  # i >= j keeps the factor lower triangular; the other half follows by symmetry
        moves = {
            (i, j): (nothing[:, 0], L[:, i] * one[j, :]) for i in range(n) for j in range(i + 1)
        }
        claim, expected = stated.scale_baseline(m, mu, L, U, Sigma), noise * noise.T - one
    scores = {at: definitions.score(m, L, noise, *move) for at, move in moves.items()}
    pairs = {at: best_baseline(r, g, *noise) for at, g in scores.items()}
    derived = sp.ImmutableMatrix(
        *claim.shape, lambda i, j: pairs[max(i, j), min(i, j) if parameter == "scale" else 0][0]
    )
    gaps = [g - expected[at] for at, g in scores.items()]
    return Derivation(
        symbol="b*" if parameter == "mean" else "B*",
        arguments={"m": m, "mu": mu, "L": L, "U": U, "Sigma": Sigma},
        stated=claim,
        derived=derived,
        assumptions=("policy N(m, LLᵀ), L lower triangular, L_ii > 0", "reward averaged over data"),
        steps=(Step("r at m + Lε", r), Step("whitened scores", sp.Matrix(list(scores.values())))),
        conditions=(
            zero("the scores are ε_j, (εεᵀ - I)_ij", sp.Matrix(gaps)),
            positive("∂²Var/∂b² > 0", sp.Matrix([curve for _, curve in pairs.values()])),
        ),
    )
