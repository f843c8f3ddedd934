"""Moments of the covariance S of a sample of Gaussian rows, νS ~ Wishart(Σ, ν)."""

from __future__ import annotations

import sympy as sp

from ..calculus.conditions import zero
from ..calculus.ldl import from_coordinates, ldl_factors
from ..calculus.matrices import inverse, lowest_terms
from ..calculus.symbols import symbols
from ..derivation import Derivation, Step
from ..result import SIZES, result
from . import definitions, stated

GAUSSIAN = "Gaussian data, νS ~ Wishart(Σ, ν): ν = N rows about a known mean, N - 1 about their own"
ONLY = "the entries of E S⁻¹ are written out; every n has the same formula"


@result(SIZES, only=ONLY)
def log_determinant(n: int) -> Derivation:
    """E log det S = log det Σ + Σ_i ψ((ν+1-i)/2) - n log(ν/2).

    Args:
        n: dimension.
    Returns:
        Scalar derivation in Sigma, freedom (ν > n - 1). Conditions: the law of A, S = LAAᵀLᵀ/ν.
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    Sigma, nu = symbols("Sigma freedom", n)
    A = definitions.bartlett(n)
    _, D = ldl_factors("Sigma", n)
    logs = sum(2 * sp.log(a) + sp.log(D[i, i]) for i, a in enumerate(A.diagonal()))
    return Derivation(
        symbol="E log det S",
        arguments={"Sigma": Sigma, "freedom": nu},
        stated=stated.log_determinant(Sigma, n, nu),
        derived=from_coordinates(definitions.expectation(logs, A, nu) - n * sp.log(nu)),
        assumptions=(GAUSSIAN,),
        steps=(Step("log det LAAᵀLᵀ", logs),),
        conditions=definitions.of_rows(n),
        above={"freedom": n - 1},
    )


@result(SIZES, only=ONLY)
def inverse_covariance(n: int) -> Derivation:
    """E S⁻¹ = ν/(ν-n-1) Σ⁻¹: a learned reward is too sharp on average.

    Args:
        n: dimension.
    Returns:
        Derivation in Sigma, freedom (ν > n + 1); shape (n, n). Conditions: the law of A, S =
        LAAᵀLᵀ/ν; E (AAᵀ)⁻¹ is n⁻¹ E Tr (AAᵀ)⁻¹ I, and the trace n times its last entry.
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    Sigma, nu = symbols("Sigma freedom", n)
    A = definitions.bartlett(n)
    C, D = ldl_factors("Sigma", n)
    mean = inverse(A * A.T).applyfunc(lambda x: definitions.expectation(sp.expand(x), A, nu))
    back = inverse(C)
    # L = C√D, and E (AAᵀ)⁻¹ commutes with √D, being diagonal
    derived = nu * back.T * inverse(D) * mean * back
    return Derivation(
        symbol="E S⁻¹",
        arguments={"Sigma": Sigma, "freedom": nu},
        stated=stated.inverse_covariance(Sigma, n, nu),
        derived=lowest_terms(from_coordinates(lowest_terms(derived))),
        assumptions=(GAUSSIAN,),
        steps=(Step("E (AAᵀ)⁻¹", mean),),
        conditions=(
            *definitions.of_rows(n),
            zero("it is a multiple of I", mean - mean[n - 1, n - 1] * sp.eye(n)),
            zero(
                "its last entry is E 1/A_nn²",
                mean[n - 1, n - 1] - definitions.mean_of_power(-1, nu - n + 1),
            ),
        ),
        above={"freedom": n + 1},
    )


@result(SIZES, only="the integral over a row is written out; every n has the same formula")
def trace_transform(n: int) -> Derivation:
    """log E exp(-t ν Tr S) = -(ν/2) log det(I + 2tΣ): the law of what a scalar reward learns from.

    E 1/Q = ∫ E e^{-tQ} dt and E log Q = ∫ (e^{-t} - E e^{-tQ}) dt/t over t > 0 follow from it, and
    so what the scalar reward loses, exactly.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in Sigma, freedom, t. Condition: the square in the integral is complete.
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: new.
    """
    Sigma, nu, t = symbols("Sigma freedom t", n)
    row, gap = definitions.log_transform(t * sp.ImmutableMatrix.eye(n), Sigma)
    return Derivation(
        symbol="log E exp(-t ν Tr S)",
        arguments={"Sigma": Sigma, "freedom": nu, "t": t},
        stated=stated.trace_transform(Sigma, nu, t),
        derived=nu * row,
        assumptions=(GAUSSIAN, "t > 0"),
        steps=(Step("log E exp(-t eᵀe) of one row; rows are independent", row),),
        conditions=(zero("the square is complete", gap),),
    )
