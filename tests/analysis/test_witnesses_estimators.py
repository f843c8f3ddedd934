"""Third witnesses, continued: estimators of the policy gradient, and the bounded reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from analysis import bounded, estimators
from tests.points import LAM, MU, SIGMA, M, P, U, quadrature

SCALAR: dict[str, Any] = {"u": 1.3, "delta": 0.6, "s": 0.7}
SPREAD = 0.8  # σ, the standard deviation of the data


def sampled_reward(eps, eta):
    return -SCALAR["u"] * (SCALAR["delta"] + SCALAR["s"] * eps - SPREAD * eta) ** 2


def averaged_reward(eps):
    return quadrature(lambda z: sampled_reward(eps, z[0]), 1)


def scores(eps):
    """∇ log p in (m, log s) by central differences, without the formula of the density."""
    s, y, h = SCALAR["s"], SCALAR["s"] * eps, 1e-5

    def along(m, log_s):
        return stats.norm(m, s * np.exp(log_s)).logpdf(y)

    mean = along(h, 0) - along(-h, 0)
    return np.array([mean, along(0, h) - along(0, -h)]) / (2 * h)


@pytest.mark.parametrize("data", ["averaged", "sampled", "conditional"])
def test_score_function_by_quadrature(data):
    """Mean, best baseline and least variance: the variance is minimised numerically."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(10)
    eps, eta = np.meshgrid(nodes, nodes, indexing="ij")
    mass = np.outer(weights, weights) / weights.sum() ** 2
    g = np.stack([scores(x) for x in nodes], -1)[..., None]
    r = sampled_reward(eps, eta)
    if data == "averaged":
        r = np.broadcast_to((r * mass).sum(1, keepdims=True) / mass.sum(1, keepdims=True), r.shape)

    def moments(i, b):
        f = (r - b) * g[i]
        mean = (f * mass).sum()
        return mean, (f**2 * mass).sum() - mean**2

    extra: dict[str, Any] = {} if data == "averaged" else {"sigma": SPREAD}
    least = estimators.score_function.minimal_variance(data).at(**SCALAR, **extra)
    for i in (0, 1):
        if data == "conditional":  # one baseline per y, from its own minimisation
            m, levels = SCALAR["delta"], []
            for k, node in enumerate(nodes):

                def spread(b, k=k, i=i):
                    return (((r[:, k] - b) * g[i][:, 0]) ** 2 * weights).sum() / weights.sum()

                levels.append(optimize.minimize_scalar(spread, method="brent").x)
                given: dict[str, Any] = {
                    "u": SCALAR["u"],
                    "m": m,
                    "y": SPREAD * node,
                    "s": SCALAR["s"],
                }
                stated = estimators.score_function.optimal_baseline(data).at(**given)[i]
                assert levels[-1] == pytest.approx(stated, rel=1e-4, abs=1e-4)
            best = np.array(levels)
        else:
            best = optimize.minimize_scalar(lambda b, i=i: moments(i, b)[1]).x
            stated = estimators.score_function.optimal_baseline(data).at(**SCALAR, sigma=SPREAD)[i]
            assert best == pytest.approx(stated, rel=1e-4)
            mean = estimators.score_function.score_gradient(data).at(**SCALAR)[i]
            assert moments(i, 0.0)[0] == pytest.approx(mean, rel=1e-5)
            at: dict[str, Any] = {**SCALAR, "sigma": SPREAD, "baseline": -0.7}
            any_constant = estimators.score_function.variance(data).at(**at)[i]
            assert moments(i, -0.7)[1] == pytest.approx(any_constant, rel=1e-5)
        assert moments(i, best)[1] == pytest.approx(least[i], rel=1e-5)


@pytest.mark.parametrize("data", ["averaged", "sampled"])
def test_pathwise_variance_by_quadrature(data):
    """∇r(m + sε) by central differences, exact for a quadratic up to rounding."""
    s, h = SCALAR["s"], 1e-4

    def slopes(eps, eta):
        def r(shift):
            value = sampled_reward(eps + shift / s, eta)
            return value if data == "sampled" else averaged_reward(eps + shift / s)

        slope = (r(h) - r(-h)) / (2 * h)
        return np.array([slope, slope * s * eps])

    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    mass = np.outer(weights, weights) / weights.sum() ** 2
    values = np.array([[slopes(a, b) for b in nodes] for a in nodes])
    first = np.einsum("abi,ab->i", values, mass)
    second = np.einsum("abi,ab->i", values**2, mass)
    extra: dict[str, Any] = {} if data == "averaged" else {"sigma": SPREAD}
    stated = estimators.score_function.pathwise_variance(data).at(**SCALAR, **extra)
    np.testing.assert_allclose(second - first**2, stated, rtol=1e-6)


