"""The differential rules used for general n, from entries and from the normal density."""

from __future__ import annotations

from typing import Any

import sympy as sp

from . import definitions
from .assumptions import SYMMETRIC
from .calculus.conditions import Condition, zero
from .calculus.matrices import differential, gradient, inverse, logdet, replace, zip_entries
from .calculus.symbols import DIMENSION, symbol, symbols
from .derivation import Derivation, Step
from .gaussian import stated
from .result import ANY, result

_LOG_VOLUME = DIMENSION / 2 * sp.log(2 * sp.pi)


@result(ANY)
def log_det_gradient(n: int | None) -> Derivation:
    """∇_U log det U = U⁻¹, and d U⁻¹ = -U⁻¹ dU U⁻¹: the rules of `differential`.

    In entries, log det U is differentiated as it stands. For general n the density N(y; μ, U⁻¹),
    whose logarithm is ½ log det U - ½(y-μ)ᵀU(y-μ) and a constant, integrates to 1 for every U, so
    that E_y d log N(y; μ, U⁻¹) = 0.

    Args:
        n: dimension, or None for general size.
    Returns:
        Derivation in U; shape (n, n), symmetric gradient. Conditions: the rule for U⁻¹; for general
        n also that for log det, and the constant of the density.
    Source: new.
    """
    U = symbol("U", n)
    derived, steps, conditions = _by_normalisation() if n is None else _in_entries(n)
    return Derivation(
        symbol="∇_U log det U",
        arguments={"U": U},
        stated=stated.log_det_gradient(U),
        derived=derived,
        assumptions=("U symmetric positive definite", SYMMETRIC),
        steps=steps,
        conditions=conditions,
    )


def _in_entries(n: int) -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    U, H = symbols("U H", n)
    t = sp.Dummy("t")
    moved = inverse(U).xreplace(dict(zip_entries((U, U + t * H))))
    rate = sp.diff(moved, t).subs(t, 0)
    rule = zero("d U⁻¹ = -U⁻¹ dU U⁻¹", rate + inverse(U) * H * inverse(U))
    return gradient(logdet(U), U), (Step("log det U in entries", logdet(U)),), (rule,)


def _by_normalisation() -> tuple[Any, tuple[Step, ...], tuple[Condition, ...]]:
    U, H, S, mu, y = symbols("U H S mu y", None)
    exponent = definitions.reward(y, mu, U) / 2
    constant = definitions.log_density(y, mu, inverse(U)) - exponent - logdet(U) / 2
    mean = definitions.expectation(exponent, y, mu, S)  # of a law that is held fixed
    derived = replace(-2 * gradient(mean, U), S, inverse(U))
    return (
        derived,
        (Step("E_y of the exponent, y of mean μ and covariance S", mean),),
        (
            zero("the rest of log N(y; μ, U⁻¹) is -(n/2) log 2π", constant + _LOG_VOLUME),
            zero("the rule for log det", gradient(logdet(U), U) - derived),
            # written as a product, U U⁻¹ would be I before it is differentiated
            zero(
                "the rule for U⁻¹: d(U U⁻¹) = 0",
                H * inverse(U) + U * differential(inverse(U), U, H),
            ),
        ),
    )
