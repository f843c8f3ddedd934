"""The hypergradient of K gradient steps on a Gaussian policy, from its inner optimum."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .. import definitions
from ..assumptions import MOMENTS, SYMMETRIC
from ..calculus.conditions import Condition, zero
from ..calculus.expanding import expanded
from ..calculus.matrices import (
    diagonal_part,
    differential,
    gradient,
    identity,
    lowest_terms,
    replace,
    slope,
)
from ..calculus.normal_form import normal
from ..calculus.slopes import derivative
from ..calculus.stationary import solve_linear
from ..calculus.structures import free_entries, shape
from ..calculus.symbols import Structure, symbol, symbols
from ..derivation import Derivation, Step
from ..gaussian import inner
from ..result import ANY, result
from . import stated
from .unrolled import after

_STATEMENTS: dict[Structure, str] = {
    "diagonal": "K steps in log s from the optimum: ∇_U F (1 - (1 - 2ηλ)^K)",
    "isotropic": "K steps in log s from the optimum: ∇_U F (1 - (1 - 2ηλn)^K)",
}


@result(ANY, tuple(_STATEMENTS), statements=_STATEMENTS)
def hypergradient(structure: Structure, n: int | None) -> Derivation:
    """∇_U F (1 - ρ^K), ρ = 1 - 2ηλ (diagonal) or 1 - 2ηλn (isotropic): K steps from the optimum.

    Coordinates (m, log s_i) with P_ii = s_i². At the optimum the step has the Jacobian ρ in every
    log s, and the path stays, so that D_k = ∂ log s_k/∂U obeys D_{k+1} = ρD_k + η ∂²J.

    Args:
        structure: of the policy covariance, "diagonal" or "isotropic".
        n: dimension, or None for general size.
    Returns:
        Derivation in U, Sigma, lam, eta, steps; shape (n, n), the symmetric G with dF = Tr(G dU).
        Conditions: the optimum is stationary, log s separates there, the mean does not respond;
        in entries, 1, 2 and 3 steps taken one by one and differentiated give the same; for general
        n, the solution of the recursion obeys it.
    Raises:
        StructureError: for "full", whose Hessian in Cholesky factors is no multiple of one.
    Source: new.
    """
    Sigma, U = symbols("Sigma U", n)
    lam, eta, K = symbols("lam eta steps")
    proof = _in_general(structure) if n is None else _in_entries(structure, n)
    derived, steps, conditions = proof
    return Derivation(
        symbol="∇_U F_K",
        arguments={"U": U, "Sigma": Sigma, "lam": lam, "eta": eta, "steps": K},
        stated=stated.gaussian(structure, U, Sigma, lam, eta, K),
        derived=derived,
        assumptions=(
            "U, Σ symmetric positive definite, λ > 0",
            MOMENTS,
            f"P {structure}, coordinates (m, log s), from the inner optimum",
            SYMMETRIC,
        ),
        steps=steps,
        conditions=conditions,
    )


def _in_entries(
    structure: Structure, n: int
) -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    """The hypergradient of K steps, its steps and conditions, in every log s_i and entry of U."""
    mu, Sigma, U, m = symbols("mu Sigma U m", n)
    lam, eta, K = symbols("lam eta steps")
    count = 1 if shape(structure).shared else n
    s = sp.symbols(f"s_1:{count + 1}", positive=True)
    P = sp.ImmutableMatrix.diag(*(s[min(i, count - 1)] ** 2 for i in range(n)))
    J = definitions.objective(m, P, mu, Sigma, U, lam)
    F = definitions.log_likelihood(m, P, mu, Sigma)
    best = inner.solution(structure, n).derived
    centre = dict(zip(m, mu, strict=True))
    at = centre | {s[i]: sp.sqrt(best[i, i]) for i in range(count)}
    slopes = [expanded(x * derivative(J, x)) for x in s]
    H = sp.Matrix(count, count, lambda i, j: s[j] * sp.diff(slopes[i], s[j])).xreplace(at)
    rates = [lowest_terms(1 + eta * H[i, i]) for i in range(count)]
    partial = dict.fromkeys(free_entries(U), sp.S.Zero)
    for u in partial:
        for i in range(count):
            moved = after(K, sp.S.Zero, rates[i], eta * sp.diff(slopes[i], u).xreplace(at))
            partial[u] += (s[i] * sp.diff(F, s[i])).xreplace(at) * moved
    derived = shape("full").assemble(list(partial.values()), n)
    mean = sp.Matrix([sp.diff(J, x) for x in m])
    still = [mean, mean.jacobian(sp.Matrix(list(s))), mean.jacobian(sp.Matrix(list(partial)))]
    steps = (Step("∂J/∂log s", sp.Matrix(slopes)), Step("its slopes at the optimum", H))
    return (
        derived,
        steps,
        (
            zero("the optimum is stationary", sp.Matrix(slopes).xreplace(at)),
            zero("log s separates", H - sp.diag(*H.diagonal())),
            *(zero("the mean stays", X.xreplace(at)) for X in still),
            *_one_by_one(s, slopes, F, derived, centre, U),
        ),
    )


def _in_general(
    structure: Structure,
) -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    """The same for general n, by differentials along log s: dP = 2P dlog s.

    D_K[dU] is a number x_K of the recursion times ∂²J[dU], and dF = ∂F D_K[dU] is linear in dU.
    """
    m, P, mu, Sigma, U, h, H = symbols("m P mu Sigma U h H", None)
    lam, eta, K = symbols("lam eta steps")
    shared = shape(structure).shared
    z: Any = sp.Symbol("z", real=True) if shared else H  # a direction of log s
    policy = P if shared else diagonal_part(P)

    def log_scale(direction: Any) -> Any:
        return direction * identity(P) if shared else diagonal_part(direction)

    def along(f: Any, direction: Any) -> Any:
        return differential(f, P, 2 * policy * log_scale(direction))

    def rate_of(f: Any) -> Any:
        """The gradient in the direction z, of which f is a linear function."""
        return slope(normal(f), z) if shared else gradient(f, z)

    best = inner.solution(structure, None).derived

    def at(f: Any) -> Any:
        return f.xreplace({policy: best}).xreplace({m: mu})

    J = definitions.objective(m, policy, mu, Sigma, U, lam)
    F = definitions.log_likelihood(m, policy, mu, Sigma)
    other: Any = sp.Symbol("y", real=True) if shared else sp.MatrixSymbol("A", *P.shape)
    metric = z * other if shared else sp.Trace(log_scale(z) * log_scale(other))
    bend = normal(at(along(along(J, z), other)))
    one = sp.S.One if shared else identity(P)
    ends = [normal(replace(replace(f, z, one), other, one)) for f in (bend, metric)]
    curvature = ends[0] / ends[1]  # along one direction; a condition says: along all of them
    rho = 1 + eta * curvature
    x = after(K, sp.S.Zero, rho, eta)
    pull = rate_of(at(along(F, z)))
    cross = at(gradient(along(J, z), U))
    mean = differential(J, m, h)
    still = (mean, along(mean, z), gradient(mean, U))
    derived = replace(cross, z, x * pull)
    return (
        normal(derived),
        (
            Step("∂J along log s", along(J, z)),
            Step("its slope at the optimum", bend),
            Step("x_K of x_{k+1} = ρx_k + η, x_0 = 0", x),
            Step("∂F along log s", pull),
        ),
        (
            zero("the optimum is stationary", normal(at(along(J, z)))),
            zero("log s separates, with one curvature", bend - curvature * metric),
            *(zero("the mean stays", at(f)) for f in still),
            zero("x_0 = 0", x.subs(K, 0)),
            zero("x_{K+1} = ρx_K + η", x.subs(K, K + 1) - rho * x - eta),
        ),
    )


def _one_by_one(
    s: Any, slopes: list[Any], F: Any, derived: Any, centre: dict[Any, Any], U: Any
) -> list[Condition]:
    """1, 2 and 3 steps taken from s, differentiated in U, and only then put at the optimum.

    The optimum is given by s here: the diagonal of U follows from it.
    """
    eta, reached = symbol("eta"), dict(zip(s, s, strict=True))
    at = centre | {U[i, i]: solve_linear([slope], [U[i, i]])[0] for i, slope in enumerate(slopes)}
    conditions: list[Condition] = []
    for count in (1, 2, 3):
        reached = {
            x: reached[x] * sp.exp(eta * slope.xreplace(reached))
            for x, slope in zip(s, slopes, strict=True)
        }
        G = gradient(F.xreplace(reached), U).xreplace(at)
        G = G.replace(sp.exp, lambda x: sp.exp(lowest_terms(x)))  # the optimum does not move
        expected = derived.subs(symbol("steps"), count).xreplace(at)
        conditions.append(zero(f"{count} steps taken one by one", G - expected))
    return conditions
