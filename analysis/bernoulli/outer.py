"""The outer problem of independent bits: the hypergradient in diag(u), and the best u."""

from __future__ import annotations

import sympy as sp

from ..calculus.conditions import positive, zero
from ..calculus.factors import factored
from ..calculus.matrices import lowest_terms
from ..calculus.normal_form import normal
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
        Derivation in rho, lam; shape (n,). Conditions: the hypergradient vanishes at ψ*(u*), F is
        strictly concave in u, u* > 0 (for ρ > ½; ρ < ½ is the other outcome).
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    rho, lam, u, psi = symbol("rho", n), symbol("lam"), weights(n), symbol("psi", n)
    z, slopes = solution(n).derived, hypergradient(n).derived
    logits = [sp.log(x) - sp.log(1 - x) for x in rho]
    derived = sp.ImmutableMatrix(solve_linear([z[i] - logits[i] for i in range(n)], list(u)))
    reached = normal(z.xreplace(dict(zip(u, derived, strict=True))))
    policy = {x: 1 / (1 + sp.exp(-s)) for x, s in zip(psi, reached, strict=True)}
    # ∂F/∂u_i depends on u through ψ_i alone
    curves = [sp.diff(slopes[i], x) * x * (1 - x) * sp.diff(z[i], u[i]) for i, x in enumerate(psi)]
    excess, odds = (sp.symbols(f"{x}_1:{n + 1}", positive=True) for x in "xy")
    above = {x: (1 + k) / (2 + k) for x, k in zip(rho, excess, strict=True)}
    inside = {x: 1 / (1 + k) for x, k in zip(psi, odds, strict=True)}
    other = {x: 1 - x for x in rho}
    return Derivation(
        symbol="u*",
        arguments={"rho": rho, "lam": lam},
        stated=stated.optimal_weights(rho, lam),
        derived=derived.applyfunc(lowest_terms),
        assumptions=(BITS, ANY_DATA, DIAGONAL, "ρ_i ≠ ½ (at ½ every u_i is optimal)"),
        steps=(Step("z* (u)", z), Step("logit ρ_i", sp.Matrix(logits))),
        conditions=(
            zero("∂F/∂u = 0 at u*", slopes.xreplace(policy)),
            positive(
                "-∂²F/∂u_i² > 0 (ρ_i = (1+x)/(2+x))",
                sp.Matrix([factored(-curve.xreplace(above | inside)) for curve in curves]),
            ),
            positive("u* > 0 (ρ_i = (1+x)/(2+x))", derived.xreplace(above).applyfunc(normal)),
            zero("u* is the same with the outcomes exchanged", derived.xreplace(other) - derived),
        ),
    )
