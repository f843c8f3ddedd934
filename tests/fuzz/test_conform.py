"""Whatever a function returns that `conform` is given: a report that says so, or a typed error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paper_checks.conformance import conform
from tests.fuzz import oracle, spoiling


def inner(U: Any, lam: float) -> Any:
    return lam / 2 * np.linalg.inv(U)


def hypergradient(U: Any, Sigma: Any, lam: float) -> Any:
    return np.linalg.inv(U) / 2 - Sigma / lam


def estimator(m: Any, L: Any, U: Any, y: Any, epsilon: Any) -> Any:
    """The reparameterised gradient."""
    y_hat = m + epsilon @ L.T
    slope = -2 * (y_hat - y) @ U
    return slope.mean(0), np.tril(slope.T @ epsilon / len(epsilon))


def best_weights(rho: Any, lam: float) -> Any:
    """The optimal reward of independent bits."""
    return lam * np.log(rho / (1 - rho)) / (2 * rho - 1)


RETURNED = [
    *spoiling.TYPES,
    *(
        spoiling.Spoiler(name, change)
        for name, change in (
            ("a row less", lambda P: P[:-1]),
            ("an axis more", lambda P: P[None]),
            ("single", lambda P: np.asarray(P).astype(np.float32)),
            ("complex", lambda P: np.asarray(P) * (1 + 1e-3j)),
            ("integers", lambda P: np.asarray(P).astype(int)),
            ("objects", lambda P: np.asarray(P).astype(object)),
            ("NaN", lambda P: np.asarray(P) * np.nan),
            ("infinite", lambda P: np.asarray(P) + np.inf),
            ("1e300", lambda P: np.asarray(P) * 1e300),
            ("1e-300", lambda P: np.asarray(P) * 1e-300),
            ("negated", lambda P: -np.asarray(P)),
            ("in a list", lambda P: [P]),
            ("as a list", lambda P: np.asarray(P).tolist()),
            ("twice", lambda P: (P, P, P)),
        )
    ),
]


@pytest.mark.parametrize(
    "solver", [inner, hypergradient, estimator, best_weights], ids=lambda f: f.__name__
)
def test_a_function_that_returns_anything(solver: Callable[..., Any]) -> None:
    assert conform(solver, examples=3).passed

    for spoiler in RETURNED:
        report = conform(_returning(solver, spoiler), examples=3)
        assert not report.passed, spoiler.name
        assert all(row.message for row in report.failures), spoiler.name


def _returning(solver: Callable[..., Any], spoiler: spoiling.Spoiler) -> Callable[..., Any]:
    """Return the solver with what it returns, or the first part of that, spoilt."""
    if solver is estimator:

        def wrong(m: Any, L: Any, U: Any, y: Any, epsilon: Any) -> Any:
            g_m, g_L = estimator(m, L, U, y, epsilon)
            return spoiler.apply(g_m), g_L

        return wrong
    if solver is best_weights:
        return lambda rho, lam: spoiler.apply(best_weights(rho, lam))
    if solver is inner:
        return lambda U, lam: spoiler.apply(inner(U, lam))
    return lambda U, Sigma, lam: spoiler.apply(hypergradient(U, Sigma, lam))


ARGUMENTS = {"function": inner, "examples": 3, "seed": 0}


def test_arguments_of_conform() -> None:
    changes = spoiling.single_changes(list(spoiling.paths(ARGUMENTS)))
    oracle.all_end_well("conform", conform, ARGUMENTS, changes)
