"""Which structure to learn at which N: the cost of the structure plus what its estimate loses."""

from __future__ import annotations

from typing import Any, Literal

import sympy as sp

from .. import definitions as problem
from ..calculus.conditions import Condition, zero
from ..calculus.ldl import from_coordinates, ldl_factors
from ..calculus.matrices import lowest_terms, replace
from ..calculus.normal_form import tidy
from ..calculus.stationary import solve_linear
from ..calculus.symbols import STRUCTURES, Structure, symbol, symbols
from ..derivation import Derivation, Step
from ..gaussian import outer, rays
from ..result import SIZES, result
from . import stated
from .excess import LEARNED, expected_cost, gaussian_kurtosis, least_freedom, second_order
from .wishart import GAUSSIAN

Pair = Literal["isotropic, diagonal", "diagonal, full", "isotropic, full"]
PAIRS: dict[Pair, tuple[Structure, Structure]] = {
    "isotropic, diagonal": ("isotropic", "diagonal"),
    "diagonal, full": ("diagonal", "full"),
    "isotropic, full": ("isotropic", "full"),
}
"""The smaller structure and the larger one."""
ONLY = "the entries of Σ are written out"
MATCHED = "isotropic: Tr S as a multiple of χ² with its mean and variance (exact for Σ ∝ I)"


@result(SIZES, only=ONLY)
def effective_freedom(n: int) -> Derivation:
    """f = ν (Tr Σ)²/Tr Σ²: the χ²_f whose multiple has mean and variance of ν Tr S.

    Args:
        n: dimension.
    Returns:
        Scalar derivation in Sigma, freedom.
    Raises:
        StructureError: unless n = 1, 2, 3.
    Source: Satterthwaite (1946).
    """
    Sigma, nu = symbols("Sigma freedom", n)
    z, errors = _errors(n)
    square = sp.expand(errors.dot(errors))
    moments = problem.normal_expectation(square, *z), problem.normal_covariance(square, square, *z)
    mean, variance = (lowest_terms(from_coordinates(f)) for f in moments)
    # c χ²_f has mean cf and variance 2c²f: f = 2 mean²/variance; ν rows have ν times both
    return Derivation(
        symbol="f",
        arguments={"Sigma": Sigma, "freedom": nu},
        stated=stated.effective_freedom(Sigma, nu),
        derived=(nu * mean) ** 2 / (nu * lowest_terms(variance / 2)),
        assumptions=(GAUSSIAN,),
        steps=(Step("E‖e‖²", mean), Step("Var‖e‖²", variance)),
    )


def _structural(structure: Structure, n: int) -> Any:
    """F(U*) of a full policy less that of the structure, both with the right Σ."""
    if structure == "isotropic":
        loss = rays.loss(n)
        return replace(loss.derived, loss.arguments["M"], sp.ImmutableMatrix.eye(n))
    best, other = outer.objective("full", n), outer.objective(structure, n)
    U = best.arguments["U"]
    top = replace(best.derived, U, outer.optimal_reward("full", n).derived)
    here = replace(other.derived, U, outer.optimal_reward(structure, n).derived)
    return tidy(top - here)


@result(SIZES, STRUCTURES, only=ONLY)
def total(structure: Structure, n: int) -> Derivation:
    """The cost of a structure with the right Σ plus its expected excess at ν degrees of freedom.

    Args:
        structure: of policy and reward.
        n: dimension.
    Returns:
        Scalar derivation in Sigma, freedom (ν > n + 1; diagonal 2; isotropic 2 Tr Σ²/(Tr Σ)², where
        f > 2): the nats lost on average against U* of a full policy. The least of the three says
        what to learn.
    Raises:
        StructureError: for an unknown structure, or unless n = 1, 2, 3.
    Source: new.
    """
    Sigma, nu = symbols("Sigma freedom", n)
    cost = _structural(structure, n)
    # nν degrees of freedom of Tr S for Σ ∝ I are f for another one
    seen = effective_freedom(n).derived / n if structure == "isotropic" else nu
    excess = expected_cost(structure, n, nu).xreplace({nu: seen})
    return Derivation(
        symbol="E[F(U*) - F(Û)]",
        arguments={"Sigma": Sigma, "freedom": nu},
        stated=stated.total(structure, Sigma, n, nu),
        derived=cost + excess,
        assumptions=(GAUSSIAN, LEARNED, *((MATCHED,) if structure == "isotropic" else ())),
        steps=(Step("the structure", cost), Step("its estimate", excess)),
        above={"freedom": least_freedom(structure, n) * nu / seen},
    )


@result((2, 3), tuple(PAIRS), only="with n = 1 all structures are one; else " + ONLY)
def crossing(pair: Pair, n: int) -> Derivation:
    """ν at which two structures lose the same, to order 1/ν: above it learn the larger one.

    Args:
        pair: the smaller structure and the larger one.
        n: dimension, 2 or 3.
    Returns:
        Scalar derivation in gap, the nats by which the larger structure fits better (as `total`
        has them), and Sigma, where the smaller is isotropic. Conditions: κ of Gaussian data.
    Raises:
        ArgumentError: for another pair.
        StructureError: unless n = 2, 3.
    Source: new.
    """
    Sigma, gap, nu = symbols("Sigma gap freedom", n)
    (less, of_less), (more, of_more) = (_of_gaussian(structure, n) for structure in PAIRS[pair])
    derived = solve_linear([gap * nu + less - more], [nu])[0]
    seen = {} if pair == "diagonal, full" else {"Sigma": Sigma}
    return Derivation(
        symbol="ν*",
        arguments={"gap": gap, **seen},
        stated=stated.crossing(pair, gap, Sigma, n),
        derived=derived,
        assumptions=(GAUSSIAN, "excesses to order 1/ν"),
        steps=(Step("ν times the excess of the smaller", less), Step("of the larger", more)),
        conditions=(of_less, of_more),
    )


def _of_gaussian(structure: Structure, n: int) -> tuple[Any, Condition]:
    """ν times the excess with the κ of Gaussian data, and the proof that it is theirs."""
    Sigma, kappa = symbol("Sigma", n), symbol("kurtosis")
    spread = (Sigma * Sigma).trace() / Sigma.trace() ** 2
    at_Sigma = gaussian_kurtosis(structure, sp.Integer(n), spread)
    found = sp.expand(second_order(structure, n).derived * symbol("freedom"))
    z, errors = _errors(n)
    if structure == "isotropic":
        square = errors.dot(errors)
        fourth = n * problem.normal_expectation(square**2, *z) / Sigma.trace() ** 2
    elif structure == "diagonal":
        fourth = sum(problem.normal_expectation(x**4, *z) for x in z)
    else:
        fourth = problem.normal_expectation(z.dot(z) ** 2, *z)
    text = f"κ of Gaussian data, {structure}"
    return found.xreplace({kappa: at_Sigma}), zero(text, at_Sigma - fourth)


def _errors(n: int) -> tuple[Any, Any]:
    """Independent standard normals z, and e = Lz of covariance Σ = LLᵀ in LDL coordinates."""
    z = sp.ImmutableMatrix(sp.symbols(f"z_1:{n + 1}", real=True))
    C, D = ldl_factors("Sigma", n)
    return z, C * D.applyfunc(sp.sqrt) * z
