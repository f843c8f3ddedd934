"""Units: both levels of a reward are the same in every unit of data and λ, and about every mean.

With y' = t + cy and λ' = ℓλ, a parameter whose power of the data's unit is k and of λ's p becomes
ℓ^p c^k φ, a centre moves by t, and what is found moves with them: m' = t + cm, P' = c²P,
J' = ℓ(J + λ n log c), of entropy, and slopes by a parameter's own size stay. c, ℓ and t are powers
of 2, so that no number of a problem is rounded on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import (
    KL,
    Bits,
    Classes,
    Derived,
    Entropy,
    Gaussian,
    Moments,
    Normal,
    derive,
    outcome,
)
from analysis.calculus.symbols import symbol

u, a, b, w = sp.symbols("u a b w", positive=True)
k = sp.Symbol("k", real=True)
y_hat, y = outcome(1)
Y_hat, Y = outcome(2)
z, Z = y_hat - y, Y_hat - Y
U = symbol("U", 2)
phi = sp.Matrix([y_hat - y, y_hat**2 - y**2])
SKEWED = {"mu": 0.25, "Sigma": 0.75, "mu_3": 0.25, "mu_4": 2.0}
PLANE = {"mu": np.array([0.25, -0.5]), "Sigma": np.array([[0.75, 0.25], [0.25, 1.0]])}


@dataclass(frozen=True)
class Case:
    """A reward, numbers, and of each parameter its powers of λ's unit and of the data's.

    Args:
        moves: whether the reward is one of differences and centres, which move with the data.
        centres: parameters that move by t.
        best: whether best parameters exist, and only one.
    """

    reward: Any
    values: dict[str, Any]
    powers: Mapping[str, tuple[float, Any]]
    family: Any = field(default_factory=Gaussian)
    regulariser: Any = field(default_factory=Entropy)
    data: Any = field(default_factory=Moments)
    moves: bool = True
    centres: tuple[str, ...] = ()
    best: bool = True


QUARTIC = {"a": (1, -4), "b": (1, -2)}
FORM = np.array([[1.25, 0.25], [0.25, 0.75]])
CASES = {
    "quartic, Gaussian data": Case(
        -a * z**4 - b * z**2,
        {"a": 0.25, "b": 0.5, "mu": 0.25, "Sigma": 0.75},
        QUARTIC,
        data=Normal(),
    ),
    "quartic, any data": Case(
        -a * z**4 - b * z**2, {"a": 0.25, "b": 0.5, **SKEWED}, QUARTIC, best=False
    ),
    "quartic about a centre": Case(
        -a * (y_hat - k) ** 4 - b * z**2,
        {"a": 0.25, "b": 0.5, "k": 1.5, "mu": 0.25, "Sigma": 0.75},
        {**QUARTIC, "k": (0, 1)},
        centres=("k",),
        best=False,
    ),
    "exponential": Case(
        -u * (sp.exp(a * z) - a * z - 1),
        {"u": 0.75, "a": 0.5, "mu": 0.25, "Sigma": 0.75},
        {"u": (1, 0), "a": (0, -1)},
        data=Normal(),
        best=False,
    ),
    "bump on a bowl": Case(
        b * sp.exp(-(z**2) / w) - u * z**2,
        {"b": 0.5, "w": 1.5, "u": 0.5, "mu": 0.25, "Sigma": 0.75},
        {"b": (1, 0), "w": (0, 2), "u": (1, -2)},
        data=Normal(),
        best=False,
    ),
    "quartic, KL": Case(
        -a * z**4,
        {"a": 0.25, "mu": 0.25, "Sigma": 0.5, "m0": -0.5, "P0": 2.0},
        QUARTIC,
        regulariser=KL(),
        data=Normal(),
    ),
    "embedding": Case(
        -(phi.T * U * phi),
        {"U": FORM, **SKEWED},
        {"U": (1, np.array([[-2, -3], [-3, -4]]))},
        moves=False,
        best=False,
    ),
    "form, diagonal": Case(
        -(Z.T * U * Z),
        {"U": FORM, **PLANE},
        {"U": (1, -2)},
        Gaussian(2, "diagonal"),
        best=False,
    ),
    "form, KL": Case(
        -(Z.T * U * Z),
        {"U": FORM, **PLANE, "m0": PLANE["mu"], "P0": 4 * np.eye(2)},
        {"U": (1, -2)},
        Gaussian(2),
        KL(),
    ),
    "square of a norm": Case(
        -a * (Z.T * Z)[0] ** 2 - b * (Z.T * Z)[0],
        {"a": 0.25, "b": 0.5, **PLANE},
        QUARTIC,
        Gaussian(2, "isotropic"),
        data=Normal(),
        best=False,
    ),
}  # fmt: skip
UNITS = {
    "small data": (2.0**-17, 1.0, 0.0),
    "large data": (2.0**17, 1.0, 0.0),
    "small λ": (1.0, 2.0**-30, 0.0),
    "large λ": (1.0, 2.0**30, 0.0),
    "small data far away": (2.0**-17, 2.0**-27, 2.0**20),
    "data far away": (1.0, 1.0, -(2.0**20)),
    "large data far away": (2.0**10, 2.0**30, 2.0**30),
}


@cache
def derived(name: str) -> Derived:
    case = CASES[name]
    return derive(case.reward, case.family, case.regulariser, case.data)


def moved(case: Case, c: float, weight: float, t: float) -> dict[str, Any]:
    """The numbers of a problem in other units."""
    powers: dict[str, tuple[float, Any]] = {"mu": (0, 1), "m0": (0, 1), "Sigma": (0, 2)}
    powers |= {"P0": (0, 2), "mu_3": (0, 3), "mu_4": (0, 4), "lam": (1, 0), **case.powers}
    found: dict[str, Any] = {}
    for name, value in {"lam": 0.5, **case.values}.items():
        p, of_data = powers[name]
        found[name] = value * weight**p * c ** np.asarray(of_data, float)
        if name in ("mu", "m0", *case.centres):
            found[name] = found[name] + t
    return found


def asked(name: str, c: float = 1.0, weight: float = 1.0, t: float = 0.0) -> dict[str, Any]:
    found = derived(name)
    known = {**found.parameters, **found.moments, **found.constants}
    return {k: v for k, v in moved(CASES[name], c, weight, t).items() if k in known}


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", CASES)
def test_inner_solution_and_hypergradient_in_other_units(name: str, units: str) -> None:
    case, found = CASES[name], derived(name)
    c, weight, t = UNITS[units]
    t = t if case.moves else 0.0
    values, others = asked(name), asked(name, c, weight, t)
    here, there = found.solve(**values), found.solve(**others)
    rounded = 1e-15 * abs(t)  # of a mean in the larger units
    np.testing.assert_allclose(
        there.policy["m"], t + c * here.policy["m"], rtol=1e-9, atol=rounded + 1e-9 * c
    )
    spread = "s" if "s" in here.policy else "P"
    np.testing.assert_allclose(there.policy[spread], c**2 * here.policy[spread], rtol=1e-9)
    entropy = 0.0 if isinstance(case.regulariser, KL) else found.family.n * np.log(c)
    J = weight * (here.objective + values["lam"] * entropy)
    assert there.objective == pytest.approx(J, rel=1e-9, abs=1e-9 * weight)
    slopes, moved_slopes = found.slopes(**values), found.slopes(**others)
    for parameter, (p, of_data) in case.powers.items():
        if parameter in slopes:
            unit = weight**p * c ** np.asarray(of_data, float)
            np.testing.assert_allclose(
                moved_slopes[parameter] * unit, slopes[parameter], rtol=1e-7, atol=1e-9
            )


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.best])
def test_best_parameters_in_other_units(name: str, units: str) -> None:
    """No cost is negative, none depends on units, nor does a slope by a parameter's size."""
    case, found = CASES[name], derived(name)
    c, weight, t = UNITS[units]
    values, others = (
        {k: v for k, v in asked(name, *at).items() if k not in found.parameters}
        for at in ((), (c, weight, t))
    )
    here, there = found.best(**values), found.best(**others)
    assert 0 <= there.cost == pytest.approx(here.cost, abs=1e-9)
    assert here.slope < 1e-6
    assert there.slope < 1e-6
    n = found.family.n
    assert there.likelihood == pytest.approx(here.likelihood - n * np.log(c), abs=1e-8)
    for parameter, value in here.parameters.items():
        p, of_data = case.powers[parameter]
        unit = weight**p * c ** np.asarray(of_data, float)
        np.testing.assert_allclose(
            there.parameters[parameter], value * unit, rtol=1e-4, atol=1e-6 * np.max(unit)
        )


