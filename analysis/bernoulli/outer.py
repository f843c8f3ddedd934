"""The outer problem of independent bits: the hypergradient in diag(u), and the best u."""

from __future__ import annotations

import sympy as sp

from ..calculus.conditions import positive, zero
from ..calculus.factors import factored
from ..calculus.matrices import lowest_terms
from ..calculus.stationary import solve_linear
from ..calculus.symbols import symbol
from ..derivation import Derivation, Step
from ..result import SIZES, result
from . import definitions, stated
from .inner import ANY_DATA, BITS, DIAGONAL, ONLY, solution, weights


@result(SIZES, only=ONLY)
def hypergradient(n: int) -> Derivation:
    """∂F/∂u_i = (ρ_i - ψ_i) (2ρ_i - 1)/λ at the inner solution ψ = ψ*(u).

    Args:
        n: number of bits.
    Returns:
        Derivation in psi, rho, lam; shape (n,). Condition: ψ(1-ψ) = dψ/dz of ψ = 1/(1 + e^{-z}).
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    psi, rho, lam = symbol("psi", n), symbol("rho", n), symbol("lam")
    z, u, logit = solution(n).derived, weights(n), sp.Symbol("z", real=True)
    F = definitions.log_likelihood(psi, rho)
    logistic = 1 / (1 + sp.exp(-logit))
    rate = logistic * (1 - logistic)  # dψ/dz
    slopes = [
        lowest_terms(sp.diff(F, x) * x * (1 - x) * sp.diff(z[i], u[i])) for i, x in enumerate(psi)
    ]
    odd = sp.Symbol("x", positive=True)  # e^{-z}
    return Derivation(
        symbol="∂F/∂u",
        arguments={"psi": psi, "rho": rho, "lam": lam},
        stated=stated.hypergradient(psi, rho, lam),
        derived=sp.ImmutableMatrix(slopes),
        assumptions=(BITS, ANY_DATA, DIAGONAL, "ψ = ψ*(u)"),
        steps=(Step("F", F), Step("∂F/∂ψ_i · dψ_i/dz_i · ∂z_i/∂u_i", sp.Matrix(slopes))),
        conditions=(
            zero(
                "dψ/dz = ψ(1-ψ)",
                (sp.diff(logistic, logit) - rate).xreplace({sp.exp(-logit): odd}),
            ),
        ),
    )


@result(SIZES, only=ONLY)
def optimal_reward(n: int) -> Derivation:
    """u*_i = λ log(ρ_i/(1-ρ_i)) / (2ρ_i - 1): the best diagonal reward, with ψ* = ρ.

    Args:
        n: number of bits.
    Returns:
        Derivation in rho, lam; shape (n,). Conditions: the hypergradient vanishes there, u* > 0
        (for ρ > ½; ρ < ½ is the other outcome), so that the policy is the maximum-likelihood one.
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    rho, lam, u = symbol("rho", n), symbol("lam"), weights(n)
    z = solution(n).derived
    logits = [sp.log(x) - sp.log(1 - x) for x in rho]
    derived = sp.ImmutableMatrix(solve_linear([z[i] - logits[i] for i in range(n)], list(u)))
    odd = sp.Symbol("x", positive=True)
    above = (1 + odd) / (2 + odd)
    return Derivation(
        symbol="u*",
        arguments={"rho": rho, "lam": lam},
        stated=stated.optimal_weights(rho, lam),
        derived=derived.applyfunc(lowest_terms),
        assumptions=(BITS, ANY_DATA, DIAGONAL, "ρ_i ≠ ½ (at ½ every u_i is optimal)"),
        steps=(Step("z* (u)", z), Step("logit ρ_i", sp.Matrix(logits))),
        conditions=(
            zero(
                "z*(u*) = logit ρ",
                sp.Matrix([z[i].xreplace({u[i]: derived[i]}) - logits[i] for i in range(n)]),
            ),
            positive(
                "log(ρ/(1-ρ)) = log(1 + x) > 0, 2ρ - 1 > 0",
                sp.Matrix([sp.log(1 + odd), factored(2 * above - 1)]),
            ),
        ),
    )
