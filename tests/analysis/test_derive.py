"""`derive`: it reproduces the catalogue, enumerates classes and bits, and refuses with a reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import (
    KL,
    ArgumentError,
    Bits,
    Classes,
    DerivationError,
    Entropy,
    Gaussian,
    MomentError,
    Moments,
    NoMaximumError,
    Normal,
    RewardError,
    RewardTypeError,
    StructureError,
    bernoulli,
    bounded,
    categorical,
    derive,
    gaussian,
    outcome,
)
from analysis.calculus.normal_form import normal
from analysis.calculus.symbols import STRUCTURES, symbol
from analysis.derive import expectation
from analysis.derive import gaussian as solved
from analysis.derive.signs import is_positive_definite, is_semidefinite

u, a, w, lam = sp.symbols("u a w lambda", positive=True)
y_hat, y = outcome(1)
Y_hat, Y = outcome(2)


def mahalanobis(n: int) -> Any:
    if n == 1:
        return -symbol("U", 1)[0] * (y_hat - y) ** 2
    first, second = outcome(n)
    return -((first - second).T * symbol("U", n) * (first - second))


def is_zero(f: Any) -> bool:
    found = normal(f)
    return all(x == 0 for x in found) if isinstance(found, sp.MatrixBase) else found == 0


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_gaussian_results_are_reproduced(structure: Any, n: int) -> None:
    found = derive(mahalanobis(n), Gaussian(n, structure)).verify()
    assert found.solution is not None
    assert found.hypergradient is not None
    assert found.optimum is not None
    one = sp.ImmutableMatrix.eye(n)
    P = found.solution["s"] * one if "s" in found.solution else found.solution["P"]
    wanted = gaussian.inner.solution(structure, n).derived
    assert is_zero((sp.Matrix([[P]]) if n == 1 else P) - wanted)
    assert is_zero(sp.Matrix([found.solution["m"]]) - sp.Matrix(symbol("mu", n)))
    G, F = found.hypergradient["U"], gaussian.outer.hypergradient(structure, n).derived
    assert is_zero((sp.Matrix([[G]]) if n == 1 else G) - F)
    best = gaussian.outer.optimal_reward(structure, n).derived
    U = found.optimum["U"]
    if structure == "diagonal" and n > 1:
        U = sp.Matrix.diag(*U.diagonal())
    assert is_zero((sp.Matrix([[U]]) if n == 1 else U) - best)
    assert found.cost == 0
    if structure == "full" and n < 3:
        assert is_zero(found.objective - gaussian.inner.objective(n).derived)


def test_the_best_scale_on_a_ray() -> None:
    k, M = symbol("c"), symbol("M", 2)
    r = -k * ((Y_hat - Y).T * M * (Y_hat - Y))[0]
    values = {"M": [[1.0, 0.2], [0.2, 0.5]], "Sigma": [[0.7, 0.1], [0.1, 0.4]], "lam": 0.6}
    numbers = sp.Matrix([[1, sp.Rational(1, 5)], [sp.Rational(1, 5), sp.Rational(1, 2)]])
    best = derive(r.xreplace(dict(zip(M, numbers, strict=True))), Gaussian(2))
    scale = best.best(mu=[0.0, 0.0], Sigma=values["Sigma"], lam=0.6)
    assert scale.parameters["c"] == pytest.approx(
        gaussian.rays.optimal_scale(2).at("stated", **values)
    )
    cost = gaussian.rays.loss(2).at(M=values["M"], Sigma=values["Sigma"])
    assert scale.cost == pytest.approx(cost, rel=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_the_bounded_reward_is_reproduced(n: int) -> None:
    """Expected reward, the largest weight of a local maximum, and for n = 2 its variance."""
    beta, omega = symbol("beta"), symbol("omega")
    first, second = symbol("y_hat", n), symbol("y", n)
    r = sp.exp(-((first - second).T * (first - second))[0] / omega)
    data = Normal(covariance=beta**2 * sp.eye(n))
    with pytest.raises(NoMaximumError, match=r"stays bounded|does not fall"):
        derive(r, Gaussian(n, "isotropic"), data=data)
    found = derive(r, Gaussian(n, "isotropic"), data=data, local=True).verify()
    numbers = {"omega": 0.8, "beta": 0.6}
    limit = found.limit.xreplace({omega: sp.Rational(4, 5), beta: sp.Rational(3, 5)})
    wanted = bounded.inner.critical_weight(n).at("stated", **numbers)
    assert float(limit) == pytest.approx(wanted, rel=1e-12)
    m, mu = np.array([0.4, -0.2])[:n], np.array([0.1, 0.3])[:n]
    policy = {"m": m, "s": 0.7} if n > 1 else {"m": m, "P": 0.7}
    expected = bounded.inner.expected_reward(n).at("stated", m=m, mu=mu, s=0.7, **numbers)
    assert found.at("expected_reward", mu=mu, **policy, **numbers) == pytest.approx(expected)
    refusal = (NoMaximumError, "no local one") if n == 1 else (ArgumentError, "no real number")
    with pytest.raises(refusal[0], match=refusal[1]):
        found.solve(mu=mu, **numbers, lam=2 * wanted)
    if n == 2:
        at = {"mu": mu, **numbers, "lam": 0.5 * wanted}
        variance = bounded.inner.inner_variance().at("stated", q=0.5, **numbers)
        assert found.solve(**at).policy["s"] == pytest.approx(variance, rel=1e-10)


def test_a_bounded_kernel_on_a_bowl() -> None:
    """E exp(-zᵀWz), z ~ N(m - μ, P + Σ), as in the catalogue; with a bowl a maximum exists."""
    W, z = symbol("W", 2), Y_hat - Y
    found = derive(sp.exp(-(z.T * W * z)[0]) - u * (z.T * z)[0], Gaussian(2), data=Normal())
    rng = np.random.default_rng(3)
    P, Sigma, weight = (np.eye(2) + 0.3 * np.cov(rng.normal(size=(2, 9))) for _ in range(3))
    m, mu = rng.normal(size=(2, 2))
    got = found.at("expected_reward", W=weight, u=0.7, m=m, P=P, mu=mu, Sigma=Sigma)
    kernel = bounded.inner.log_expected_kernel(2).at(m=m, mu=mu, S=P + Sigma, W=weight)
    bowl = -0.7 * ((m - mu) @ (m - mu) + np.trace(P + Sigma))
    assert got == pytest.approx(np.exp(kernel) + bowl, rel=1e-12)
    values: dict[str, Any] = {"W": weight, "u": 0.7, "mu": mu, "Sigma": Sigma, "lam": 0.5}
    np.testing.assert_allclose(found.solve(**values).policy["m"], mu, atol=1e-8)


@pytest.mark.parametrize("c", [sp.Rational(1, 2), -1])
def test_a_kernel_of_another_difference(c: Any) -> None:
    """ŷ - cy ~ N(m - cμ, P + c²Σ), and E exp(-z²) = exp(-m²/(1+2P))/√(1+2P), z ~ N(m, P)."""
    (y_hat,), (y,) = symbol("y_hat", 1), symbol("y", 1)
    found = derive(sp.exp(-((y_hat - c * y) ** 2)) - y_hat**2, Gaussian(1), data=Normal())
    m, P, mu, Sigma = 0.4, 0.7, -0.3, 1.2
    got = found.at("expected_reward", m=m, P=P, mu=mu, Sigma=Sigma)
    mean, spread = m - float(c) * mu, 1 + 2 * (P + float(c) ** 2 * Sigma)
    assert got == pytest.approx(np.exp(-(mean**2) / spread) / spread**0.5 - m**2 - P, rel=1e-12)


def test_a_ridge_under_even_powers() -> None:
    """ŷ₁² exp(-ŷ₂²) is bounded nowhere along ŷ₂ = 0, and is outweighed there."""
    found = derive(
        Y_hat[0] ** 2 * sp.exp(-(Y_hat[1] ** 2)) - Y_hat[0] ** 4 - Y_hat[1] ** 4, Gaussian(2)
    )
    assert "outweighs" in found.existence


def test_the_reference_policy() -> None:
    """THEORY: P*⁻¹ = P₀⁻¹ + 2U/λ, m* - μ = P* P₀⁻¹ (m₀ - μ)."""
    for n in (1, 2, 3):
        found = derive(mahalanobis(n), Gaussian(n), KL()).verify()
        rng = np.random.default_rng(n)
        U, P0 = (np.eye(n) + 0.3 * np.cov(rng.normal(size=(n, 9))).reshape(n, n) for _ in range(2))
        mu, m0 = rng.normal(size=(2, n))
        values = {"U": U if n > 1 else U[0, 0], "P0": P0, "mu": mu, "m0": m0, "lam": 0.7}
        got = found.at("solution", **values)
        P = np.linalg.inv(np.linalg.inv(P0) + 2 * U / 0.7)
        np.testing.assert_allclose(np.reshape(got["P"], (n, n)), P, rtol=1e-12)
        want = mu + P @ np.linalg.inv(P0) @ (m0 - mu)
        np.testing.assert_allclose(np.ravel(got["m"]), want, rtol=1e-11)


TABLES = {
    "two": sp.Matrix([[0, -u], [-u, 0]]),
    "asymmetric": sp.Matrix([[a, -u, 0], [0, 1, -u], [-a, 0, u]]),
    "no data": sp.Matrix([0, u, a, 1]),
    "diagonal of five": u * sp.eye(5),
}


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_classes_by_enumeration(name: str, reference: bool) -> None:
    """p* against a search on the simplex, the hypergradient against differences of F."""
    table = TABLES[name]
    n = table.rows
    regulariser = KL() if reference else Entropy()
    found = derive(table, Classes(n), regulariser).verify()
    rng = np.random.default_rng(n)
    pi, p0 = rng.dirichlet(np.full(n, 3.0), 2)
    base = {f"p0_{i + 1}": p0[i] for i in range(n)} if reference else {}
    parameters = {name: {"u": 0.8, "a": 0.5}[name] for name in found.parameters}
    values = {**parameters, **base, "pi": pi, "lam": 0.6}
    p = found.solve(**values).policy["p"]

    def law(**at: float) -> np.ndarray:
        R = np.array(table.xreplace({found.parameters[k]: v for k, v in at.items()}), float)
        r = (R if R.shape[1] == n else R.repeat(n, 1)) @ pi
        q = np.full(n, 1 / n)
        for _ in range(4000):  # mirror ascent on J: no closed form
            slope = r - 0.6 * (np.log(q) - (np.log(p0) if reference else 0))
            q = q * np.exp(0.5 * slope)
            q /= q.sum()
        return q

    np.testing.assert_allclose(p, law(**parameters), rtol=1e-9)
    slopes = found.slopes(**values)
    for name, slope in slopes.items():
        F = [pi @ np.log(law(**{**parameters, name: parameters[name] + h})) for h in (1e-5, -1e-5)]
        assert slope == pytest.approx((F[0] - F[1]) / 2e-5, rel=1e-6, abs=1e-8)
    closed = found.at("hypergradient", **values)
    assert closed == pytest.approx(slopes, rel=1e-10)


def test_classes_reproduce_the_catalogue() -> None:
    pi = symbol("pi", 2)
    known = {pi[1]: 1 - pi[0]}
    found = derive(-2 * u * (sp.ones(2) - sp.eye(2)), Classes(2))
    assert found.optimum is not None
    gap = found.optimum["u"] - categorical.scalar.binary().derived
    assert is_zero(sp.expand_log(gap.xreplace(known)))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_classes_with_a_matrix(n: int) -> None:
    U, one = symbol("U", n), sp.eye(n)
    gaps = [[one[:, c] - one[:, k] for k in range(n)] for c in range(n)]
    table = sp.Matrix(n, n, lambda c, k: -(gaps[c][k].T * U * gaps[c][k])[0])
    pi = np.random.default_rng(n).dirichlet(np.ones(n))
    values = {"U": np.eye(n) + 0.1, "pi": pi, "lam": 0.5}
    law = derive(table, Classes(n)).at("solution", **values)["p"]
    np.testing.assert_allclose(
        law, categorical.inner.solution(n).at("stated", **values), rtol=1e-12
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_bits_by_enumeration_and_as_derived(n: int) -> None:
    v = sp.symbols(f"v_1:{n + 1}", positive=True)
    first, second = symbol("y_hat", n), symbol("y", n)
    r = sp.Add(*(-v[i] * (first[i] - second[i]) ** 2 for i in range(n)))
    found = derive(r, Bits(n)).verify()
    assert found.optimum is not None
    rho = np.array([0.2, 0.6, 0.9])[:n]
    weights = np.array([0.7, 0.4, 1.1])[:n]
    values = {f"v_{i + 1}": weights[i] for i in range(n)} | {"rho": rho, "lam": 0.5}
    psi = np.ravel(found.solve(**values).policy["psi"])
    z = bernoulli.inner.solution(n).at(U=np.diag(weights), rho=rho, lam=0.5)
    np.testing.assert_allclose(np.log(psi / (1 - psi)), np.ravel(z), rtol=1e-12)
    best = found.at("optimum", rho=rho, lam=0.5)
    wanted = np.ravel(bernoulli.outer.optimal_reward(n).at(rho=rho, lam=0.5))
    np.testing.assert_allclose([best[f"v_{i + 1}"] for i in range(n)], wanted, rtol=1e-12)
    outcomes = np.array(list(product((0, 1), repeat=n)))
    gap = -(weights * (outcomes[:, None] - outcomes[None]) ** 2).sum(-1)
    of_data = np.where(outcomes == 1, rho, 1 - rho).prod(-1)
    logs = gap @ of_data / 0.5
    law = np.exp(logs) / np.exp(logs).sum()
    np.testing.assert_allclose(law @ outcomes, psi, rtol=1e-12)
    reached = found.best(rho=rho, lam=0.5)
    likely = (rho * np.log(rho) + (1 - rho) * np.log(1 - rho)).sum()
    assert reached.likelihood == pytest.approx(likely, rel=1e-12)
    assert reached.cost == pytest.approx(0.0, abs=1e-12)


def test_a_quartic_learns_the_variance() -> None:
    """P* = ½(√(Σ² + λ/3a) - Σ), a* = λ/(24 Σ²), for every symmetric law of the data."""
    found = derive(-a * (y_hat - y) ** 4, Gaussian(1), data=Moments(symmetric=True)).verify()
    Sigma = symbol("Sigma", 1)[0]
    assert found.solution is not None
    assert found.optimum is not None
    gap = found.solution["P"] - (sp.sqrt(Sigma**2 + symbol("lam") / (3 * a)) - Sigma) / 2
    assert sp.simplify(gap) == 0
    assert sp.simplify(found.optimum["a"] - symbol("lam") / (24 * Sigma**2)) == 0


BAD = sp.Symbol("k")
NONE = {
    "rises": (u * (y_hat - y) ** 2, Gaussian(1), "rises without bound"),
    "quartic the wrong way": (u * y_hat**4 - y_hat**2, Gaussian(1), "turn its sign round"),
    "odd": (-u * (y_hat - y) ** 3, Gaussian(1), "rises without bound"),
    "unknown sign": (-sp.Symbol("k", real=True) * y_hat**2, Gaussian(1), "declare its symbols"),
    "constant": (u * y**2, Gaussian(1), "stays bounded"),
    "rank one": (-u * (Y_hat[0] + 2 * Y_hat[1] - Y[0]) ** 2, Gaussian(2), "constant along"),
    "indefinite": (
        -(Y_hat[0] ** 2) + 3 * Y_hat[0] * Y_hat[1] - Y_hat[1] ** 2,
        Gaussian(2),
        "rises",
    ),
    "a coordinate left out": (-u * (Y_hat[0] - Y[0]) ** 2, Gaussian(2), "stays bounded"),
    "an embedding that is 0 along a line": (
        -((Y_hat[0] ** 2 - Y[0] ** 2) ** 2) - (Y_hat[0] * Y_hat[1] - Y[0] * Y[1]) ** 2,
        Gaussian(2),
        "does not fall along",
    ),
    "a ridge that outgrows a bowl": (
        Y_hat[0] ** 4 * sp.exp(-(Y_hat[1] ** 2)) - (Y_hat.T * Y_hat)[0],
        Gaussian(2),
        "stays constant",
    ),
    "a form that rises between the axes": (
        -(Y_hat[0] ** 4) - Y_hat[1] ** 2 + 3 * Y_hat[0] ** 2 * Y_hat[1],
        Gaussian(2),
        "could not be decided",
    ),
    "explodes": (sp.exp(u * y_hat**2), Gaussian(1), "infinite"),
    "products of bits": (Y_hat[0] * Y_hat[1], Bits(2), r"Classes\(4\)"),
}


def test_of_exponentials_the_fastest_decides() -> None:
    """On either side, in whatever order they come, and whichever leads by a little."""
    first, last = 5 * sp.cosh(2 * y_hat).rewrite(sp.exp), sp.cosh(3 * y_hat).rewrite(sp.exp)
    for middle in (sp.S.Zero, sp.exp(y_hat), sp.exp(-y_hat)):
        derive(sp.expand(first + middle - last), Gaussian(1))
        with pytest.raises(NoMaximumError, match="rises without bound"):
            derive(sp.expand(last + middle - first), Gaussian(1))


@pytest.mark.parametrize("name", NONE)
def test_no_maximum(name: str) -> None:
    reward, family, says = NONE[name]
    with pytest.raises(NoMaximumError, match=says):
        derive(reward, family)


REFUSED: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "string": ("-(y_hat - y)**2", Gaussian(1), RewardTypeError, "string"),
    "no expression": (object(), Gaussian(1), RewardTypeError, "SymPy expression"),
    "matrix": (sp.eye(2), Gaussian(2), RewardError, r"shape \(2, 2\)"),
    "not real": (-BAD * y_hat**2, Gaussian(1), RewardError, "parameter k is not declared real"),
    "complex": (-sp.I * y_hat**2, Gaussian(1), RewardError, "not real and finite"),
    "another y": (-((y_hat - sp.Symbol("y")) ** 2), Gaussian(1), RewardError, "symbol y that"),
    "another n": (-((Y_hat[0] - Y[0]) ** 2), Gaussian(1), RewardError, r"of outcome\(1\)"),
    "taken": (-lam * (y_hat - y) ** 2, Gaussian(1), RewardError, "lambda, which stands for lam"),
    "moment": (-sp.Symbol("mu_4", real=True) * y_hat**2, Gaussian(1), RewardError, "rename"),
    "logarithm": (-u * sp.log(y_hat**2), Gaussian(1), RewardError, "takes polynomials"),
    "exp of a quartic": (sp.exp(-(y_hat**4)), Gaussian(1), RewardError, "no quadratic"),
    "exp of data by moments": (sp.exp(-((y_hat - y) ** 2)), Gaussian(1), MomentError, "Normal()"),
    "no family": (-(y_hat**2), "gaussian", RewardTypeError, "family is 'gaussian'"),
    "table": (sp.eye(3), Classes(2), RewardError, r"shape \(3, 3\)"),
    "no table": (-(y_hat**2), Classes(2), RewardError, "pass a table"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    reward, family, error, says = REFUSED[name]
    with pytest.raises(error, match=says):
        derive(reward, family)


def test_bad_regularisers_and_families() -> None:
    with pytest.raises(RewardError, match="positive"):
        Entropy(-1)
    with pytest.raises(RewardTypeError, match="string"):
        KL("lam")
    with pytest.raises(StructureError, match="structure"):
        Gaussian(2, "round")  # pyright: ignore[reportArgumentType]
    with pytest.raises(StructureError, match="n = 1, 2, 3"):
        Gaussian(4)
    with pytest.raises(RewardError, match="positive definite"):
        derive(-u * (y_hat - y) ** 2, Gaussian(1), data=Moments(covariance=[[-1]]))


def test_it_shows_one_screen_and_renders() -> None:
    found = derive(-u * (y_hat - y) ** 2, Gaussian(1))
    assert len(str(found).splitlines()) < 40
    assert "verified" in str(found)
    assert r"\frac{\lambda}{2 u}" in found.latex()
    assert found._repr_latex_().startswith("$")  # pyright: ignore[reportPrivateUsage]


def test_a_planted_fault_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = solved.quadratic_solution
    monkeypatch.setattr(
        solved,
        "quadratic_solution",
        lambda *given: {k: 2 * X if k == "P" else X for k, X in right(*given).items()},
    )
    with pytest.raises(DerivationError, match="∂J/∂P"):
        derive(-u * (y_hat - y) ** 2, Gaussian(1)).verify()


def test_gaussian_moments() -> None:
    moment = expectation.isserlis(sp.Matrix([[2, 1], [1, 3]]))
    assert moment((4, 0)) == 12
    assert moment((2, 2)) == 2 * 3 + 2
    assert moment((3, 0)) == 0


V_hat, V = outcome(3)
k = sp.Symbol("k", real=True)
e, v = Y_hat - Y, V_hat - V
SQUARE = (e.T * e)[0]
STANDARD = Normal(mean=[0, 0], covariance=sp.eye(2))
LIMIT = 10.0  # seconds of processor time


@pytest.mark.parametrize("c", [sp.Rational(1, 2), sp.Rational(3, 4), 2])
def test_an_infinite_expectation_over_the_data_is_refused(c: Any) -> None:
    """E exp(c y²) is infinite for c >= 1/(2Σ), whatever it stands in front of or beside."""
    one = Normal(mean=0, covariance=1)
    for reward in (
        -u * (y_hat - y) ** 2 * sp.exp(c * y**2),
        -u * y_hat**2 + sp.exp(-(y_hat**2) + c * y**2),
        -u * y_hat**2 - sp.exp(c * y**2),
    ):
        for local in (False, True):
            with pytest.raises(NoMaximumError, match="is infinite"):
                derive(reward, Gaussian(1), data=one, local=local)
    with pytest.raises(NoMaximumError, match="is infinite"):
        derive(-u * SQUARE * sp.exp(c * (Y.T * Y)[0]), Gaussian(2), data=STANDARD)


def test_an_expectation_that_may_be_infinite_has_a_domain() -> None:
    """Numbers decide: E exp(a y²) = (1 - 2aΣ)^{-1/2} at μ = 0, for 2aΣ < 1 alone."""
    found = derive(-u * (y_hat - y) ** 2 * sp.exp(a * y**2), Gaussian(1), data=Normal()).verify()
    assert "where E exp(a*y**2) < ∞" in str(found)
    values = {"u": 0.7, "a": 0.5, "mu": 0.0, "lam": 0.4}
    P = found.solve(**values, Sigma=0.6).policy["P"]
    assert pytest.approx(0.4 / (2 * 0.7) * (1 - 0.6) ** 0.5) == P
    for Sigma in (1.0, 1.5):
        with pytest.raises(NoMaximumError, match="is infinite at"):
            found.solve(**values, Sigma=Sigma)
        with pytest.raises(NoMaximumError, match="is infinite at"):
            found.at("expected_reward", u=0.7, a=0.5, mu=0.0, Sigma=Sigma, m=0.0, P=0.1)
    two = derive(-u * SQUARE * sp.exp((Y.T * Y)[0]), Gaussian(2), data=Normal())
    at = {"u": 0.7, "mu": [0.0, 0.0], "lam": 0.4}
    P = two.solve(**at, Sigma=0.3 * np.eye(2)).policy["P"]
    np.testing.assert_allclose(P, 0.4 / (2 * 0.7) * (1 - 0.6) * np.eye(2))
    for Sigma in (2 * np.eye(2), np.diag([0.3, 0.7])):  # det(I - 2Σ) is positive for the first
        with pytest.raises(NoMaximumError, match="is infinite at"):
            two.solve(**at, Sigma=Sigma)


@pytest.mark.parametrize("P", [3.0, 0.6])
def test_an_infinite_expectation_over_the_policy_is_refused(P: float) -> None:
    found = derive(-sp.exp((Y_hat.T * Y_hat)[0]), Gaussian(2), local=True)
    policy = found.solve(lam=0.1, mu=[0.0, 0.0], Sigma=np.eye(2)).policy
    assert np.linalg.eigvalsh(policy["P"])[-1] < 0.5
    with pytest.raises(NoMaximumError, match="is infinite at P_11"):
        found.at("expected_reward", m=[0.0, 0.0], P=P * np.eye(2))


EXISTS: dict[str, Callable[[], Any]] = {
    "U + P0⁻¹ with a line": lambda: derive(
        -(e.T * symbol("U", 2) * e)[0] + k * Y_hat[0], Gaussian(2), KL()
    ),
    "rank one with a line": lambda: derive(
        -u * (e[0] + 2 * e[1]) ** 2 + k * Y_hat[0], Gaussian(2), KL()
    ),
    "bounded in space": lambda: derive(a * sp.exp(-(v.T * v)[0] / w), Gaussian(3), KL(), Normal()),
    "embedding": lambda: derive(
        -u * (Y_hat[0] + Y_hat[1] ** 2 - Y[0]) ** 2 - a * (Y_hat[1] - Y[1]) ** 2, Gaussian(2)
    ),
    "embedding, weights of 1": lambda: derive(
        -((Y_hat[0] + Y_hat[1] ** 2 - Y[0]) ** 2) - (Y_hat[1] - Y[1]) ** 2, Gaussian(2)
    ),
    "embedding in two steps": lambda: derive(
        -u * (Y_hat[0] + (Y_hat[1] + Y_hat[0] ** 2) ** 2 - Y[0]) ** 2
        - a * (Y_hat[1] + Y_hat[0] ** 2 - Y[1]) ** 2,
        Gaussian(2, "diagonal"),
    ),
    "y-weight": lambda: derive(
        -u * (y_hat - y) ** 2 * (1 - y) ** 2 * sp.exp(-(y**2)), Gaussian(1), data=Normal()
    ),
    "y-weight in the plane": lambda: derive(
        -u * e[0] ** 2 * sp.exp(-(Y[0] ** 2) - Y[0] * Y[1] - Y[1] ** 2) - a * Y_hat[1] ** 2,
        Gaussian(2),
        data=Normal(),
    ),
    "rank two, KL": lambda: derive(
        -u * sum(t**2 for t in sp.Matrix([[1, 2, 0], [0, 1, 1]]) * v), Gaussian(3), KL()
    ),
    "matrix with a product, KL": lambda: derive(
        -(v.T * symbol("U", 3) * v)[0] + k * V_hat[0] * V[2], Gaussian(3), KL()
    ),
    "kernel with cross terms, KL": lambda: derive(
        a * sp.exp(-((Y_hat[0] - 2 * Y[0] + Y_hat[1]) ** 2) - w * e[1] ** 2),
        Gaussian(2, "diagonal"), KL(), Normal(),
    ),
    "kernel with cross terms on a bowl": lambda: derive(
        a * sp.exp(-((Y_hat[0] - 2 * Y[0]) ** 2) - w * e[1] ** 2) - u * SQUARE,
        Gaussian(2), None, Normal(),
    ),
    "square, KL": lambda: derive(-u * SQUARE, Gaussian(2), KL()),
    "sum as y-weight": lambda: derive(
        -u * (y_hat - y) ** 2 * (1 + y**2) * sp.exp(-(y**2)), Gaussian(1), data=Normal()
    ),
    "kernel on a bowl in space": lambda: derive(
        a * sp.exp(-(v.T * v)[0] / w) - u * (v.T * v)[0], Gaussian(3), None, Normal()
    ),
    "kernel times a product": lambda: derive(
        (1 + k * Y_hat[0] * Y[0]) * sp.exp(-SQUARE / w) - u * SQUARE,
        Gaussian(2), None, Normal(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXISTS)
def test_a_maximum_is_found_in_time(name: str) -> None:
    """It exists, is derived within the limit, and has slope 0 at what `solve` finds."""
    before = time.process_time()
    found = EXISTS[name]().verify()
    assert time.process_time() - before < LIMIT
    n, rng = found.family.n, np.random.default_rng(2)
    X = np.eye(n) + 0.2 * np.cov(rng.normal(size=(n, 9))).reshape(n, n)
    every: dict[str, Any] = {"u": 0.7, "a": 0.4, "w": 1.3, "k": 0.3, "lam": 0.5, "U": X}
    every |= {"mu": np.full(n, 0.2), "m0": np.full(n, -0.3), "Sigma": 0.6 * X, "P0": 1.4 * X}
    for moment in found.moments:
        every.setdefault(moment, 1.1)
    values = {x: every[x] for x in (*found.parameters, *found.moments, *found.constants)}
    policy = found.solve(**values).policy
    for name, slope in found.stationarity.items():
        used = {x: X for x, X in found.arguments.items() if X.free_symbols & slope.free_symbols}
        at = {x: {**values, **policy}[x] for x in used}
        if not at:
            continue
        numbers = {
            cell: number
            for x, X in used.items()
            for cell, number in zip(sp.Matrix([X]), np.ravel(at[x]), strict=True)
        }
        got = np.array(sp.Matrix([slope]).xreplace(numbers).evalf(), float)
        np.testing.assert_allclose(got, 0, atol=1e-6, err_msg=name)


REFUSED_STILL = {
    "an embedding that is constant along a curve": -u * (Y_hat[0] + Y_hat[1] ** 2 - Y[0]) ** 2,
    "a product that is": -u * (Y_hat[0] * Y_hat[1] - Y[0]) ** 2 - a * (Y_hat[1] - Y[1]) ** 2,
}


@pytest.mark.parametrize("name", REFUSED_STILL)
def test_squares_that_do_not_bound_are_refused(name: str) -> None:
    with pytest.raises(NoMaximumError):
        derive(REFUSED_STILL[name], Gaussian(2))


def test_definiteness_of_numbers_is_that_of_eigenvalues() -> None:
    rng = np.random.default_rng(7)
    for n, rank in product((1, 2, 3), (1, 2, 3)):
        B = sp.Matrix(rng.integers(-3, 4, size=(n, rank)))
        for shift in (0, 1, -1):
            Q = (B * B.T + shift * sp.eye(n)).as_immutable()
            least = min(np.linalg.eigvalsh(np.array(Q, float)))
            assert is_semidefinite(Q) == (least > -1e-9)
            assert is_positive_definite(Q) == (least > 1e-9)
            assert is_semidefinite(u * Q + a * B * B.T) or least < 1e-9
