"""The pieces that `derive` is made of, each at examples worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import KL, Bits, Entropy, Gaussian, Moments, Normal, derive
from analysis.calculus.symbols import symbol
from analysis.derive import expectation, gaussian, signs
from analysis.derive.best import Place

s, a = sp.symbols("s a", positive=True)


@pytest.mark.parametrize("way", [1, -1])
def test_the_positive_root_of_a_quadratic(way: int) -> None:
    """Whatever its sign: f and -f have the same roots."""
    assert gaussian.positive_root(way * (s - 1) * (s + 2), s) == 1
    assert sp.simplify(gaussian.positive_root(way * (s - a) * (s + 3), s) - a) == 0
    assert gaussian.positive_root(way * (s - 1) * (s - 2), s) is None  # there are two
    assert gaussian.positive_root(way * (s - 5), s) == 5


@pytest.mark.parametrize("way", [1, -1])
def test_the_smaller_of_two_positive_roots(way: int) -> None:
    assert gaussian.smaller_root(way * (s - 1) * (s - 2), s) == 1
    assert gaussian.smaller_root(way * (s - 1) * (s + 2), s) is None  # one is negative


def test_the_sign_of_a_quadratic_in_two_variables() -> None:
    """Its Gram matrix with 1 decides: 1 + x + y + x² + xy + y² > 0, with 3x for x it is not."""
    x, y = sp.symbols("x y", real=True)
    bowl = x**2 + x * y + y**2
    assert signs.sign_everywhere(1 + x + y + bowl, (x, y)) == 1
    assert signs.sign_everywhere(-1 - x - y - bowl, (x, y)) == -1
    assert signs.sign_everywhere(1 + 3 * x + y + bowl, (x, y)) is None


def test_the_sign_of_a_polynomial_with_numbers_is_that_at_0_if_it_has_no_root() -> None:
    x = sp.Symbol("x", real=True)
    assert signs.sign_everywhere(x**4 + x + 1, (x,)) == 1
    assert signs.sign_everywhere(-(x**4) - x - 1, (x,)) == -1
    assert signs.sign_everywhere(x**4 + 2 * x + 1, (x,)) is None  # at -1 it is 0


def test_a_stationary_mean_away_from_the_data() -> None:
    """Of `-(m - 3)² - s + ½ log s` it is (3, ½); of one exponential by hand, from its value."""
    m, mu = sp.symbols("m mu", real=True)
    assert gaussian.one_variance(-((m - 3) ** 2) - s + sp.log(s) / 2, [m], s, [mu]) == (
        [3], sp.Rational(1, 2)
    )  # fmt: skip
    found = gaussian.one_variance(2 * m - sp.exp(m + s / 2) + sp.log(s) / 2, [m], s, [mu])
    assert found is not None
    assert found[1] == sp.Rational(1, 2)
    assert sp.expand(found[0][0] - sp.log(2) + sp.Rational(1, 4)) == 0


def test_the_way_of_a_place_is_the_sign_that_it_keeps() -> None:
    ways = [
        Place(sp.Symbol("x", **domain), 1.0, 1.0).way
        for domain in ({"positive": True}, {"negative": True}, {"real": True})
    ]
    assert ways == [1.0, -1.0, 0.0]


@pytest.mark.parametrize("reference", [False, True])
def test_what_the_inner_level_reaches_is_its_objective_at_the_solution(reference: bool) -> None:
    """Of bits it is found without the policy, as λ log Σ p₀ exp(r̄/λ)."""
    v = sp.symbols("v_1:3", positive=True)
    y_hat, y = symbol("y_hat", 2), symbol("y", 2)
    reward = sp.Add(*(-v[i] * (y_hat[i] - y[i]) ** 2 for i in range(2)))
    values: dict[str, Any] = {"v_1": 0.7, "v_2": 1.3, "rho": np.array([0.2, 0.6]), "lam": 0.5}
    base = KL(probabilities=[sp.Rational(1, 3), sp.Rational(4, 5)])
    found = derive(reward, Bits(2), base if reference else Entropy())
    solved = found.solve(**values)
    direct = found.at("objective", **values, psi=solved.policy["psi"])
    assert solved.objective == pytest.approx(direct, rel=1e-12)


def test_only_even_moments_are_positive() -> None:
    """Of data of any law, a symbol for each moment of an order above 2."""
    moment = expectation.central(Moments(), sp.Matrix([[1, 0], [0, 1]]))
    assert moment((4, 2)).is_positive
    assert moment((3, 0)).is_positive is moment((3, 1)).is_positive is None


def test_the_gibbs_density_is_the_reference_times_the_reward() -> None:
    """log p₀ + r̄/λ, with the constant of p₀, which is a density."""
    y_hat, y = symbol("y_hat", 1)[0], symbol("y", 1)[0]
    found = derive(-2 * (y_hat - y) ** 2, Gaussian(1), KL(lam=3, mean=[1], covariance=[[4]]))
    rest = sp.expand(found.gibbs - found.mean_reward / 3)
    mass = sp.integrate(sp.exp(rest), (y_hat, -sp.oo, sp.oo))
    assert float(mass) == pytest.approx(1.0, rel=1e-12)


def test_the_likelihood_of_correlated_outcomes() -> None:
    """At the best parameters of a full reward it is -½ log det 2πeΣ."""
    y_hat, y = symbol("y_hat", 2), symbol("y", 2)
    e = y_hat - y
    found = derive(-(e.T * symbol("U", 2) * e)[0], Gaussian(2))
    Sigma = np.array([[2.0, -0.9], [-0.9, 0.5]])
    best = found.best(mu=np.array([1.0, -3.0]), Sigma=Sigma, lam=0.4)
    wanted = -np.linalg.slogdet(2 * np.pi * np.e * Sigma)[1] / 2
    assert best.likelihood == pytest.approx(wanted, rel=1e-12)
    assert best.cost == pytest.approx(0.0, abs=1e-12)
    assert best.closed_form


@pytest.mark.parametrize(("mu", "Sigma"), [(0.0, 1.0), (-3.0, 0.2)])
def test_a_kernel_of_the_generation_alone_knows_no_data(mu: float, Sigma: float) -> None:
    """`E e^{-ŷ²} = e^{-m²/(1+2P)}/√(1+2P)`, while that of `e^{-(ŷ-y)²}` has the data's moments."""
    y_hat, y = symbol("y_hat", 1)[0], symbol("y", 1)[0]
    m, P = 0.4, 0.7

    def mean(at: float, variance: float) -> float:
        return np.exp(-(at**2) / (1 + 2 * variance)) / np.sqrt(1 + 2 * variance)

    kernels = sp.exp(-(y_hat**2)) + 2 * sp.exp(-((y_hat - y) ** 2))
    found = derive(kernels, Gaussian(1), KL(), data=Normal())
    got = found.at("expected_reward", m=m, P=P, mu=mu, Sigma=Sigma)
    assert got == pytest.approx(mean(m, P) + 2 * mean(m - mu, P + Sigma), rel=1e-12)


