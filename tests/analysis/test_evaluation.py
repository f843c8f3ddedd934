"""Numbers of a derivation are right to the last digits, at every condition and every scale."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from mpmath.ctx_mp import MPContext

from analysis import Derivation, catalogue, gaussian
from analysis.calculus import compiled
from analysis.calculus.symbols import QUANTITIES
from analysis.errors import ArgumentError
from tests.analysis.test_derivations import values_for

ENTRIES = catalogue()
# Of each function one size: the sizes differ in nothing but the length of entries.
PLANAR = [entry for entry in ENTRIES if "n=2" in entry.name]
EPS = float(np.finfo(float).eps)


def ill(n: int, condition: float, scale: float, seed: int) -> np.ndarray:
    """A rotated SPD matrix of this condition number, whose largest eigenvalue is the scale."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    X = rotation @ np.diag(np.geomspace(1, 1 / condition, n)) @ rotation.T
    return scale * ((X + X.T) / 2)


def inverse(X: np.ndarray) -> np.ndarray:
    """The inverse in exact rational arithmetic, by elimination, rounded once."""
    n = len(X)
    rows = [[Fraction(x) for x in [*X[i], *np.eye(n)[i]]] for i in range(n)]
    for k in range(n):
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(n):
            if i != k:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return np.array([[float(x) for x in row[n:]] for row in rows])


def at_rationals(expression: Any, derivation: Derivation, values: dict[str, Any]) -> np.ndarray:
    """The value at the exact rationals that the floats are, by SymPy's own evaluation."""
    points: dict[Any, Any] = {}
    for name, X in derivation.arguments.items():
        numbers = np.reshape(np.asarray(values[name], float), getattr(X, "shape", ()))
        for place in np.ndindex(*numbers.shape):
            entry = X[place] if place else X
            if entry != 0:
                points.setdefault(entry, sp.Rational(Fraction(float(numbers[place]))))
    value = expression.xreplace(points)
    cells = list(value) if isinstance(value, sp.MatrixBase) else [value]
    return np.array([float(sp.N(cell, 40, maxn=400)) for cell in cells])


@pytest.mark.parametrize("entry", PLANAR, ids=[entry.name for entry in PLANAR])
def test_explicit_entries_are_correctly_rounded(entry):
    """At any condition of the SPD arguments, and where there are none."""
    derivation = entry.build()  # here, not where tests are collected: it takes seconds in all
    spd = [name for name in derivation.arguments if QUANTITIES[name].domain == "spd"]
    for condition in (1e3, 1e12) if spd else (1.0,):
        values = values_for(derivation, np.random.default_rng(7))
        values |= {n: ill(derivation.arguments[n].rows, condition, 1.0, seed=3) for n in spd}
        for side in ("stated", "derived"):
            expected = at_rationals(getattr(derivation, side), derivation, values)
            found = np.ravel(derivation.at(side, **values))
            np.testing.assert_allclose(found, expected, rtol=2 * EPS)


@pytest.mark.gate
@given(
    n=st.integers(1, 6),
    digits=st.floats(0, 12),
    scale=st.sampled_from([1.0, 1e-170, 1e-90, 1e103, 1e150]),
    seed=st.integers(0, 2**32 - 1),
)
def test_inverses_of_ill_conditioned_matrices(n, digits, scale, seed):
    """Relative error below 1e-15 times the condition number, explicit entries below 2e-16."""
    U = ill(n, 10**digits, scale, seed)
    expected = inverse(U) / 2
    size = np.max(np.abs(expected))
    bound = 1e-15 * np.linalg.cond(U / scale)
    for at_any in (gaussian.inner.solution("full", None), gaussian.inner.solution("full", n)):
        for side in ("stated", "derived"):
            found = np.reshape(at_any.at(side, U=U, lam=1.0), (n, n))
            assert np.max(np.abs(found - expected)) <= bound * size
            assert np.array_equal(found, found.T)
    if n <= 3:
        found = np.reshape(gaussian.inner.solution("full", n).at(U=U, lam=1.0), (n, n))
        np.testing.assert_allclose(found, expected, rtol=2 * EPS)


@pytest.mark.parametrize("structure", ["full", "diagonal", "isotropic"])
@pytest.mark.parametrize(("n", "scale"), [(2, 1e155), (3, 1e103), (2, 1e-170), (6, 1e150)])
def test_nothing_under_or_overflows_on_the_way(structure, n, scale):
    U, Sigma = np.eye(n) * scale, np.eye(n) / scale
    for size in (n, None):
        solution = gaussian.inner.solution(structure, size).at(U=U, lam=1.0)
        np.testing.assert_allclose(solution, Sigma / 2, rtol=4 * EPS)
        slope = gaussian.outer.hypergradient(structure, size).at(U=U, lam=1.0, Sigma=Sigma)
        np.testing.assert_allclose(slope, -Sigma / 2, rtol=8 * EPS)
        reward = gaussian.outer.optimal_reward(structure, size).at(Sigma=Sigma, lam=1.0)
        np.testing.assert_allclose(reward, U / 2, rtol=4 * EPS)


