"""The inner problem of independent bits: J, and its maximum for a diagonal weight matrix."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.conditions import positive, zero
from ..calculus.factors import factored
from ..calculus.stationary import solve_linear
from ..calculus.symbols import symbol, symbols
from ..derivation import Derivation, Step
from ..result import SIZES, result
from . import definitions, stated

BITS = "n independent bits, ψ_i = P(ŷ_i = 1), ρ_i = P(y_i = 1), both in (0, 1), λ > 0"
ANY_DATA = "only the mean ρ and the covariance Σ of the data are used, however the bits depend"
DIAGONAL = "U = diag(u), u_i > 0"
ONLY = "the entries are sums over the 2ⁿ outcomes; bits of a diagonal U are alike: derive one"


def weights(n: int) -> Any:
    """The diagonal u of U."""
    return symbol("U", n).diagonal().T.as_immutable()


@result(SIZES, only=ONLY)
def objective(n: int) -> Derivation:
    """J = -(ψ-ρ)ᵀU(ψ-ρ) - Σ_i U_ii ψ_i(1-ψ_i) - Tr(UΣ) + λ Σ_i h(ψ_i), h the entropy of a bit.

    It is the Gaussian expression with ψ for m and diag(ψ(1-ψ)) for P: two moments are all that a
    Mahalanobis reward asks of a law.

    Args:
        n: number of bits.
    Returns:
        Scalar derivation in psi, rho, Sigma, U, lam.
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    psi, rho, Sigma, U = symbols("psi rho Sigma U", n)
    lam = symbol("lam")
    derived = definitions.objective(psi, rho, Sigma, U, lam)
    return Derivation(
        symbol="J",
        arguments={"psi": psi, "rho": rho, "Sigma": Sigma, "U": U, "lam": lam},
        stated=sp.expand(stated.objective(psi, rho, Sigma, U, lam)),
        derived=derived,
        assumptions=(BITS, ANY_DATA, "U symmetric positive definite"),
        steps=(Step("Σ_ŷ p(ŷ) [r̄(ŷ) - λ log p(ŷ)]", derived),),
    )


@result(SIZES, only=ONLY)
def solution(n: int) -> Derivation:
    """z*_i = u_i(2ρ_i - 1)/λ, the logits of the inner solution for U = diag(u).

    Args:
        n: number of bits.
    Returns:
        Derivation in U (of which the diagonal counts), rho, lam; shape (n,). Conditions: J is
        separable in the bits and strictly concave in each, so that there is no other maximum.
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    psi, rho, Sigma = symbols("psi rho Sigma", n)
    lam, u = symbol("lam"), weights(n)
    J = definitions.objective(psi, rho, Sigma, sp.ImmutableMatrix.diag(*u), lam)
    z = sp.symbols(f"z_1:{n + 1}", real=True)
    slopes = [sp.expand(sp.diff(J, x)) for x in psi]
    in_logits = [
        sp.expand(slope.xreplace({sp.log(x): logit + sp.log(1 - x)}))
        for slope, x, logit in zip(slopes, psi, z, strict=True)
    ]
    derived = sp.ImmutableMatrix(solve_linear([sp.cancel(slope) for slope in in_logits], list(z)))
    odds = sp.symbols(f"x_1:{n + 1}", positive=True)  # ψ_i = 1/(1 + x_i)
    at = {x: 1 / (1 + odd) for x, odd in zip(psi, odds, strict=True)}
    curves = sp.Matrix(
        [-factored(sp.diff(s, x).xreplace(at)) for s, x in zip(slopes, psi, strict=True)]
    )
    mixed = [sp.diff(slopes[i], psi[j]) for i in range(n) for j in range(i)]
    return Derivation(
        symbol="z*",
        arguments={"U": symbol("U", n), "rho": rho, "lam": lam},
        stated=stated.logits(u, rho, lam),
        derived=derived,
        assumptions=(BITS, ANY_DATA, DIAGONAL),
        steps=(Step("J", J), Step("∂J/∂ψ_i, z_i = log ψ_i - log(1-ψ_i)", sp.Matrix(in_logits))),
        conditions=(
            zero("∂²J/∂ψ_i∂ψ_j = 0", sp.Matrix([*mixed, 0])),
            positive("-∂²J/∂ψ_i² > 0", curves),
        ),
    )
