"""Rewards on a ray U = cM: the best scale, what the direction costs, what a wrong scale costs."""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from ..assumptions import MOMENTS
from ..calculus.conditions import Condition, positive, zero
from ..calculus.general_n import is_general
from ..calculus.matrices import logdet, lowest_terms, replace, slope
from ..calculus.normal_form import normal, tidy
from ..calculus.stationary import solve_linear
from ..calculus.symbols import dimension, named, symbol, symbols
from ..derivation import Derivation, Step
from ..result import ANY, BETWEEN, result
from . import stated
from .outer import objective, optimal_reward

DOMAIN = ("M, Σ symmetric positive definite, λ > 0", "P full", MOMENTS)


@result(ANY)
def optimal_scale(n: int | None) -> Derivation:
    """c* = λn/(2 Tr(MΣ)), the best reward U = cM on the ray of M.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in M, Sigma, lam. Condition: F(cM) is strictly concave in c.
    Source: new; with M = I, the paper's scalar reward.
    """
    M, Sigma, lam, c = *symbols("M Sigma", n), symbol("lam"), symbol("c")
    F = _on_ray(None) if n is None else _moved(n)
    rate = _rate(F, c)
    best = solve_linear([rate], [c])[0]
    return Derivation(
        symbol="c*",
        arguments={"M": M, "Sigma": Sigma, "lam": lam},
        stated=stated.optimal_scale(M, Sigma, lam, dimension(n)),
        derived=best,
        assumptions=DOMAIN,
        steps=(Step("F(cM)", F), Step("c dF/dc", rate), Step("solve dF/dc = 0", best)),
        conditions=(positive("-c² d²F/dc² > 0", rate - _rate(rate, c)),),
    )


@result(ANY, zero=BETWEEN)
def loss(n: int | None) -> Derivation:
    """F(U*) - F(c*M) = ½ [n log(Tr(MΣ)/n) - log det(MΣ)] >= 0, zero iff M ∝ Σ⁻¹.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in M, Sigma. Conditions: with the eigenvalues w_i of MΣ, their mean a and
        ρ_i = w_i/a, the loss is Σ ½(ρ_i - 1 - log ρ_i), and each term is >= 0, zero iff ρ_i = 1.
    Source: new.
    """
    M, Sigma = symbols("M Sigma", n)
    F = objective("full", n)
    top = replace(F.derived, F.arguments["U"], optimal_reward("full", n).derived)
    here = _on_ray(n).xreplace({symbol("c"): optimal_scale(n).derived})
    return Derivation(
        symbol="F(U*) - F(c*M)",
        arguments={"M": M, "Sigma": Sigma},
        stated=stated.ray_loss(M, Sigma, dimension(n)),
        derived=tidy(top - here),
        assumptions=DOMAIN,
        steps=(Step("F(U*)", top), Step("F(c*M)", here)),
        conditions=(*_arithmetic_geometric(n), *relative_cost_is_positive()),
    )


@result(ANY)
def rescaling_regret(n: int | None) -> Derivation:
    """F(c*M) - F(kc*M) = (n/2)(k - 1 - log k) on every ray: prices a wrong λ, or U = I.

    Args:
        n: dimension, or None for general size.
    Returns:
        Scalar derivation in k, and n if it is a symbol. Conditions: it is >= 0, zero iff k = 1.
    Source: new.
    """
    k, c = symbol("k"), symbol("c")
    F, best = _on_ray(n), optimal_scale(n).derived
    regret = normal(F - F.xreplace({c: k * c})).xreplace({c: best})
    return Derivation(
        symbol="F(c*M) - F(kc*M)",
        arguments=named("k n" if n is None else "k"),
        stated=stated.rescaling_regret(k, dimension(n)),
        derived=normal(regret),
        assumptions=(*DOMAIN, "k > 0"),
        steps=(Step("F(c*M) - F(kc*M)", regret),),
        conditions=relative_cost_is_positive(),
    )


def relative_cost_is_positive() -> tuple[Condition, ...]:
    """½(ρ - 1 - log ρ) >= 0, zero iff ρ = 1: it vanishes with its slope there and is convex."""
    rho = sp.Symbol("rho", positive=True)
    cost = stated.relative_cost(rho)
    return (
        zero("½(ρ - 1 - log ρ) = 0 at ρ = 1", cost.subs(rho, 1)),
        zero("its slope is 0 at ρ = 1", sp.diff(cost, rho).subs(rho, 1)),
        positive("its second derivative is positive", sp.diff(cost, rho, 2)),
    )


def _arithmetic_geometric(n: int | None) -> tuple[Condition, ...]:
    """The loss in the eigenvalues w of MΣ is a sum of relative costs.

    General n: R = MΣ/a has the eigenvalues ρ_i, so that Σ ½(ρ_i - 1 - log ρ_i) is a trace.
    """
    if n is None:
        M, Sigma = symbols("M Sigma", n)
        R = M.rows / sp.Trace(M * Sigma) * M * Sigma
        costs = (sp.Trace(R) - M.rows - logdet(R)) / 2
        return (zero("loss = Σ ½(ρ_i - 1 - log ρ_i)", stated.ray_loss(M, Sigma, M.rows) - costs),)
    w = [sp.Symbol(f"omega_{i + 1}", positive=True) for i in range(n)]
    mean = sum(w) / sp.Integer(n)
    spectrum = sp.ImmutableMatrix.diag(*w)
    loss = stated.ray_loss(spectrum, sp.ImmutableMatrix.eye(n), n)
    costs = sum(stated.relative_cost(value / mean) for value in w)
    return (zero("loss = Σ ½(ρ_i - 1 - log ρ_i)", loss - costs),)


def _moved(n: int | None) -> Any:
    """F(cM) from the derived outer objective."""
    F = objective("full", n)
    return replace(F.derived, F.arguments["U"], symbol("c") * symbol("M", n))


@cache
def _on_ray(n: int | None) -> Any:
    """F(cM) with log c apart, in LDL coordinates of M and Σ where n is explicit."""
    return normal(_moved(n))


def _rate(F: Any, c: Any) -> Any:
    """c dF/dc."""
    return sp.expand(c * slope(F, c)) if is_general(F) else lowest_terms(c * sp.diff(F, c))
