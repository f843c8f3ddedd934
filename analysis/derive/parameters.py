"""Which symbols of a reward are its parameters, and which are no symbols that it may have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import sympy as sp

from ..calculus.symbols import QUANTITIES, symbol
from ..errors import RewardError, RewardTypeError
from .gaussian import entries

_CLASSES = 6  # the largest matrix of the registry that is taken as one
_MOMENT = re.compile(r"^mu_\d+$")
_OUTCOME = re.compile(r"^(y_hat|yhat|ŷ|y)(_?\d+)?$")


def parameters_of(
    reward: Any, n: int, taken: Mapping[str, Any], outcomes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters by name: entries of an SPD symbol of the registry as its matrix.

    Args:
        reward: expression or table.
        n: size of the outcomes.
        taken: symbols of policy, data and regulariser, which a parameter must not be.
        outcomes: ŷ and y.
    Raises:
        RewardError: naming a symbol that is taken, not real, or meant as an outcome.
        RewardTypeError: for a MatrixSymbol.
    """
    own = set().union(*(set(entries(X)) for X in (outcomes or {}).values()))
    found = reward.free_symbols - own
    names = {str(x): name for name, X in taken.items() for x in sp.Matrix([X]).free_symbols}
    for x in sorted(found, key=str):
        if isinstance(x, sp.MatrixSymbol):
            raise RewardTypeError(f"{x} is a MatrixSymbol; pass entries, such as symbol('U', {n})")
        if _OUTCOME.match(x.name):
            raise RewardError(
                f"the reward has a symbol {x} that is not of outcome({n}); take ŷ and y from it: "
                f"y_hat, y = outcome({n}), and the family of the same n"
            )
        if x.name in names:
            raise RewardError(
                f"the reward has the symbol {x}, which stands for {names[x.name]} of the policy, "
                "the data or the regulariser; rename the parameter"
            )
        if _MOMENT.match(x.name):
            raise RewardError(f"{x} is the name of a moment of the data; rename the parameter")
        if x.is_real is not True:
            raise RewardError(
                f"the parameter {x} is not declared real; make it sp.Symbol({x.name!r}, "
                "positive=True) or sp.Symbol(..., real=True)"
            )
    return _grouped(found)


def _grouped(found: set[Any]) -> dict[str, Any]:
    """Matrices of the registry where all their entries occur, else symbols one by one."""
    named: dict[str, Any] = {}
    rest = set(found)
    for quantity in QUANTITIES.values():
        if quantity.domain in ("spd", "symmetric"):
            for size in range(_CLASSES, 1, -1):
                X = symbol(quantity.name, size)
                if set(entries(X)) <= rest:
                    named[quantity.name] = X
                    rest -= set(entries(X))
    return {**named, **{str(x): x for x in sorted(rest, key=str)}}
