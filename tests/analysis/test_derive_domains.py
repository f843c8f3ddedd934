"""Domains: what is not real is refused, probabilities are ones, an edge is no best parameter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import (
    KL,
    ArgumentError,
    Bits,
    Classes,
    Entropy,
    Gaussian,
    Moments,
    NoMaximumError,
    Normal,
    RewardError,
    derive,
    outcome,
)
from analysis.calculus.symbols import symbol

u, a, q = sp.symbols("u a q", positive=True)
k = sp.Symbol("k", real=True)
y_hat, y = outcome(1)
Y_hat, Y = outcome(2)
z, Z = y_hat - y, Y_hat - Y
U = symbol("U", 2)

NOT_REAL = {
    "a cube root": sp.cbrt(-8),
    "a root": sp.sqrt(-u),
    "beyond a domain": sp.asin(2),
    "a root of any sign": sp.sqrt(k),
    "a root of a difference": sp.sqrt(u - a),
    "a logarithm of any sign": sp.log(k),
    "a logarithm below 0": sp.log(-u),
    "a power of any sign": k**a,
    "an angle": sp.acos(k),
    "inside": sp.exp(sp.sqrt(k)),
    "of a sum": 1 + 2 * sp.log(k) ** 2,
    "an unknown function": sp.Function("f")(a),
    "an unknown function, said to be real": sp.Function("f", real=True)(a),
    "a symbol": sp.Symbol("z"),
    "a complex symbol": sp.Symbol("z", complex=True),
    "an imaginary number": 2 * sp.I,
    "infinite": sp.oo,
}
REAL = {
    "a root": sp.sqrt(u),
    "a real root": sp.real_root(-8, 3),
    "a root of a square": sp.sqrt(k**2),
    "a root of a sum": sp.sqrt(k**2 + 1),
    "a root of an amount": sp.sqrt(sp.Abs(k)),
    "a logarithm": sp.log(u + a),
    "a power": u**k,
    "a saturation": sp.tanh(k) + sp.atan(k),
    "an error function": sp.erf(k),
    "a quotient": k / (1 + a),
    "a minor": sp.log(U.det()) + sp.sqrt(U.det()),
    "a constant": sp.pi + sp.E,
}


def entrances(f: Any) -> dict[str, Any]:
    """Every place of `derive` in which an expression may stand."""
    return {
        "reward": lambda: derive(-u * z**2 + f * y_hat, Gaussian(1)),
        "exponent": lambda: derive(-(z**2) + sp.exp(f * y_hat - y_hat**2), Gaussian(1)),
        "table": lambda: derive([[0, f], [u, 0]], Classes(2)),
        "bits": lambda: derive(f * y_hat * y, Bits(1)),
        "λ": lambda: derive(-(z**2), Gaussian(1), Entropy(1 + f)),
        "λ of KL": lambda: derive(-(z**2), Gaussian(1), KL(1 + f)),
        "mean": lambda: derive(-(z**2), Gaussian(1), data=Moments(mean=f)),
        "means": lambda: derive(-(Z.T * Z)[0], Gaussian(2), data=Normal(mean=[0, f])),
        "covariance": lambda: derive(-(z**2), Gaussian(1), data=Moments(covariance=2 + f)),
        "m0": lambda: derive(-(z**2), Gaussian(1), KL(mean=f)),
        "P0": lambda: derive(-(z**2), Gaussian(1), KL(covariance=[[2 + f]])),
        "p0": lambda: derive(u * sp.eye(2), Classes(2), KL(probabilities=[f, 1 - f])),
        "ρ": lambda: derive(u * y_hat * y, Bits(1), data=Moments(mean=[f])),
    }


@pytest.mark.parametrize("name", NOT_REAL)
def test_what_is_not_known_to_be_real_is_refused_wherever_it_stands(name: str) -> None:
    for place, call in entrances(NOT_REAL[name]).items():
        with pytest.raises(RewardError):
            pytest.fail(f"{place} is taken: {call()}")


@pytest.mark.parametrize("name", ["y", "y_hat", "of two", "of a function"])
def test_outcomes_stand_in_rewards_alone(name: str) -> None:
    f = {"y": y**2, "y_hat": y_hat, "of two": Y[1], "of a function": sp.exp(y_hat)}[name]
    for place, call in entrances(f).items():
        if place not in ("reward", "exponent", "table", "bits"):
            with pytest.raises(RewardError, match=r"outcome|positive"):
                pytest.fail(f"{place} is taken: {call()}")


@pytest.mark.parametrize("name", REAL)
def test_what_is_real_gives_numbers(name: str) -> None:
    """A multiple of y moves no policy: what multiplies it may be any real number."""
    found = derive(-(z**2) + REAL[name] * y_hat, Gaussian(1)).verify()
    given = {"u": 0.8, "a": 0.6, "k": 0.3, "U": np.array([[1.3, 0.4], [0.4, 0.8]])}
    given = {name: given[name] for name in found.parameters}
    numbers = {"u": 0.8, "a": 0.6, "k": 0.3, "U_11": 1.3, "U_12": 0.4, "U_22": 0.8}
    at = {x: numbers[str(x)] for x in REAL[name].free_symbols}
    value = float(sp.N(REAL[name].subs(at)))
    values = {**given, "mu": 0.2, "Sigma": 0.5, "lam": 0.4}
    assert found.solve(**values).policy["m"] == pytest.approx(0.2 + value / 2, rel=1e-12)
    slopes = found.slopes(**values)
    for x in sorted(REAL[name].free_symbols - set(U), key=str):
        rate = float(sp.N(sp.diff(REAL[name], x).subs(at)))
        assert slopes[str(x)] == pytest.approx(-value / 2 * rate / 2 / 0.2, rel=1e-9)


IMPROPER = [
    [0.5, 0.7, -0.2],
    [0.5, 0.5, 0],
    [0.5, 0.7, 0.2],
    [1, 0, 0],
    [0.2, 0.2, 0.2],
    [1.5, 0.25, 0.25],
    [sp.sqrt(2), sp.Rational(1, 4), 1 - sp.sqrt(2)],
    [q, -q, 1],
]


@pytest.mark.parametrize("p", IMPROPER)
def test_improper_references(p: Any) -> None:
    with pytest.raises(RewardError, match="probabilities"):
        derive(u * sp.eye(3), Classes(3), KL(probabilities=p))


@given(st.lists(st.integers(-20, 120).map(lambda k: k / 100), min_size=1, max_size=3))
@settings(max_examples=25)
def test_probabilities_of_bits_lie_between_0_and_1(p: list[float]) -> None:
    n = len(p)
    first, second = (sp.Matrix([x]) for x in outcome(n))
    r = u * (first.T * second)[0]
    for what, call in (
        ("probabilities", lambda: derive(r, Bits(n), KL(probabilities=p))),
        ("the mean of the data", lambda: derive(r, Bits(n), data=Moments(mean=p))),
    ):
        if all(0 < x < 1 for x in p):
            call()
        else:
            with pytest.raises(RewardError, match=what):
                call()


def test_probabilities_in_symbols_are_judged_by_their_numbers() -> None:
    found = derive(u * sp.eye(2), Classes(2), KL(probabilities=[q, 1 - q]))
    values = {"u": 1.0, "pi": [0.3, 0.7], "lam": 1.0}
    weights = np.array([0.4 * np.exp(0.3), 0.6 * np.exp(0.7)])
    p = found.solve(q=0.4, **values).policy["p"]
    np.testing.assert_allclose(p, weights / weights.sum(), rtol=1e-12)
    with pytest.raises(ArgumentError, match="probabilities"):
        found.solve(q=1.2, **values)
    named = derive(u * sp.eye(2), Classes(2), KL())
    with pytest.raises(ArgumentError, match=r"1\.2"):
        named.solve(p0_1=0.5, p0_2=0.7, **values)
    of_bits = derive(u * y_hat * y, Bits(1), data=Moments(mean=q))
    with pytest.raises(ArgumentError, match="the mean of the data"):
        of_bits.solve(q=1.2, u=1.0, lam=1.0)


def test_the_mean_of_bits_is_taken_and_nothing_else() -> None:
    r = u * (Y_hat.T * Y)[0]
    free, given = derive(r, Bits(2)), derive(r, Bits(2), data=Moments(mean=[0.3, 0.8]))
    values = {"u": 0.7, "lam": 0.5}
    want = free.solve(rho=[0.3, 0.8], **values).policy["psi"]
    np.testing.assert_allclose(given.solve(**values).policy["psi"], want, rtol=1e-12)
    for data in (Moments(covariance=sp.eye(2)), Moments(symmetric=True)):
        with pytest.raises(RewardError, match="only the mean"):
            derive(r, Bits(2), data=data)


EDGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "closed": (derive([0, u], Classes(2)), {"pi": [0.7, 0.3], "lam": 1.0}),
    "closed, two": (derive([0, u, a], Classes(3)), {"pi": [0.4, 0.5, 0.1], "lam": 1.0}),
    "negative": (
        derive([0, sp.Symbol("v", negative=True)], Classes(2)), {"pi": [0.3, 0.7], "lam": 1.0}
    ),
    "bits": (derive(u * y_hat, Bits(1)), {"rho": [0.3], "lam": 1.0}),
    "a reference in numbers": (
        derive(-u * z**2, Gaussian(1), KL(mean=0, covariance=1), Moments(mean=0)),
        {"Sigma": 2.0, "lam": 1.0},
    ),
    "a reference in symbols": (
        derive(-u * z**2, Gaussian(1), KL()),
        {"mu": 0.0, "Sigma": 1.0, "m0": 0.0, "P0": 0.5, "lam": 1.0},
    ),
    "a matrix": (
        derive(-(Z.T * U * Z)[0], Gaussian(2), KL()),
        {"mu": [0, 0], "Sigma": np.diag([3.0, 0.5]), "m0": [0, 0], "P0": np.eye(2), "lam": 1.0},
    ),
    "a quartic": (
        derive(-u * z**4, Gaussian(1), KL(), Normal()),
        {"mu": 0.0, "Sigma": 1.0, "m0": 0.0, "P0": 0.5, "lam": 1.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_of_the_domain_is_no_best_parameter(name: str) -> None:
    found, values = EDGES[name]
    with pytest.raises(NoMaximumError, match="inside their domain"):
        found.best(**values)


INSIDE: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "classes": (
        derive([0, u], Classes(2)), {"pi": [0.3, 0.7], "lam": 1.0}, {"u": np.log(0.7 / 0.3)}
    ),
    "any sign": (
        derive([0, k], Classes(2)), {"pi": [0.7, 0.3], "lam": 1.0}, {"k": np.log(0.3 / 0.7)}
    ),
    "a reference": (
        derive(-u * z**2, Gaussian(1), KL()),
        {"mu": 0.0, "Sigma": 0.5, "m0": 0.0, "P0": 2.0, "lam": 1.0},
        {"u": (1 / 0.5 - 1 / 2) / 2},
    ),
    "a reference in units of 1e-5": (
        derive(-u * z**2, Gaussian(1), KL()),
        {"mu": 0.0, "Sigma": 0.5e-10, "m0": 0.0, "P0": 2e-10, "lam": 1e-4},
        {"u": (1 / 0.5 - 1 / 2) / 2 * 1e6},
    ),
    "a matrix": (
        derive(-(Z.T * U * Z)[0], Gaussian(2), KL()),
        {"mu": [0, 0], "Sigma": np.diag([0.3, 0.5]), "m0": [0, 0], "P0": np.eye(2), "lam": 1.0},
        {"U": np.diag([1 / 0.3 - 1, 1 / 0.5 - 1]) / 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDE)
def test_best_parameters_inside_are_found(name: str) -> None:
    found, values, wanted = INSIDE[name]
    best = found.best(**values)
    for parameter, value in wanted.items():
        np.testing.assert_allclose(best.parameters[parameter], value, rtol=1e-6, atol=1e-6)


def test_a_start_outside_the_domain_is_refused() -> None:
    found, values = EDGES["a reference in symbols"]
    with pytest.raises(ArgumentError, match=r"u = -1\.0 must be > 0"):
        found.best(**values, u=-1.0)


@given(far=st.floats(4.0, 40.0), gain=st.floats(0.2, 2.0))
@settings(max_examples=10)
def test_a_peak_far_from_the_data_is_found(far: float, gain: float) -> None:
    """Of two wells at 0 and at c the one that a line lifts, as far as it may be."""
    found = TWO_WELLS.solve(c=far, b=gain, mu=0.0, Sigma=1.0, lam=0.1)
    assert found.policy["m"] > far / 2


b, c = sp.Symbol("b", real=True), sp.Symbol("c", real=True)
TWO_WELLS = derive(-(y_hat**2) * (y_hat - c) ** 2 / 10 + b * y_hat, Gaussian(1))


def test_a_bump_far_from_the_data_is_found() -> None:
    r = 50 * sp.exp(-((y_hat - 12) ** 2) / 4) - y_hat**2 / 10
    assert derive(r, Gaussian(1)).solve(mu=0.0, Sigma=1.0, lam=0.1).policy["m"] > 11


def test_a_peak_far_from_the_data_in_the_plane_is_found() -> None:
    far = -(Y_hat[1] ** 2) * (Y_hat[1] - 10) ** 2 / 10 + Y_hat[1] / 2
    found = derive(far - (Y_hat[0] - Y_hat[1] / 10) ** 2, Gaussian(2))
    m = found.solve(mu=[0.0, 0.0], Sigma=np.eye(2), lam=0.1).policy["m"]
    np.testing.assert_allclose(m, [1, 10], atol=0.1)
