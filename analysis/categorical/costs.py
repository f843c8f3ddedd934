"""What a reward costs a categorical policy, in nats."""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from ..calculus.conditions import positive, zero
from ..calculus.normal_form import normal
from ..calculus.stationary import solve_linear
from ..calculus.symbols import check_classes, symbol
from ..derivation import Derivation, Step
from ..result import CLASSES, result
from . import definitions, stated
from .inner import LAM, ONE_HOT, ONLY_SIZES, SCALAR, probabilities
from .scalar import BINARY, binary, heuristic_scale, likelihood_of_scale


@cache
def _ceiling(n: int) -> tuple[Any, Any]:
    """The largest Σπ log p over all p, from its first-order conditions; and the p."""
    pi, p, nu = probabilities("pi", n), symbol("p", n), sp.Symbol("nu", positive=True)
    value = definitions.log_likelihood(p.applyfunc(sp.log), pi)
    slopes = [sp.expand(x * (sp.diff(value, x) - nu)) for x in p]
    found = [solve_linear([slope], [x])[0] for slope, x in zip(slopes, p, strict=True)]
    multiplier = solve_linear([sp.expand(nu * (sp.Add(*found) - 1))], [nu])[0]
    best = sp.ImmutableMatrix([x.xreplace({nu: multiplier}) for x in found])
    return value.xreplace(dict(zip(p, best, strict=True))), best


@result(CLASSES, check=check_classes, quick=(16, ONLY_SIZES))
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
    pi, p, u = probabilities("pi", n), symbol("p", n), symbol("u")
    top, best = _ceiling(n)
    value = definitions.log_likelihood(p.applyfunc(sp.log), symbol("pi", n))
    bends = sp.Matrix([-sp.diff(value, x, 2) for x in p])
    return Derivation(
        symbol="max F - F(u)",
        arguments={"pi": symbol("pi", n), "u": u, "lam": LAM},
        stated=stated.scalar_gap(u, pi, LAM),
        derived=top - likelihood_of_scale(n),
        assumptions=(ONE_HOT, SCALAR),
        steps=(Step("F(u)", likelihood_of_scale(n)), Step("max Σπ log p", top)),
        conditions=(
            zero("p = π is best", best - pi),
            positive("Σπ log p is strictly concave", bends),
        ),
    )


@result(n=2)
def binary_gap() -> Derivation:
    """F(u*) - F(u) = π log π + (1-π) log(1-π) - πa + log(1 + e^a), a = 2u(2π-1)/λ, n = 2.

    It is KL(π ‖ p_u), and a is the logit of p_u.

    Returns:
        Scalar derivation in pi (both probabilities), u, lam. Condition: F(u*) = -H(π), the best
        that any policy reaches.
    Source: new.
    """
    pi, u, F = probabilities("pi", 2)[0], symbol("u"), likelihood_of_scale(2)
    top = normal(F.xreplace({u: binary().derived}).replace(sp.exp, _exp))
    return Derivation(
        symbol="F(u*) - F(u)",
        arguments={"pi": symbol("pi", 2), "u": u, "lam": LAM},
        stated=stated.binary_gap(pi, 2 * u * (2 * pi - 1) / LAM),
        derived=top - F,
        assumptions=BINARY,
        steps=(Step("F(u)", F), Step("F(u*)", top)),
        conditions=(zero("F(u*) is the best of all policies", top - _ceiling(2)[0]),),
    )


@result(n=2)
def heuristic_gap() -> Derivation:
    """F(u*) - F(kβ*) = π log π + (1-π) log(1-π) - πa + log(1 + e^a), a = k(2π-1)/(π(1-π)).

    For two classes: a is the logit of the policy, whatever λ.

    Returns:
        Scalar derivation in pi (both probabilities), k (1 for β*, 2 for 2β*).
    Source: new.
    """
    pi, k = probabilities("pi", 2)[0], symbol("k")
    scale = k * heuristic_scale(2).derived
    gap = binary_gap().derived.xreplace({symbol("u"): scale})
    return Derivation(
        symbol="F(u*) - F(kβ*)",
        arguments={"pi": symbol("pi", 2), "k": k},
        stated=stated.binary_gap(pi, stated.heuristic_logit(pi, k)),
        derived=gap.replace(sp.exp, _exp),
        assumptions=BINARY,
        steps=(Step("kβ*", scale), Step("F(u*) - F(u)", binary_gap().derived)),
    )


def _exp(exponent: Any) -> Any:
    return sp.exp(normal(exponent))
