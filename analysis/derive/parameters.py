"""Which symbols of a reward are its parameters, and which are no symbols that it may have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sympy as sp

from ..calculus.ldl import to_coordinates
from ..calculus.symbols import QUANTITIES, symbol
from ..errors import RewardError
from .gaussian import entries
from .problem import OUTCOME, check_real, check_symbol

_CLASSES = 6  # the largest matrix of the registry that is taken as one
_MOMENT = re.compile(r"^mu_\d+$")
_OF_THE_MEAN = {x for n in range(1, _CLASSES) for x in symbol("mu", n)}


def parameters_of(
    reward: Any, n: int, policy: Mapping[str, Any], given: Sequence[Mapping[str, Any]],
    outcomes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The parameters by name: entries of an SPD symbol of the registry as its matrix.

    Args:
        reward: expression or table.
        n: size of the outcomes.
        policy: its symbols, which stand nowhere else.
        given: symbols of the data and of the regulariser, which may share some.
        outcomes: ŷ and y.
    Raises:
        RewardError: naming a symbol that is taken, not real, or meant as an outcome; two symbols of
            one name; a part of the reward that is not known to be real.
        RewardTypeError: for a MatrixSymbol.
    """
    own = set().union(*(set(entries(X)) for X in (outcomes or {}).values()))
    found = reward.free_symbols - own
    taken = _taken(policy, given)
    named: dict[str, Any] = {}
    for x in sorted(found, key=str):
        if isinstance(x, sp.Symbol) and OUTCOME.match(x.name):
            raise RewardError(
                f"the reward has a symbol {x} that is not of outcome({n}); take ŷ and y from it: "
                f"y_hat, y = outcome({n}), and the family of the same n"
            )
        if str(x) in taken:
            raise RewardError(
                f"the reward has the symbol {x}, which stands for {taken[str(x)][0]} of the "
                "policy, the data or the regulariser; rename the parameter"
            )
        if _MOMENT.match(str(x)):
            raise RewardError(f"{x} is the name of a moment of the data; rename the parameter")
        check_symbol(x, f"the parameter {x}")
        if named.setdefault(x.name, x) != x:
            raise RewardError(
                f"the reward has two symbols {x}, declared with different assumptions; declare it "
                "once, or rename one"
            )
        if to_coordinates(x).is_positive and not x.is_positive:
            raise RewardError(
                f"{x} is the name of a positive entry of an SPD matrix; take it from "
                "symbol(..., n), declare it positive=True, or rename the parameter"
            )
    check_real(reward, "the reward", own)
    return _grouped(found)


def named_symbols(X: Any) -> dict[str, Any]:
    """The free symbols of what is given for data or regulariser, by the names of arguments.

    Vectors and matrices of the registry are one argument each, where all their entries occur.

    Raises:
        RewardError: for the name of a higher moment of the data.
    """
    found = X.free_symbols
    for x in sorted(found, key=str):
        if _MOMENT.match(x.name) and x not in _OF_THE_MEAN:
            raise RewardError(f"{x} is the name of a moment of the data; rename the symbol")
    return _grouped(found, ("spd", "symmetric", "vector"))


def _taken(
    policy: Mapping[str, Any], given: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[str, Any]]:
    """What names stand for: those of arguments, and those that symbols are printed with.

    Raises:
        RewardError: where one name would stand for two symbols.
    """
    found: dict[str, tuple[str, Any]] = {}
    for group in (policy, *given):
        for name, X in group.items():
            free = sorted(X.free_symbols, key=str)
            names = {name: free[0] if len(free) == 1 else X, **{str(x): x for x in free}}
            for key, x in names.items():
                other = found.setdefault(key, (name, x))
                if other != (name, x) or (group is not policy and other[0] in policy):
                    raise RewardError(
                        f"{key} would be the name of two symbols, of {other[0]} and of one that is "
                        "given for the data or the regulariser; rename that one"
                    )
    return found


def _grouped(found: set[Any], domains: tuple[str, ...] = ("spd", "symmetric")) -> dict[str, Any]:
    """Matrices of the registry where all their entries occur, else symbols one by one."""
    named: dict[str, Any] = {}
    rest = set(found)
    for quantity in QUANTITIES.values():
        if quantity.domain in domains:
            for size in range(_CLASSES, 1, -1):
                X = symbol(quantity.name, size)
                if set(entries(X)) <= rest:
                    named[quantity.name] = X
                    rest -= set(entries(X))
    for x in sorted(rest, key=str):
        name = "lam" if x == symbol("lam") else x.name
        if name in named:
            raise RewardError(f"the symbol {x} has the name of a matrix; rename it")
        named[name] = x
    return named


def by_symbol(symbols: Mapping[str, Any], values: Mapping[str, Any]) -> dict[Any, float]:
    """Free symbols to floats, from symbols and matrices of them, and their values, by name."""
    import numpy as np

    found: dict[Any, float] = {}
    for name, X in symbols.items():
        cells = list(X) if isinstance(X, sp.MatrixBase) else [X]
        flat = np.ravel(values[name]).tolist()
        found |= {x: float(value) for x, value in zip(cells, flat, strict=True) if x.is_Symbol}
    return found
