"""Rewards of all kinds, each against quadrature on the definition of J: no closed form is shared.

Expectations are sums over Gauss-Hermite nodes of the policy and over the data: atoms with weights,
or nodes of Gaussian data. Slopes are complex steps, inner solutions Newton's method on them,
hypergradients differences of F through inner problems solved again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import KL, Derived, Entropy, Gaussian, Moments, Normal, derive, outcome
from analysis.calculus.symbols import symbol

u, a, b, w, lam = sp.symbols("u a b w lambda", positive=True)
c, d = sp.symbols("c d", real=True)
y_hat, y = outcome(1)
Y_hat, Y = outcome(2)
z, Z = y_hat - y, Y_hat - Y
U = symbol("U", 2)
MATRIX = np.array([[1.3, 0.4], [0.4, 0.8]])
phi_1 = sp.Matrix([y_hat - y, y_hat**2 - y**2])
phi_2 = sp.Matrix([Y_hat[0] ** 2 - Y[0] ** 2, Y_hat[0] * Y_hat[1] - Y[0] * Y[1]])


@dataclass(frozen=True)
class Case:
    reward: Any
    values: dict[str, Any]
    family: Gaussian = field(default_factory=Gaussian)
    regulariser: Any = field(default_factory=Entropy)
    data: Any = field(default_factory=Moments)
    closed: bool = False
    local: bool = False
    nodes: int = 40


PLANE, OVAL, ROUND = Gaussian(2), Gaussian(2, "diagonal"), Gaussian(2, "isotropic")
CASES = {
    "square": Case(-u * z**2, {"u": 0.7}, closed=True),
    "square with a centre": Case(-u * (z - c) ** 2, {"u": 0.7, "c": 0.4}, closed=True),
    "square without y": Case(-u * (y_hat - c) ** 2, {"u": 0.7, "c": 0.4}, closed=True),
    "gain and offset": Case(
        -u * (a * y_hat - y - c) ** 2, {"u": 1.0, "a": 0.6, "c": 0.2}, closed=True
    ),
    "quartic": Case(-a * z**4, {"a": 0.3}),
    "quartic, symmetric data": Case(
        -a * z**4, {"a": 0.3}, data=Moments(symmetric=True), closed=True
    ),
    "quartic, Gaussian data": Case(
        -a * z**4 - b * z**2, {"a": 0.3, "b": 0.2}, data=Normal(), closed=True
    ),
    "cubic term": Case(-a * z**4 - b * z**3 - u * z**2, {"a": 0.3, "b": 0.2, "u": 1.0}),
    "sextic": Case(-a * z**6 - b * z**2, {"a": 0.05, "b": 0.5}),
    "mixed terms": Case(
        -a * y_hat**4 + b * y_hat * y**2 + d * y_hat**3 * y, {"a": 0.4, "b": 0.7, "d": 0.1}
    ),
    "weight of the data": Case(-(1 + y**2) * (y_hat - y) ** 2 * u, {"u": 0.5}, closed=True),
    "two wells": Case(-a * (y_hat**2 - y**2) ** 2, {"a": 0.3}),
    "embedding of one": Case(-(phi_1.T * U * phi_1), {"U": MATRIX}),
    "exponential loss": Case(
        -u * (sp.exp(a * z) - a * z - 1), {"u": 1.0, "a": 0.5}, data=Normal(), closed=True
    ),
    "cosh": Case(-u * sp.cosh(z), {"u": 0.8}, data=Normal()),
    "bump on a bowl": Case(
        b * sp.exp(-((y_hat - c) ** 2) / w) - u * z**2,
        {"b": 0.6, "c": 1.0, "w": 0.5, "u": 0.4},
        nodes=120,
    ),
    "product": Case(
        b * z * sp.exp(-(z**2) / w) - u * z**2,
        {"b": 0.6, "w": 1.5, "u": 0.4},
        data=Normal(),
        nodes=100,
    ),
    "bounded, KL": Case(
        b * sp.exp(-(z**2) / w), {"b": 2.0, "w": 1.5}, regulariser=KL(), data=Normal(), nodes=100
    ),
    "bounded, local": Case(sp.exp(-(z**2) / w), {"w": 1.5}, data=Normal(), local=True, nodes=100),
    "square, KL": Case(-u * z**2, {"u": 0.7}, regulariser=KL(), closed=True),
    "matrix": Case(-(Z.T * U * Z), {"U": MATRIX}, PLANE, closed=True),
    "matrix, diagonal policy": Case(-(Z.T * U * Z), {"U": MATRIX}, OVAL, closed=True),
    "matrix, isotropic policy": Case(-(Z.T * U * Z), {"U": MATRIX}, ROUND, closed=True),
    "rank one, KL": Case(
        -u * (Z[0] + c * Z[1]) ** 2, {"u": 0.7, "c": 0.5}, PLANE, KL(), closed=True, nodes=8
    ),
    "sum of quartics": Case(
        -a * Z[0] ** 4 - b * Z[1] ** 4 - Z[1] ** 2,
        {"a": 0.3, "b": 0.2},
        PLANE,
        data=Normal(),
        closed=True,
        nodes=8,
    ),
    "round quartic": Case(
        -a * (Z.T * Z)[0] ** 2,
        {"a": 0.3},
        ROUND,
        data=Normal(mean=[0.2, 0.1], covariance=[[0.8, 0], [0, 0.8]]),
        closed=True,
        nodes=8,
    ),
    "embedding of two, KL": Case(-(phi_2.T * U * phi_2), {"U": MATRIX}, PLANE, KL(), nodes=8),
    "coupled quartic": Case(
        -a * Y_hat[0] ** 4 - b * Y_hat[1] ** 4 + Y_hat[0] * Y_hat[1] * Y[0] - u * (Z.T * Z)[0],
        {"a": 0.3, "b": 0.2, "u": 0.5},
        PLANE,
        nodes=8,
    ),
    "embedding with a product": Case(
        -u * ((Z.T * Z)[0] + (Y_hat[0] * Y_hat[1] - Y[0] * Y[1]) ** 2), {"u": 0.5}, PLANE, nodes=8
    ),
    "square of a form": Case(
        -((Z.T * U * Z)[0] ** 2), {"U": MATRIX}, PLANE, data=Normal(), nodes=8
    ),
    "bump in the plane": Case(
        b * sp.exp(-(Y_hat[0] ** 2 + Y_hat[1] ** 2) / w) - (Z.T * Z)[0] * u,
        {"b": 0.5, "w": 2.0, "u": 0.5},
        PLANE,
        nodes=24,
    ),
}


@dataclass(frozen=True, eq=False)
class Witness:
    """J, F and inner solutions of a case by quadrature, in x = (m, t, l): L_ii = e^t, L_ij = l."""

    case: Case
    derived: Derived

    @property
    def n(self) -> int:
        return self.case.family.n

    @cached_property
    def reward(self) -> Any:
        """r as a function of ŷ, y and the parameters."""
        outcomes = [*Y_hat, *Y] if self.n > 1 else [y_hat, y]
        names = [x for X in self.derived.parameters.values() for x in flat_symbols(X)]
        return sp.lambdify([*outcomes, *names], self.derived.reward, "numpy")

    @cached_property
    def law(self) -> tuple[np.ndarray, np.ndarray]:
        """Points and weights of the data."""
        n = self.n
        if isinstance(self.case.data, Normal):
            mean, covariance = self.moments
            nodes, weights = grid(n, 24 if n == 1 else 6)
            return mean + nodes @ np.linalg.cholesky(covariance).T, weights
        if self.case.data.symmetric:
            return np.array([[-1.1], [0.3], [1.7]]), np.array([0.2, 0.6, 0.2])
        points = np.array([[-0.8, 0.5], [0.1, -0.6], [1.5, 0.9], [0.4, 1.8]])[:, :n]
        return points, np.array([0.3, 0.4, 0.2, 0.1])

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.case.data, Normal):
            if self.case.data.mean is not None:
                return np.array([0.2, 0.1]), 0.8 * np.eye(2)
            return np.array([0.3, -0.2])[: self.n], np.array([[0.6, 0.2], [0.2, 0.9]])[
                : self.n, : self.n
            ]
        points, weights = self.law
        mean = weights @ points
        return mean, (weights[:, None] * (points - mean)).T @ (points - mean)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The numbers by name: of the data, of λ, of the reference."""
        mean, covariance = self.moments
        points, weights = self.law
        found: dict[str, Any] = {
            "mu": mean,
            "Sigma": covariance,
            "lam": 0.5 if not self.case.local else 0.08,
        }
        found |= {
            "m0": np.array([-0.5, 0.4])[: self.n],
            "P0": np.array([[1.5, 0.3], [0.3, 2.0]])[: self.n, : self.n],
        }
        for name in self.derived.moments:
            if name.startswith("mu_"):
                digits = name[3:]
                powers = (
                    [int(digits)]
                    if self.n == 1
                    else [digits.count(str(i + 1)) for i in range(self.n)]
                )
                found[name] = float(weights @ ((points - mean) ** powers).prod(-1))
        return {
            k: v
            for k, v in found.items()
            if k in self.derived.moments or k in self.derived.constants
        }

    def J(self, x: np.ndarray, parameters: Mapping[str, Any]) -> Any:
        """E r + λH or E r - λ KL on the definition; x may be complex."""
        values = self.values
        m, L = self.unpack(x)
        nodes, weights = grid(self.n, self.case.nodes)
        drawn = m + nodes @ L.T
        points, of_data = self.law
        numbers = flat(self.derived.parameters, parameters)
        r = self.reward(
            *(drawn[:, None, i] for i in range(self.n)),
            *(points[None, :, i] for i in range(self.n)),
            *numbers.values(),
        )
        expected = weights @ (np.broadcast_to(r, (len(drawn), len(points))) @ of_data)
        log_p = log_normal(nodes, np.zeros(self.n), np.eye(self.n)) - np.log(np.diag(L)).sum()
        log_p0 = (
            log_normal(drawn, values["m0"], values["P0"])
            if isinstance(self.case.regulariser, KL)
            else 0
        )
        return expected + values["lam"] * weights @ (log_p0 - log_p)

    def F(self, x: np.ndarray) -> Any:
        """E log p over the data."""
        m, L = self.unpack(x)
        mean, covariance = self.moments
        K = np.linalg.inv(L)
        away = K @ (mean - m)
        spread = np.trace(K @ covariance @ K.T) + away @ away
        return -(spread + 2 * np.log(np.diag(L)).sum() + self.n * np.log(2 * np.pi)) / 2

    def unpack(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, structure = self.n, self.case.family.structure
        scales = x[n : n + 1].repeat(n) if structure == "isotropic" else x[n : 2 * n]
        L = np.diag(np.exp(scales))
        if structure == "full":
            L[np.tril_indices(n, -1)] = x[2 * n :]
        return x[:n], L

    def pack(self, policy: Mapping[str, Any]) -> np.ndarray:
        m = np.atleast_1d(policy["m"])
        if "s" in policy:
            return np.array([*m, np.log(policy["s"]) / 2])
        L = np.linalg.cholesky(np.atleast_2d(policy["P"]))
        off = L[np.tril_indices(self.n, -1)] if self.case.family.structure == "full" else []
        return np.array([*m, *np.log(np.diag(L)), *off])

    def slope(self, x: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        """∂J/∂x by complex steps: exact to rounding."""
        step = 1e-30j * np.eye(len(x))
        return np.array([self.J(x + one, parameters).imag / 1e-30 for one in step])

    def curvature(self, x: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        step = 1e-5 * np.eye(len(x))
        return np.array(
            [
                (self.slope(x + one, parameters) - self.slope(x - one, parameters)) / 2e-5
                for one in step
            ]
        )

    def maximum(self, start: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        """The stationary point near a start, by Newton's method."""
        x = start
        for _ in range(4):
            x = x - np.linalg.solve(self.curvature(x, parameters), self.slope(x, parameters))
        return x


@cache
def grid(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (size^n, n) and weights of a standard normal law."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(size)
    weights = weights / weights.sum()
    if n == 1:
        return nodes[:, None], weights
    first, second = np.meshgrid(nodes, nodes, indexing="ij")
    return np.stack([first.ravel(), second.ravel()], -1), np.outer(weights, weights).ravel()


def log_normal(x: np.ndarray, m: np.ndarray, P: np.ndarray) -> np.ndarray:
    e = x - m
    return -((e @ np.linalg.inv(P) * e).sum(-1) + np.log(np.linalg.det(2 * np.pi * P))) / 2


def flat_symbols(X: Any) -> list[Any]:
    """The free symbols of a parameter, row by row."""
    if not isinstance(X, sp.MatrixBase):
        return [X]
    return [X[i, j] for i in range(X.rows) for j in range(i, X.cols)]


def flat(symbols: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by the name of each free symbol."""
    found: dict[str, float] = {}
    for name, X in symbols.items():
        upper = np.triu_indices(np.atleast_2d(values[name]).shape[0])
        numbers = np.atleast_2d(values[name])[upper]
        found |= dict(zip(map(str, flat_symbols(X)), numbers.tolist(), strict=True))
    return found


@pytest.fixture(scope="module", params=CASES)
def witness(request: pytest.FixtureRequest) -> Witness:
    case = CASES[request.param]
    return Witness(
        case, derive(case.reward, case.family, case.regulariser, case.data, local=case.local)
    )


def given(witness: Witness, quantity: str, **more: Any) -> dict[str, Any]:
    """The values that a quantity takes."""
    found = getattr(witness.derived, quantity)
    parts = found.values() if isinstance(found, Mapping) else [found]
    free = set().union(*(part.free_symbols for part in parts))
    every = {**witness.case.values, **witness.values, **more}
    return {k: every[k] for k, X in witness.derived.arguments.items() if X.free_symbols & free}


def theta(witness: Witness) -> tuple[np.ndarray, dict[str, Any]]:
    """Some policy, no solution."""
    n, structure = witness.n, witness.case.family.structure
    m = np.array([0.35, -0.4])[:n]
    if structure == "isotropic" and n > 1:
        return np.array([*m, np.log(0.6) / 2]), {"m": m, "s": 0.6}
    P = np.array([[0.5, 0.15], [0.15, 0.4]])[:n, :n]
    P = np.diag(np.diag(P)) if structure == "diagonal" else P
    return witness.pack({"m": m, "P": P}), {"m": m if n > 1 else m[0], "P": P if n > 1 else P[0, 0]}


def test_the_closed_forms_are_verified(witness: Witness) -> None:
    assert witness.derived.verify() is witness.derived
    assert (witness.derived.solution is not None) == witness.case.closed


def test_expectation_and_slopes_of_the_objective(witness: Witness) -> None:
    x, policy = theta(witness)
    got = witness.derived.at("objective", **given(witness, "objective", **policy))
    assert got == pytest.approx(float(witness.J(x, witness.case.values)), rel=1e-9, abs=1e-9)
    G = witness.derived.at("stationarity", **given(witness, "stationarity", **policy))
    _, L = witness.unpack(x)
    if "s" in G:
        along = [2 * 0.6 * G["s"]]
    else:
        rows = 2 * np.atleast_2d(G["P"]) @ L
        off = (
            rows[np.tril_indices(witness.n, -1)] if witness.case.family.structure == "full" else []
        )
        along = [*(np.diag(rows) * np.diag(L)), *off]
    want = witness.slope(x, witness.case.values)
    np.testing.assert_allclose([*np.atleast_1d(G["m"]), *along], want, rtol=1e-8, atol=1e-8)


def test_inner_solution(witness: Witness) -> None:
    """A stationary strict maximum, which no point around exceeds (near it, if local)."""
    values = {**witness.case.values, **witness.values}
    found = witness.derived.solve(**values)
    x = witness.pack(found.policy)
    np.testing.assert_allclose(witness.maximum(x, witness.case.values), x, rtol=1e-7, atol=1e-7)
    assert np.linalg.eigvalsh(witness.curvature(x, witness.case.values))[-1] < 0
    assert found.objective == pytest.approx(
        float(witness.J(x, witness.case.values)), rel=1e-8, abs=1e-8
    )
    rng = np.random.default_rng(5)
    reach = 0.1 if witness.case.local else 1.5
    for away in rng.normal(size=(60, len(x))) * reach:
        assert witness.J(x + away, witness.case.values) < found.objective + 1e-9


def test_hypergradient(witness: Witness) -> None:
    """Differences of F through inner problems that are solved again."""
    values = {**witness.case.values, **witness.values}
    slopes = witness.derived.slopes(**values)
    policy = witness.derived.solve(**values).policy
    x = witness.pack(policy)
    assert set(slopes) == set(witness.case.values)
    if witness.derived.hypergradient is not None:
        closed = witness.derived.at("hypergradient", **given(witness, "hypergradient", **policy))
        for name in closed:
            np.testing.assert_allclose(closed[name], slopes[name], rtol=1e-7, atol=1e-8)
    for name, slope in slopes.items():
        value = witness.case.values[name]
        if np.ndim(value):
            direction = np.array([[0.3, -0.2], [-0.2, 0.5]])
            want = float((slope * direction).sum())
        else:
            direction, want = 1.0, slope
        F = [
            witness.F(witness.maximum(x, {**witness.case.values, name: value + step * direction}))
            for step in (1e-4, -1e-4)
        ]
        assert want == pytest.approx((F[0] - F[1]) / 2e-4, rel=1e-5, abs=1e-6)
