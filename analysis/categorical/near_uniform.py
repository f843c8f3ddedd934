"""Classes that are nearly equally likely: the best scalar reward, and the published β*."""

from __future__ import annotations

from typing import Any

import sympy as sp

from ..calculus.conditions import zero
from ..calculus.stationary import solve_linear
from ..calculus.symbols import check_classes, symbol
from ..derivation import Derivation, Step
from ..result import result
from . import stated
from .inner import LAM, ONE_HOT, ONLY_SIZES, SCALAR, law, levels, scalar_rewards
from .scalar import SCALE, STEP, heuristic_scale, slope_in_policy


@result((2, 3), check=check_classes, quick=(8, ONLY_SIZES))
def scale(n: int) -> Derivation:
    """lim u* = λn/2 as π → 1/n: with π = 1/n + εd, Σd = 0, from dF/du = 0 at order ε².

    Args:
        n: number of classes C, >= 2.
    Returns:
        Scalar derivation in lam. Conditions: dF/du vanishes at orders 1 and ε; at order ε² it is
        (2/λ)(1 - 2u/(λn)) Σd², which has this one root, whatever the direction d.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    pi, p = symbol("pi", n), symbol("p", n)
    d = sp.symbols(f"d_1:{n}", real=True)
    moved = {x: sp.Rational(1, n) + STEP * y for x, y in zip(pi, d, strict=False)}
    rates = scalar_rewards(n).xreplace(moved).applyfunc(lambda f: sp.diff(sp.expand(f), STEP))
    values, powers = _expanded_law(n, rates)
    policy = dict(zip(p, powers, strict=True))
    orders = _orders(slope_in_policy(n).xreplace(policy | moved))
    flat = [sp.expand(f.xreplace(values)) for f in orders]
    squares = sum(y**2 for y in d) + sp.Add(*d) ** 2
    return Derivation(
        symbol="lim u*",
        arguments={"lam": LAM},
        stated=stated.near_uniform_scale(n, LAM),
        derived=solve_linear([flat[2]], [SCALE])[0],
        assumptions=(ONE_HOT, SCALAR, "π = 1/n + εd, Σd = 0, d ≠ 0"),
        steps=(Step("dF/du at order ε²", flat[2]),),
        conditions=(
            zero("no terms of order 1 and ε", sp.Matrix(flat[:2])),
            zero("Σd² times", flat[2] - 2 * (1 - 2 * SCALE / (LAM * n)) * squares / LAM),
        ),
    )


def _orders(f: Any) -> list[Any]:
    """The coefficients of 1, ε and ε² in a smooth function of ε."""
    orders = [f, sp.diff(f, STEP), sp.diff(f, STEP, 2) / 2]
    return [sp.expand(order.xreplace({STEP: sp.S.Zero})) for order in orders]


def _expanded_law(n: int, rates: Any) -> tuple[dict[Any, Any], list[Any]]:
    """p*(c) up to order ε², where the rewards of the classes are ε times their rates.

    Returns:
        The coefficients by name, and the polynomials in ε with these names.
    """
    at = dict(zip(levels(n), rates, strict=True))
    values: dict[Any, Any] = {}
    powers: list[Any] = []
    for value in law(STEP * levels(n)):
        names = [sp.Dummy() for _ in range(3)]
        orders = zip(names, _orders(value), strict=True)
        values |= {name: f.xreplace(at) for name, f in orders}
        powers.append(sum(STEP**k * name for k, name in enumerate(names)))
    return values, powers


@result((2, 3), check=check_classes, quick=(10, ONLY_SIZES))
def ratio(n: int) -> Derivation:
    """lim β*/u* = n/(n - 1) as π → 1/n.

    Args:
        n: number of classes C, >= 2.
    Returns:
        Scalar derivation without arguments.
    Raises:
        StructureError: if n is not an integer >= 2.
    Source: new.
    """
    limit, heuristic = scale(n).derived, heuristic_scale(n).derived
    at = heuristic.xreplace({x: sp.Rational(1, n) for x in symbol("pi", n)})
    return Derivation(
        symbol="lim β*/u*",
        arguments={},
        stated=stated.near_uniform_ratio(n),
        derived=at / limit,
        assumptions=(ONE_HOT, SCALAR),
        steps=(Step("lim u*", limit), Step("lim β*", at)),
    )
