"""What has no number in doubles, or no one best number, is said as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import KL, Bits, Classes, Gaussian, Normal, derive, outcome
from analysis.errors import ArgumentError, NoMaximumError, SlowDerivationWarning

a, b, u = sp.symbols("a b u", positive=True)
c = sp.Symbol("c", real=True)
y_hat, y = outcome(1)
p, q = outcome(2)
COSH = derive(-sp.cosh(a * (y_hat - y)), Gaussian(1), data=Normal())
MATCH = derive(u * sp.eye(2), Classes(2))
CENTRE = derive(-a * (y_hat - c) ** 2, Gaussian(1), KL())
BITS = derive(-a * (p[0] - q[0]) ** 2 - b * (p[1] - q[1]) ** 2, Bits(2))


@pytest.mark.parametrize("steepness", [30.0, 49.0, 60.0, 1e3, 1e200])
def test_a_reward_too_steep_for_doubles_is_said_to_be(steepness: float) -> None:
    with pytest.raises(ArgumentError, match=r"beyond a double.* the reward is less steep"):
        COSH.solve(a=steepness, mu=0.0, Sigma=1.0, lam=1.0)


def test_where_every_value_is_best_one_is_found() -> None:
    for found in (
        MATCH.best(pi=[0.5, 0.5], lam=1.0),
        MATCH.best(pi=[0.5, 0.5], lam=1e-20, u=3.0),
        BITS.best(rho=[0.5, 0.9], lam=1.0),
        BITS.best(rho=[0.5, 0.5], lam=1.0),
    ):
        assert found.cost == pytest.approx(0.0, abs=1e-15)
        assert not found.closed_form
        assert not found.determined
    assert MATCH.best(pi=[0.5, 0.5], lam=1.0, u=3.0).parameters["u"] == pytest.approx(3.0)


@pytest.mark.filterwarnings("error")
def test_a_best_value_beyond_a_double_is_said_to_be() -> None:
    """λ log(π₁/π₂)/(π₁ - π₂) is 2e308: no 0/0, and no edge."""
    with pytest.raises(ArgumentError, match=r"the best u is beyond a double at .*lam = 1\.e\+308"):
        MATCH.best(pi=[0.3, 0.7], lam=1e308)
    assert MATCH.best(pi=[0.3, 0.7], lam=1e307).closed_form


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("Sigma", "lam"), [(1e-300, 1e300), (1e300, 1e-300)])
def test_a_unit_beyond_a_double_is_said_to_be(Sigma: float, lam: float) -> None:
    found = derive(-u * (y_hat - y) ** 2, Gaussian(1))
    with pytest.raises(ArgumentError, match=r"the unit of u, .*pass data and lam in other units"):
        found.best(mu=0.0, Sigma=Sigma, lam=lam)


def test_a_best_value_that_divides_by_0_leaves_the_choice() -> None:
    """The averaged rewards of both classes are one: F is the same for every u."""
    found = derive(u * sp.diag(1, 2), Classes(2)).best(pi=[2 / 3, 1 / 3], lam=1.0, u=5.0)
    assert found.parameters["u"] == pytest.approx(5.0)


@pytest.mark.parametrize("lam", [-1.0, 0.0, float("nan")])
def test_an_entropy_weight_that_is_none_is_named(lam: float) -> None:
    with pytest.raises(ArgumentError, match="lam"):
        MATCH.best(pi=[0.4, 0.6], lam=lam)
    with pytest.raises(ArgumentError, match="lam"):
        BITS.best(rho=[0.4, 0.6], lam=lam)
    with pytest.raises(ArgumentError, match="lam"):
        COSH.best(mu=0.0, Sigma=1.0, lam=lam)


@pytest.mark.parametrize(("Sigma", "lam"), [(4.0, 0.3), (2.0, 1.0), (9.0, 2.0)])
def test_a_search_that_does_not_end_is_no_optimum(Sigma: float, lam: float) -> None:
    """The data are wider than the reference: the best reward is a line, a -> 0, c -> ∞."""
    with pytest.raises(NoMaximumError, match=r"F still rises"):
        CENTRE.best(mu=5.0, Sigma=Sigma, m0=0.0, P0=1.0, lam=lam)


BUMP = derive(a * sp.exp(-((y_hat - y) ** 2) / b), Gaussian(1), KL(), Normal())


def test_a_search_that_runs_along_a_ridge_is_no_optimum() -> None:
    """With a√b held, F rises as b -> 0, where the reward is a density at y: and never gets there.

    The witness is F farther along the ridge.
    """
    data = {"mu": 0.3, "Sigma": 0.7, "m0": 0.0, "P0": 1.0, "lam": 0.5}
    with pytest.raises(NoMaximumError, match=r"ran along a ridge: at a = .*, b = .* F is -1\.2706"):
        BUMP.best(**data)

    def cost(b: float) -> float:
        """The least over a."""
        one = derive(a * sp.exp(-((y_hat - y) ** 2) / b), Gaussian(1), KL(), Normal())
        return one.best(**data, a=0.06 / np.sqrt(b)).cost

    costs = [cost(b) for b in (1e-2, 1e-4, 1e-6)]
    assert costs == sorted(costs, reverse=True)
    assert costs[1] - costs[2] < 1e-6 < costs[0] - costs[1]


def test_parameters_of_which_others_are_as_good_are_said_to_be() -> None:
    """Only ab counts."""
    both = derive(-a * b * (y_hat - y) ** 4, Gaussian(1), data=Normal())
    found = both.best(mu=0.0, Sigma=1.0, lam=1.0, a=1e6, b=1e-3)
    assert not found.determined
    assert found.parameters["a"] * found.parameters["b"] == pytest.approx(1 / 24, rel=1e-6)
    assert BUMP.best(mu=0.0, Sigma=0.5, m0=0.0, P0=1.0, lam=0.5).determined is False
    line = derive(-a * (y_hat - y) ** 4, Gaussian(1), data=Normal())
    assert line.best(mu=0.0, Sigma=1.0, lam=1.0).determined


def test_a_reward_without_parameters_is_what_it_is() -> None:
    found = derive(-((y_hat - y) ** 2), Gaussian(1)).best(mu=0.0, Sigma=1.0, lam=1.0)
    # P* = λ/2 beside Σ = 1.
    assert found.parameters == {}
    assert found.cost == pytest.approx((2 - 1 - float(sp.log(2))) / 2)


QUADRATICS = {
    "line": (a * y_hat, 1),
    "line by the data": (a * y_hat * y, 1),
    "constant": (-a * y**2, 1),
    "convex": (a * (y_hat - y) ** 2, 1),
    "one coordinate": (-a * (p[0] - q[0]) ** 2, 2),
    "one sum": (-a * (p[0] - q[0] + p[1] - q[1]) ** 2, 2),
    "saddle": (-a * (p[0] - q[0]) ** 2 + b * (p[1] - q[1]) ** 2, 2),
}


@pytest.mark.parametrize("name", QUADRATICS)
@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
def test_a_quadratic_that_does_not_fall_has_no_local_maximum(name: str, structure: Any) -> None:
    reward, n = QUADRATICS[name]
    with pytest.raises(NoMaximumError, match="no isolated local maximum exists; pass KL"):
        derive(reward, Gaussian(n, structure if n > 1 else "full"), local=True)


SINGULAR = {
    "one coordinate": QUADRATICS["one coordinate"][0],
    "one sum": QUADRATICS["one sum"][0],
    "one quartic": -a * (p[0] - q[0]) ** 4,
    "quartic of a sum": -a * (p[0] - q[0] + p[1] - q[1]) ** 4,
}


@pytest.mark.parametrize("name", SINGULAR)
def test_a_width_that_other_directions_hold_is_not_said_to_grow(name: str) -> None:
    """Of one width J has a line of maxima here, of two where both see the sum; else no bound."""
    with pytest.raises(NoMaximumError, match=r"no isolated maximum is known to exist") as caught:
        derive(SINGULAR[name], Gaussian(2, "isotropic"), data=Normal())
    assert "J -> ∞" not in str(caught.value)
    unbounded = r"without bound|J -> ∞|nothing bounds the spread"
    held = "sum" in name  # it falls along both axes
    with pytest.raises(NoMaximumError, match="no isolated maximum" if held else unbounded):
        derive(SINGULAR[name], Gaussian(2, "diagonal"), data=Normal())
    with pytest.raises(NoMaximumError, match=unbounded):
        derive(SINGULAR[name], Gaussian(2), data=Normal())


def test_an_entropy_weight_may_leave_no_local_maximum() -> None:
    bump = sp.exp(-((p[0] - q[0]) ** 2) - (p[1] - q[1]) ** 2)
    found = derive(bump, Gaussian(2), data=Normal(), local=True)
    with pytest.raises(NoMaximumError, match="there may be no local one for this weight"):
        found.solve(mu=[0.0, 0.0], Sigma=[[1.0, 0.0], [0.0, 1.0]], lam=1.0)


def test_a_step_that_scipy_does_not_find_ends_one_search_only() -> None:
    reward = -a * (p[0] - q[0]) ** 4 + 2 * sp.exp(-((p[1] - q[1]) ** 2))
    found = derive(reward, Gaussian(2, "diagonal"), data=Normal(), local=True)
    data = {"a": 0.1, "mu": [0.0, 0.0], "Sigma": [[1.0, 0.0], [0.0, 1.0]]}
    with pytest.raises(NoMaximumError, match="there may be no local one for this weight"):
        found.solve(lam=1.0, **data)
    assert found.solve(lam=0.3, **data).stationarity < 1e-8


def test_what_may_take_minutes_says_so_before_it_starts() -> None:
    reward = -(1 + p[1] ** 2) * sp.exp(-(p[0] ** 2) - p[1] ** 2)
    with pytest.warns(SlowDerivationWarning, match=r"minutes. Ctrl-C stops it") as caught:
        derive(reward, Gaussian(2, "diagonal"), KL(), Normal())
    assert [each.filename for each in caught] == [__file__]
