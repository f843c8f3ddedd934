"""What a reward costs a categorical policy, in nats; and diagonal rewards, which cost nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from . import definitions
from . import stated_categorical as stated
from .categorical_law import (
    CLASSES,
    LAM,
    SCALAR,
    announce,
    law,
    probabilities,
)
from .categorical_scalar import BINARY, binary_scalar, heuristic_scale, likelihood_of_scale
from .derivation import Derivation, Step, positive, zero
from .gaussian import label
from .matrix_calculus import cancel_outside_logs, lowest_terms
from .normal_form import normal
from .stationary import solve_linear
from .symbols import symbol

_X, _Y, _Z = sp.symbols("x y z", positive=True)
_ABOVE = (1 + _X) / 2  # every probability above ½
_BELOW = 1 / (2 * (1 + _Y))  # every probability below ½


@cache
def _ceiling(n: int) -> tuple[Any, Any]:
    """The largest Σπ log p over all p, from its first-order conditions; and the p."""
    pi, p, nu = probabilities("pi", n), symbol("p", n), sp.Symbol("nu", positive=True)
    value = definitions.categorical_log_likelihood(p.applyfunc(sp.log), pi)
    slopes = [sp.expand(x * (sp.diff(value, x) - nu)) for x in p]
    found = [solve_linear([slope], [x])[0] for slope, x in zip(slopes, p, strict=True)]
    multiplier = solve_linear([sp.expand(nu * (sp.Add(*found) - 1))], [nu])[0]
    best = sp.ImmutableMatrix([x.xreplace({nu: multiplier}) for x in found])
    return value.xreplace(dict(zip(p, best, strict=True))), best


@cache
def scalar_gap(n: int) -> Derivation:
    """-H(π) - F(u) = KL(π ‖ p*_u): what U = uI costs against a policy that is free.

    Args:
        n: number of classes, >= 2.
    Returns:
        Scalar derivation in pi, u, lam. Conditions: Σπ log p is largest, -H(π), at p = π.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    announce("scalar_gap", n, quick=16)
    pi, p, u = probabilities("pi", n), symbol("p", n), symbol("u")
    top, best = _ceiling(n)
    value = definitions.categorical_log_likelihood(p.applyfunc(sp.log), symbol("pi", n))
    bends = sp.Matrix([-sp.diff(value, x, 2) for x in p])
    return Derivation(
        name=label("categorical.scalar_gap", n),
        statement="-H(π) - F(u) = KL(π ‖ p*_u)",
        symbol="max F - F(u)",
        arguments={"pi": symbol("pi", n), "u": u, "lam": LAM},
        stated=stated.scalar_gap(u, pi, LAM),
        derived=top - likelihood_of_scale(n),
        assumptions=(CLASSES, SCALAR),
        steps=(Step("F(u)", likelihood_of_scale(n)), Step("max Σπ log p", top)),
        conditions=(
            zero("p = π is best", best - pi),
            positive("Σπ log p is strictly concave", bends),
        ),
    )


@cache
def binary_gap() -> Derivation:
    """F(u*) - F(u) = KL(π ‖ p_u), n = 2: π log π + (1-π) log(1-π) - πa + log(1 + e^a).

    a = 2u(2π-1)/λ is the logit of p_u.

    Returns:
        Scalar derivation in pi (both probabilities), u, lam. Condition: F(u*) = -H(π), the best
        that any policy reaches.
    Source: new.
    """
    pi, u, F = probabilities("pi", 2)[0], symbol("u"), likelihood_of_scale(2)
    top = normal(F.xreplace({u: binary_scalar().derived}).replace(sp.exp, _exp))
    return Derivation(
        name=label("categorical.binary_gap", 2),
        statement="F(u*) - F(u) = π log π + (1-π) log(1-π) - πa + log(1 + e^a), a = 2u(2π-1)/λ",
        symbol="F(u*) - F(u)",
        arguments={"pi": symbol("pi", 2), "u": u, "lam": LAM},
        stated=stated.binary_gap(pi, 2 * u * (2 * pi - 1) / LAM),
        derived=top - F,
        assumptions=BINARY,
        steps=(Step("F(u)", F), Step("F(u*)", top)),
        conditions=(zero("F(u*) is the best of all policies", top - _ceiling(2)[0]),),
    )


@cache
def heuristic_gap() -> Derivation:
    """F(u*) - F(kβ*), n = 2: `binary_gap` at logit a = k(2π-1)/(π(1-π)), whatever λ.

    Returns:
        Scalar derivation in pi (both probabilities), k (1 for β*, 2 for 2β*).
    Source: new.
    """
    pi, k = probabilities("pi", 2)[0], symbol("k")
    scale = k * heuristic_scale(2).derived
    gap = binary_gap().derived.xreplace({symbol("u"): scale})
    claim = stated.binary_gap(pi, stated.heuristic_logit(pi, k))
    return Derivation(
        name=label("categorical.heuristic_gap", 2),
        statement="F(u*) - F(kβ*) = π log π + (1-π) log(1-π) - πa + log(1 + e^a), "
        "a = k(2π-1)/(π(1-π))",
        symbol="F(u*) - F(kβ*)",
        arguments={"pi": symbol("pi", 2), "k": k},
        stated=_flat(claim.replace(sp.exp, _exp)),
        derived=_flat(gap.replace(sp.exp, _exp)),
        assumptions=BINARY,
        steps=(Step("kβ*", scale), Step("F(u*) - F(u)", binary_gap().derived)),
    )


