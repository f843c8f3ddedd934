"""Categorical policies: the derived formulas against numbers computed from scratch."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from analysis import categorical
from analysis.errors import ArgumentError

# Above 8 classes, whichever test derives something first.
pytestmark = pytest.mark.filterwarnings("ignore::analysis.errors.SlowDerivationWarning")


def class_rewards(pi: np.ndarray, U: np.ndarray) -> np.ndarray:
    """Σ_k π_k r(e_c, e_k) by enumeration."""
    gaps = np.eye(len(pi))[:, None] - np.eye(len(pi))  # e_c - e_k
    return -np.einsum("k,cki,ij,ckj->c", pi, gaps, U, gaps, optimize=True)


def J(p: np.ndarray, g: np.ndarray, lam: float) -> float:
    return float(p @ g - lam * p @ np.log(p))


@cache
def _solved(g: tuple[float, ...], lam: float) -> np.ndarray:
    """argmax J over the simplex: Newton with Σp = 1 in the KKT system, damped inside p > 0."""
    n, rewards = len(g), np.array(g)
    p = np.full(n, 1 / n)
    for _ in range(200):
        slope = rewards - lam * (np.log(p) + 1)
        kkt = np.block([[np.diag(-lam / p), np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
        move = np.linalg.solve(kkt, np.append(-slope, 1 - p.sum()))[:n]
        while np.any(p + move <= 0):
            move = move / 2
        p = p + move
        if np.max(np.abs(move / p)) < 1e-13:
            break
    return p


def best_policy(pi: np.ndarray, U: np.ndarray, lam: float) -> np.ndarray:
    return _solved(tuple(class_rewards(pi, U)), lam)


def F(pi: np.ndarray, U: np.ndarray, lam: float) -> float:
    return float(pi @ np.log(best_policy(pi, U, lam)))


def spd(n: int, rng: np.random.Generator) -> np.ndarray:
    root = rng.normal(size=(n, n))
    return root @ root.T / n + 0.3 * np.eye(n)


def points(n: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Random π, a tie, π with a class at ½, and uniform π."""
    rng = np.random.default_rng(n)
    tie = rng.dirichlet(np.full(n, 4.0))
    tie[:2] = tie[:2].mean()
    half = np.append(0.5, rng.dirichlet(np.full(n - 1, 4.0)) / 2)
    laws = [rng.dirichlet(np.full(n, 4.0)), tie, half, np.full(n, 1 / n)]
    return [(pi, spd(n, rng), float(rng.uniform(0.5, 2.0))) for pi in laws]


def directional(f: Any, U: np.ndarray, H: np.ndarray, order: int) -> float:
    """The first or second derivative of f(U + tH) by central differences."""
    if order == 1:
        h = 1e-5
        return (f(U + h * H) - f(U - h * H)) / (2 * h)
    h = 1e-3
    values = [f(U + k * h * H) for k in (-2, -1, 0, 1, 2)]
    return float(np.dot([-1, 16, -30, 16, -1], values)) / (12 * h**2)


def both(derivation: Any, **values: Any) -> Any:
    """The value, the same on both sides."""
    stated, derived = derivation.at(**values), derivation.at("derived", **values)
    np.testing.assert_allclose(derived, stated, rtol=1e-9, atol=1e-11)
    return stated


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_inner_solution_by_maximising(n):
    rng = np.random.default_rng(1)
    for pi, U, lam in points(n):
        p = both(categorical.inner.solution(n), pi=pi, U=U, lam=lam)
        assert p.shape == (n,)
        np.testing.assert_allclose(p, best_policy(pi, U, lam), rtol=1e-9)
        q = rng.dirichlet(np.full(n, 3.0))
        g = class_rewards(pi, U)
        gap = both(categorical.inner.gibbs_gap(n), p=q, pi=pi, U=U, lam=lam)
        assert gap == pytest.approx(J(best_policy(pi, U, lam), g, lam) - J(q, g, lam), rel=1e-8)
        assert gap > 0


