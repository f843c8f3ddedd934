"""The inner problem of a categorical policy: its solution is a Gibbs law, whatever the reward.

Rewards of the classes g_c and probabilities enter through J(p) = Σ_c p_c g_c + λH(p) only. Both
p and π sum to 1: the last entry is written as 1 less the others.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from ..calculus.conditions import Condition, positive, zero
from ..calculus.ldl import ldl_factors
from ..calculus.stationary import solve_linear
from ..calculus.symbols import check_classes, symbol
from ..derivation import Derivation, Step
from ..result import CLASSES, result
from . import definitions, stated

ONE_HOT = "n classes, one-hot outcomes, π_c > 0, Σπ = 1 (the last is 1 less the others), λ > 0"
SYMMETRIC_U = "U symmetric (that it is positive definite is not used)"
SCALAR = "U = uI, u > 0"
LAM = symbol("lam")
ONLY_SIZES = "A form for any number of classes (n=None) is not derived"
_EXCESS = sp.Symbol("x", positive=True)  # by how much one positive number exceeds another


@cache
def probabilities(name: str, n: int) -> Any:
    """The probability vector of this name with its last entry as 1 less the others."""
    free = list(symbol(name, n))[:-1]
    return sp.ImmutableMatrix([*free, 1 - sp.Add(*free)])


@cache
def rewards(n: int) -> Any:
    """g_c = Σ_k π_k r_U(e_c, e_k), from the definition of the reward."""
    return definitions.class_rewards(probabilities("pi", n), symbol("U", n)).applyfunc(sp.expand)


@cache
def scalar_rewards(n: int) -> Any:
    """The same with U = uI."""
    U = symbol("u") * sp.ImmutableMatrix.eye(n)
    return definitions.class_rewards(probabilities("pi", n), U).applyfunc(sp.expand)


@cache
def levels(n: int) -> Any:
    """Symbols for the rewards g_c of the classes."""
    return sp.ImmutableMatrix(sp.symbols(f"g_1:{n + 1}", real=True))


@cache
def weights(n: int) -> Any:
    """Positive symbols w_c with g_c = λ log w_c: they range over all rewards."""
    return sp.ImmutableMatrix(sp.symbols(f"w_1:{n + 1}", positive=True))


@cache
def _slopes(n: int) -> Any:
    """The slopes of the Lagrangian J(p) + ν(1 - Σp), where p_c and ν are free."""
    p, multiplier = symbol("p", n), sp.Symbol("nu", real=True)
    J = definitions.objective(p, levels(n), LAM)
    lagrangian = J + multiplier * (1 - sp.Add(*p))
    return sp.ImmutableMatrix([sp.diff(lagrangian, x) for x in p])


@cache
def _logs(n: int) -> Any:
    """log p*(c) as the Lagrangian's first-order conditions give it, up to the multiplier."""
    logs = {sp.log(x): sp.Dummy(f"log p_{c}") for c, x in enumerate(symbol("p", n))}
    found = [
        solve_linear([slope.xreplace(logs)], [log])[0]
        for slope, log in zip(_slopes(n), logs.values(), strict=True)
    ]
    return sp.ImmutableMatrix(found)


def _odds(g: Any, c: int) -> list[Any]:
    """log p*(k) - log p*(c) at given rewards, where the multiplier drops out."""
    logs, at = _logs(g.rows), dict(zip(levels(g.rows), g, strict=True))
    return [sp.expand(sp.expand(log - logs[c]).xreplace(at)) for log in logs]


def law(g: Any) -> Any:
    """p*(c) = 1/Σ_k p*(k)/p*(c): the multiplier that makes the sum 1."""
    return sp.ImmutableMatrix([1 / sp.Add(*map(sp.exp, _odds(g, c))) for c in range(g.rows)])


def log_law(g: Any) -> Any:
    """log p*(c), relative to the last class."""
    odds = _odds(g, g.rows - 1)
    total = sp.log(sp.Add(*map(sp.exp, odds)))
    return sp.ImmutableMatrix([x - total for x in odds])