def test_a_policy_far_from_the_data_in_the_plane() -> None:
    """Where no closed form is known: J is stationary at what is found, and F by hand."""
    y_hat, y = symbol("y_hat", 2), symbol("y", 2)
    e, (first, second) = y_hat - y, y_hat
    reward = -(e.T * e)[0] - first**4 + 9 * first - first * second + 2 * second
    found = derive(reward, Gaussian(2), Entropy(), Normal())
    assert found.solution is None
    mu, Sigma = np.array([0.3, -0.2]), np.array([[0.5, 0.2], [0.2, 0.4]])
    values: dict[str, Any] = {"mu": mu, "Sigma": Sigma, "lam": 0.7}
    solved = found.solve(**values)
    m, P = np.ravel(solved.policy["m"]), solved.policy["P"]
    assert np.abs(m - mu).min() > 0.1
    slopes = found.at("stationarity", **values, m=m, P=P)
    for slope in slopes.values():
        np.testing.assert_allclose(slope, 0, atol=1e-8)
    assert solved.objective == pytest.approx(found.at("objective", **values, m=m, P=P), rel=1e-9)
    gap = m - mu
    inside = np.trace(np.linalg.solve(P, Sigma)) + gap @ np.linalg.solve(P, gap)
    F = -(np.linalg.slogdet(2 * np.pi * P)[1] + inside) / 2
    cost = -np.linalg.slogdet(2 * np.pi * np.e * Sigma)[1] / 2 - F
    assert found.levels.reached(found, values).cost == pytest.approx(cost, rel=1e-9)
