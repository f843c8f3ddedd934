"""Claims about categorical policies: their problems, searches, and what their witnesses refute."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import sympy as sp
import torch

from analysis import Key, categorical
from analysis.calculus.symbols import symbol
from paper_checks.claims.claim import Verdict
from paper_checks.claims.theory import categorical_numerics, proposition
from paper_checks.claims.theory.numerics import SearchError
from paper_checks.claims.theory.proposition import problems, verdict
from paper_checks.conformance.class_problems import KINDS, ClassProblem, probabilities
from tests.checks.test_claims import covered

PI, P, R, LAM = symbol("pi", 3), symbol("p", 3), symbol("r", 3), symbol("lam")


def test_the_size_of_a_categorical_entry_is_the_number_of_its_classes() -> None:
    found = problems(Key("categorical.diagonal", "reward", n=4), 0)
    found += problems(Key("categorical.diagonal", "reward_at_half"), 0)
    assert all(isinstance(problem, ClassProblem) for problem in found)
    assert [problem.C for problem in found] == [4, 3]


def near_relatives() -> dict[str, tuple]:
    """Formulas that resemble a result: of another policy, another estimator, a factor short."""
    c = categorical
    log_p = (symbol("U", 3) * PI * 2 / LAM).applyfunc(sp.exp)
    G, mean, k = c.outer.hypergradient(3).stated, P.dot(R), symbol("offset")
    entropy = -PI.dot(PI.applyfunc(sp.log))
    return {
        "no U_cc": (c.inner.solution(3), log_p / sum(log_p)),
        "no off-diagonal": (c.outer.hypergradient(3), sp.diag(*G.diagonal())),
        "off-diagonals twice": (c.outer.implicit_hypergradient(3), 2 * G - sp.diag(*G.diagonal())),
        "λ missing": (c.outer.concavity(3), LAM * c.outer.concavity(3).stated),
        "half the logit": (c.inner.argmax_preserved(3), c.inner.argmax_preserved(3).stated / 2),
        "β* for u*": (c.scalar.binary(), c.scalar.heuristic_scale(2).stated),
        "u* of two for β*": (c.scalar.heuristic_scale(2), c.scalar.binary().stated),
        "limit of two classes": (c.near_uniform.scale(3), LAM),
        "upside down": (c.near_uniform.ratio(3), sp.Rational(2, 3)),
        "gap of β* alone": (
            c.costs.heuristic_gap(),
            c.costs.heuristic_gap().stated.subs(symbol("k"), 1),
        ),
        "other offset": (
            c.diagonal.reward(3),
            c.diagonal.reward(3).stated.subs(k, k - 1),
        ),
        "-log 2": (c.diagonal.reward_at_half(), -sp.log(2)),
        "no baseline": (
            c.estimators.score_gradient(3),
            sp.ImmutableMatrix([P[j] * R[j] for j in range(3)]),
        ),
        "value baseline": (c.estimators.optimal_baseline(3), sp.ImmutableMatrix([mean] * 3)),
        "variance of all": (
            c.estimators.minimal_variance(3),
            sp.ImmutableMatrix(
                [P[j] ** 2 * sum(P[i] * (R[i] - mean) ** 2 for i in range(3)) for j in range(3)]
            ),
        ),
        "no entropy": (c.costs.scalar_gap(3), c.costs.scalar_gap(3).stated + entropy),
    }


@pytest.mark.parametrize("name", near_relatives())
def test_witnesses_refute_near_relatives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposition, "PROBLEMS", {})  # one problem each
    d, stated = near_relatives()[name]
    wrong = replace(d, stated=stated)
    vars(wrong)["failure"] = None
    found = verdict([covered(wrong)], 0)
    assert found.verdict is Verdict.failed
    assert "DISAGREE" in found.evidence


@pytest.mark.parametrize("kind", KINDS)
def test_witnesses_hold_where_formulas_change_form(kind: str) -> None:
    """Ties, a class at ½, a dominant one, nearly uniform classes."""
    c = categorical
    pi = probabilities(np.random.default_rng(3), 3, kind)
    for build in (
        c.inner.solution,
        c.outer.hypergradient,
        c.scalar.stationarity,
        c.diagonal.reward,
    ):
        d = build(3)
        check, _ = covered(d)
        for problem in problems(d.key, 1):
            assert check.witness(d, replace(problem, pi=pi)) <= check.tolerance, d.name


def test_a_policy_is_found_though_a_class_is_all_but_impossible() -> None:
    """At twice the published scale a probability may be 1e-17: its logarithm still counts."""
    pi, lam = np.array([0.95, 0.05]), 0.7
    p = categorical_numerics.policy(pi, categorical_numerics.scalar(14.7, 2), lam)
    assert float((p[0] / p[1]).log()) == pytest.approx(2 * 14.7 * 0.9 / lam, rel=1e-12)
    assert float(p.sum()) == 1.0


def test_a_policy_that_does_not_exist_is_not_reported() -> None:
    value = torch.tensor([0.0, -1e4], dtype=torch.float64)
    J = partial(lambda p, value: p @ value + torch.special.entr(p).sum(), value=value)
    with pytest.raises(SearchError, match="stopped at"):
        categorical_numerics.maximise(J, 2)  # its optimum, exp(-1e4), is below every float
