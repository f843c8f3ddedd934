"""Names of parameters: none changes a number, what is taken is refused, every symbol has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import (
    KL,
    Bits,
    Classes,
    Derived,
    Entropy,
    Gaussian,
    Moments,
    Normal,
    RewardError,
    derive,
    outcome,
)
from analysis.calculus.symbols import symbol
from analysis.derive.derived import EXPRESSIONS

y_hat, y = outcome(1)
Y_hat, Y = outcome(2)
B_hat, B = outcome(3)
z, Z = y_hat - y, Y_hat - Y
SCALAR = {"mu": 0.3, "Sigma": 0.7, "lam": 0.5}
HIGHER = {"mu_3": 0.2, "mu_4": 2.0}


@dataclass(frozen=True)
class Problem:
    """A reward of a positive and of a real parameter, and numbers for the rest."""

    reward: Callable[[Any, Any], Any]
    family: Any
    values: dict[str, Any]
    regulariser: Any = None
    data: Any = None
    quantities: tuple[str, ...] = ()

    def derive(self, first: str, second: str) -> Derived:
        a, k = sp.Symbol(first, positive=True), sp.Symbol(second, real=True)
        return derive(self.reward(a, k), self.family, self.regulariser, self.data)

    def numbers(self, first: str, second: str) -> list[float]:
        """All numbers, in an order that names do not change."""
        found = self.derive(first, second)
        values = {**self.values, first: 0.8, second: 0.6}
        solved, slopes = found.solve(**values), found.slopes(**values)
        parts = [*solved.policy.values(), solved.objective, slopes[first], slopes[second]]
        for quantity in self.quantities:
            at = found.at(quantity, **{**values, **solved.policy})
            at = {"": at} if not isinstance(at, dict) else at
            parts += [at[name] for name in {first: 0, second: 0, **at} if name in at]
        return np.concatenate([np.ravel(part) for part in parts]).tolist()


PROBLEMS = {
    "quartic": Problem(lambda a, k: -a * z**4 + k * y_hat, Gaussian(1), {**SCALAR, **HIGHER}),
    "square": Problem(
        lambda a, k: -a * (z - sp.tanh(k)) ** 2 * sp.log(2 + a) - sp.sqrt(a) * z**2,
        Gaussian(1),
        SCALAR,
        quantities=("hypergradient",),
    ),
    "bump": Problem(
        lambda a, k: sp.exp(-(z**2) / a) + k * y_hat - z**2,
        Gaussian(1),
        {**SCALAR, "m0": 0.2, "P0": 1.5},
        KL(),
        Normal(),
    ),
    "coupled": Problem(
        lambda a, k: -a * (Z.T * Z)[0] ** 2 + k * Y_hat[0] * Y_hat[1] * Y[0],
        Gaussian(2),
        {"mu": [0.1, 0.2], "Sigma": [[0.7, 0.1], [0.1, 0.5]], "lam": 0.5},
        data=Normal(),
    ),
    "classes": Problem(
        lambda a, k: [[0, k], [a, 0]],
        Classes(2),
        {"pi": [0.4, 0.6], "lam": 1.0},
        quantities=("stationarity", "hypergradient"),
    ),
    "bits": Problem(
        lambda a, k: a * B_hat[0] * B[0] * B[1] * B[2] + k * B_hat[1] * B[0],
        Bits(3),
        {"rho": [0.3, 0.4, 0.5], "Sigma": np.diag([0.21, 0.24, 0.25]), "mu_123": 0.01, "lam": 1.0},
        quantities=("stationarity", "expected_reward"),
    ),
}  # fmt: skip
CLASH = [
    *(f"{letter}{i}" for letter in ("x", "t", "l", "value_", "C", "m") for i in (0, 1, 2, 21)),
    *("exp", "log", "sqrt", "tanh", "numpy", "array", "mpmath", "math", "pi", "E", "I", "S", "N"),
    *("nu", "K", "adjoint of m", "self", "quantity", "derived", "values", "data", "lambda_", "def"),
    *("L", "W", "c", "phi", "a b", "α", r"\alpha", "x'", "1", "", "None", "Symbol", "f", "_"),
]  # fmt: skip
NAMES = st.sampled_from(CLASH) | st.from_regex("[A-Za-z_][A-Za-z_0-9]{0,5}", fullmatch=True)


@cache
def plain(name: str) -> list[float]:
    return PROBLEMS[name].numbers("first", "second")


@pytest.mark.parametrize("name", PROBLEMS)
@settings(max_examples=8)
@given(first=NAMES, second=NAMES)
def test_no_name_changes_a_number(name: str, first: str, second: str) -> None:
    says = refusal(name, first, second)
    if says:
        assert "rename" in says or "outcome" in says or first == second
        assert first == second or any(map(reserved, (first, second)))
        return
    found = PROBLEMS[name].numbers(first, second)
    np.testing.assert_allclose(found, plain(name), rtol=1e-9, atol=1e-12)


def refusal(name: str, first: str, second: str) -> str:
    """Why a reward with these names is refused, or nothing."""
    try:
        PROBLEMS[name].derive(first, second)
    except RewardError as error:
        return str(error)
    return ""


def reserved(name: str) -> bool:
    """Whether a name may stand for something of the theory: an outcome, a moment, an entry."""
    of_policy_and_data = ("m", "P", "s", "p", "psi", "mu", "Sigma", "pi", "rho", "lam", "lambda")
    return name.startswith(("y", "mu_")) or name in of_policy_and_data or name[-1:].isdigit()


@pytest.mark.parametrize("name", ["x1", "t1", "l21", "exp", "self"])
@pytest.mark.parametrize("problem", ["quartic", "coupled"])
def test_names_of_the_solvers_own(name: str, problem: str) -> None:
    found = PROBLEMS[problem].numbers("first", name)
    np.testing.assert_allclose(found, plain(problem), rtol=1e-9, atol=1e-12)


def named(name: str, **assumptions: bool) -> Any:
    return sp.Symbol(name, **(assumptions or {"positive": True}))


TAKEN: dict[str, tuple[Any, Any, Any, Any]] = {
    "lam": (-named("lam") * z**2, Gaussian(1), None, None),
    "lam of a table": ([0, named("lam")], Classes(2), None, None),
    "lam of bits": (named("lam") * y_hat, Bits(1), None, None),
    "the reference's": (-named("m0", real=True) * z - z**2, Gaussian(1), KL(), None),
    "λ as the data's": (-(z**2), Gaussian(1), None, Moments(covariance=named("lam"))),
    "the policy's as the data's": (-(z**2), Gaussian(1), None, Moments(covariance=named("P"))),
    "the policy's as λ": (-(z**2), Gaussian(1), Entropy(named("P")), None),
    "two of one name": (
        -named("k") * z**2 + named("k", real=True) * y_hat, Gaussian(1), None, None
    ),
    "two of one name, given": (
        -(z**2), Gaussian(1), Entropy(named("k")), Moments(mean=named("k", real=True))
    ),
    "of the reward and the data": (-named("k") * z**2, Gaussian(1), None, Moments(mean=named("k"))),
    "a higher moment": (-(z**4), Gaussian(1), None, Moments(mean=named("mu_4"))),
    "a matrix and a scalar": (
        -(Z.T * symbol("U", 2) * Z)[0] - named("U") * Y_hat[0] ** 2, Gaussian(2), None, None
    ),
    "an entry that may be negative": (
        -named("U_11", real=True) * z**2, Gaussian(1), None, None
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_names_that_are_taken(name: str) -> None:
    reward, family, regulariser, data = TAKEN[name]
    with pytest.raises(RewardError, match="rename"):
        derive(reward, family, regulariser, data)


GIVEN: dict[str, tuple[Any, ...]] = {
    "plain": (-named("u") * z**2, Gaussian(1)),
    "lam by name": (-named("u") * z**2, Gaussian(1), Entropy(named("lam"))),
    "λ a number": (-symbol("lam") * z**2, Gaussian(1), Entropy(2)),
    "at the data's mean": (
        -named("u") * (Z.T * Z)[0], Gaussian(2, "isotropic"), KL(mean=symbol("mu", 2))
    ),
    "a multiple": (
        -named("u") * (Z.T * Z)[0], Gaussian(2), None, Moments(covariance=2 * symbol("Sigma", 2))
    ),
    "quartic": (-named("u") * z**4, Gaussian(1)),
    "bits": (named("u") * B_hat[0] * B[0] * B[1] * B[2], Bits(3), KL()),
    "bits, given": (named("u") * y_hat * y, Bits(1), None, Moments(mean=named("q"))),
    "classes": ([[0, named("nu")], [1, 0]], Classes(2), KL()),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_every_symbol_is_an_argument_and_only_one(name: str) -> None:
    found = derive(*GIVEN[name])
    of: dict[Any, str] = {}
    for argument, X in found.arguments.items():
        for x in X.free_symbols:
            assert of.setdefault(x, argument) == argument
    for quantity in EXPRESSIONS:
        value = getattr(found, quantity)
        parts = value.values() if isinstance(value, dict) else [value]
        for part in parts:
            assert part is None or part.free_symbols <= of.keys(), quantity


def test_the_slopes_of_classes_need_no_multiplier() -> None:
    """∂J/∂p_c less their mean: 0 at p*, and a slope along the simplex elsewhere."""
    found = derive([[0, named("u")], [1, 0]], Classes(2))
    values = {"u": 1.0, "pi": [0.4, 0.6], "lam": 1.0}
    np.testing.assert_allclose(found.at("stationarity", p=[0.5, 0.5], **values)["p"], [0.1, -0.1])
    p = found.solve(**values).policy["p"]
    np.testing.assert_allclose(found.at("stationarity", p=p, **values)["p"], 0, atol=1e-14)


def test_a_moment_of_three_bits() -> None:
    """logit ψ₁ = logit ρ₁-free + E y₁y₂y₃ u/λ, E y₁y₂y₃ from means, covariances and mu_123."""
    found = derive(named("u") * B_hat[0] * B[0] * B[1] * B[2], Bits(3))
    rho, S = np.array([0.3, 0.4, 0.5]), np.full((3, 3), 0.02)
    np.fill_diagonal(S, rho * (1 - rho))
    values = {"u": 1.5, "rho": rho, "Sigma": S, "mu_123": 0.01, "lam": 0.7}
    together = rho.prod() + 0.02 * rho.sum() + 0.01
    psi = np.ravel(found.solve(**values).policy["psi"])
    logit = 1.5 * together / 0.7
    np.testing.assert_allclose(psi[0], 1 / (1 + np.exp(-logit)), rtol=1e-12)


@pytest.mark.parametrize("name", ["c", "w"])
def test_no_symbol_of_the_data_meets_one_of_a_search(name: str) -> None:
    """The best multiple of I for an isotropic policy, by whatever name the variance goes."""
    variance, U = sp.Symbol(name, positive=True), symbol("U", 2)
    found = derive(
        -(Z.T * U * Z)[0],
        Gaussian(2, "isotropic"),
        data=Moments(covariance=sp.diag(variance, 2 * variance)),
    )
    lam = found.regulariser.lam
    assert found.optimum is not None
    assert found.optimum["U"] == lam / (3 * variance) * sp.eye(2)
