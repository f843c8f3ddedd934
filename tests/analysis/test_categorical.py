"""Categorical policies: proofs for any number of classes, that bite, and their domains."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import DerivationError, categorical, definitions
from analysis.calculus.symbols import symbol
from analysis.categorical import definitions as class_definitions
from analysis.errors import ArgumentError, ArgumentNameError, StructureError
from tests.planting import derived_anew

SIZED = (
    categorical.inner.solution,
    categorical.inner.gibbs_gap,
    categorical.outer.objective,
    categorical.outer.hypergradient,
    categorical.outer.implicit_hypergradient,
    categorical.outer.concavity,
    categorical.inner.scalar_solution,
    categorical.inner.argmax_preserved,
    categorical.scalar.stationarity,
    categorical.scalar.heuristic_scale,
    categorical.near_uniform.scale,
    categorical.near_uniform.ratio,
    categorical.costs.scalar_gap,
    categorical.diagonal.reward,
    categorical.estimators.score_gradient,
    categorical.estimators.optimal_baseline,
    categorical.estimators.minimal_variance,
)
BINARY = (
    categorical.inner.binary_logit,
    categorical.scalar.binary,
    categorical.scalar.binary_limit,
    categorical.scalar.heuristic_ratio,
    categorical.costs.binary_gap,
    categorical.costs.heuristic_gap,
    categorical.diagonal.reward_at_half,
)


# --- from scratch: nothing below knows a result ---


@pytest.mark.filterwarnings("ignore::analysis.errors.SlowDerivationWarning")
@pytest.mark.parametrize("n", [2, 3, 4, 5, 10])
@pytest.mark.parametrize("function", SIZED, ids=lambda f: f.name)
def test_verified_for_every_number_of_classes(function, n):
    derivation = function(n)
    assert derivation.verify() is derivation
    assert derivation.name == f"{function.family}.{function.name}[n={n}]"


@pytest.mark.parametrize("function", BINARY, ids=lambda f: f.name)
def test_verified_for_two_classes(function):
    assert function().verify().residual() == 0


def test_every_result_is_tested_here():
    assert set(categorical.DERIVATIONS) == {*SIZED, *BINARY}


# Results that hold whatever the reward, whose scale cancels, or that know no reward of classes.
FREE = (
    categorical.diagonal.reward_at_half,
    categorical.scalar.heuristic_scale,
    categorical.estimators.score_gradient,
    categorical.estimators.optimal_baseline,
    categorical.estimators.minimal_variance,
)


def test_a_wrong_reward_fails(monkeypatch):
    """The reward comes from the definition: twice it, and every result that uses it fails."""
    original = class_definitions.class_rewards
    with derived_anew():
        monkeypatch.setattr(class_definitions, "class_rewards", lambda *of: 2 * original(*of))
        for function in SIZED:
            if function not in FREE:
                with pytest.raises(DerivationError):
                    function(3).verify()
        for function in BINARY:
            if function not in FREE:
                with pytest.raises(DerivationError):
                    function().verify()
        monkeypatch.undo()


def test_the_published_scale_is_derived_from_the_gaussian_one(monkeypatch):
    """It is no formula written down: twice the reward, and it fails."""
    original = definitions.reward
    with derived_anew():
        monkeypatch.setattr(definitions, "reward", lambda *args: 2 * original(*args))
        for n in (2, 3, 5):
            with pytest.raises(DerivationError):
                categorical.scalar.heuristic_scale(n).verify()
        monkeypatch.undo()


@pytest.mark.parametrize(
    "build",
    [*(lambda f=f: f(3) for f in SIZED), *BINARY],
    ids=[f.name for f in (*SIZED, *BINARY)],
)
def test_conditions_bite(build):
    """Every sign turned round, and every zero moved, is noticed."""
    for condition in build().conditions:
        assert condition.holds()
        right = condition.expression
        one = sp.ones(*right.shape) if isinstance(right, sp.MatrixBase) else 1
        wrong = -right if condition.kind == "positive" else right + one
        assert not dataclasses.replace(condition, expression=wrong).holds()


GOOD: dict[str, Any] = {"pi": [0.2, 0.3, 0.5], "U": np.eye(3), "lam": 1.0}


@pytest.mark.parametrize(
    ("pi", "error", "words"),
    [
        ([0.5, 0.5, 0.0], ArgumentError, "pi has the entry 0, which is not positive; leave out"),
        ([0.7, 0.5, -0.2], ArgumentError, r"pi has the entry -0.2, which is not positive"),
        ([0.2, 0.3, 0.4], ArgumentError, r"pi sums to 0.9, not 1; pass pi / pi.sum\(\)"),
        ([2.0, 3.0, 5.0], ArgumentError, r"pi sums to 10, not 1"),
        ([0.5, 0.5], ArgumentError, r"pi has shape \(2,\); pass an array of shape \(3,\)"),
        (0.5, ArgumentError, r"pi has shape \(\)"),
        ([0.2, 0.3, np.nan], ArgumentError, "pi has an entry that is not finite"),
        (None, ArgumentNameError, "pi must be a float or an array"),
        ("uniform", ArgumentNameError, "pi must be a float or an array"),
    ],
)
def test_bad_probabilities_are_named(pi, error, words):
    with pytest.raises(error, match=words):
        categorical.inner.solution(3).at(**{**GOOD, "pi": pi})


def test_bad_policy_probabilities_are_named():
    with pytest.raises(ArgumentError, match=r"p sums to 1.2, not 1; pass p / p.sum\(\)"):
        categorical.inner.gibbs_gap(3).at(**GOOD, p=[0.4, 0.4, 0.4])
    with pytest.raises(ArgumentError, match="p has the entry 0"):
        categorical.estimators.optimal_baseline(2).at(p=[1.0, 0.0], r=[0.0, 1.0])


def test_probabilities_may_be_a_column_and_miss_1_by_rounding():
    column = np.array(GOOD["pi"])[:, None]
    expected = categorical.inner.solution(3).at(**GOOD)
    for pi in (column, np.array(GOOD["pi"]) * (1 + 1e-12)):
        values: dict[str, Any] = {**GOOD, "pi": pi}
        found = categorical.inner.solution(3).at(**values)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("function", SIZED, ids=lambda f: f.name)
@pytest.mark.parametrize("n", [1, 0, -2, 2.5, True])
def test_bad_numbers_of_classes_are_named(function, n):
    with pytest.raises(StructureError, match=f"n = {n} is no number of classes; pass an integer"):
        function(n)


def test_probabilities_have_no_general_size():
    with pytest.raises(StructureError, match="general n has no vector of probabilities pi"):
        symbol("pi", None)
