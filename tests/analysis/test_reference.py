"""A reference policy: the numbers of the theory, limits, and faults planted in its definitions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from analysis import DerivationError, FormError, definitions, reference
from tests.planting import derived_anew

SIGMA = np.array([[1.0, 0.3], [0.3, 0.5]])
P0 = np.array([[2.0, -0.2], [-0.2, 1.5]])


def test_without_a_pull_the_entropy_s_reward_is_right_but_for_the_reference() -> None:
    """m₀ = μ: S = Σ, U* = (λ/2)(Σ⁻¹ - P₀⁻¹), and nothing is lost."""
    zero = np.zeros(2)
    np.testing.assert_allclose(reference.outer.covariance(2).at(Sigma=SIGMA, a=zero), SIGMA)
    assert reference.outer.learned_cost(2).at(Sigma=SIGMA, a=zero) == 0
    found = reference.outer.optimal_reward(2).at(Sigma=SIGMA, P0=P0, a=zero, lam=0.6)
    np.testing.assert_allclose(found, 0.3 * (np.linalg.inv(SIGMA) - np.linalg.inv(P0)))


@pytest.mark.parametrize("n", [1, 2, 3, None])
def test_the_learned_covariance_is_below_that_of_the_data_and_stationary(n: int | None) -> None:
    size, rng = n or 4, np.random.default_rng(0)
    root, a = rng.normal(size=(size, size)), rng.normal(size=size)
    Sigma = root @ root.T + np.eye(size)
    at = (lambda x: float(x.reshape(()))) if n == 1 else (lambda x: x)
    S = reference.outer.covariance(n).at("derived", Sigma=at(Sigma), a=at(a))
    S = np.reshape(S, (size, size))
    np.testing.assert_allclose(S + np.outer(S @ a, S @ a), Sigma, rtol=1e-10)
    assert np.linalg.eigvalsh(Sigma - S)[-1] > 0
    slope = reference.outer.hypergradient(n).at(S=at(S), Sigma=at(Sigma), a=at(a), lam=1.0)
    np.testing.assert_allclose(slope, np.zeros_like(slope), atol=1e-12 * size**2)


def test_the_price_of_the_entropy_s_reward() -> None:
    """0.153 nats per dimension where the reference has the moments of the data."""
    for n in (1, 2, 3):
        assert reference.outer.cost_at_reference(n).at() / n == pytest.approx(0.1534, abs=5e-5)
    values: dict[str, Any] = {"Sigma": SIGMA, "P0": SIGMA, "a": np.zeros(2)}
    assert reference.outer.cost_of_entropy_reward(2).at(**values) == pytest.approx(1 - np.log(2))
    values["P0"] = 1e6 * SIGMA  # a flat reference is entropy
    assert reference.outer.cost_of_entropy_reward(2).at(**values) == pytest.approx(0, abs=1e-5)


def test_the_optimal_reward_is_positive_iff_a_small_one_helps() -> None:
    for d, sign in ((0.2, -1), (0.9, 1)):  # Σ - P₀ = 0.5, beside d²
        values: dict[str, Any] = {"Sigma": 1.0, "P0": 0.5}
        U = reference.outer.optimal_reward(1).at(**values, a=d / 0.5, lam=1.0)
        slope = reference.outer.slope_at_reference(1).at(**values, m0=d, mu=0.0, lam=1.0)
        assert np.sign(U) == np.sign(slope) == sign


def test_grpo_s_entropy_weights() -> None:
    """λ_n = E[2/√(2n + 4χ²_n)] = .998, .656, .517, by quadrature of what is derived."""
    nodes, w = np.polynomial.legendre.leggauss(60)
    rho = 5 * (nodes + 1)  # up to 10 standard deviations from the mean
    found: list[float] = []
    for n in (1, 2, 3):
        weight = reference.group_deviation.entropy_weight(n)
        y = rho[:, None] * np.eye(n)[0]
        values = [weight.at(m=np.zeros(n), y=at, s=1.0) for at in y]
        found.append(np.average(values, weights=w * rho ** (n - 1) * np.exp(-(rho**2) / 2)))
    np.testing.assert_allclose(found, [0.998, 0.6557, 0.5173], atol=5e-4)
    planar = reference.group_deviation.planar_weight().at(s=2.0, sigma=2**0.5)
    assert planar == pytest.approx(found[1], rel=1e-9)
    assert reference.group_deviation.largest_weight(None).at(n=8) == 0.5


def test_what_embeddings_see() -> None:
    values: dict[str, Any] = {
        "y_hat": [1.0, 1.0],
        "y": [2.0, 0.5],
        "mu": [0.5, 1.5],
        "U": np.eye(2),
    }
    found = reference.embeddings.ranking(2).at(**values)
    assert found == pytest.approx(-(0.25 + 0.25) + (2.25 + 1.0))
    assert reference.embeddings.variance().at(sigma=2.0) == pytest.approx(4 / 3**0.5)


@pytest.mark.parametrize(
    ("name", "builds"),
    [
        (
            "reward",
            [
                partial(reference.inner.objective, 1),
                partial(reference.group_deviation.variance, 2),
                partial(reference.embeddings.ranking, None),
            ],
        ),
        (
            "entropy",
            [
                partial(reference.inner.objective, None),
                partial(reference.group_deviation.entropy_weight, 1),
                partial(reference.group_deviation.planar_weight),
                partial(reference.group_deviation.largest_weight, None),
                partial(reference.embeddings.variance),
            ],
        ),
        (
            "log_likelihood",
            [
                partial(reference.inner.precision, 2),
                partial(reference.inner.mean, None),
                partial(reference.inner.free_centre, 1),
                partial(reference.outer.hypergradient, None),
                partial(reference.outer.slope_at_reference, 1),
                partial(reference.outer.learned_cost, 1),
                partial(reference.outer.cost_of_entropy_reward, 1),
                partial(reference.outer.cost_at_reference, None),
            ],
        ),
    ],
)
def test_a_wrong_definition_fails(monkeypatch, name, builds):
    with derived_anew():
        right = getattr(definitions, name)
        monkeypatch.setattr(definitions, name, lambda *args: 2 * right(*args))
        for build in builds:
            with pytest.raises((DerivationError, FormError)):
                build().verify()
        monkeypatch.undo()
