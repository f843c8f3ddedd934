"""The outer problem of the Gaussian setting: F(U), its hypergradient two ways, its maximiser."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS, SYMMETRIC
from ..calculus.adjoint import adjoint
from ..calculus.conditions import Condition, positive, zero
from ..calculus.ldl import from_coordinates, ldl_factors, to_coordinates
from ..calculus.matrices import (
    gradient,
    identity,
    inverse,
    lowest_terms,
    replace,
    second_differential,
    slope,
    solve_inverse_equation,
    trace,
)
from ..calculus.normal_form import normal, reduced, tidy
from ..calculus.stationary import ldl_product, solve_ldl, solve_linear
from ..calculus.structures import Shape, free_entries, shape
from ..calculus.symbols import STRUCTURES, Structure, dimension, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, result
from . import inner, stated
from .second_order import general_outer_concavity, outer_maximum

DOMAIN = ("U, Σ symmetric positive definite, λ > 0", MOMENTS)
_OBJECTIVES = {
    "full": "F(U) = ½ log det U - Tr(UΣ)/λ - (n/2) log πλ",
    "diagonal": "F(U) = Σ_i [½ log U_ii - U_ii Σ_ii/λ] - (n/2) log πλ",
    "isotropic": "F(U) = (n/2) log Tr U - Tr U Tr Σ/(λn) - (n/2) log πλn",
}
_HYPERGRADIENTS = {
    "full": "∇_U F = ½ U⁻¹ - Σ/λ",
    "diagonal": "∇_U F = diag(1/(2U_ii) - Σ_ii/λ)",
    "isotropic": "∇_U F = (n/(2 Tr U) - Tr Σ/(λn)) I",
}
_IMPLICIT = {
    structure: f"-(∂²_{{Uθ}}J)(∂²_{{θθ}}J)⁻¹ ∂_θF: {text}"
    for structure, text in _HYPERGRADIENTS.items()
}
_REWARDS = {
    "full": "U* = (λ/2) Σ⁻¹, the unique maximiser",
    "diagonal": "U*_ii = λ/(2Σ_ii), whatever the other entries",
    "isotropic": "U* = λn/(2 Tr Σ) I, and every U with Tr U = λn²/(2 Tr Σ)",
}


@result(ANY, STRUCTURES, statements=_OBJECTIVES)
def objective(structure: Structure, n: int | None) -> Derivation:
    """F(U) = E_y log N(y; μ, P*(U)); full: ½ log det U - Tr(UΣ)/λ - (n/2) log πλ.

    Args:
        structure: of the policy covariance; U is always full.
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in U, Sigma, lam.
    Raises:
        StructureError: for an unknown structure.
    Source: paper (full, isotropic), new (diagonal).
    """
    mu, Sigma, U = symbols("mu Sigma U", n)
    lam = symbol("lam")
    best = inner.solution(structure, n).derived
    F = definitions.log_likelihood(mu, best, mu, Sigma)
    return Derivation(
        symbol="F",
        arguments={"U": U, "Sigma": Sigma, "lam": lam},
        stated=stated.outer_objective(structure, U, Sigma, lam, dimension(n)),
        derived=normal(F) if n is None else F,
        assumptions=(*DOMAIN, f"P {structure}"),
        steps=(Step("inner solution P*(U)", best), Step("E_y log N(y; μ, P*)", F)),
        source=shape(structure).source,
    )


@result(ANY, STRUCTURES, statements=_HYPERGRADIENTS)
def hypergradient(structure: Structure, n: int | None) -> Derivation:
    """∇_U F = ½ U⁻¹ - Σ/λ (full), the symmetric G with dF = Tr(G dU).

    Args:
        structure: of the policy covariance; U is always full.
        n: dimension, or None for general size.
    Returns:
        Derivation in U, Sigma, lam; shape (n, n).
    Raises:
        StructureError: for an unknown structure.
    Source: paper (full, isotropic), new (diagonal).
    """
    F = objective(structure, n)
    U, Sigma, lam = F.arguments.values()
    G = gradient(F.derived, U)
    return Derivation(
        symbol="∇_U F",
        arguments=F.arguments,
        stated=stated.hypergradient(structure, U, Sigma, lam),
        derived=reduced(G),
        assumptions=(*F.assumptions, SYMMETRIC),
        steps=(*F.steps, Step("differentiate F in U", G)),
        source=F.source,
    )


@result(ANY, STRUCTURES, statements=_IMPLICIT)
def implicit_hypergradient(structure: Structure, n: int | None) -> Derivation:
    """∇_U F = -(∂²_{Uθ}J)(∂²_{θθ}J)⁻¹ ∂_θF at the inner solution, θ = (m, factors of P).

    In entries, P = Cᵀ D C with C unit lower triangular; at U = A E Aᵀ the inner solution is
    C = A⁻¹, D = (λ/2) E⁻¹, which a condition checks. For general n θ = (m, P), and the adjoint
    -(∂²_{θθ}J)⁻¹ ∂_θF solves its equation along every direction, which conditions check.

    Args:
        structure: of the policy covariance; U is always full.
        n: dimension, or None for general size.
    Returns:
        Derivation in U, Sigma, lam; shape (n, n), the symmetric G with dF = Tr(G dU).
    Raises:
        StructureError: for an unknown structure.
    Source: paper (implicit differentiation).
    """
    Sigma, U, lam = *symbols("Sigma U", n), symbol("lam")
    if n is None:
        derived, steps, conditions = _general_implicit(structure)
    else:
        derived, steps, conditions = _explicit_implicit(structure, n)
    return Derivation(
        symbol="∇_U F",
        arguments={"U": U, "Sigma": Sigma, "lam": lam},
        stated=stated.hypergradient(structure, U, Sigma, lam),
        derived=derived,
        assumptions=(*DOMAIN, f"P {structure}", SYMMETRIC),
        steps=steps,
        conditions=conditions,
        source="paper",
    )


@result(ANY, STRUCTURES, statements=_REWARDS)
def optimal_reward(structure: Structure, n: int | None) -> Derivation:
    """U* = (λ/2) Σ⁻¹ (full), diag(λ/(2Σ_ii)) (diagonal), λn/(2 Tr Σ) I (isotropic).

    Args:
        structure: of the policy covariance.
        n: dimension, or None for general size.
    Returns:
        Derivation in Sigma, lam; shape (n, n). Uniqueness (full: U, diagonal: its diagonal,
        isotropic: its trace) follows from the conditions: F is strictly concave there, and
        constant in all other directions.
    Raises:
        StructureError: for an unknown structure.
    Source: paper (full, isotropic), new (diagonal, the whole optimal set).
    """
    F, within = objective(structure, n), shape(structure)
    U, Sigma, lam = F.arguments.values()
    if n is None:
        best, conditions = _general_reward(within, F.derived, U)
    else:
        C, D = within.factors("U", n)
        kept = {entry: sp.Dummy("kept") for entry in free_entries(Sigma)}
        restricted = normal(replace(F.derived, U, C * D * C.T).xreplace(kept))
        restricted = restricted.xreplace({dummy: entry for entry, dummy in kept.items()})
        best = ldl_product(C, D, solve_ldl(restricted, C, D))
        conditions = outer_maximum(within, n, F.derived, best)
    return Derivation(
        symbol="U*",
        arguments={"Sigma": Sigma, "lam": lam},
        stated=stated.optimal_reward(structure, Sigma, lam),
        derived=best,
        assumptions=("Σ symmetric positive definite, λ > 0", MOMENTS, f"P {structure}"),
        steps=(*F.steps, Step("solve ∇_U F = 0", best)),
        conditions=conditions,
        source=F.source,
    )


@result(ANY)
def bilevel_solution(n: int | None) -> Derivation:
    """P*(U*) = Σ: with m* = μ, the bilevel solution is the maximum-likelihood Gaussian.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in Sigma; shape (n, n).
    Source: paper.
    """
    U, Sigma = symbols("U Sigma", n)
    policy, best = inner.solution("full", n).derived, optimal_reward("full", n).derived
    P = replace(policy, U, best)
    return Derivation(
        symbol="P*(U*)",
        arguments={"Sigma": Sigma},
        stated=Sigma,
        derived=reduced(tidy(P)),
        assumptions=("Σ symmetric positive definite, λ > 0", MOMENTS, "P full"),
        steps=(Step("P*(U)", policy), Step("U*", best)),
        source="paper",
    )


@result(ANY)
def concavity(n: int | None) -> Derivation:
    """d²F(U; H, H) = -½ Tr(U⁻¹HU⁻¹H) < 0 for every symmetric H ≠ 0.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in U, H. Conditions: it is minus a sum of squares that vanish together
        only at H = 0; for general n, minus ½‖KHK‖² with U⁻¹ = K².
    Source: new.
    """
    U, H = symbols("U H", n)
    F = objective("full", n).derived
    curvature = second_differential(F, (U, H))
    conditions = (
        outer_maximum(shape("full"), n, F, None)
        if n is not None
        else general_outer_concavity(curvature, U, H)
    )
    return Derivation(
        symbol="d²F",
        arguments={"U": U, "H": H},
        stated=stated.second_differential(U, H),
        derived=tidy(curvature),
        assumptions=(*DOMAIN, "H symmetric"),
        steps=(Step("d²F(U + tH)/dt² at t = 0", curvature),),
        conditions=conditions,
    )


def _general_implicit(structure: Structure) -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    """The hypergradient by the adjoint equation in (m, P), general n, its steps and conditions."""
    m, P, mu, Sigma, U, H = symbols("m P mu Sigma U H", None)
    best = inner.solution(structure, None).derived
    J = definitions.objective(m, P, mu, Sigma, U, symbol("lam"))
    within = shape(structure)
    found = adjoint(within, mu, best)
    mean = gradient(J, m).xreplace({m: mu})
    seen = within.project(replace(gradient(J, P), P, best), H)
    return (
        found.hypergradient,
        (Step("inner solution P*(U)", best), *found.steps),
        (
            zero("∂_mJ = 0 at the inner solution", mean),
            zero("∂_PJ = 0 within the structure at the inner solution", seen),
            *found.of_mean,
            *found.of_covariance,
        ),
    )


def _explicit_implicit(
    structure: Structure, n: int
) -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    """The same in the factors of P, entry by entry."""
    m, mu, Sigma, U = symbols("m mu Sigma U", n)
    lam = symbol("lam")
    within = shape(structure)
    C, D = within.factors("P", n)
    P = C.T * D * C
    J = definitions.objective(m, P, mu, Sigma, U, lam)
    F = definitions.log_likelihood(m, P, mu, Sigma)
    theta = sp.Matrix([*m, *dict.fromkeys(x for x in (*C, *D) if x.is_Symbol)])
    weights = sp.Matrix(free_entries(U))
    solution = _inner_factors(within, n, C, D, U, lam) | dict(zip(m, mu, strict=True))

    def at_solution(X: Any) -> Any:
        X = X.xreplace(solution)
        return X.applyfunc(lambda x: sp.expand(to_coordinates(x))) if within.dense else X

    first = sp.Matrix([J]).jacobian(theta).T
    H = at_solution(first.jacobian(theta))
    cross = at_solution(first.jacobian(weights))
    pull = at_solution(sp.Matrix([F]).jacobian(theta).T)
    partials = -cross.T * inverse(H) * pull
    G = shape("full").assemble(list(partials), n)
    derived = lowest_terms(from_coordinates(lowest_terms(G)))
    steps = (
        Step("∂²_{θθ}J at the inner solution", H),
        Step("∂²_{Uθ}J at the inner solution", cross),
        Step("∂_θF at the inner solution", pull),
    )
    return derived, steps, (zero("∂_θJ = 0 at the inner solution", at_solution(first)),)


def _general_reward(within: Shape, F: Any, U: Any) -> tuple[Any, tuple[Condition, ...]]:
    """U* for general n, and why F has no other maximum within the structure, no slope off it."""
    if within.shared:
        Sigma, u, n = symbol("Sigma", None), symbol("u"), U.rows
        on_ray = normal(replace(F, U, u * identity(U)))
        (scale,) = solve_linear([sp.expand(u * slope(on_ray, u))], [u])
        best, target = scale * identity(U), stated.optimal_trace(Sigma, symbol("lam"), n)
        return best, (
            zero("F depends on U through Tr U only", replace(F, U, trace(U) / n * identity(U)) - F),
            positive("-u² d²F/du² > 0 on U = uI", -(u**2) * slope(slope(on_ray, u), u)),
            zero("Tr U* = λn²/(2 Tr Σ)", trace(best) - target),
        )
    H, part = symbol("H", None), within.within(U)
    curvature = second_differential(F, (U, H))
    return solve_inverse_equation(gradient(F, U), part), (
        zero("F depends on U through its part in the structure only", replace(F, U, part) - F),
        *general_outer_concavity(curvature, part, within.within(H)),
    )


def _inner_factors(within: Shape, n: int, C: Any, D: Any, U: Any, lam: Any) -> dict[Any, Any]:
    """The factors of the inner solution P = Cᵀ D C in LDL coordinates of U."""
    if within.shared:
        return {D[0, 0]: lam * n / (2 * U.trace())}
    if not within.dense:
        return {D[i, i]: lam / (2 * U[i, i]) for i in range(n)}
    A, E = ldl_factors("U", n)
    unit = inverse(A)
    factors = {C[i, j]: sp.expand(unit[i, j]) for i in range(n) for j in range(i)}
    return factors | {D[i, i]: lam / (2 * E[i, i]) for i in range(n)}
