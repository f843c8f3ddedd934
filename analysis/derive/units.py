"""Units of a reward's parameters: dimensions in which no number of the problem depends on them.

With ŷ and y in c_i times smaller units and λ in l times smaller ones, a reward whose parameters
are multiplied by l^p Π_i c_i^{k_i} is multiplied by l: p and k solve one linear equation for each
monomial. Where the data move by t, a centre moves by some multiple of t. A search that starts at
these units finds the same in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from ..errors import ArgumentError
from .expectation import Term, terms_of

_POINTS = 3  # for each symbol, where derivatives are compared
_ALIKE = 1e-9


def units_and_starts(derived: Any, data: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(unit, start) by parameter; of a matrix the unit is (n,), X_ij in unit_i unit_j.

    Raises:
        ArgumentError: if a unit is beyond a double.
    """
    import numpy as np

    if not derived.parameters:
        return {}
    mean, scale, lam = derived.levels.scales(derived, data)
    outcomes = [list(sp.Matrix([X])) for X in derived.outcomes.values()] or [[], []]
    unknowns = sorted(sp.Tuple(*derived.parameters.values()).free_symbols, key=str)
    rows = _monomials(derived.reward, outcomes, unknowns)
    logs = np.log([lam, *scale])
    powers = np.array([row for row, _ in rows], float).reshape(len(rows), len(unknowns))
    wanted = np.array([right for _, right in rows], float).reshape(len(rows), len(logs))
    dimensions = np.linalg.lstsq(powers, wanted, rcond=None)[0]
    with np.errstate(over="ignore", under="ignore"):  # judged by the result
        unit = dict(zip(unknowns, np.exp(dimensions @ logs), strict=True))
    for x, size in unit.items():
        if not 0 < size < np.inf:
            raise ArgumentError(
                f"the unit of {x}, by λ = {lam:.3g} and the data's scale {scale.tolist()}, is "
                f"{size}, beyond a double: pass data and lam in other units"
            )
    scalars = [X for X in derived.parameters.values() if not isinstance(X, sp.MatrixBase)]
    free = [x for x in scalars if x.is_positive is None and x.is_negative is None]
    moved = _moved(derived.reward, outcomes, unknowns, free, mean)
    found: dict[str, tuple[Any, Any]] = {}
    for name, X in derived.parameters.items():
        if isinstance(X, sp.MatrixBase):
            own = np.sqrt([unit[x] for x in X.diagonal()])
            found[name] = own, np.diag(own**2)
        else:
            start = moved[X] + unit[X]
            found[name] = float(unit[X]), float(-unit[X] if X.is_negative else start)
    return found


def _monomials(
    reward: Any, outcomes: list[list[Any]], unknowns: list[Any]
) -> list[tuple[list[float], list[float]]]:
    """(powers of the unknowns, powers of λ and of each coordinate that these must make up for)."""
    v = [x for group in outcomes for x in group]
    found: list[tuple[list[float], list[float]]] = []

    def add(f: Any, weight: float) -> None:
        for powers, value in sp.Poly(f, *v).terms() if v else [((), f)]:
            half = len(powers) // 2  # of ŷ, then of y
            size = [a + b for a, b in zip(powers[:half], powers[half:], strict=True)]
            for term in sp.Add.make_args(sp.expand(value)):
                by = term.as_powers_dict()
                powered = (sp.sympify(by.get(x, 0)) for x in unknowns)
                row = [float(power) if power.is_number else 0.0 for power in powered]
                if any(row):
                    found.append((row, [weight, *(-float(a) for a in size)]))

    for cell in reward if isinstance(reward, sp.MatrixBase) else [reward]:
        for term in terms_of(cell, v) if v else [Term(cell, sp.S.Zero)]:
            add(term.polynomial, 1.0)
            if term.exponent != 0:
                add(term.exponent, 0.0)
    return found


def _moved(
    reward: Any, outcomes: list[list[Any]], unknowns: list[Any], free: list[Any], mean: Any
) -> dict[Any, float]:
    """By how much free parameters move if ŷ and y move by the mean, and the reward does not."""
    import numpy as np

    still = dict.fromkeys(unknowns, 0.0)
    if not free or not np.any(mean):
        return still
    y_hat, y = outcomes
    symbols = [*y_hat, *y, *unknowns]
    drift = [sp.diff(reward, a) + sp.diff(reward, b) for a, b in zip(y_hat, y, strict=True)]
    f = sp.lambdify([symbols], [*drift, *(sp.diff(reward, x) for x in free)], "numpy")
    rng = np.random.default_rng(0)
    signs = [-1.0 if x.is_negative else 1.0 for x in symbols]
    at = [f(signs * rng.uniform(0.5, 1.5, len(symbols))) for _ in range(_POINTS * len(symbols))]
    rates = np.array(at, float)
    n = len(drift)
    steps = np.linalg.lstsq(rates[:, n:], -rates[:, :n], rcond=None)[0]
    if np.abs(rates[:, n:] @ steps + rates[:, :n]).max() > _ALIKE * np.abs(rates).max():
        return still
    return still | dict(zip(free, (steps @ mean).tolist(), strict=True))