def in_weights(n: int) -> Any:
    """g_c = λ log w_c."""
    return weights(n).applyfunc(lambda w: LAM * sp.log(w))


def in_policy(f: Any, n: int) -> Any:
    """A function of the g_c that no common constant moves, as a polynomial in p*.

    At the inner solution g_c = λ log p*(c) up to a constant, and Σ_k p*(k)/p*(C) = 1/p*(C).
    """
    p = symbol("p", n)
    at = {g: LAM * sp.log(x) for g, x in zip(levels(n), p, strict=True)}
    total = sp.Add(*(x / p[n - 1] for x in p))
    value = f.xreplace(at).replace(sp.exp, _exp).xreplace({total: 1 / p[n - 1]})
    return sp.expand(sp.expand(value).xreplace({p[n - 1]: probabilities("p", n)[n - 1]}))


def _exp(exponent: Any) -> Any:
    return sp.exp(sp.expand(exponent))


@cache
def _is_stationary(n: int) -> tuple[Condition, ...]:
    """The law solves its first-order conditions, sums to 1, and is where J is concave."""
    w, p, best = weights(n), symbol("p", n), law(in_weights(n))
    logs = dict(zip(map(sp.log, p), log_law(in_weights(n)), strict=True))
    at = dict(zip(levels(n), in_weights(n), strict=True))
    slopes = _slopes(n).xreplace(logs | at)
    gaps = [slope - slopes[-1] for slope in slopes[:-1]]
    J = definitions.objective(p, levels(n), LAM)
    curvature = sp.hessian(J, list(p)).as_immutable()
    relative = [x - sp.log(best[c]) for c, x in enumerate(log_law(in_weights(n)))]
    return (
        zero("Σ p* = 1", sp.Add(*best) - 1),
        zero("p*(c) = w_c/Σw > 0", best - w / sp.Add(*w)),
        zero("all slopes of J are equal at p*", sp.Matrix(gaps)),
        zero("log p*", sp.Matrix(relative)),
        zero("∂²J/∂p² = -λ diag(1/p)", curvature + sp.diag(*(LAM / x for x in p))),
        positive("λ/p > 0: J is strictly concave", -curvature.diagonal()),
    )


@result(CLASSES, check=check_classes, quick=(8, ONLY_SIZES))
def solution(n: int) -> Derivation:
    """p*(c) = exp(f_c/λ)/Σ_k exp(f_k/λ), f_c = 2(Uπ)_c - U_cc: the Gibbs law maximises J.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in pi, U, lam; probabilities of shape (n,). Conditions: they sum to 1, the slopes
        of J are equal there, J is strictly concave.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, U, g = probabilities("pi", n), symbol("U", n), rewards(n)
    return Derivation(
        symbol="p*",
        arguments={"pi": symbol("pi", n), "U": U, "lam": LAM},
        stated=stated.gibbs(stated.log_weights(U, pi), LAM),
        derived=law(g),
        assumptions=(ONE_HOT, SYMMETRIC_U),
        steps=(
            Step("g_c = E_y r(e_c, y)", g),
            Step("slopes of J + ν(1 - Σp)", _slopes(n)),
            Step("log p*(c)", _logs(n)),
        ),
        conditions=_is_stationary(n),
    )


@result(CLASSES, check=check_classes, quick=(10, ONLY_SIZES))
def gibbs_gap(n: int) -> Derivation:
    """J(p*) - J(p) = λ KL(p ‖ p*) for every p: the Gibbs law is the only maximiser.

    Args:
        n: number of classes, >= 2.
    Returns:
        Scalar derivation in p, pi, U, lam. Condition: J(p*) = g_c - λ log p*(c), any c.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, p, U, g = probabilities("pi", n), probabilities("p", n), symbol("U", n), rewards(n)
    at = in_weights(n)
    level = definitions.objective(law(at), at, LAM)
    top = g[n - 1] - LAM * log_law(g)[n - 1]
    return Derivation(
        symbol="J(p*) - J(p)",
        arguments={"p": symbol("p", n), "pi": symbol("pi", n), "U": U, "lam": LAM},
        stated=stated.gibbs_gap(stated.log_weights(U, pi), p, LAM),
        derived=top - definitions.objective(p, g, LAM),
        assumptions=(ONE_HOT, SYMMETRIC_U, "p_c > 0, Σp = 1"),
        steps=(Step("g_c = E_y r(e_c, y)", g), Step("J(p*)", top)),
        conditions=(
            zero("J(p*) = g_C - λ log p*(C)", level - at[n - 1] + LAM * log_law(at)[n - 1]),
        ),
    )