def test_a_centre_is_found_from_the_data_on() -> None:
    """-a(ŷ - k)⁴ alone puts the mean at its centre, which is best at the data's mean."""
    found = derive(-a * (y_hat - k) ** 4, Gaussian(1))
    for mu, Sigma, lam in ((0.0, 1.0, 1.0), (1e6, 1e-10, 1e-8), (-1e5, 1e8, 1e9)):
        best = found.best(mu=mu, Sigma=Sigma, lam=lam)
        assert best.parameters["k"] == pytest.approx(mu, abs=1e-5 * Sigma**0.5 + 1e-15 * abs(mu))
        assert best.parameters["a"] == pytest.approx(lam / (12 * Sigma**2), rel=1e-4)
        assert 0 <= best.cost < 1e-9


def test_where_maximum_likelihood_is_reached_nothing_rises() -> None:
    """Of skewed data the quartic's weight vanishes, and the square alone is best."""
    found = derive(-a * z**4 - b * z**2, Gaussian(1))
    data = {"mu": 0.25, "Sigma": 0.75, "mu_3": 0.25, "mu_4": 2.0}
    best = found.best(**data, lam=0.5, a=1e-6, b=0.3)
    assert 0 <= best.cost < 1e-9
    assert best.parameters["b"] == pytest.approx(0.5 / 1.5, rel=1e-4)


