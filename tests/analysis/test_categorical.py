"""Categorical policies: proofs for any number of classes, that bite, and their domains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import DerivationError, categorical, definitions
from analysis.calculus.symbols import symbol
from analysis.categorical import costs, inner, outer, scalar
from analysis.categorical import definitions as class_definitions
from analysis.errors import ArgumentError, ArgumentNameError, StructureError
from tests.planting import derived_anew, unproved

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


def built(function: Any) -> Any:
    return function(3) if function in SIZED else function()


def with_first(f: Any, more: Any) -> Any:
    """f with more in its first entry."""
    return f + sp.ImmutableMatrix([more, *[0] * (f.rows - 1)])


# A fault in what the derivations start from or go through, and the conditions that must notice it.
FAULTS: dict[str, tuple[Any, str, Any, dict[Any, tuple[str, ...]]]] = {
    "rewards doubled": (
        class_definitions,
        "class_rewards",
        lambda f: lambda pi, U: 2 * f(pi, U),
        {
            scalar.stationarity: ("d²F/du² = -(4/λ²) Σ_{c<k} p_c p_k (π_c - π_k)²",),
            scalar.heuristic_ratio: ("β* - 2u* = λ e(r) (r+1)/(r-1)",),
            categorical.near_uniform.scale: ("Σd² times",),
            categorical.diagonal.reward: (
                "u_c > 0 where π_c > ½, k₀ > -log π_c",
                "u_c > 0 where π_c < ½, k₀ < -log π_c",
            ),
            categorical.diagonal.reward_at_half: ("u_c drops out", "the other u are positive"),
        },
    ),
    "rewards negated": (
        class_definitions,
        "class_rewards",
        lambda f: lambda pi, U: -f(pi, U),
        {
            inner.argmax_preserved: ("π_b = π_a + x is more probable",),
            scalar.binary: ("u* > 0 (π = (1+x)/(2+x))",),
        },
    ),
    "rewards squared": (
        class_definitions,
        "class_rewards",
        lambda f: lambda pi, U: f(pi, U).applyfunc(lambda x: sp.expand(x**2)),
        {
            outer.concavity: ("φ_c - φ_C is linear in H", "with coefficients free of H"),
            scalar.binary: ("logit p* is linear in u",),
            costs.binary_gap: ("F(u*) is the best of all policies",),
        },
    ),
    "a class rewarded": (
        class_definitions,
        "class_rewards",
        lambda f: lambda pi, U: with_first(f(pi, U), U[0, 0]),
        {
            outer.concavity: ("H = a1ᵀ + 1aᵀ changes nothing",),
            scalar.binary: (
                "u* is the same with the classes exchanged",
                "F = -log 2 for every u at π = ½",
            ),
        },
    ),
    "half the entropy": (
        class_definitions,
        "objective",
        lambda f: lambda p, g, lam: f(p, g, lam / 2),
        {
            inner.solution: ("p*(c) = w_c/Σw > 0", "∂²J/∂p² = -λ diag(1/p)"),
            inner.scalar_solution: ("p*(c) = w_c/Σw > 0", "∂²J/∂p² = -λ diag(1/p)"),
            inner.gibbs_gap: ("J(p*) = g_C - λ log p*(C)",),
            categorical.diagonal.reward: ("p* = π",),
        },
    ),
    "entropy negated": (
        class_definitions,
        "objective",
        lambda f: lambda p, g, lam: f(p, g, -lam),
        {
            inner.solution: ("λ/p > 0: J is strictly concave",),
            inner.scalar_solution: ("λ/p > 0: J is strictly concave",),
        },
    ),
    "likelihood doubled": (
        class_definitions,
        "log_likelihood",
        lambda f: lambda log_p, pi: 2 * f(log_p, pi),
        {
            outer.hypergradient: ("∂F/∂g = (π - p*)/λ",),
            outer.concavity: ("-λ² d²F = Σ_{c<k} p_c p_k (φ_c - φ_k)²",),
        },
    ),
    "likelihood negated": (
        class_definitions,
        "log_likelihood",
        lambda f: lambda log_p, pi: -f(log_p, pi),
        {
            costs.scalar_gap: ("Σπ log p is strictly concave",),
            scalar.binary: ("-d²F/du² > 0 (π = (1+x)/(2+x))",),
        },
    ),
    "a class twice as likely": (
        class_definitions,
        "log_likelihood",
        lambda f: lambda log_p, pi: f(log_p, with_first(pi, pi[0])),
        {
            costs.scalar_gap: ("p = π is best",),
            categorical.near_uniform.scale: ("no terms of order 1 and ε",),
        },
    ),
    "covariance doubled": (
        class_definitions,
        "one_hot_covariance",
        lambda f: lambda pi: 2 * f(pi),
        {scalar.heuristic_scale: ("Tr Σ = 2 Σ_{c<k} π_c π_k",)},
    ),
    "a law of sum 2": (
        inner,
        "law",
        lambda f: lambda g: 2 * f(g),
        {inner.solution: ("Σ p* = 1",), inner.scalar_solution: ("Σ p* = 1",)},
    ),
    "logarithms doubled": (
        inner,
        "log_law",
        lambda f: lambda g: 2 * f(g),
        {
            inner.solution: ("all slopes of J are equal at p*", "log p*"),
            inner.scalar_solution: ("all slopes of J are equal at p*", "log p*"),
        },
    ),
    "an inverse doubled": (
        outer,
        "_inverse_of_rank_one_update",
        lambda f: lambda A, e, p: 2 * f(A, e, p),
        {outer.implicit_hypergradient: ("∂²_{pp}J times its inverse",)},
    ),
    "a cubic curvature": (
        outer,
        "likelihood_curvature",
        lambda f: lambda n: (f(n)[0] + f(n)[1][0] ** 3, f(n)[1]),
        {
            outer.concavity: (
                "d²F is a form in n - 1 numbers",
                "whose coefficients are free of them",
            )
        },
    ),
    "scores doubled": (
        categorical.estimators,
        "_scores",
        lambda f: lambda n: 2 * f(n),
        dict.fromkeys(
            (
                categorical.estimators.score_gradient,
                categorical.estimators.optimal_baseline,
                categorical.estimators.minimal_variance,
            ),
            ("∂log p_c/∂z_j = 1[c=j] - p_j",),
        ),
    ),
    "means of scores that do not vanish": (
        categorical.estimators,
        "_mean",
        lambda f: lambda of: f(of) + of(0, 1),
        {categorical.estimators.score_gradient: ("b drops out", "it is ∂E r/∂z_j")},
    ),
    "means doubled": (
        categorical.estimators,
        "_mean",
        lambda f: lambda of: 2 * f(of),
        {categorical.estimators.optimal_baseline: ("½ ∂²Var/∂b² = p_j (1 - p_j)",)},
    ),
}
# What is true of numbers alone: no definition enters.
LEMMAS = {
    (outer.concavity, "p_c p_k > 0"),
    (scalar.stationarity, "p_c p_k > 0"),
    (scalar.heuristic_scale, "Tr Σ > 0"),
    (scalar.binary, "π = (1+x)/(2+x) is every π > ½"),
    (scalar.heuristic_ratio, "e(1) = 0"),
    (scalar.heuristic_ratio, "e'(1 + x) > 0"),
    (categorical.diagonal.reward, "-log π_a < -log π_b for π_a > ½ > π_b"),
    (categorical.estimators.optimal_baseline, "1 - p_j is the sum of the others"),
    (inner.binary_logit, "the number is a sum of weighted squares"),
    (inner.binary_logit, "whose weights are positive for U SPD"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed_by_a_condition(monkeypatch: pytest.MonkeyPatch, fault: str):
    owner, name, plant, noticed = FAULTS[fault]
    for function in noticed:
        assert unproved(built(function)) == set()
    with derived_anew(), monkeypatch.context() as patch:
        patch.setattr(owner, name, plant(getattr(owner, name)))
        for function, texts in noticed.items():
            assert set(texts) <= unproved(built(function)), function.name


def test_every_condition_notices_a_fault():
    noticed = {
        (function, text)
        for *_, found in FAULTS.values()
        for function, texts in found.items()
        for text in texts
    }
    stated = {(f, condition.text) for f in (*SIZED, *BINARY) for condition in built(f).conditions}
    assert noticed | LEMMAS == stated


@pytest.mark.parametrize(
    ("owner", "name", "functions"),
    [
        (outer, "_from_excess", (outer.hypergradient, outer.implicit_hypergradient)),
        (outer, "at_solution", (outer.concavity,)),
        (scalar, "at_solution", (scalar.stationarity,)),
        (
            categorical.estimators,
            "_entries",
            (
                categorical.estimators.score_gradient,
                categorical.estimators.optimal_baseline,
                categorical.estimators.minimal_variance,
            ),
        ),
        (costs, "_exp", (costs.heuristic_gap,)),
    ],
)
def test_a_helper_of_the_derived_side_is_none_of_the_stated(monkeypatch, owner, name, functions):
    """With its sign turned round what is derived is wrong, and what is stated is not."""
    with derived_anew(), monkeypatch.context() as patch:
        right = getattr(owner, name)
        patch.setattr(owner, name, lambda *args: -right(*args))
        for function in functions:
            with pytest.raises(DerivationError, match="derived - stated"):
                built(function).verify()


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
