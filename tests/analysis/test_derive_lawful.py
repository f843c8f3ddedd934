"""Moments that no law has are refused; those of any data are taken, in any units."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from analysis import Entropy, Gaussian, Moments, derive, outcome
from analysis.errors import ArgumentError

a, b = sp.symbols("a b", positive=True)
y_hat, y = outcome(1)
p, q = outcome(2)
LINE = derive(-a * (y_hat - y) ** 4 - b * (y_hat - y) ** 2, Gaussian(1), Entropy())
SYMMETRIC = derive(-a * (y_hat - y) ** 4, Gaussian(1), data=Moments(symmetric=True))
SEXTIC = derive(-a * (y_hat - y) ** 6, Gaussian(1), data=Moments(symmetric=True))
PLANE = derive(
    -a * (p[0] - q[0]) ** 2 - b * (p[1] - q[1] - p[0] ** 2 + q[0] ** 2) ** 2, Gaussian(2)
)


def of_line(z: Any, orders: tuple[int, ...] = (3, 4)) -> dict[str, float]:
    """Central moments of equally likely outcomes."""
    z = z - z.mean()
    return {"mu": 0.3, "Sigma": float(np.mean(z**2))} | {
        f"mu_{k}": float(np.mean(z**k)) for k in orders
    }


@given(
    st.lists(st.floats(-3.0, 3.0), min_size=2, max_size=6).filter(lambda z: np.std(z) > 0.01),
    st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_the_moments_of_data_are_taken(points: list[float], unit: float) -> None:
    z = np.array(points) * unit
    LINE.at("objective", a=1.0, b=1.0, m=0.0, P=1.0, lam=1.0, **of_line(z))
    both = np.concatenate([z, -z])
    values = of_line(both, (4, 6))
    SEXTIC.at("expected_reward", a=1.0, m=0.0, P=1.0, **values)


@given(
    st.lists(st.tuples(*[st.floats(-2.0, 2.0)] * 2), min_size=6, max_size=9), st.floats(0.1, 9.0)
)
def test_the_moments_of_data_in_the_plane_are_taken(
    points: list[tuple[float, float]], unit: float
) -> None:
    z = np.array(points) * unit + np.eye(len(points), 2) * unit * 3
    z = z - z.mean(0)
    values: dict[str, Any] = {"mu": [0.1, 0.2], "Sigma": (z.T @ z / len(z)).tolist()}
    for k in (3, 4):
        for index in product((0, 1), repeat=k):
            name = "mu_" + "".join(str(i + 1) for i in index)
            if name in PLANE.moments:
                values[name] = float(np.mean(np.prod(z[:, list(index)], axis=1)))
    PLANE.at("expected_reward", a=1.0, b=1.0, m=[0.0, 0.0], P=[[1.0, 0.0], [0.0, 1.0]], **values)


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize(("mu_3", "mu_4"), [(0.0, 0.5), (10.0, 2.0), (1.0, 1.99), (0.0, 0.999)])
def test_moments_of_no_law_are_refused(unit: float, mu_3: float, mu_4: float) -> None:
    data = {"mu": 0.0, "Sigma": unit**2, "mu_3": mu_3 * unit**3, "mu_4": mu_4 * unit**4}
    with pytest.raises(ArgumentError, match="no law has the central moments mu_3 = "):
        LINE.solve(a=unit**-4, b=unit**-2, lam=1.0, **data)
    with pytest.raises(ArgumentError, match="no law has the central moments"):
        LINE.best(lam=1.0, **data)


def test_kurtosis_and_sixth_moment_of_symmetric_data() -> None:
    with pytest.raises(ArgumentError, match=r"mu_4 = 0\.9 beside"):
        SYMMETRIC.at("expected_reward", a=1.0, m=0.0, P=1.0, mu=0.0, Sigma=1.0, mu_4=0.9)
    # E z⁶ >= (E z⁴)² / E z², by the matrix of z and z³.
    with pytest.raises(ArgumentError, match=r"mu_4 = 3, mu_6 = 8\.9 beside"):
        SEXTIC.at("expected_reward", a=1.0, m=0.0, P=1.0, mu=0.0, Sigma=1.0, mu_4=3.0, mu_6=8.9)
