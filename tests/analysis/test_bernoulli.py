"""Independent bits: what is derived of them agrees with classes, and bad numbers are named."""

import numpy as np
import pytest

from analysis import ArgumentError, DerivationError, StructureError, bernoulli, categorical
from analysis import definitions as vectors
from tests.planting import derived_anew


@pytest.mark.parametrize("rho", [0.1, 0.4, 0.7, 0.97])
def test_one_bit_is_two_classes(rho: float) -> None:
    """U = uI of the one-hot outcome has twice the distance: u* of a bit is 2u* of two classes."""
    bit = bernoulli.outer.optimal_reward(1).at(rho=rho, lam=0.6)
    classes = categorical.scalar.binary().at(pi=[rho, 1 - rho], lam=0.6)
    assert bit == pytest.approx(2 * classes, rel=1e-12)
    z = bernoulli.inner.solution(1).at(U=0.8, rho=rho, lam=0.6)
    p = categorical.inner.scalar_solution(2).at(pi=[rho, 1 - rho], u=0.4, lam=0.6)
    np.testing.assert_allclose(p[0], 1 / (1 + np.exp(-z)), rtol=1e-12)


def test_the_best_reward_gives_the_data_back() -> None:
    rho = np.array([0.2, 0.6, 0.9])
    u = bernoulli.outer.optimal_reward(3).at(rho=rho, lam=0.5)
    z = bernoulli.inner.solution(3).at(U=np.diag(u), rho=rho, lam=0.5)
    psi = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(psi, rho, rtol=1e-12)
    assert np.abs(bernoulli.outer.hypergradient(3).at(psi=psi, rho=rho, lam=0.5)).max() < 1e-12


def test_a_wrong_reward_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = vectors.reward
    with derived_anew():
        monkeypatch.setattr(vectors, "reward", lambda *args: 2 * right(*args))
        for build in (
            bernoulli.inner.objective,
            bernoulli.inner.solution,
            bernoulli.outer.hypergradient,
            bernoulli.outer.optimal_reward,
        ):
            with pytest.raises(DerivationError):
                build(2).verify()
        monkeypatch.undo()


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"rho\[1\] = 1.0 must lie in \(0, 1\)"):
        bernoulli.outer.optimal_reward(2).at(rho=[0.5, 1.0], lam=1.0)
    with pytest.raises(StructureError, match="n = 1, 2, 3"):
        bernoulli.inner.solution(4)