def test_what_cancels_keeps_its_digits():
    """The cost of a covariance that is off by δ is δ²/4 per outcome, also for δ = 1e-9."""
    off = np.eye(2) * (1 + 2**-30)
    cost = gaussian.misspecification.cost_of_covariance(2).at(S=off, Sigma=np.eye(2))
    assert cost == pytest.approx(2 * 2.0**-60 / 4, rel=1e-8)
    assert gaussian.misspecification.cost_of_covariance(2).at(S=off, Sigma=off) == 0.0


def test_a_value_beyond_floats_is_an_error():
    with pytest.raises(ArgumentError, match="beyond floating-point range"):
        gaussian.inner.solution("full", 2).at(U=np.eye(2) * 1e-320, lam=1.0)
    with pytest.raises(ArgumentError, match="beyond floating-point range"):
        gaussian.outer.concavity(2).at(U=np.eye(2) * 1e-200, H=np.eye(2))


NEARLY = 2.0**-50


@pytest.mark.gate
@pytest.mark.parametrize("scale", [1.0, 2.0**500, 2.0**-500])
@pytest.mark.parametrize("n", [2, None])
def test_the_line_between_definite_and_not_is_exact(n, scale):
    """det = ±2^-50 and 0: eigenvalues in floating point cannot tell them apart."""
    solution = gaussian.inner.solution("full", n)
    inside = np.array([[1.0, 1.0], [1.0, 1.0 + NEARLY]]) * scale
    expected = np.array([[1 + NEARLY, -1.0], [-1.0, 1.0]]) / (2 * NEARLY * scale)
    np.testing.assert_allclose(solution.at(U=inside, lam=1.0), expected, rtol=1e-15 / NEARLY)
    for last in (1.0, 1.0 - NEARLY):
        outside = np.array([[1.0, 1.0], [1.0, last]]) * scale
        with pytest.raises(ArgumentError, match="U is not positive definite: its smallest"):
            solution.at(U=outside, lam=1.0)


@pytest.mark.gate
@given(
    n=st.integers(2, 5),
    digits=st.floats(12, 15),
    power=st.sampled_from([0, 498, -498]),
    seed=st.integers(0, 2**32 - 1),
)
def test_definiteness_agrees_with_exact_arithmetic(n, digits, power, seed):
    U = ill(n, 10**digits, 1.0, seed) * 2.0**power
    exact = sp.Matrix(n, n, [sp.Rational(Fraction(x)) for x in U.ravel()])
    definite = all(exact[:k, :k].det(method="bareiss") > 0 for k in range(1, n + 1))
    trace = gaussian.outer.objective("isotropic", None)  # asks for U, inverts nothing
    if definite:
        assert np.isfinite(trace.at(U=U, Sigma=np.eye(n), lam=1.0))
    else:
        with pytest.raises(ArgumentError, match="U is not positive definite"):
            trace.at(U=U, Sigma=np.eye(n), lam=1.0)


def test_scales_that_differ_between_entries():
    """Whatever the units of the outcomes: rows and columns times powers of 10."""
    units = np.diag([1e120, 1.0, 1e-120])
    Sigma = ill(3, 10.0, 1.0, seed=0)
    for n in (3, None):
        reward = gaussian.outer.optimal_reward("full", n)
        found = reward.at(Sigma=units @ Sigma @ units, lam=1.0)
        np.testing.assert_allclose(units @ found @ units, inverse(Sigma) / 2, rtol=1e-13)


def test_a_matrix_that_doubles_cannot_invert_is_named():
    hilbert = np.array([[1 / (i + j + 1) for j in range(14)] for i in range(14)])
    lifted = hilbert + 1e-17 * np.eye(14)
    with pytest.raises(ArgumentError, match=r"positive definite|condition number"):
        gaussian.inner.solution("full", None).at(U=lifted, lam=1.0)


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1e-310, 1e-310], [0.0, 1e-310]]),
        np.array([[1e300, 1e-8], [0.0, 1e-300]]),
        np.array([[1.0, 1e-8], [0.0, 1.0]]),
    ],
)
def test_asymmetry_is_measured_on_the_scale_of_the_entries(X):
    for n in (2, None):
        with pytest.raises(ArgumentError, match="U is not symmetric"):
            gaussian.inner.solution("full", n).at(U=X, lam=1.0)


def test_rounding_is_no_asymmetry():
    U = np.array([[2.0, 0.5 + 1e-12], [0.5, 1.0]])
    expected = gaussian.inner.solution("full", 2).at(U=(U + U.T) / 2, lam=1.0)
    for n in (2, None):
        found = gaussian.inner.solution("full", n).at(U=U, lam=1.0)
        np.testing.assert_allclose(found, expected, rtol=1e-15)


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=3), st.integers(0, 80))
def test_the_first_precision_holds_polynomials_of_degree_4_exactly(numbers, power):
    """Products of four of the numbers, and the smallest beside each."""
    numbers = [*numbers, numbers[0] * 2.0**power]
    context = MPContext()
    context.prec = compiled._bits(numbers)

    def product(chosen: tuple[float, ...]) -> tuple[Any, Fraction]:
        return context.fprod(map(context.mpf, chosen)), math.prod(
            map(Fraction, chosen), start=Fraction(1)
        )

    small, exact = product((min(numbers),) * 4)
    for chosen in combinations_with_replacement(numbers, 4):
        found, want = product(chosen)
        mantissa, exponent = (found + small).man_exp
        assert mantissa * Fraction(2) ** exponent == want + exact