@result(CLASSES, check=check_classes, quick=(16, ONLY_SIZES))
def scalar_solution(n: int) -> Derivation:
    """p*(c) = exp(2uπ_c/λ)/Σ_k exp(2uπ_k/λ), for U = uI.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in pi, u, lam; probabilities of shape (n,).
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, u, g = probabilities("pi", n), symbol("u"), scalar_rewards(n)
    return Derivation(
        symbol="p*",
        arguments={"pi": symbol("pi", n), "u": u, "lam": LAM},
        stated=stated.gibbs(stated.scalar_weights(u, pi), LAM),
        derived=law(g),
        assumptions=(ONE_HOT, SCALAR),
        steps=(Step("g_c = E_y r(e_c, y)", g), Step("log p*(c)", _logs(n))),
        conditions=_is_stationary(n),
    )


@result(CLASSES, check=check_classes, quick=(16, ONLY_SIZES))
def argmax_preserved(n: int) -> Derivation:
    """log p*(a) - log p*(b) = 2u(π_a - π_b)/λ: a scalar reward keeps the order of the classes.

    Whatever u > 0, the most probable classes of the data stay the most probable: accuracy cannot
    tell one u from another.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in pi, u, lam; shape (n, n), entry (a, b). Condition: where π_a > π_b it is
        positive.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, u, logs = probabilities("pi", n), symbol("u"), log_law(scalar_rewards(n))
    free = symbol("pi", n)
    general = definitions.class_rewards(free, u * sp.ImmutableMatrix.eye(n))
    ahead = _odds(general, 0)[1].xreplace({free[1]: free[0] + _EXCESS})
    return Derivation(
        symbol="log p*(a)/p*(b)",
        arguments={"pi": symbol("pi", n), "u": u, "lam": LAM},
        stated=stated.log_ratios(u, pi, LAM),
        derived=sp.ImmutableMatrix(n, n, lambda a, b: logs[a] - logs[b]),
        assumptions=(ONE_HOT, SCALAR),
        steps=(Step("log p*(c)", logs),),
        conditions=(positive("π_b = π_a + x is more probable", ahead),),
    )


@result(n=2)
def binary_logit() -> Derivation:
    """log p*(1) - log p*(2) = (2π-1)(U_11 + U_22 - 2U_12)/λ: one number of U counts, n = 2.

    Returns:
        Scalar derivation in pi (both probabilities), U, lam. Conditions: a U that is positive
        definite makes the number positive, so that the likelier class stays so.
    Source: new.
    """
    pi, U, logs = probabilities("pi", 2), symbol("U", 2), log_law(rewards(2))
    C, D = ldl_factors("U", 2)
    forms = C.T * sp.ImmutableMatrix([1, -1])  # not both 0: C is invertible
    number = sum(D[i, i] * forms[i] ** 2 for i in range(2))
    return Derivation(
        symbol="logit p*",
        arguments={"pi": symbol("pi", 2), "U": U, "lam": LAM},
        stated=stated.binary_logit(pi[0], U, LAM),
        derived=logs[0] - logs[1],
        assumptions=(ONE_HOT, SYMMETRIC_U),
        steps=(Step("g_c = E_y r(e_c, y)", rewards(2)), Step("log p*(c)", logs)),
        conditions=(
            zero("the number is a sum of weighted squares", U.trace() - 2 * U[0, 1] - number),
            positive("whose weights are positive for U SPD", sp.Matrix(D.diagonal())),
        ),
    )
