"""The differential rules used for general n, checked against explicit entries."""

from __future__ import annotations

from functools import cache

import sympy as sp

from analysis import stated
from analysis.derivation import Derivation, Step, zero
from analysis.gaussian import SYMMETRIC, label
from analysis.matrix_calculus import gradient, inverse, logdet, zip_entries
from analysis.symbols import EXPLICIT, check_explicit, symbols

_RULE = (
    "the rule for any n is checked on explicit entries, which grow with n!; for any n "
    "outer.hypergradient uses it"
)


@cache
def log_det_gradient(n: int) -> Derivation:
    """∇_U log det U = U⁻¹, and d U⁻¹ = -U⁻¹ dU U⁻¹: the rules of matrix_calculus.differential.

    Args:
        n: dimension, 1 to 3.
    Returns:
        Derivation in U; shape (n, n), symmetric gradient.
    Source: new.
    """
    check_explicit("log_det.log_det_gradient", n, EXPLICIT, _RULE)
    U, H = symbols("U H", n)
    derived = gradient(logdet(U), U)
    t = sp.Dummy("t")
    moved = inverse(U).xreplace(dict(zip_entries((U, U + t * H))))
    rate = sp.diff(moved, t).subs(t, 0)
    return Derivation(
        name=label("log_det.log_det_gradient", n),
        statement="∇_U log det U = U⁻¹",
        symbol="∇_U log det U",
        arguments={"U": U},
        stated=stated.log_det_gradient(U),
        derived=derived,
        assumptions=("U symmetric positive definite", SYMMETRIC),
        steps=(Step("log det U in entries", logdet(U)),),
        conditions=(zero("d U⁻¹ = -U⁻¹ dU U⁻¹", rate + inverse(U) * H * inverse(U)),),
    )
