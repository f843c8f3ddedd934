"""The inner problem: J(m, P; U) of a Gaussian policy, its gradients, its solution, its Gibbs gap.

Paper symbols: policy N(m, P), data moments (μ, Σ), reward weight U, entropy weight λ.
"""

from __future__ import annotations

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS, SPD, SYMMETRIC
from ..calculus.conditions import zero
from ..calculus.matrices import gradient, solve_inverse_equation
from ..calculus.normal_form import normal
from ..calculus.stationary import ldl_product, solve_ldl, solve_linear
from ..calculus.structures import shape
from ..calculus.symbols import STRUCTURES, Structure, dimension, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, result
from . import stated
from .second_order import general_inner_concavity, inner_concavity


@result(ANY)
def objective(n: int | None) -> Derivation:
    """J(m,P;U) = -(m-μ)ᵀU(m-μ) - Tr(UP) - Tr(UΣ) + (λ/2) log det P + (λn/2) log 2πe.

    Args:
        n: dimension, or None for a matrix expression of general size.
    Returns:
        Scalar derivation in m, P, mu, Sigma, U, lam. The expectation step raises MomentError if it
        needed more than the two moments of the data, so the result holds for any law having them.
    Source: paper (Gaussian policy); new (only two moments are used).
    """
    m, P, mu, Sigma, U = symbols("m P mu Sigma U", n)
    lam = symbol("lam")
    reward = definitions.expected_reward(m, P, mu, Sigma, U)
    H = definitions.entropy(P)
    return Derivation(
        symbol="J",
        arguments={"m": m, "P": P, "mu": mu, "Sigma": Sigma, "U": U, "lam": lam},
        stated=stated.objective(m, P, mu, Sigma, U, lam, dimension(n)),
        derived=reward + lam * H,
        assumptions=(SPD, MOMENTS),
        steps=(Step("E_y E_ŷ r_U, from two moments", reward), Step("entropy -E log p", H)),
        source="paper; new for data that are not Gaussian",
    )


@result(ANY)
def mean_gradient(n: int | None) -> Derivation:
    """∇_m J = -2U(m-μ).

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in m, mu, U; a vector of shape (n,).
    Source: new.
    """
    m, P, mu, Sigma, U = symbols("m P mu Sigma U", n)
    J = definitions.objective(m, P, mu, Sigma, U, symbol("lam"))
    derived = gradient(J, m)
    return Derivation(
        symbol="∇_m J",
        arguments={"m": m, "mu": mu, "U": U},
        stated=stated.mean_gradient(m, mu, U),
        derived=derived,
        assumptions=(SPD, MOMENTS),
        steps=(Step("J", J), Step("differentiate in m", derived)),
    )


@result(ANY)
def covariance_gradient(n: int | None) -> Derivation:
    """∇_P J = -U + (λ/2) P⁻¹, the symmetric G with dJ = Tr(G dP).

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in P, U, lam; shape (n, n).
    Source: new.
    """
    m, P, mu, Sigma, U = symbols("m P mu Sigma U", n)
    lam = symbol("lam")
    J = definitions.objective(m, P, mu, Sigma, U, lam)
    derived = gradient(J, P)
    return Derivation(
        symbol="∇_P J",
        arguments={"P": P, "U": U, "lam": lam},
        stated=stated.covariance_gradient(P, U, lam),
        derived=derived,
        assumptions=(SPD, SYMMETRIC),
        steps=(Step("J", J), Step("differentiate in P", derived)),
    )


_SOLUTIONS = {
    "full": "m* = μ, P* = (λ/2) U⁻¹",
    "diagonal": "m* = μ, P*_ii = λ/(2U_ii)",
    "isotropic": "m* = μ, P* = λn/(2 Tr U) I",
}


