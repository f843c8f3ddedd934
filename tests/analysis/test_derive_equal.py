"""Inner maxima with the same J: the likeliest is taken, whatever rounding says; a line is refused.

The witness is J by Gauss-Hermite nodes of the policy and of the data, maximised from the data.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from analysis import Entropy, Gaussian, Normal, derive, outcome
from analysis.errors import NoMaximumError

a, b = sp.symbols("a b", positive=True)
y_hat, y = outcome(1)
p, q = outcome(2)
WELLS = derive(-a * (y_hat**2 - y**2) ** 2, Gaussian(1), Entropy(), Normal())
RING = derive(-a * (p.dot(p) - q.dot(q)) ** 2, Gaussian(2), Entropy(), Normal())
PLANE = {"mu": [0.1, 0.2], "Sigma": [[1.0, 0.3], [0.3, 2.0]], "lam": 0.5}
NODES, weights = np.polynomial.hermite_e.hermegauss(20)
WEIGHTS = weights / weights.sum()


def objective(policy: Any, a: float, mu: float, Sigma: float, lam: float) -> float:
    """J of the wells, without its constants, in m and log √P."""
    generated = policy[0] + np.exp(policy[1]) * NODES
    data = mu + np.sqrt(Sigma) * NODES
    return float(
        -a * WEIGHTS @ (generated[:, None] ** 2 - data**2) ** 2 @ WEIGHTS + lam * policy[1]
    )


def likelihood(m: float, P: float, mu: float, Sigma: float) -> float:
    """F."""
    return -0.5 * (np.log(2 * np.pi * P) + ((m - mu) ** 2 + Sigma) / P)


@given(
    mu=st.one_of(st.floats(1.5, 9.0), st.floats(-9.0, -1.5)),
    Sigma=st.floats(0.05, 0.5),
    lam=st.floats(0.1, 1.0),
    unit=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_of_two_maxima_the_likelier_is_taken(
    mu: float, Sigma: float, lam: float, unit: float
) -> None:
    values = {"a": unit**-4, "mu": mu * unit, "Sigma": Sigma * unit**2, "lam": lam}
    found = WELLS.solve(**values)
    m, P = found.policy["m"] / unit, found.policy["P"] / unit**2
    (other,) = found.equal
    assert other["m"] == pytest.approx(-found.policy["m"], rel=1e-8)
    assert likelihood(m, P, mu, Sigma) > likelihood(other["m"] / unit, P, mu, Sigma)
    here = np.array([m, np.log(P) / 2])
    best = optimize.minimize(
        lambda x: -objective(x, 1.0, mu, Sigma, lam), [mu, here[1]], options={"gtol": 1e-9}
    ).x
    assert here == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("mu", [2.0, -2.0, 1.7, 30.0])
def test_slopes_are_those_at_the_likelier(mu: float) -> None:
    def F(a: float) -> float:
        policy = WELLS.solve(a=a, mu=mu, Sigma=0.3, lam=0.5).policy
        return likelihood(policy["m"], policy["P"], mu, 0.3)

    slope = WELLS.slopes(a=1.0, mu=mu, Sigma=0.3, lam=0.5)["a"]
    assert slope == pytest.approx((F(1 + 1e-5) - F(1 - 1e-5)) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("scale", [0.3, 1.0, 30.0])
def test_a_line_of_maxima_is_refused(scale: float) -> None:
    for asked in (RING.solve, RING.slopes, RING.best):
        with pytest.raises(NoMaximumError, match="J is the same, to rounding, along a line"):
            asked(a=scale, **PLANE)


def test_what_prefers_one_of_the_line_is_solved() -> None:
    tilted = derive(
        -a * (p.dot(p) - q.dot(q)) ** 2 - b * (p - q).dot(p - q), Gaussian(2), Entropy(), Normal()
    )
    found = tilted.solve(a=1.0, b=1e-3, **PLANE)
    assert found.equal == ()
    # The tilt prefers means that point as the data's mean does.
    assert found.policy["m"] @ PLANE["mu"] > 0


def test_several_maxima_are_noted_where_none_is_in_closed_form() -> None:
    several = "J may have several maxima: solve(...) takes the best it finds"
    assert several in WELLS.notes
    assert several in RING.notes
    concave = derive(-a * (y_hat - y) ** 2 - a * y_hat**4, Gaussian(1), Entropy(), Normal())
    assert several not in concave.notes
    falls = derive(-a * (y_hat - y) ** 2, Gaussian(1), Entropy(), Normal())
    assert several not in falls.notes


def test_searches_that_end_at_the_same_count_once() -> None:
    """The data's mean lies elsewhere, so that no policy has the offset 0."""
    found = WELLS.solve(a=1.0, mu=2.0, Sigma=0.3, lam=0.5)
    searched: Any = WELLS.levels
    numbers = searched._numbers(WELLS, {"a": 1.0, "mu": 2.0, "Sigma": 0.3, "lam": 0.5})
    at = searched._search(numbers)
    (other,) = at.equal
    assert searched._are_apart(at, other)
    assert searched._are_apart(other, at)
    assert not searched._are_apart(other, other)
    assert not searched._are_apart(at, at)
    assert found.policy == searched._policy(at)


def test_one_maximum_has_no_equals() -> None:
    assert WELLS.solve(a=0.01, mu=2.0, Sigma=0.3, lam=0.5).equal == ()


def test_best_parameters_are_found_from_where_one_policy_is_best() -> None:
    """The message names such a place, in the units of the data."""
    for unit in (1.0, 100.0):
        data = {
            "mu": np.array(PLANE["mu"]) * unit,
            "Sigma": np.array(PLANE["Sigma"]) * unit**2,
            "lam": PLANE["lam"],
        }
        with pytest.raises(NoMaximumError) as caught:
            RING.best(**data)
        named = re.search(r"or pass a = (\S+) to start from, where it is solved", str(caught.value))
        assert named is not None
        best = RING.best(a=float(named[1]), **data)
        assert best.slope < 1e-6
        assert best.determined
        assert best.parameters["a"] * unit**4 == pytest.approx(0.0268745, rel=1e-5)
