"""The functional hypergradient: implicit differentiation in the policy's outputs (m(x), P(x)).

In the parameters of a network the Hessian of J is singular; in the outputs J is strictly concave,
one input at a time, and the adjoint (a, A), which maximises ½ d²J(a, A) + dF(a, A), is a closed
form. With m(x) and P(x) free at every input, ∇_U F = E_x ∂_U dJ(a, A); formulas are for one input.
Source: Petrulionyte, Mairal, Arbel, "Functional Bilevel Optimization for Machine Learning", 2024.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS, SPD, SYMMETRIC
from ..calculus.adjoint import adjoint
from ..calculus.conditions import Condition, zero
from ..calculus.expanding import expanded
from ..calculus.ldl import from_coordinates, ldl_factors
from ..calculus.matrices import gradient, lowest_terms, replace, zip_entries
from ..calculus.normal_form import normal, reduced
from ..calculus.slopes import derivative
from ..calculus.stationary import solve_linear
from ..calculus.structures import Shape, free_entries, shape
from ..calculus.symbols import STRUCTURES, Structure, symbol, symbols
from ..derivation import Derivation, Step
from ..gaussian import inner, misspecification
from ..gaussian import stated as outer_problem
from ..result import ANY, result
from . import outputs, stated

FREE = "m(x) and P(x) are free at every input x"
_ADJOINTS = {
    "full": "A = (2/λ) P (∂_P F) P = (Σ + eeᵀ - P)/λ, e = m - μ",
    "diagonal": "A_ii = (2/λ) P_ii² ∂F/∂P_ii = (Σ_ii + e_i² - P_ii)/λ, e = m - μ",
    "isotropic": "A = (2/(λn)) s² ∂F/∂s I = (Tr(Σ + eeᵀ)/n - s)/λ I, e = m - μ, P = sI",
}
_HYPERGRADIENTS = {
    "full": "∇_U F = ½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹) + (P - Σ - eeᵀ)/λ, e = m - μ",
    "diagonal": "∇_U F = ½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹) + diag(P_ii - Σ_ii - e_i²)/λ, e = m - μ",
    "isotropic": "∇_U F = ½(U⁻¹eeᵀ + eeᵀU⁻¹)/s + (s - Tr(Σ + eeᵀ)/n)/λ I, e = m - μ",
}
_AT_SOLUTION = {
    "full": "functional ∇_U F = ½ U⁻¹ - Σ/λ at m = μ, P = (λ/2)U⁻¹",
    "diagonal": "functional ∇_U F = diag(1/(2U_ii) - Σ_ii/λ) at m = μ, P_ii = λ/(2U_ii)",
    "isotropic": "functional ∇_U F = (n/(2 Tr U) - Tr Σ/(λn)) I at m = μ, P = λn/(2 Tr U) I",
}


@result(ANY)
def mean_adjoint(n: int | None) -> Derivation:
    """a = (2U)⁻¹ ∂_mF = -½ U⁻¹P⁻¹(m - μ).

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in m, P, mu, U; a vector of shape (n,), the same for every structure of P.
        Conditions: it makes ½ d²J(h) + dF(h) stationary in h, and is (2U)⁻¹ ∂_mF.
    Source: new.
    """
    m, P, mu, Sigma, U, h = symbols("m P mu Sigma U h", n)
    if n is None:
        found = adjoint(shape("full"), m, P)
        a, steps, solved = found.a, found.steps, found.of_mean
        pull = gradient(definitions.log_likelihood(m, P, mu, Sigma), m)
    else:
        J, F = _levels_in_mean(n, P)
        concave, pull = _mean_problem(n, P), gradient(F, m)
        a = outputs.maximiser(concave, h)
        steps = (Step("½ d²J(h) + dF(h)", concave), Step("its maximiser", a))
        solved = (zero("d²J(a, h) + dF(h) = 0 for every h", outputs.at_adjoint(J, F, m, h, a)),)
    return Derivation(
        symbol="a",
        arguments={"m": m, "P": P, "mu": mu, "U": U},
        stated=stated.mean_adjoint(m - mu, P, U),
        derived=a,
        assumptions=(SPD, MOMENTS, FREE),
        steps=steps,
        conditions=(*solved, zero("a = (2U)⁻¹ ∂_mF", 2 * U * a - pull)),
    )


@result(ANY, STRUCTURES, statements=_ADJOINTS)
def covariance_adjoint(structure: Structure, n: int | None) -> Derivation:
    """A = (2/λ) P (∂_PF) P = (Σ + eeᵀ - P)/λ (full), within the structure otherwise; e = m - μ.

    Args:
        structure: of the policy covariance.
        n: dimension, or None for general size.
    Returns:
        Derivation in m, P, mu, Sigma, lam; shape (n, n). In place of P a diagonal policy takes L,
        P_ii = L_ii², and an isotropic one s, P = sI. Conditions: A = CXCᵀ makes ½ d²J(H) + dF(H)
        stationary in every H of the structure, and is (2/λ) P (∂_PF) P, in the coordinates of
        P = CDCᵀ (C = I unless P is full).
    Raises:
        StructureError: for an unknown structure.
    Source: new.
    """
    m, mu, Sigma = symbols("m mu Sigma", n)
    within = shape(structure)
    P = within.policy(n)
    if n is None:
        found = adjoint(within, m, P)
        A, steps, conditions = found.A, found.steps, found.of_covariance
    else:
        P = within.in_argument(P)
        A, steps, conditions = _explicit_covariance(within, n)
    return Derivation(
        symbol="A",
        arguments={
            "m": m,
            **outputs.argument(within, n),
            "mu": mu,
            "Sigma": Sigma,
            "lam": symbol("lam"),
        },
        stated=stated.covariance_adjoint(structure, m - mu, P, Sigma, symbol("lam")),
        derived=A,
        assumptions=(SPD, f"P {structure}", MOMENTS, FREE),
        steps=steps,
        conditions=conditions,
    )


@result(ANY, STRUCTURES, statements=_HYPERGRADIENTS)
def hypergradient(structure: Structure, n: int | None) -> Derivation:
    """∇_U F = ½(U⁻¹P⁻¹eeᵀ + eeᵀP⁻¹U⁻¹) + (P - Σ - eeᵀ)/λ at outputs m = μ + e and P (full).

    The outputs need not be the inner solution: this is what the functional form gives for a policy
    that misses it. In other coordinates than (m, P) it would give something else there.

    Args:
        structure: of the policy covariance; U is always full.
        n: dimension, or None for general size.
    Returns:
        Derivation in m, P (diagonal: L, isotropic: s), mu, Sigma, U, lam; shape (n, n), symmetric
        gradient. Conditions for general n: those of both adjoints, which in entries are results.
    Raises:
        StructureError: for an unknown structure.
    Source: new.
    """
    m, mu, Sigma, U = symbols("m mu Sigma U", n)
    lam, within = symbol("lam"), shape(structure)
    P = within.policy(n)
    if n is None:
        found = adjoint(within, m, P)
        derived, steps = found.hypergradient, found.steps
        conditions = (*found.of_mean, *found.of_covariance)
    else:
        P = within.in_argument(P)
        derived, steps = _explicit_hypergradient(structure, n)
        conditions = ()  # those of the adjoints
    arguments = {
        "m": m,
        **outputs.argument(within, n),
        "mu": mu,
        "Sigma": Sigma,
        "U": U,
        "lam": lam,
    }
    return Derivation(
        symbol="∇_U F",
        arguments=arguments,
        stated=stated.functional(structure, m - mu, P, U, Sigma, lam),
        derived=derived,
        assumptions=(SPD, f"P {structure}", MOMENTS, FREE, SYMMETRIC),
        steps=steps,
        conditions=conditions,
    )


@result(ANY, STRUCTURES, statements=_AT_SOLUTION)
def at_solution(structure: Structure, n: int | None) -> Derivation:
    """∇_U F = ½ U⁻¹ - Σ/λ (full) at the inner solution: the hypergradient of the parameters.

    Args:
        structure: of the policy covariance; U is always full.
        n: dimension, or None for general size.
    Returns:
        Derivation in U, Sigma, lam; shape (n, n), symmetric gradient. Conditions for general n:
        those of both adjoints.
    Raises:
        StructureError: for an unknown structure.
    Source: new.
    """
    Sigma, U, mu = symbols("Sigma U mu", n)
    derived, conditions = _at_inner_covariance(structure, n, mu, mu)
    return Derivation(
        symbol="∇_U F",
        arguments={"U": U, "Sigma": Sigma, "lam": symbol("lam")},
        stated=outer_problem.hypergradient(structure, U, Sigma, symbol("lam")),
        derived=derived,
        assumptions=("U, Σ symmetric positive definite, λ > 0", f"P {structure}", MOMENTS, FREE),
        steps=(Step("functional ∇_U F at m = μ, P = P*(U)", derived),),
        conditions=conditions,
    )


@result(ANY)
def restricted_mean_gap(n: int | None) -> Derivation:
    """functional ∇_U F - parametric ∇_U F = (2/λ) E eeᵀ where the mean misses μ(x) by e(x).

    The functional form takes m(x) for free, the parametric one knows that the mean is restricted,
    m(x) = β v(x), and that β = β_U solves E vᵀUe = 0. P is full and free, P = P*(U).

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in w, e_a, e_b (errors at the two inputs, at β_U), lam; shape (n, n), symmetric
        gradient. Condition: that of the parametric form.
    Source: new.
    """
    w, e_a, e_b, mu_a, mu_b = symbols("w e_a e_b mu_a mu_b", n)
    Sigma, Sigma_a, Sigma_b = symbols("Sigma Sigma_a Sigma_b", n)
    lam = symbol("lam")

    def at(e: Any, mu: Any, covariance: Any) -> Any:
        return replace(_at_inner_covariance("full", n, mu + e, mu)[0], Sigma, covariance)

    functional = w * at(e_a, mu_a, Sigma_a) + (1 - w) * at(e_b, mu_b, Sigma_b)
    parametric = misspecification.restricted_mean_hypergradient(n)
    gap = functional - parametric.derived
    return Derivation(
        symbol="Δ∇_U F",
        arguments={"w": w, "e_a": e_a, "e_b": e_b, "lam": lam},
        stated=stated.restricted_mean_gap(w, e_a, e_b, lam),
        derived=reduced(gap),
        assumptions=(*parametric.assumptions, "the functional form: " + FREE),
        steps=(
            Step("functional, averaged over x", functional),
            Step("parametric, at β_U", parametric.derived),
        ),
        conditions=parametric.conditions,
    )


def _explicit_covariance(within: Shape, n: int) -> Any:
    """The adjoint A, the steps to it and its conditions, in entries."""
    m, mu, Sigma, U = symbols("m mu Sigma U", n)
    lam = symbol("lam")
    P, H = within.policy(n), within.restrict(symbol("H", n))
    free, along = free_entries(P), free_entries(H)
    J = definitions.objective(m, P, mu, Sigma, U, lam)
    F = definitions.log_likelihood(m, P, mu, Sigma)
    kept = {entry: sp.Dummy("kept") for entry in free_entries(Sigma)}  # outside the coordinates
    curvature, pull = (
        outputs.second(J, free, along) / 2,
        outputs.first(F, free, along).xreplace(kept),
    )
    back = {dummy: entry for entry, dummy in kept.items()}
    if within.dense:  # with P = C D Cᵀ and H = C X Cᵀ the equations for X are diagonal
        curvature, pull = normal(curvature), normal(pull)
        C, D = ldl_factors("P", n)
        X = C * H * C.T
    else:
        X, D = H, P
    concave = curvature + pull
    turned, turned_pull = (expanded(replace(f, H, X)) for f in (concave, pull))
    solution = solve_linear([derivative(turned, x) for x in along], along)
    solution = dict(zip(along, solution, strict=True))
    best = X.xreplace(solution).applyfunc(expanded)
    A = from_coordinates(best)
    value = dict(zip(H, A, strict=True))
    equation = outputs.at_adjoint(J, F.xreplace(kept), free, along, [value[x] for x in along])
    A = within.in_argument(lowest_terms(A.xreplace(back)))
    G = within.assemble([derivative(turned_pull, x) for x in along], n)
    gap = H.xreplace(solution) - 2 / lam * D * G * D
    steps = (
        Step("½ d²J(H) + dF(H), P = CDCᵀ where it is full", concave),
        Step("its maximiser", A),
    )
    conditions = (
        zero("d²J(A, H) + dF(H) = 0 for every H", equation),
        zero("X = (2/λ) D (Cᵀ ∂_PF C) D", expanded(gap)),
    )
    return A, steps, conditions


def _explicit_hypergradient(structure: Structure, n: int) -> Any:
    """The functional hypergradient at any outputs, and the steps to it, in entries."""
    within = shape(structure)
    P, H = within.policy(n), within.restrict(symbol("H", n))
    h = symbol("h", n)
    a = outputs.maximiser(_mean_problem(n, P), h)
    A = covariance_adjoint(structure, n).derived
    slope, cross = _cross(within, n)
    derived = replace(replace(cross, h, a), H, A)
    derived = within.in_argument(derived)
    steps = (
        Step("dJ(h, H)", slope),
        Step("its gradient in U", cross),
        Step("at the adjoint (a, A)", derived),
    )
    return derived, steps


def _levels_in_mean(n: int, P: Any) -> tuple[Any, Any]:
    """J and F as functions of the mean, F at the covariance P; that of J does not matter."""
    m, mu, Sigma, U = symbols("m mu Sigma U", n)
    J = definitions.objective(m, symbol("P", n), mu, Sigma, U, symbol("lam"))
    return J, definitions.log_likelihood(m, P, mu, Sigma)


def _mean_problem(n: int, P: Any) -> Any:
    """½ d²J(h) + dF(h) along the mean."""
    (J, F), m, h = _levels_in_mean(n, P), *symbols("m h", n)
    return outputs.second(J, m, h) / 2 + outputs.first(F, m, h)


def _cross(within: Shape, n: int) -> tuple[Any, Any]:
    """dJ(h, H), and its gradient in U."""
    m, mu, Sigma, U, h = symbols("m mu Sigma U h", n)
    P, H = within.policy(n), within.restrict(symbol("H", n))
    J = definitions.objective(m, P, mu, Sigma, U, symbol("lam"))
    slope = outputs.first(J, m, h) + outputs.first(J, free_entries(P), free_entries(H))
    return slope, gradient(slope, U).applyfunc(expanded)


def _at_inner_covariance(
    structure: Structure, n: int | None, m: Any, mu: Any
) -> tuple[Any, tuple[Condition, ...]]:
    """The functional hypergradient at P = P*(U) and a given mean; why its adjoint is one."""
    P, within = inner.solution(structure, n).derived, shape(structure)
    if n is None:
        found = adjoint(within, m, P)
        G = replace(found.hypergradient, symbol("mu", None), mu)
        return G, (*found.of_mean, *found.of_covariance)
    h, H = symbols("h H", n)
    a = outputs.maximiser(_mean_problem(n, P), h)
    A = within.at(covariance_adjoint(structure, n).derived, P)
    G = replace(replace(_cross(within, n)[1], h, a), H, A)
    moments = zip_entries((symbol("m", n), m), (symbol("mu", n), mu))
    return lowest_terms(G.xreplace(dict(moments))), ()  # conditions: those of the adjoints