TABLES: dict[str, tuple[Any, Any]] = {
    "match": (u * sp.eye(3), Entropy()),
    "match, KL": (u * sp.eye(3), KL()),
    "no data": (sp.Matrix([0, u, -a]), Entropy()),
    "embedding": (
        sp.Matrix(3, 3, lambda c, k: -u * (c - k) ** 2 - a * (c**2 - k**2) ** 2),
        Entropy(),
    ),
}


@pytest.mark.parametrize("size", [1.0, 300.0, 1e5, 1e12])
@pytest.mark.parametrize("name", TABLES)
def test_classes_at_any_weight(name: str, size: float) -> None:
    """Their law, whose probabilities may round to 0, and J, F and slopes by logarithms of it."""
    table, regulariser = TABLES[name]
    found = derive(table, Classes(3), regulariser)
    pi, lam, base = np.array([0.5, 0.3, 0.2]), 0.1, np.array([0.2, 0.5, 0.3])
    chosen = dict.fromkeys(found.parameters, size)
    constants = {f"p0_{i + 1}": base[i] for i in range(3) if isinstance(regulariser, KL)}
    values = {**chosen, **constants, "pi": pi, "lam": lam}
    r = np.array(table.xreplace({u: sp.Float(size), a: sp.Float(size)}), float)
    r_bar = (r * np.ones((3, 3))) @ pi
    logits = r_bar / lam + (np.log(base) if constants else 0.0)
    logs = logits - np.logaddexp.reduce(logits)
    solved = found.solve(**values)
    np.testing.assert_allclose(np.ravel(solved.policy["p"]), np.exp(logs), rtol=1e-7, atol=1e-300)
    assert solved.objective == pytest.approx(lam * np.logaddexp.reduce(logits), rel=1e-12)
    for name, slope in found.slopes(**values).items():
        rates = np.array(sp.diff(table, found.parameters[name]), float) * np.ones((3, 3))
        assert slope == pytest.approx((pi - np.exp(logs)) @ (rates @ pi) / lam, rel=1e-9)
    reached = found.levels.reached(found, values)
    assert reached.likelihood == pytest.approx(pi @ logs, rel=1e-12)
    assert reached.cost == pytest.approx(pi @ (np.log(pi) - logs), rel=1e-9)


@pytest.mark.parametrize("size", [1.0, 1e5, 1e12])
def test_bits_at_any_weight(size: float) -> None:
    found = derive(-u * y_hat * y + k * y_hat, Bits(1))
    values = {"u": size, "k": -size, "rho": [0.4], "lam": 0.1}
    logit = -1.4 * size / 0.1
    solved = found.solve(**values)
    assert solved.policy["psi"] == pytest.approx(np.exp(-np.logaddexp(0, -logit)), rel=1e-6)
    assert solved.objective == pytest.approx(0.1 * np.logaddexp(0, logit), rel=1e-6)
    slopes = found.slopes(**values)
    psi = 1 / (1 + np.exp(-np.maximum(logit, -700)))
    assert slopes["k"] == pytest.approx((0.4 - psi) / 0.1, rel=1e-9)
    assert slopes["u"] == pytest.approx(-0.4 * (0.4 - psi) / 0.1, rel=1e-9)