@result(ANY, STRUCTURES, statements=_SOLUTIONS)
def solution(structure: Structure, n: int | None) -> Derivation:
    """P* = (λ/2) U⁻¹ (full), diag(λ/(2U_ii)) (diagonal), λn/(2 Tr U) I (isotropic); m* = μ.

    Args:
        structure: of the policy covariance.
        n: dimension, or None for general size.
    Returns:
        Derivation in U, lam; P* of shape (n, n) for every structure. Conditions: m* = μ, and the
        second differential of J in (m, P) is negative, so that J has no other stationary point.
    Raises:
        StructureError: for an unknown structure.
    Source: paper; diagonal is new.
    """
    m, P, mu, Sigma, U = symbols("m P mu Sigma U", n)
    lam, within = symbol("lam"), shape(structure)
    if n is None:
        J = definitions.objective(m, P, mu, Sigma, U, lam)
        seen = within.project(gradient(J, P), P)
        derived = solve_inverse_equation(seen, P)
        conditions = general_inner_concavity(J, lam)  # along every symmetric H
        steps = (
            Step("∇_P J", gradient(J, P)),
            Step("what of it the dP within the structure see", seen),
            Step("where that is 0", derived),
        )
    else:
        C, D = within.factors("P", n)
        J = definitions.objective(m, C * D * C.T, mu, Sigma, U, lam)
        centre = sp.Matrix(solve_linear([sp.expand(sp.diff(J, x)) for x in m], list(m)))
        solution = solve_ldl(J, C, D)
        derived = ldl_product(C, D, solution)
        conditions = (zero("m* = μ", centre - mu), *inner_concavity(within, n))
        steps = (Step("J with P = C D Cᵀ", J), Step("solve ∂J/∂C = 0, ∂J/∂D = 0", derived))
    return Derivation(
        symbol="P*",
        arguments={"U": U, "lam": lam},
        stated=stated.inner_solution(structure, U, lam),
        derived=derived,
        assumptions=("U symmetric positive definite, λ > 0", f"P {structure}", MOMENTS),
        steps=steps,
        conditions=conditions,
        source=within.source,
    )


@result(ANY)
def gibbs_gap(n: int | None) -> Derivation:
    """J(p*) - J(p) = λ KL(p ‖ p*), p* = N(μ, (λ/2)U⁻¹): no loss in being Gaussian.

    For *any* density p, J(p) = E_p[r̄ - λ log p] and, pointwise, r̄(ŷ) = λ log p*(ŷ) + J(p*); hence
    J(p) = J(p*) - λ KL(p ‖ p*). The pointwise identity is a condition of the derivation, the
    closed form for a Gaussian p = N(m, P) is its result.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in m, P, mu, U, lam.
    Source: new.
    """
    m, P, mu, Sigma, U = symbols("m P mu Sigma U", n)
    lam, y_hat = symbol("lam"), symbol("y_hat", n)
    best = solution("full", n).derived
    J = definitions.objective(m, P, mu, Sigma, U, lam)
    top = definitions.objective(mu, best, mu, Sigma, U, lam)
    pointwise = definitions.mean_reward(y_hat, mu, Sigma, U) - lam * definitions.log_density(
        y_hat, mu, best
    )
    return Derivation(
        symbol="J(p*) - J(p)",
        arguments={"m": m, "P": P, "mu": mu, "U": U, "lam": lam},
        stated=stated.gibbs_gap(m, P, mu, U, lam, dimension(n)),
        derived=normal(top - J) if n is None else sp.expand(top - J),
        assumptions=(SPD, MOMENTS, "the pointwise identity covers every density p"),
        steps=(
            Step("r̄(ŷ) - λ log p*(ŷ), constant in ŷ", pointwise),
            Step("E_p of it and -λ E_p log(p/p*): J(p) = J(p*) - λ KL(p ‖ p*)", top),
        ),
        conditions=(zero("r̄(ŷ) - λ log p*(ŷ) = J(p*) for every ŷ", pointwise - top),),
    )