@pytest.mark.parametrize("M_size", [2, 3])
def test_leave_one_out_by_quadrature(M_size):
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    grid = np.stack(np.meshgrid(*[nodes] * M_size, indexing="ij"), -1).reshape(-1, M_size)
    mass = np.stack(np.meshgrid(*[weights] * M_size, indexing="ij"), -1).reshape(-1, M_size)
    mass = np.prod(mass / weights.sum(), -1)
    r = np.vectorize(averaged_reward)(nodes)[np.searchsorted(nodes, grid)]
    g = np.array([scores(x) for x in nodes])[np.searchsorted(nodes, grid)]
    others = (r.sum(-1, keepdims=True) - r) / (M_size - 1)
    f = ((r - others)[..., None] * g).mean(1)
    variance = mass @ f**2 - (mass @ f) ** 2
    stated = estimators.score_function.leave_one_out_variance().at(**SCALAR, generations=M_size)
    np.testing.assert_allclose(variance, stated, rtol=1e-5)
    np.testing.assert_allclose(
        mass @ f, estimators.score_function.score_gradient("averaged").at(**SCALAR), 1e-5
    )


def test_matrix_baselines_by_numerical_minimisation():
    """Scores whitened by hand from finite differences of the log-density, n = 2."""
    L, h = np.linalg.cholesky(P), 1e-5
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel() / weights.sum() ** 2
    y = M + grid @ L.T
    r = -np.einsum("ki,ij,kj->k", y - MU, U, y - MU) - np.trace(U @ SIGMA)

    def density(shift, spread):
        S = L + spread
        return stats.multivariate_normal(M + shift, S @ S.T).logpdf(y)

    def best(shift, spread):
        g = (density(h * shift, h * spread) - density(-h * shift, -h * spread)) / (2 * h)
        return optimize.minimize_scalar(
            lambda b: mass @ ((r - b) * g) ** 2 - (mass @ ((r - b) * g)) ** 2
        ).x

    values: dict[str, Any] = {"m": M, "mu": MU, "L": L, "U": U, "Sigma": SIGMA}
    mean = [best(L[:, j], np.zeros((2, 2))) for j in range(2)]
    np.testing.assert_allclose(mean, estimators.baselines.matrix("mean", 2).at(**values), rtol=1e-4)
    scale = [[best(np.zeros(2), np.outer(L[:, i], e)) for e in np.eye(2)] for i in range(2)]
    np.testing.assert_allclose(
        scale, estimators.baselines.matrix("scale", 2).at(**values), rtol=1e-4
    )


def expected_maximum(M_size: int, n: int) -> float:
    """E[max of M χ²_n] by quadrature of 1 - CDF^M."""
    return integrate.quad(lambda x: 1 - stats.chi2(n).cdf(x) ** M_size, 0, 200, limit=200)[0]


@pytest.mark.parametrize(
    ("n", "M_size", "deviation"),
    [(1, 2, 2.346), (1, 5, 1.499), (1, 50, 1.072), (2, 2, 2.0), (2, 5, 1.357), (2, 50, 1.048)],
)
def test_group_minimum_by_quadrature(n, M_size, deviation):
    """The stationary standard deviation for U*, σ = 1, that is u = λ/2."""
    X = expected_maximum(M_size, n)
    v = estimators.groups.minimum(n).at(u=LAM / 2, lam=LAM, generations=M_size, maximum=X)
    assert np.sqrt(v) == pytest.approx(deviation, abs=5e-4)
    if n == 2:
        planar = estimators.groups.minimum_planar(M_size).at("derived", u=LAM / 2, lam=LAM)
        assert planar == pytest.approx(v, rel=1e-7)


@pytest.mark.parametrize("baseline", [np.mean, np.min])
def test_group_statistics_by_the_expected_gradient(baseline):
    """n = 1, M = 2: E (1/M) Σ (r_i - b) ∂log p_i + λ = 0 at the stationary v, by quadrature."""
    u, M_size = 0.9, 2
    X = expected_maximum(M_size, 1)
    values: dict[str, Any] = {"u": u, "lam": LAM, "generations": M_size}
    v = (
        estimators.groups.mean().at(**values)
        if baseline is np.mean
        else estimators.groups.minimum(1).at(**values, maximum=X)
    )

    def integrand(b, a):
        e = np.array([a, b])
        r = -u * v * e**2
        return np.mean((r - baseline(r)) * (e**2 - 1)) * np.exp(-(e @ e) / 2)

    # the integrand is even in both and symmetric: b < a is an eighth of the plane, without kinks
    total = 8 * integrate.dblquad(integrand, 0, 12, 0, lambda a: a)[0] / (2 * np.pi)
    assert total + LAM == pytest.approx(0, abs=1e-6)


