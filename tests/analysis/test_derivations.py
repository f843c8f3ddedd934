"""Every derivation is verified, evaluates on both sides, and says clearly what it was given."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

from analysis import Derivation, bounded, catalogue, estimators, gaussian, samples
from analysis.calculus import printing
from analysis.calculus.symbols import QUANTITIES, symbol
from analysis.errors import ArgumentError, ArgumentNameError, DerivationError, StructureError

ENTRIES = catalogue()
NAMES = [entry.name for entry in ENTRIES]
GENERAL = [entry for entry in ENTRIES if "any n" in entry.name]


def spd(n: int, rng: np.random.Generator) -> np.ndarray:
    root = rng.normal(size=(n, n))
    return root @ root.T / n + 0.3 * np.eye(n)


def values_for(derivation, rng: np.random.Generator, size: int = 4) -> dict[str, Any]:
    """Numbers in the domain of every argument; `size` where the dimension is general."""
    values: dict[str, Any] = {}
    for name, shape in derivation.arguments.items():
        domain = QUANTITIES[name].domain
        general = isinstance(shape, sp.MatrixSymbol)
        n = size if general else getattr(shape, "rows", 1)
        if domain == "positive":
            values[name] = float(rng.uniform(0.3, 2.0))
        elif domain in ("probability", "share"):
            values[name] = float(rng.uniform(0.1, 0.9))
        elif domain == "vector":
            values[name] = rng.normal(size=n)
        elif domain == "real":
            values[name] = float(rng.normal())
        elif domain == "probabilities":
            values[name] = rng.dirichlet(np.full(n, 3.0))
        elif domain == "bits":
            values[name] = rng.uniform(0.1, 0.9, size=n)
        elif domain in ("count", "group"):
            values[name] = int(rng.integers(2, 6))
        elif domain == "triangular":
            values[name] = np.linalg.cholesky(spd(n, rng))
        elif domain == "spd":
            values[name] = spd(n, rng)
        else:
            root = rng.normal(size=(n, n))
            values[name] = root + root.T
    for name, bound in derivation.above.items():
        others: dict[Any, Any] = {}
        for other, x in derivation.arguments.items():
            if isinstance(x, sp.MatrixBase):
                others |= dict(zip(x, np.ravel(values[other]), strict=True))
            elif x.is_Symbol:
                others[x] = values[other]
        values[name] += float(sp.sympify(bound).subs(others))
    return values


@pytest.mark.gate
@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_derived_equals_stated(entry):
    derivation = entry.build()
    assert derivation.name == entry.name
    assert derivation.verify() is derivation
    residual = derivation.residual()
    if isinstance(residual, sp.MatrixBase):
        assert residual == sp.zeros(*residual.shape)
    else:
        assert residual == 0 or residual.is_ZeroMatrix


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_both_sides_evaluate_to_the_same_numbers(entry):
    derivation = entry.build()
    values = values_for(derivation, np.random.default_rng(3))
    stated, derived = derivation.at(**values), derivation.at("derived", **values)
    assert np.all(np.isfinite(stated))
    np.testing.assert_allclose(derived, stated, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_rendering(entry):
    derivation = entry.build()
    assert type(derivation) is Derivation
    text = str(derivation)
    assert derivation.name in text
    assert derivation.statement in text
    assert "status: verified" in text
    assert repr(derivation) == text
    shown = derivation._repr_latex_()
    assert shown.startswith("$\\begin{array}")
    assert derivation.latex() in shown
    assert "status: verified" in shown
    assert " = " in derivation.latex()
    printed = (shown, *(printing.latex(step.expression) for step in derivation.steps))
    assert [text for text in printed if not text.isascii()] == []
    assert not re.search(
        r"\\text\{[^}]*[_≠%#&$^{]", shown
    )  # not taken there by all of LaTeX and KaTeX


@pytest.mark.parametrize("entry", GENERAL, ids=[entry.name for entry in GENERAL])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_general_n_agrees_with_explicit_n(entry, n):
    small, general = entry.build.func(*entry.build.args[:-1], n), entry.build()
    values = values_for(small, np.random.default_rng(n))
    size = {"n": n} if "n" in general.arguments else {}
    for side in ("stated", "derived"):
        found = general.at(side, **values, **size)
        np.testing.assert_allclose(found, small.at(**values), rtol=1e-12, atol=1e-12)


def test_the_example_of_the_readme():
    assert gaussian.outer.hypergradient("full", n=1).at(U=2.0, lam=0.5, Sigma=0.3) == -0.35
    assert gaussian.outer.hypergradient("full", n=2).residual() == sp.zeros(2, 2)
    assert r"\Sigma" in gaussian.outer.hypergradient("full", n=2).latex()
    assert gaussian.outer.hypergradient("full", n=None).at(
        U=2.0, lam=0.5, Sigma=0.3
    ) == pytest.approx(-0.35)


def test_importing_derives_nothing():
    code = (
        "import sys; from analysis.catalogue import DERIVATIONS;"
        "assert not any(result.made for result in DERIVATIONS);"
        "assert not {'torch', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


GOOD: dict[str, Any] = {"U": np.eye(2), "Sigma": np.eye(2), "lam": 1.0}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"U": None}, ArgumentNameError, "U must be a float"),
        ({"U": "identity"}, ArgumentNameError, "U must be a float"),
        ({"V": 1.0}, ArgumentNameError, "no argument 'V'; it takes U, Sigma, lam"),
        ({"U": np.diag([1.0, -2.0])}, ArgumentError, "smallest eigenvalue is -2"),
        ({"Sigma": np.array([[1.0, 0.5], [0.0, 1.0]])}, ArgumentError, "Sigma is not symmetric"),
        ({"U": np.eye(3)}, ArgumentError, r"U has shape \(3, 3\); pass an array of shape \(2, 2\)"),
        ({"U": 2.0}, ArgumentError, r"U has shape \(\)"),
        ({"U": np.full((2, 2), np.nan)}, ArgumentError, "not finite"),
        ({"lam": 0.0}, ArgumentError, r"lam = 0.0 must be > 0"),
        ({"lam": np.ones(2)}, ArgumentError, "pass one number"),
        ({"lam": np.inf}, ArgumentError, "not finite"),
    ],
)
@pytest.mark.parametrize("n", [2, None])
def test_bad_arguments_are_named(change, error, words, n):
    if n is None and "U" in change and np.shape(change["U"]) in ((3, 3), ()):
        words = "has shape|must be a float"  # general n takes its size from the first matrix
    with pytest.raises(error, match=words):
        gaussian.outer.hypergradient("full", n).at(**{**GOOD, **change})


def test_missing_argument_and_unknown_side():
    derivation = gaussian.outer.hypergradient("full", 2)
    with pytest.raises(ArgumentNameError, match="needs 'lam'"):
        derivation.at(U=np.eye(2), Sigma=np.eye(2))
    with pytest.raises(ArgumentNameError, match="side must be"):
        derivation.at("guessed", **GOOD)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="probability"):
        gaussian.misspecification.conditional_gain(1).at(w=1.0, Sigma_a=1.0, Sigma_b=2.0)


def test_unknown_structure_and_dimension():
    with pytest.raises(StructureError, match="unknown structure 'banded'"):
        gaussian.outer.objective("banded", 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(StructureError, match="n = 0"):
        gaussian.inner.objective(0)


def test_a_failed_condition_is_named():
    import dataclasses

    from analysis.calculus.conditions import positive

    derivation = gaussian.outer.hypergradient("full", 1)
    broken = dataclasses.replace(
        derivation, conditions=(positive("U is negative", -derivation.stated),)
    )
    with pytest.raises(DerivationError, match="condition 'U is negative' fails"):
        broken.verify()
    assert "status: FAILED" in str(broken)


def test_signs_between_matrix_terms_are_printed() -> None:
    """SymPy 1.14 prints U⁻¹/2 - Σ/λ without the sign."""
    result = str(gaussian.outer.hypergradient("full", None)).split("∇_U F =\n")[1]
    assert [line.strip() for line in result.splitlines()[:3]] == ["-1   1", "1/2⋅U   - ─⋅Σ", "λ"]


FACTOR: dict[str, Any] = {
    **{name: np.eye(2) for name in ("U", "Sigma", "L")},
    **{name: np.zeros(2) for name in ("m", "mu")},
}


@pytest.mark.parametrize(
    ("L", "error", "words"),
    [
        (np.array([[1.0, 0.5], [0.0, 1.0]]), ArgumentError, "L is not lower triangular.* 0.5"),
        (np.diag([1.0, -2.0]), ArgumentError, "L has -2 on its diagonal"),
        (np.diag([1.0, 0.0]), ArgumentError, "L has 0 on its diagonal"),
        (np.eye(3), ArgumentError, r"L has shape \(3, 3\); pass an array of shape \(2, 2\)"),
        (np.ones(2), ArgumentError, r"L has shape \(2,\)"),
        (1.0, ArgumentError, r"L has shape \(\)"),
        (np.ones((2, 1)), ArgumentError, r"L has shape \(2, 1\)"),
        (-np.eye(2), ArgumentError, "L has -1 on its diagonal"),
        (np.diag([1.0, np.nan]), ArgumentError, "not finite"),
        (None, ArgumentNameError, "L must be a float"),
        ("identity", ArgumentNameError, "L must be a float"),
    ],
)
def test_a_bad_factor_is_named(L, error, words):
    for parameter in ("mean", "scale"):
        with pytest.raises(error, match=words):
            estimators.baselines.matrix(parameter, 2).at(**{**FACTOR, "L": L})


def test_a_factor_is_read_by_its_lower_triangle():
    L = np.array([[1.5, 0.0], [-0.7, 0.4]])
    derivation = estimators.baselines.matrix("mean", 2)
    A = L.T @ np.diag([2.0, 0.5]) @ L
    values: dict[str, Any] = {**FACTOR, "L": L, "U": np.diag([2.0, 0.5])}
    expected = -(2.5 + np.trace(A)) - 2 * np.diag(A)
    for side in ("stated", "derived"):
        np.testing.assert_allclose(derivation.at(side, **values), expected)
    with pytest.raises(ArgumentNameError, match="needs 'L'"):
        derivation.at(**{name: value for name, value in values.items() if name != "L"})
    with pytest.raises(ArgumentNameError, match="no argument 'K'"):
        derivation.at(**values, K=L)
    with pytest.raises(StructureError, match="no vector of probabilities pi"):
        symbol("pi", None)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("parameter", ["mean", "scale"])
def test_every_entry_of_a_factor_counts(parameter, n):
    """Lambdified entry by entry as by substitution of the whole lower triangle."""
    derivation = estimators.baselines.matrix(parameter, n)
    values = values_for(derivation, np.random.default_rng(n))
    wanted = derivation.stated
    for name, X in derivation.arguments.items():
        numbers = np.reshape(np.asarray(values[name], dtype=float), X.shape)
        wanted = wanted.subs({X[at]: numbers[at] for at in np.ndindex(*X.shape) if X[at] != 0})
    got = np.reshape(derivation.at(**values), wanted.shape)
    np.testing.assert_allclose(got, np.array(wanted, dtype=float), rtol=1e-12)


def test_a_factor_of_a_scalar_policy_is_one_positive_number():
    derivation = estimators.baselines.matrix("mean", 1)
    values: dict[str, Any] = {"m": 0.2, "mu": 0.0, "U": 2.0, "Sigma": 1.0}
    assert derivation.at(**values, L=0.5) == derivation.at(**values, L=[[0.5]])
    with pytest.raises(ArgumentError, match=r"L has -0.5 on its diagonal"):
        derivation.at(**values, L=-0.5)
    with pytest.raises(ArgumentError, match=r"L has shape \(2, 2\)"):
        derivation.at(**values, L=np.eye(2))


def test_too_few_degrees_of_freedom_are_named():
    """A formula that goes on below its bound would give a number that means nothing."""
    excess = samples.excess.expected("full", 3)
    assert excess.at(freedom=8) == pytest.approx(1.0616, abs=1e-4)
    for value in (4, 3.5, 1):
        with pytest.raises(ArgumentError, match=rf"freedom = {value} must be above 4"):
            excess.at(freedom=value)
        with pytest.raises(ArgumentError, match=rf"freedom = {value} must be above 4"):
            excess.at(freedom=[float(value)])
    assert excess.at(freedom=[8.0]) == excess.at(freedom=8)
    with pytest.raises(ArgumentError, match="rows = 9 must be above 9"):
        samples.linear.in_sample(3).at(features=5, rows=9)
    assert samples.linear.in_sample(3).at(features=5, rows=10) > 0
    for n, N, want in ((1, 8, 0.2584), (2, 10, 0.5464), (3, 12, 0.8511)):
        assert samples.excess.plug_in(n).at(rows=N) == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    ("result", "name", "below"),
    [
        (samples.excess.plug_in, "rows", 2),
        (samples.excess.estimated_mean, "rows", 2),
        (samples.linear.leverage, "rows", 1),
    ],
)
def test_the_bound_is_where_the_expectation_ends(result: Any, name: str, below: int, n: int):
    """There the formula has its pole; one row more is enough."""
    derivation, bound = result(n), n + below
    assert derivation.stated.subs(derivation.arguments[name], bound).is_infinite
    assert derivation.at(**{name: bound + 1}) > 0
    with pytest.raises(ArgumentError, match=f"{name} = {bound} must be above {bound}"):
        derivation.at(**{name: bound})


@cache
def _logs_and_inverses(k: float) -> tuple[float, float]:
    """E log χ²_k and E 1/χ²_k, by quadrature of the density; the latter is finite for k > 2."""

    def density(u: Any) -> Any:  # of the logarithm, up to a factor
        return mpmath.exp(k / 2 * u - mpmath.exp(u) / 2)

    points = [-800, -50, -5, 0, 2, 4, 6]
    mass = mpmath.quad(density, points)

    def mean(f: Any) -> float:
        return float(mpmath.quad(lambda u: f(u) * density(u), points) / mass)

    return mean(lambda u: u), mean(lambda u: mpmath.exp(-u))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("structure", ["full", "diagonal", "isotropic"])
def test_the_excess_of_each_structure_is_finite_above_a_bound_of_its_own(structure: Any, n: int):
    """ν > n + 1, 2 or 2/n: there A_nn² (Bartlett), S_ii or Tr S is of χ²_k with k > 2."""
    bound = {"full": n + 1, "diagonal": 2, "isotropic": 2 / n}[structure]
    derivation = samples.excess.expected(structure, n)
    nu = bound + 0.25
    freedoms = {"full": [nu - i for i in range(n)], "diagonal": [nu] * n, "isotropic": [n * nu] * n}
    k = freedoms[structure]
    pairs = [_logs_and_inverses(each) for each in k]
    log_scale = np.log(n * nu if structure == "isotropic" else nu)
    logs = sum(log for log, _ in pairs) - n * log_scale
    inverse = {"full": n * nu, "diagonal": n * nu, "isotropic": n * k[-1]}[structure] * pairs[-1][1]
    assert derivation.at(freedom=nu) == pytest.approx((logs + inverse - n) / 2, rel=1e-6)
    unit: Any = {"Sigma": np.eye(n), "freedom": nu}  # with the right structure nothing else is lost
    total = samples.choice.total(structure, n)
    assert total.at(**unit) == pytest.approx(derivation.at(freedom=nu), rel=1e-9)
    assumed = samples.linear.optimism(structure, n).assumptions
    assert ("Σ ∝ I" in assumed) == (structure == "isotropic")
    for below in (bound, bound - 0.1):
        for refused in (derivation, samples.linear.optimism(structure, n)):
            extra: Any = {"ratio": 1.0} if "ratio" in refused.arguments else {}
            with pytest.raises(ArgumentError, match=r"freedom = .* must be above"):
                refused.at(freedom=below, **extra)
        with pytest.raises(ArgumentError, match=r"freedom = .* must be above"):
            total.at(Sigma=np.eye(n), freedom=below)


def test_the_bound_of_a_scalar_reward_depends_on_the_covariance():
    """Its trace has the degrees of freedom f = ν (Tr Σ)²/Tr Σ², and f > 2 is needed."""
    total, freedom = samples.choice.total("isotropic", 2), samples.choice.effective_freedom(2)
    Sigma = np.array([[3.0, 0.5], [0.5, 1.0]])
    bound = 2 / freedom.at(Sigma=Sigma, freedom=1.0)
    assert 1 < bound < 2
    assert total.at(Sigma=Sigma, freedom=1.001 * bound) > 100
    with pytest.raises(ArgumentError, match=rf"must be above {bound:.6g}"):
        total.at(Sigma=Sigma, freedom=0.999 * bound)
    assert total.at(Sigma=Sigma, freedom=2) > 0  # a bound for all structures would refuse it


def test_bad_counts_are_named():
    for value in (1, 2.5, 0, -3, np.inf, np.nan, np.array([1.0])):
        with pytest.raises(ArgumentError, match=r"generations = .* is not an integer >= 2"):
            estimators.groups.mean().at(u=1.0, lam=1.0, generations=value)
    for value in (1, 2.5):
        with pytest.raises(ArgumentError, match=f"^generations = {value} is not an integer >= 2"):
            estimators.groups.mean().at(u=1.0, lam=1.0, generations=value)
    with pytest.raises(ArgumentNameError, match="generations must be a float"):
        estimators.groups.mean().at(u=1.0, lam=1.0, generations=None)
    with pytest.raises(ArgumentNameError, match="generations must be a float"):
        estimators.groups.mean().at(u=1.0, lam=1.0, generations="two")
    with pytest.raises(ArgumentError, match="pass one number"):
        estimators.groups.mean().at(u=1.0, lam=1.0, generations=[2, 3])
    with pytest.raises(ArgumentError, match="generations = 1 is not an integer >= 2"):
        estimators.groups.minimum_planar(1)
    with pytest.raises(ArgumentNameError, match="generations must be a float"):
        estimators.groups.minimum_planar("two")  # pyright: ignore[reportArgumentType]
    for n in (0, 0.5, 2.5, -1):
        with pytest.raises(ArgumentError, match=f"n = {n} is not an integer >= 1"):
            bounded.inner.critical_weight(None).at(omega=1.0, beta=1.0, n=n)
    with pytest.raises(ArgumentError, match=r"n has shape \(2,\); pass one number"):
        bounded.inner.critical_weight(None).at(omega=1.0, beta=1.0, n=[1, 2])
    assert bounded.inner.reachable_weight(None).at(n=2) == pytest.approx(1 / 8)
    with pytest.raises(ArgumentError, match=r"q = 1.0 must lie in"):
        bounded.inner.inner_variance().at(omega=1.0, beta=1.0, q=1.0)