def test_inner_solution_by_a_library_search():
    pi, U, lam = points(5)[0]
    g = class_rewards(pi, U)
    found = optimize.minimize(
        lambda p: -J(p, g, lam),
        np.full(5, 0.2),
        method="SLSQP",
        bounds=[(1e-9, 1)] * 5,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    p = categorical.inner.solution(5).at(pi=pi, U=U, lam=lam)
    np.testing.assert_allclose(p, found.x, atol=1e-5)


@pytest.mark.filterwarnings("ignore::analysis.errors.SlowDerivationWarning")
@pytest.mark.parametrize("n", [2, 3, 5, pytest.param(10, marks=pytest.mark.slow)])
def test_hypergradients_by_finite_differences(n):
    rng = np.random.default_rng(2)
    for pi, U, lam in points(n):
        values: dict[str, Any] = {"pi": pi, "U": U, "lam": lam}
        assert both(categorical.outer.objective(n), **values) == pytest.approx(F(pi, U, lam))
        G = both(categorical.outer.hypergradient(n), **values)
        implicit = categorical.outer.implicit_hypergradient(n).at("derived", **values)
        np.testing.assert_allclose(implicit, G, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(G, G.T)
        for _ in range(3):
            H = rng.normal(size=(n, n))
            H = H + H.T
            slope = directional(lambda V, pi=pi, lam=lam: F(pi, V, lam), U, H, 1)
            assert np.trace(G @ H) == pytest.approx(slope, rel=1e-5, abs=1e-8)
            bend = directional(lambda V, pi=pi, lam=lam: F(pi, V, lam), U, H, 2)
            second = both(categorical.outer.concavity(n), **values, H=H)
            assert second == pytest.approx(bend, rel=1e-4, abs=1e-7)
            assert second <= 0


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_hessian_has_rank_below_the_number_of_classes(n):
    pi, U, lam = points(n)[0]
    d = categorical.outer.concavity(n)
    basis: list[np.ndarray] = []
    for i in range(n):
        for j in range(i + 1):
            H = np.zeros((n, n))
            H[i, j] = H[j, i] = 1.0
            basis.append(H)

    def form(H):
        return d.at(pi=pi, U=U, lam=lam, H=H)

    hessian = np.array([[(form(A + B) - form(A - B)) / 4 for A in basis] for B in basis])
    assert np.linalg.matrix_rank(hessian, tol=1e-9) == n - 1
    a = np.arange(n, dtype=float)
    idle = a[:, None] + a
    assert form(idle) == pytest.approx(0, abs=1e-12)
    policy = categorical.inner.solution(n)
    moved = policy.at(pi=pi, U=U + 0.1 * (1 + idle), lam=lam)
    np.testing.assert_allclose(moved, policy.at(pi=pi, U=U, lam=lam), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_scalar_rewards(n):
    for pi, _, lam in points(n):
        u = 1.3
        U = u * np.eye(n)
        p = both(categorical.inner.scalar_solution(n), pi=pi, u=u, lam=lam)
        np.testing.assert_allclose(p, best_policy(pi, U, lam), rtol=1e-9)
        ratios = both(categorical.inner.argmax_preserved(n), pi=pi, u=u, lam=lam)
        np.testing.assert_allclose(ratios, np.log(p[:, None] / p), atol=1e-12)
        assert p[np.argmax(pi)] == pytest.approx(p.max(), rel=1e-12)  # there may be ties
        slope = directional(lambda V, pi=pi, lam=lam: F(pi, V, lam), U, np.eye(n), 1)
        found = both(categorical.scalar.stationarity(n), pi=pi, u=u, lam=lam)
        assert found == pytest.approx(slope, rel=1e-5, abs=1e-8)
        gap = both(categorical.costs.scalar_gap(n), pi=pi, u=u, lam=lam)
        assert gap == pytest.approx(float(pi @ np.log(pi)) - F(pi, U, lam), rel=1e-8, abs=1e-12)
        one_hot = np.eye(n)
        covariance = np.cov(one_hot, rowvar=False, bias=True, aweights=pi)
        scale = both(categorical.scalar.heuristic_scale(n), pi=pi, lam=lam)
        assert scale == pytest.approx(lam * n / (2 * np.trace(covariance)))


def best_scalar(pi: np.ndarray, lam: float) -> float:
    """argmax F(uI) by a search that knows no slope."""
    found = optimize.minimize_scalar(
        lambda t: -F(pi, np.exp(t) * np.eye(len(pi)), lam), bounds=(-4, 5), method="bounded"
    )
    return float(np.exp(found.x))


def root_of_slope(pi: np.ndarray, lam: float) -> float:
    d = categorical.scalar.stationarity(len(pi))
    return float(optimize.brentq(lambda u: d.at(pi=pi, u=u, lam=lam), 1e-3, 60.0, xtol=1e-12))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.49, 0.6, 0.9])
def test_the_best_scalar_for_two_classes(share):
    pi = np.array([share, 1 - share])
    u = both(categorical.scalar.binary(), pi=pi, lam=0.7)
    assert u == pytest.approx(best_scalar(pi, 0.7), rel=2e-4)
    np.testing.assert_allclose(categorical.inner.scalar_solution(2).at(pi=pi, u=u, lam=0.7), pi)
    heuristic = categorical.scalar.heuristic_scale(2).at(pi=pi, lam=0.7)
    ratio = both(categorical.scalar.heuristic_ratio(), pi=pi)
    assert ratio == pytest.approx(u / heuristic)
    assert ratio <= 0.5
    top = F(pi, u * np.eye(2), 0.7)
    for k in (0.5, 1.0, 2.0):
        cost = top - F(pi, k * heuristic * np.eye(2), 0.7)
        assert both(categorical.costs.heuristic_gap(), pi=pi, k=k) == pytest.approx(cost, rel=1e-6)
        gap = both(categorical.costs.binary_gap(), pi=pi, u=k * heuristic, lam=0.7)
        assert gap == pytest.approx(cost, rel=1e-6)
        wide = categorical.costs.scalar_gap(2).at(pi=pi, u=k * heuristic, lam=0.7)
        assert wide == pytest.approx(cost, rel=1e-6)


def test_two_equal_classes():
    even = np.array([0.5, 0.5])
    assert F(even, np.eye(2), 0.7) == pytest.approx(F(even, 9 * np.eye(2), 0.7), abs=1e-14)
    assert categorical.costs.binary_gap().at(pi=even, u=3.0, lam=0.7) == pytest.approx(0, abs=1e-15)
    near = categorical.scalar.binary().at(pi=[0.5 + 1e-5, 0.5 - 1e-5], lam=0.7)
    assert near == pytest.approx(categorical.scalar.binary_limit().at(lam=0.7), rel=1e-8)


def test_any_reward_for_two_classes():
    for pi, U, lam in points(2):
        p = best_policy(pi, U, lam)
        logit = both(categorical.inner.binary_logit(), pi=pi, U=U, lam=lam)
        assert logit == pytest.approx(np.log(p[0] / p[1]), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("share", "becomes"), [(0.6, 0.697), (0.9, 0.99986)])
def test_the_heuristic_sharpens_two_classes(share, becomes):
    pi = [share, 1 - share]
    scale = categorical.scalar.heuristic_scale(2).at(pi=pi, lam=1.0)
    assert scale == pytest.approx(1 / (2 * share * (1 - share)))
    p = categorical.inner.scalar_solution(2).at(pi=pi, u=scale, lam=1.0)
    assert p[0] == pytest.approx(becomes, abs=5e-4 if share == 0.6 else 5e-6)


def test_the_heuristic_can_be_too_flat_for_three_classes():
    pi = np.array([0.499, 0.499, 0.002])
    assert root_of_slope(pi, 1.0) == pytest.approx(5.55, abs=0.005)
    assert best_scalar(pi, 1.0) == pytest.approx(5.55, abs=0.01)
    assert categorical.scalar.heuristic_scale(3).at(pi=pi, lam=1.0) == pytest.approx(
        2.99, abs=0.005
    )


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_near_uniform_classes(n):
    d = np.random.default_rng(n).normal(size=n)
    pi = 1 / n + 1e-4 * (d - d.mean())
    u = root_of_slope(pi, 0.7)
    limit = categorical.near_uniform.scale(n).at(lam=0.7)
    assert u == pytest.approx(limit, rel=2e-3)
    assert limit == pytest.approx(0.7 * n / 2)
    heuristic = categorical.scalar.heuristic_scale(n).at(pi=pi, lam=0.7)
    assert heuristic / u == pytest.approx(categorical.near_uniform.ratio(n).at(), rel=2e-3)


@pytest.mark.parametrize(
    "pi",
    [
        [0.6, 0.4],
        [0.7, 0.1, 0.1, 0.1],
        [0.2, 0.3, 0.1, 0.4],
        [0.55, *[0.05] * 9],
        [0.1] * 10,
        [0.498, 0.3, 0.202],
    ],
)
def test_a_diagonal_reward_reproduces_the_data(pi):
    pi = np.array(pi)
    n, lam = len(pi), 0.7
    lower = -np.log(pi.max()) if pi.max() > 0.5 else -1.0
    upper = min(-np.log(x) for x in pi if x < 0.5)
    assert lower < upper
    for k in (0.9 * lower + 0.1 * upper, 0.2 * lower + 0.8 * upper):
        u = both(categorical.diagonal.reward(n), pi=pi, lam=lam, offset=k)
        assert np.all(u > 0)
        np.testing.assert_allclose(best_policy(pi, np.diag(u), lam), pi, rtol=1e-9)
    beyond = categorical.diagonal.reward(n).at(pi=pi, lam=lam, offset=upper + 0.1)
    assert np.any(beyond < 0)


def test_a_diagonal_reward_with_a_class_at_one_half():
    pi, lam = np.array([0.5, 0.3, 0.2]), 0.7
    k = categorical.diagonal.reward_at_half().at()
    assert k == pytest.approx(np.log(2))
    rest = lam * (np.log(pi[1:]) + k) / (2 * pi[1:] - 1)
    assert np.all(rest > 0)
    for free in (0.1, 4.0):
        np.testing.assert_allclose(best_policy(pi, np.diag([free, *rest]), lam), pi, rtol=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_baselines_by_enumeration(n):
    rng = np.random.default_rng(n)
    p, r = rng.dirichlet(np.full(n, 3.0)), rng.normal(size=n)
    scores = np.eye(n) - p  # row c: the gradient of log p_c in the logits

    def moments(b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        estimates = (r[:, None] - b) * scores
        mean = p @ estimates
        return mean, p @ (estimates - mean) ** 2

    z, h = np.log(p), 1e-6
    means = [[(w := np.exp(z + s * h * e)) @ r / w.sum() for s in (1, -1)] for e in np.eye(n)]
    slopes = [(plus - minus) / (2 * h) for plus, minus in means]
    gradient = both(categorical.estimators.score_gradient(n), p=p, r=r)
    np.testing.assert_allclose(gradient, slopes, atol=1e-8)
    b = both(categorical.estimators.optimal_baseline(n), p=p, r=r)
    mean, least = moments(b)
    np.testing.assert_allclose(mean, gradient, atol=1e-12)
    variance = both(categorical.estimators.minimal_variance(n), p=p, r=r)
    np.testing.assert_allclose(variance, least, atol=1e-12)
    for step in (-0.1, 0.1):
        assert np.all(moments(b + step)[1] > least)
    if n == 2:
        np.testing.assert_allclose(variance, 0, atol=1e-15)


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda: categorical.scalar.binary().at(pi=[0.5, 0.5], lam=1.0),
        lambda: categorical.diagonal.reward(3).at(pi=[0.5, 0.25, 0.25], lam=1.0, offset=0.1),
    ],
)
def test_what_is_not_finite_is_an_error(evaluate):
    with pytest.raises(ArgumentError, match="limit of the formula or beyond floating-point range"):
        evaluate()


def test_exponentials_beyond_floats_cancel():
    """log(1 + e^a) = a to the last digit at a = 19996, where e^a is beyond floats."""
    pi, a = 0.9999, 2e4 * (2 * 0.9999 - 1)
    expected = pi * np.log(pi) + (1 - pi) * np.log(1 - pi) + (1 - pi) * a
    found = categorical.costs.binary_gap().at(pi=[pi, 1 - pi], u=1e4, lam=1.0)
    assert found == pytest.approx(expected, rel=1e-12)