WIDTH: dict[str, Any] = {"omega": 1.7, "beta": 0.6}


def bounded_expectation(s: float, gap: float = 0.0, omega: float = 1.7, beta: float = 0.6):
    """E exp(-(ŷ - y)²/ω) for one coordinate, by quadrature over ŷ and y."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    d = gap + np.sqrt(s) * nodes[:, None] - beta * nodes[None, :]
    return float(weights @ np.exp(-(d**2) / omega) @ weights / weights.sum() ** 2)


def test_bounded_reward_by_integration():
    z_law = stats.multivariate_normal(M - MU, P)

    def integrand(b, a):
        z = np.array([a, b])
        return np.exp(-z @ SIGMA @ z) * z_law.pdf(z)

    total = integrate.dblquad(integrand, -8, 8, -8, 8, epsabs=1e-9)[0]
    stated = bounded.inner.log_expected_kernel(2).at(m=M, mu=MU, S=P, W=SIGMA)
    assert stated == pytest.approx(np.log(total), rel=1e-7)
    product = np.prod([bounded_expectation(0.5, gap) for gap in M - MU])
    stated = bounded.inner.expected_reward(2).at(m=M, mu=MU, s=0.5, **WIDTH)
    assert stated == pytest.approx(product, rel=1e-7)


def pull(s: float, n: int, **width: float) -> float:
    """h(s) = -(2s/n) dE r/ds by central differences of the quadrature."""
    h = 1e-5 * s
    up, down = (bounded_expectation(s + x, **width) ** n for x in (h, -h))
    return -2 * s / n * (up - down) / (2 * h)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_critical_weight_by_numerical_maximisation(n):
    best = optimize.minimize_scalar(lambda s: -pull(s, n), bounds=(0.05, 8), method="bounded")
    assert best.x == pytest.approx(bounded.inner.peak_variance(n).at(**WIDTH), rel=1e-3)
    assert -best.fun == pytest.approx(bounded.inner.critical_weight(n).at(**WIDTH), rel=1e-6)
    slope = bounded.inner.slope(n).at(lam=LAM, s=0.5, **WIDTH)
    assert slope == pytest.approx(n / (2 * 0.5) * (LAM - pull(0.5, n)), rel=1e-6)
    reach = optimize.minimize_scalar(
        lambda omega: -pull(1.0, n, omega=omega, beta=1.0), bounds=(0.5, 15), method="bounded"
    )
    assert reach.x == pytest.approx(2 * n, rel=1e-3)
    assert -reach.fun == pytest.approx(bounded.inner.reachable_weight(n).at(), rel=1e-6)


def test_local_maximum_and_growth_by_the_objective():
    """n = 2: J has its local maximum where stated, none above λ_c, and rises without bound."""
    critical = bounded.inner.critical_weight(2).at(**WIDTH)
    peak = bounded.inner.peak_variance(2).at(**WIDTH)

    def J(s, lam):
        return bounded_expectation(s) ** 2 + lam * np.log(2 * np.pi * np.e * s)

    for q in (0.3, 0.8):
        lam = q * critical
        best = optimize.minimize_scalar(
            lambda s, lam=lam: -J(s, lam), bounds=(1e-4, peak), method="bounded"
        )
        stated = bounded.inner.inner_variance().at(**WIDTH, q=q)
        assert best.x == pytest.approx(stated, rel=1e-3)
        assert J(stated, lam) > max(J(stated / 2, lam), J(stated * 1.2, lam))
    s = np.geomspace(1e-3, 20, 60)
    assert np.all(np.diff([J(x, 1.05 * critical) for x in s]) > 0)
    lam = 0.01
    exact = bounded.inner.expected_reward(2).at(m=[0, 0], mu=[0, 0], s=1e90, **WIDTH)
    growth = (exact + lam * np.log(2 * np.pi * np.e * 1e90)) / np.log(1e90)
    assert growth == pytest.approx(bounded.inner.growth(2).at(lam=lam), rel=0.02)
