"""Forgetting: razors are paths, among equal rewards one takes all, wrong definitions fail."""

from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from analysis import ArgumentError, DerivationError, definitions, forgetting
from analysis.forgetting.paths import METHODS, Method
from tests.planting import derived_anew


@pytest.mark.parametrize("method", METHODS)
def test_the_razor_is_the_path(method: Method) -> None:
    values: dict[str, Any] = {"P0": np.eye(2), "Sigma": [[2.0, 0.3], [0.3, 0.5]], "zeta": 0.4}
    values |= {"m0": [0.0, 1.0], "mu": [1.0, -2.0]} if method == "NLL" else {}
    by_flow = forgetting.paths.covariance(method, 2).at("derived", **values)
    by_search = forgetting.razors.covariance(method, None).at("derived", **values)
    np.testing.assert_allclose(by_flow, by_search, rtol=1e-12)


ALONG = (forgetting.paths.covariance, forgetting.paths.mean, forgetting.razors.covariance)


@pytest.mark.parametrize("result", ALONG, ids=lambda r: r.address)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, None])
@pytest.mark.parametrize("side", ["stated", "derived"])
def test_a_path_begins_at_the_base_and_ends_at_the_data(result, method, n, side) -> None:
    k, rng = n or 2, np.random.default_rng(0)
    ends = {"m0": rng.normal(size=k), "mu": rng.normal(size=k)}
    ends |= {name: np.eye(k) + np.full((k, k), x) for name, x in (("P0", 0.3), ("Sigma", 2.0))}
    path = result(method, n)
    values = {name: ends[name] for name in path.arguments if name in ends}
    for zeta, (mean, spread) in enumerate((("m0", "P0"), ("mu", "Sigma"))):
        X = ends[spread] if method == "NLL" else np.linalg.inv(ends[spread])
        x = ends[mean] if method == "NLL" else X @ ends[mean]
        want = x if result.name == "mean" else X
        found = np.reshape(path.at(side, **values, zeta=zeta), want.shape)
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-15)
    for beyond in (-0.1, 1.1):
        with pytest.raises(ArgumentError, match=r"must lie in \[0, 1\]; pass a share"):
            path.at(side, **values, zeta=beyond)


def test_the_likeliest_of_the_best_takes_all() -> None:
    """Of the base (.42, .25 | .15, .11), normalised, nearly all is the first at t = 1000."""
    p0, r = np.array([0.42, 0.25, 0.15, 0.11]) / 0.93, np.array([1.0, 1.0, 0.0, 0.0])

    def flow(_: float, z: np.ndarray) -> np.ndarray:
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return p * (r - p @ r)

    found = solve_ivp(flow, (0, 1e3), np.log(p0), t_eval=(10.0, 1e3), rtol=1e-10, atol=1e-12).y.T
    kept = np.exp(-found[:, 0]) - np.exp(-found[:, 1])
    np.testing.assert_allclose(kept, 0.93 / 0.42 - 0.93 / 0.25, rtol=1e-7)
    p = np.exp(found) / np.exp(found).sum(1, keepdims=True)
    np.testing.assert_allclose(p[:, :2], [[0.65, 0.26], [0.977, 0.022]], atol=1e-2)
    log_ratio = forgetting.ties.projection(4).at(p0=p0, r=r, lam=0.1)
    assert np.exp(log_ratio[0] - log_ratio[1]) == pytest.approx(0.42 / 0.25)


def test_the_tail_of_the_runner_up() -> None:
    """o ~ t^{-n/(n+1)} solves ȯ = -a o^{2+1/n}; 1/t is its limit for many other classes."""
    for n in (1, 3):
        a, power = -forgetting.ties.decay().at(tie=0.7, n=n), 1 + 1 / n
        found = solve_ivp(
            lambda _, o, a=a, power=power: -a * o ** (1 + power),
            (0, 1e6),
            [0.5],
            rtol=1e-10,
            atol=0,
        )
        assert found.y[0, -1] == pytest.approx((power * a * 1e6) ** (-1 / power), rel=1e-3)


@pytest.mark.parametrize("name", ["log_density", "entropy"])
def test_a_wrong_definition_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Not so for the reward: twice of it halves U*, and all of this stays as it is."""
    metric = name == "log_density"
    right = getattr(definitions, name)
    with derived_anew():
        monkeypatch.setattr(definitions, name, lambda *args: 2 * right(*args))
        with pytest.raises(DerivationError):
            (forgetting.paths.metric(1) if metric else forgetting.modes.reward()).verify()
        monkeypatch.undo()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_speed_of_a_tie_is_that_of_the_softmax_flow(n: int) -> None:
    """ȯ as derived for any n, beside ż = p (r - E r) of n + 2 logits."""
    tie, odds = 0.7, 0.4
    first = tie * odds / (1 - odds)
    z = -np.log([first, first + tie])
    z = np.array([*z, *[-z.sum() / n] * n])
    p, r = np.exp(z) / np.exp(z).sum(), np.array([1.0, 1.0, *[0.0] * n])
    flow = p * (r - p @ r)
    decay = forgetting.ties.decay()
    speed = decay.steps[0].expression
    known = {"tie": tie, "n": n, "o": odds, "x_3": np.exp(z[-1])}
    got = speed.subs({x: known[x.name] for x in speed.free_symbols})
    assert float(got) == pytest.approx(odds * (flow[1] - flow[0]), rel=1e-12)