def _exp(exponent: Any) -> Any:
    return sp.exp(normal(exponent))


def _flat(f: Any) -> Any:
    """In lowest terms outside logs; expanding would part exp(a - b), whose factors overflow."""
    whole = {log: sp.Dummy() for log in f.atoms(sp.log) if log.has(sp.exp)}
    named = f.xreplace(whole)
    rest = cancel_outside_logs(named.xreplace(dict.fromkeys(whole.values(), sp.S.Zero)))
    return rest + sum(sp.diff(named, name) * log for log, name in whole.items())


@cache
def _equations(n: int) -> tuple[Any, Any]:
    """log p* = log π for U = diag(u), class by class, and the symbols u_c.

    The reward of ŷ = 0 is the same for all classes: less it, log p* is known up to a constant k.
    """
    pi, k = probabilities("pi", n), symbol("offset")
    u = sp.ImmutableMatrix(sp.symbols(f"u_1:{n + 1}", positive=True))
    U, one = sp.ImmutableMatrix.diag(*u), sp.ImmutableMatrix.eye(n)
    origin = sum(pi[c] * definitions.reward(0 * one[:, 0], one[:, c], U) for c in range(n))
    g = definitions.class_rewards(pi, U)
    value = [sp.expand(g[c] - origin) - LAM * (sp.log(pi[c]) + k) for c in range(n)]
    return sp.ImmutableMatrix(value), u


@cache
def diagonal_reward(n: int) -> Derivation:
    """u_c = λ(log π_c + k₀)/(2π_c - 1): U = diag(u) reproduces π exactly.

    Feasible (all u_c > 0) with k₀ > -log π_c for a class above ½ and k₀ < -log π_c for all below.
    Where no class is above ½, every k₀ below all of them will do.

    Args:
        n: number of classes, >= 2.
    Returns:
        Derivation in pi (no entry ½), lam, offset (k₀, real); shape (n,). Conditions: p* = π; with
        such a k₀ every u_c is positive, and there is such a k₀.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    announce("diagonal_reward", n, quick=16)
    pi, k, (equations, u) = probabilities("pi", n), symbol("offset"), _equations(n)
    derived = sp.ImmutableMatrix([_solved(equations[c], u[c]) for c in range(n)])
    first = symbol("pi", n)[0]
    above = derived[0].xreplace({first: _ABOVE, k: -sp.log(_ABOVE) + _Z})
    below = derived[0].xreplace({first: _BELOW, k: -sp.log(_BELOW) - _Z})
    reached = law(pi.applyfunc(lambda x: LAM * (sp.log(x) + k)))
    return Derivation(
        name=label("categorical.diagonal_reward", n),
        statement="u_c = λ(log π_c + k₀)/(2π_c - 1): U = diag(u) gives p* = π",
        symbol="u",
        arguments={"pi": symbol("pi", n), "lam": LAM, "offset": k},
        stated=stated.diagonal_reward(pi, k, LAM),
        derived=derived,
        assumptions=(CLASSES, "U = diag(u)", "π_c ≠ ½"),
        steps=(Step("λ log p*(c) - λ(log π_c + k₀), up to a constant", equations),),
        conditions=(
            zero("p* = π", reached - pi),
            positive("u_c > 0 where π_c > ½, k₀ > -log π_c", lowest_terms(normal(above))),
            positive("u_c > 0 where π_c < ½, k₀ < -log π_c", lowest_terms(normal(below))),
            positive("-log π_a < -log π_b for π_a > ½ > π_b", sp.log(_ABOVE) - sp.log(_BELOW)),
        ),
    )


@cache
def diagonal_reward_at_half() -> Derivation:
    """k₀ = log 2: a class with π_c = ½ forces it, leaves u_c free, and all other u_c are positive.

    Returns:
        Scalar derivation without arguments, for any number of classes. Conditions: u_c drops out;
        the other classes, all below ½, have u > 0. (With two classes both are ½, and both free.)
    Source: new.
    """
    k, (equations, u) = symbol("offset"), _equations(3)
    half = equations[0].xreplace({symbol("pi", 3)[0]: sp.Rational(1, 2)})
    derived = _solved(half, k)
    other = _solved(equations[1], u[1]).xreplace({symbol("pi", 3)[1]: _BELOW, k: derived})
    return Derivation(
        name="categorical.diagonal_reward_at_half",
        statement="π_c = ½ forces k₀ = log 2 and leaves u_c free",
        symbol="k₀",
        arguments={},
        stated=stated.diagonal_offset_at_half(),
        derived=derived,
        assumptions=(CLASSES, "U = diag(u)", "π_c = ½"),
        steps=(Step("λ log p*(c) - λ(log ½ + k₀)", half),),
        conditions=(
            zero("u_c drops out", sp.diff(half, u[0])),
            positive("the other u are positive", normal(other)),
        ),
    )


def _solved(equation: Any, unknown: Any) -> Any:
    """The root of an equation linear in one unknown."""
    slope = sp.expand(sp.diff(equation, unknown))
    return -equation.xreplace({unknown: sp.S.Zero}) / slope
