"""Third witnesses: numbers that share no closed form with either side of a derivation."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy import integrate, optimize, stats

from analysis import dynamics, gaussian
from analysis.calculus.general_n import LogDet
from analysis.calculus.matrices import differential, gradient
from analysis.calculus.symbols import symbol
from tests.points import LAM, MU, SIGMA, M, P, U, quadrature


def test_objective_by_quadrature():
    root_p, root_s = np.linalg.cholesky(P), np.linalg.cholesky(SIGMA)
    policy = stats.multivariate_normal(M, P)

    def inner(z):
        y_hat = M + root_p @ z

        def reward(v):
            d = y_hat - MU - root_s @ v
            return -d @ U @ d

        return quadrature(reward, 2) - LAM * policy.logpdf(y_hat)

    nodes = np.polynomial.hermite_e.hermegauss(4)
    grid = [
        (a, b, wa * wb) for a, wa in zip(*nodes, strict=True) for b, wb in zip(*nodes, strict=True)
    ]
    total = sum(w for *_, w in grid)
    value = sum(w * inner(np.array([a, b])) for a, b, w in grid) / total
    stated = gaussian.inner.objective(2).at(m=M, P=P, mu=MU, Sigma=SIGMA, U=U, lam=LAM)
    assert stated == pytest.approx(value, rel=1e-9)


def test_the_faithful_loss_by_quadrature():
    """E_x E_y [½(y - m)² - log N(y; ⌊m⌋, P)], of normal data at two inputs."""
    loss = gaussian.temperature.faithful(1).steps[0].expression
    values = {"w": 0.3, "mu_a": 0.4, "Sigma_a": 0.7, "a": 1.5, "P_a": 0.9}
    values |= {"mu_b": -0.5, "Sigma_b": 1.2, "b": 0.8, "P_b": 0.6, "theta": 0.2, "theta_held": -0.3}
    shares, theta, held = {"a": 0.3, "b": 0.7}, values["theta"], values["theta_held"]

    def of_input(at: str) -> float:
        x, P, root = values[at], values[f"P_{at}"], values[f"Sigma_{at}"] ** 0.5

        def of_noise(v):
            y = values[f"mu_{at}"] + root * v[0]
            return (y - theta * x) ** 2 / 2 - stats.norm(held * x, P**0.5).logpdf(y)

        return quadrature(of_noise, 1)

    got = loss.subs({s: values[s.name] for s in loss.free_symbols})
    assert float(got) == pytest.approx(sum(w * of_input(at) for at, w in shares.items()), rel=1e-12)


def test_two_moments_suffice_for_data_that_are_not_gaussian():
    """A two-point law with the same mean and variance gives the same expected objective."""
    mu, sigma, m, s, u = 0.4, 0.7, -0.2, 0.5, 1.3
    points = mu + np.array([-1, 1]) * sigma
    expected = np.mean([-u * ((m - y) ** 2 + s**2) for y in points])
    expected += LAM * stats.norm(m, s).entropy()
    stated = gaussian.inner.objective(1).at(m=m, P=s**2, mu=mu, Sigma=sigma**2, U=u, lam=LAM)
    assert stated == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
def test_inner_solution_by_numerical_argmax(structure):
    def covariance(theta):
        if structure == "isotropic":
            return np.exp(theta[0]) * np.eye(2)
        if structure == "diagonal":
            return np.diag(np.exp(theta[:2]))
        L = np.array([[np.exp(theta[0]), 0], [theta[2], np.exp(theta[1])]])
        return L @ L.T

    def loss(theta):
        C = covariance(theta)
        return np.trace(U @ C) - LAM * stats.multivariate_normal(MU, C).entropy()

    best = optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(
        covariance(best.x), gaussian.inner.solution(structure, 2).at(U=U, lam=LAM), atol=1e-5
    )


@pytest.mark.parametrize("structure", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("implicit", [False, True])
def test_hypergradient_by_finite_differences(structure, implicit):
    solve = gaussian.inner.solution(structure, 2)
    root = np.linalg.cholesky(SIGMA)

    def F(V):
        policy = stats.multivariate_normal(MU, solve.at(U=V, lam=LAM))
        nodes = [(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]  # exact for quadratics
        return np.mean([policy.logpdf(MU + root @ np.array(z)) for z in nodes])

    rng = np.random.default_rng(0)
    function = gaussian.outer.implicit_hypergradient if implicit else gaussian.outer.hypergradient
    G = function(structure, 2).at("derived", U=U, lam=LAM, Sigma=SIGMA)
    for _ in range(3):
        H = rng.normal(size=(2, 2))
        H, step = H + H.T, 1e-5
        slope = (F(U + step * H) - F(U - step * H)) / (2 * step)
        assert slope == pytest.approx(np.trace(G @ H), rel=1e-6)


def test_kl_by_quadrature():
    p, q = stats.multivariate_normal(M, P), stats.multivariate_normal(MU, SIGMA)
    root = np.linalg.cholesky(P)
    value = quadrature(lambda z: p.logpdf(M + root @ z) - q.logpdf(M + root @ z), 2)
    assert gaussian.divergences.kl(2).at(m=M, P=P, mu=MU, Sigma=SIGMA) == pytest.approx(
        value, rel=1e-9
    )


def test_gibbs_gap_for_a_density_that_is_not_gaussian():
    """J(p*) - J(p) = λ KL(p || p*) for a Laplace density, n = 1."""
    u, mu, sigma2 = 1.3, 0.4, 0.7
    law, best = stats.laplace(0.1, 0.6), stats.norm(mu, np.sqrt(LAM / (2 * u)))

    def J(p):
        reward = -u * ((p.mean() - mu) ** 2 + p.var() + sigma2)
        return reward + LAM * p.entropy()

    def integrand(x):
        return law.pdf(x) * (law.logpdf(x) - best.logpdf(x))

    kl = integrate.quad(integrand, -15, 0.1)[0] + integrate.quad(integrand, 0.1, 15)[0]
    assert J(best) - J(law) == pytest.approx(LAM * kl, rel=1e-7)


def test_flow_by_integrating_it():
    hyper = gaussian.outer.hypergradient("full", 2)

    def rate(_, u):
        V = u.reshape(2, 2)
        V = (V + V.T) / 2
        return (V @ hyper.at("derived", U=V, lam=LAM, Sigma=SIGMA) @ V).ravel()

    start = LAM / 2 * np.linalg.inv(P)
    path = integrate.solve_ivp(rate, (0, 1.7), start.ravel(), rtol=1e-9, atol=1e-11)
    end = LAM / 2 * np.linalg.inv(path.y[:, -1].reshape(2, 2))
    np.testing.assert_allclose(
        end, dynamics.outer_flow.covariance(2).at(P0=P, Sigma=SIGMA, t=1.7), rtol=1e-6
    )


def test_total_covariance_by_sampling_moments():
    w, mu_b = 0.3, np.array([1.0, 2.0])
    rng = np.random.default_rng(1)
    root_a, root_b = np.linalg.cholesky(SIGMA), np.linalg.cholesky(P)
    first = rng.random(400_000) < w
    z = rng.normal(size=(400_000, 2))
    y = np.where(first[:, None], MU + z @ root_a.T, mu_b + z @ root_b.T)
    stated = gaussian.misspecification.total_covariance(2).at(
        w=w, mu_a=MU, mu_b=mu_b, Sigma_a=SIGMA, Sigma_b=P
    )
    np.testing.assert_allclose(np.cov(y.T), stated, atol=0.02)


def test_two_maxima_by_numerical_argmax():
    mu = np.array([3.0, -3.0])

    def loss(v):
        u = np.exp(v)
        beta = optimize.minimize_scalar(lambda b: u @ (b - mu) ** 2).x
        P_ii = LAM / (2 * u)
        second = 1 + (beta - mu) ** 2
        return 0.5 * np.sum(np.log(2 * np.pi * P_ii) + second / P_ii)

    ends = []
    for start in ([0.0, -3.0], [-3.0, 0.0]):
        found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-9})
        ends.append(np.exp(found.x))
    stated = gaussian.misspecification.two_maxima().at(lam=LAM)
    np.testing.assert_allclose(np.diag(ends[0]), stated, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(np.diag(ends[1][::-1]), stated, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(np.diag(stated) / LAM, [0.4857, 0.0143], atol=5e-5)


def test_general_differential_rules():
    X = symbol("U", None)
    assert gradient(LogDet(X), X) == sp.Inverse(X)
    with pytest.raises(NotImplementedError, match="log det"):
        LogDet(X).diff(X)
    with pytest.raises(TypeError, match="no differential rule"):
        differential(sp.sin(sp.Trace(X)), X, symbol("H", None))
