"""The diagonal reward between classes that gives maximum likelihood back."""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from .. import definitions as vectors
from ..calculus.conditions import positive, zero
from ..calculus.matrices import lowest_terms
from ..calculus.normal_form import normal
from ..calculus.symbols import check_classes, symbol
from ..derivation import Derivation, Step
from ..result import CLASSES, result
from . import definitions, stated
from .inner import LAM, ONE_HOT, ONLY_SIZES, law, probabilities

_X, _Y, _Z = sp.symbols("x y z", positive=True)
_ABOVE = (1 + _X) / 2  # every probability above ½
_BELOW = 1 / (2 * (1 + _Y))  # every probability below ½


@cache
def _equations(n: int) -> tuple[Any, Any]:
    """log p* = log π for U = diag(u), class by class, and the symbols u_c.

    The reward of ŷ = 0 is the same for all classes: less it, log p* is known up to a constant k.
    """
    pi, k = probabilities("pi", n), symbol("offset")
    u = sp.ImmutableMatrix(sp.symbols(f"u_1:{n + 1}", positive=True))
    U, one = sp.ImmutableMatrix.diag(*u), sp.ImmutableMatrix.eye(n)
    origin = sum(pi[c] * vectors.reward(0 * one[:, 0], one[:, c], U) for c in range(n))
    g = definitions.class_rewards(pi, U)
    value = [sp.expand(g[c] - origin) - LAM * (sp.log(pi[c]) + k) for c in range(n)]
    return sp.ImmutableMatrix(value), u


@result(CLASSES, check=check_classes, quick=(16, ONLY_SIZES))
def reward(n: int) -> Derivation:
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
    pi, k, (equations, u) = probabilities("pi", n), symbol("offset"), _equations(n)
    derived = sp.ImmutableMatrix([_solved(equations[c], u[c]) for c in range(n)])
    first = symbol("pi", n)[0]
    above = derived[0].xreplace({first: _ABOVE, k: -sp.log(_ABOVE) + _Z})
    below = derived[0].xreplace({first: _BELOW, k: -sp.log(_BELOW) - _Z})
    reached = law(pi.applyfunc(lambda x: LAM * (sp.log(x) + k)))
    return Derivation(
        symbol="u",
        arguments={"pi": symbol("pi", n), "lam": LAM, "offset": k},
        stated=stated.diagonal_reward(pi, k, LAM),
        derived=derived,
        assumptions=(ONE_HOT, "U = diag(u)", "π_c ≠ ½"),
        steps=(Step("λ log p*(c) - λ(log π_c + k₀), up to a constant", equations),),
        conditions=(
            zero("p* = π", reached - pi),
            positive("u_c > 0 where π_c > ½, k₀ > -log π_c", lowest_terms(normal(above))),
            positive("u_c > 0 where π_c < ½, k₀ < -log π_c", lowest_terms(normal(below))),
            positive("-log π_a < -log π_b for π_a > ½ > π_b", sp.log(_ABOVE) - sp.log(_BELOW)),
        ),
    )


@result()
def reward_at_half() -> Derivation:
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
        symbol="k₀",
        arguments={},
        stated=stated.diagonal_offset_at_half(),
        derived=derived,
        assumptions=(ONE_HOT, "U = diag(u)", "π_c = ½"),
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
