"""The adjoint equation of the Gaussian setting for general n: solved, and what follows from it.

The adjoint (a, A) of outputs (m, P) makes d²J(a, A; h, H) + dF(h, H) = 0 for every direction (h, H)
within the structure of P. The hypergradient is then ∇_U F = ∂_U dJ(a, A), (a, A) held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from .. import definitions
from ..derivation import Step
from .conditions import Condition, zero
from .matrices import differential, gradient, replace, solve_word_equation
from .normal_form import normal
from .structures import Shape
from .symbols import symbol, symbols


@dataclass(frozen=True, eq=False)
class Adjoint:
    """The adjoint at one point of the outputs, with the hypergradient and the proofs.

    Args:
        a: of the mean; a vector.
        A: of the covariance, within its structure.
        hypergradient: ∂_U dJ(a, A), symmetric.
        steps: how it came about.
        of_mean: a solves its equation, which A does not enter.
        of_covariance: A solves its equation, and is (2/λ) P (∂_PF) P.
    """

    a: Any
    A: Any
    hypergradient: Any
    steps: tuple[Step, ...]
    of_mean: tuple[Condition, ...]
    of_covariance: tuple[Condition, ...]


def adjoint(shape: Shape, m_at: Any, P_at: Any) -> Adjoint:
    """The adjoint at (m, P) = (m_at, P_at), general n, by the differential calculus in (m, P).

    Args:
        shape: of P_at and of the directions H.
        m_at: vector expression, in m, μ and errors of the mean.
        P_at: matrix expression of this shape, in P, L, s or U.
    """
    m, P, mu, Sigma, U, a, h, H = symbols("m P mu Sigma U a h H", None)
    lam, A = symbol("lam"), sp.MatrixSymbol("A", *P.shape)
    J = definitions.objective(m, P, mu, Sigma, U, lam)
    F = definitions.log_likelihood(m, P, mu, Sigma)

    def at(f: Any) -> Any:
        return replace(replace(f, P, P_at), m, m_at)

    slope = differential(J, m, h) + differential(J, P, H)
    mean = at(differential(differential(J, m, a), m, h) + differential(F, m, h))
    spread = at(differential(differential(J, P, A), P, H) + differential(F, P, H))
    best_a = solve_word_equation(gradient(mean, h), a)
    best_A = shape.solve(spread, A, H)
    pull, within = at(gradient(F, P)), shape.within(H)
    cross = at(gradient(slope, U))
    derived = normal(replace(replace(cross, h, best_a), H, best_A))
    return Adjoint(
        a=best_a,
        A=best_A,
        hypergradient=derived,
        steps=(
            Step("d²J(a, h) + dF(h)", mean),
            Step("d²J(A, H) + dF(H)", spread),
            Step("they vanish for every h: a", best_a),
            Step("and for every H within the structure: A", best_A),
            Step("∂_U dJ(h, H)", cross),
        ),
        of_mean=(
            zero("d²J(a, h) + dF(h) = 0 for every h", replace(mean, a, best_a)),
            zero(
                "d²J has no term mixing mean and covariance",
                differential(differential(J, m, a), P, H),
            ),
        ),
        of_covariance=(
            zero(
                "d²J(A, H) + dF(H) = 0 for every H",
                replace(replace(spread, A, best_A), H, within),
            ),
            zero(
                "A = (2/λ) P (∂_PF) P",
                best_A - 2 / lam * P_at * shape.project(pull, P) * P_at,
            ),
        ),
    )
