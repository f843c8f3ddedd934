"""Claims: verdicts follow from numbers, and every result of the catalogue is in exactly one."""

import importlib
import io
import json
import math
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analysis import Derivation, Key, catalogue, gaussian, hypergradients
from analysis.calculus.symbols import symbol
from analysis.catalogue import Entry
from paper_checks.claims import table as verdicts
from paper_checks.claims.catalogue import UnknownClaim, all_claims, select
from paper_checks.claims.claim import Claim, Judgement, Result, Verdict, counts, judge, seeds
from paper_checks.claims.pictures import figure_1, figure_1_published
from paper_checks.claims.theory import PROPOSITIONS, proposition
from paper_checks.claims.theory.proposition import Check, problems, verdict
from paper_checks.experiments.arms import PG_OPTIMAL_ANALYTIC, labels
from paper_checks.statistics import Interval

CHECKS = [
    (check, entry) for item in PROPOSITIONS for check in item.checks for entry in check.entries()
]
# The smallest size of each result.
SMALLEST = {
    f"{entry.key.address}/{entry.key.variant}": (check, entry)
    for check, entry in reversed(CHECKS)
    if entry.key.n != "any"
}


def covered(derivation: Derivation) -> tuple[Check, Entry]:
    """The check of a derivation, with this derivation in place of the right one."""
    check = next(check for check, entry in CHECKS if entry.key == derivation.key)
    return check, Entry(derivation.key, lambda: derivation)


def a_claim(name: str = "fake.one", expected: Verdict = Verdict.proved, judge=None) -> Claim:
    return Claim(name, "a statement", "new", expected, judge or (lambda seed: a_judgement()))


def a_judgement(verdict: Verdict = Verdict.proved) -> Judgement:
    return Judgement(verdict, "evidence", 0.5, Interval(0.0, float("inf"), 0.95), 0.7)


def test_every_entry_of_the_catalogue_belongs_to_exactly_one_claim() -> None:
    """A new one needs a check in a module of `paper_checks.claims.theory`."""
    names = [entry.name for _, entry in CHECKS]
    assert sorted(names) == sorted(entry.name for entry in catalogue())


def test_a_solver_that_is_named_exists() -> None:
    for item in PROPOSITIONS:
        if item.solver:
            module, _, name = item.solver.partition(":")
            assert hasattr(importlib.import_module(module), name), item.name


def test_claims_have_distinct_names_and_none_selects_another() -> None:
    names = [claim.name for claim in all_claims()]
    assert len(set(names)) == len(names)
    assert all(claim.statement and claim.source for claim in all_claims())


def test_problems_have_the_size_of_the_result() -> None:
    assert [len(p.mu) for p in problems(Key("a", "b", "full", "any"), 0)] == [4]
    assert [len(p.mu) for p in problems(Key("a", "b", n=2), 0)] == [2, 2]
    assert [p.C for p in problems(Key("categorical.a", "b"), 0)] == [3]
    assert [p.C for p in problems(Key("sequences.a", "b", n=3), 0)] == [8]


@pytest.mark.parametrize("name", SMALLEST)
def test_a_witness_agrees_and_bites(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the result doubled and its proof switched off, the numbers alone must object."""
    check, entry = SMALLEST[name]
    derivation = entry.build()
    monkeypatch.setattr(proposition, "PROBLEMS", {})  # one problem each
    assert verdict([(check, entry)], 0).verdict is Verdict.proved
    wrong = replace(derivation, stated=2 * derivation.stated)
    vars(wrong)["failure"] = None
    judgement = verdict([covered(wrong)], 0)
    assert judgement.verdict is Verdict.failed
    assert "DISAGREE" in judgement.evidence
    assert judgement.ours is not None
    assert judgement.ours > check.tolerance


def test_witnesses_tell_hypergradients_from_near_relatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut or not, converged or not, at or off the inner solution, in one structure or another."""
    monkeypatch.setattr(proposition, "PROBLEMS", {})
    K, j, k = (symbol(name) for name in ("steps", "earlier", "last"))
    converged = (
        hypergradients.unrolled.hypergradient().stated - hypergradients.unrolled.bias().stated
    )
    unbiased = hypergradients.penalty.hypergradient().stated - hypergradients.penalty.bias().stated
    uncut = hypergradients.unrolled.hypergradient().stated.subs(K, j + k)
    off, at = (
        hypergradients.functional.hypergradient("full", 2),
        hypergradients.functional.at_solution("full", 2),
    )
    slower = hypergradients.unrolled_gaussian.hypergradient("diagonal", 2).stated.subs(K, K - 1)
    for wrong in (
        replace(hypergradients.unrolled.truncated(), stated=uncut),
        replace(hypergradients.unrolled.hypergradient(), stated=converged),
        replace(hypergradients.penalty.hypergradient(), stated=unbiased),
        replace(hypergradients.unrolled_gaussian.hypergradient("diagonal", 2), stated=slower),
        replace(off, stated=at.stated),
        replace(at, stated=hypergradients.functional.at_solution("diagonal", 2).stated),
    ):
        vars(wrong)["failure"] = None
        found = verdict([covered(wrong)], 0)
        assert found.verdict is Verdict.failed, wrong.name
        assert "DISAGREE" in found.evidence


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_witness_that_is_no_number_disagrees(place: int) -> None:
    """Wherever it is among those that agree: the largest of numbers and NaN may be a number."""
    entry = next(iter(gaussian.outer.hypergradient.entries()))
    checks = [
        Check(gaussian.outer.hypergradient, lambda d, p, e=e: e, 1e-9)
        for e in (math.nan if k == place else 1e-12 for k in range(3))
    ]
    judgement = verdict([(check, entry) for check in checks], 0)
    assert judgement.verdict is Verdict.failed
    assert "DISAGREE" in judgement.evidence


def test_a_proof_that_fails_fails_the_claim() -> None:
    derivation = gaussian.outer.bilevel_solution(1)
    wrong = replace(derivation, stated=2 * derivation.stated)
    judgement = verdict([covered(wrong)], 0)
    assert judgement.verdict is Verdict.failed
    assert judgement.evidence == wrong.failure


def test_seeds_belong_to_a_purpose() -> None:
    assert seeds(0, "a", 3)[:2] == seeds(0, "a", 2)
    assert len({*seeds(0, "a", 3), *seeds(0, "b", 3), *seeds(1, "a", 3)}) == 9


def test_a_breakdown_is_a_failed_check_and_a_bug_is_not() -> None:
    def singular(seed: int) -> Judgement:
        raise np.linalg.LinAlgError("Singular matrix")

    def bug(seed: int) -> Judgement:
        raise KeyError("oops")

    judgement = judge(a_claim(judge=singular), 0)
    assert judgement.verdict is Verdict.failed
    assert judgement.evidence == "LinAlgError: Singular matrix"
    with pytest.raises(KeyError):
        judge(a_claim(judge=bug), 0)


def test_selection_is_by_prefix_and_names_the_known() -> None:
    claims = [a_claim("a.one"), a_claim("a.two"), a_claim("b")]
    assert [c.name for c in select(claims, ["b", "a.t"])] == ["a.two", "b"]
    assert len(select(claims, [])) == 3
    with pytest.raises(UnknownClaim, match=r"'c'; known claims: a\.one, a\.two, b"):
        select(claims, ["a", "c"])


def test_json_holds_everything_and_no_infinity() -> None:
    results = [Result(a_claim(), a_judgement(), 0.1)]
    results.append(Result(a_claim("fake.two"), a_judgement(Verdict.failed), 0.1))
    content = json.loads(verdicts.to_json(results, 3, {"commit": "abc"}))
    assert (content["seed"], content["as_expected"]) == (3, False)
    assert content["counts"] == {"proved": 1, "failed": 1}
    first, second = content["claims"]
    assert first["interval"] == {"low": 0.0, "high": None, "level": 0.95}
    assert (first["ours"], first["published"], first["as_expected"]) == (0.5, 0.7, True)
    assert (second["verdict"], second["expected"]) == ("failed", "proved")
    assert "NOT as expected: fake.two" in verdicts.summary(results)
    assert counts(results) == {Verdict.proved: 1, Verdict.failed: 1}


def test_the_overview_fits_a_screen_and_names_what_does_not_hold() -> None:
    results = [Result(claim, a_judgement(claim.expected), 0.1) for claim in all_claims()]
    results.append(Result(a_claim("fake.two"), a_judgement(Verdict.failed), 0.1))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(verdicts.overview(results))
    text = console.export_text()
    assert len(text.splitlines()) <= 40
    listed = "".join(text.split())
    assert "two(expected:proved)" in listed
    for result in results[:-1]:
        name = result.claim.name.partition(".")[2]
        holds = result.judgement.verdict in (Verdict.proved, Verdict.reproduced)
        assert holds or name in listed


# --- figure 1 ---


def test_a_published_median_is_reproduced_inside_the_prediction_and_not_outside() -> None:
    ours = np.exp(np.random.default_rng(0).normal(0.0, 0.3, 12))
    near = figure_1_published.compare(ours, 1.1, 0.005, 0.999, 10)
    far = figure_1_published.compare(ours, 3.0, 0.005, 0.999, 10)
    assert (near.inside, far.inside) == (True, False)
    assert near.distance < 1 < far.distance
    assert near.interval.low < near.ours < near.interval.high
    assert near.interval.high / near.ours == pytest.approx(near.ours / near.interval.low)
    # rounding counts in its favour
    edge = near.interval.high * 1.01
    assert not figure_1_published.compare(ours, edge, 0.0, 0.999, 10).inside
    assert figure_1_published.compare(ours, edge, 0.1 * edge, 0.999, 10).inside


def test_medians_that_are_not_positive_are_compared_without_logarithms() -> None:
    ours = np.array([-0.01, 0.02, 0.03, 0.01, 0.0])
    found = figure_1_published.compare(ours, 0.02, 0.005, 0.95, 100)
    assert found.inside
    assert found.interval.low < 0


def fake_runs(monkeypatch: pytest.MonkeyPatch, factor: float, failing: float = 0.0) -> None:
    """Runs whose medians are `factor` times the published ones, with scatter."""
    rng = np.random.default_rng(0)
    rows = figure_1_published.published_medians()

    @cache
    def medians(seed: int, metric: str) -> pd.DataFrame:
        chosen = rows[rows.metric == metric]
        return pd.DataFrame(
            {
                (row.arm, row.epoch): row.median * factor * np.exp(rng.normal(0, 0.1, 12))
                for row in chosen.itertuples()
            }
        )

    table = pd.DataFrame(
        {
            "arm": np.repeat(["NLL", "PG(U*)"], 100),
            "epoch": 100,
            "excess_nll": np.tile(np.where(np.arange(100) < 100 * failing, 2.0, 0.1), 2),
        }
    )
    for module in (figure_1, figure_1_published):
        monkeypatch.setattr(module, "medians", medians)
    monkeypatch.setattr(figure_1_published, "published_runs", lambda seed: (table,) * 12)


@pytest.mark.parametrize(("factor", "expected"), [(1, "reproduced"), (2, "not reproduced")])
def test_published_medians_decide(monkeypatch, factor, expected) -> None:
    fake_runs(monkeypatch, factor)
    found = figure_1_published.reproduces_medians("mean_error", "NLL", 0)
    assert found.verdict == expected
    assert found.published is not None


@pytest.mark.parametrize(("failing", "expected"), [(0.1, "reproduced"), (0.6, "not reproduced")])
def test_published_failures_decide(monkeypatch, failing, expected) -> None:
    fake_runs(monkeypatch, 1, failing)
    found = figure_1_published.reproduces_failures("PG(U*)", 0)
    assert (found.verdict, found.published) == (expected, 0.11)
    assert found.ours == pytest.approx(failing)


def test_directions_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runs(monkeypatch, 1)
    for claim in figure_1.DIRECTIONS:
        assert figure_1.has_direction(claim, 0).verdict is Verdict.reproduced
        turned = replace(claim, smaller=claim.larger, larger=claim.smaller)
        assert figure_1.has_direction(turned, 0).verdict is Verdict.not_reproduced


@pytest.mark.parametrize(
    ("published", "corrected", "expected"),
    [
        ((0.1, 0.2), (-0.2, -0.1), "corrected"),
        ((-0.2, -0.1), (-0.2, -0.1), "reproduced"),
        ((0.1, 0.2), (-0.1, 0.1), "not reproduced"),
        ((-0.1, 0.2), (-0.2, -0.1), "not reproduced"),
    ],
)
def test_a_correction_needs_both_intervals(
    published: tuple[float, float], corrected: tuple[float, float], expected: str
) -> None:
    found = figure_1.correction(Interval(*published, 0.95), Interval(*corrected, 0.95))
    assert found == expected


@pytest.mark.parametrize(("corrected", "expected"), [(0.0, "corrected"), (0.9, "not reproduced")])
def test_stability_is_judged_on_paired_failures(monkeypatch, corrected, expected) -> None:
    rng = np.random.default_rng(1)
    arms = {"NLL": 0.4, "PG(U*)": 0.95, "PG(U*), analytic": corrected}
    rows = [
        {"experiment": i, "arm": arm, "failed": bool(rng.random() < p)}
        for i in range(100)
        for arm, p in arms.items()
    ]
    monkeypatch.setattr(figure_1, "small_noise", lambda seed: pd.DataFrame(rows))
    found = figure_1.is_stable(PG_OPTIMAL_ANALYTIC, 0)
    assert found.verdict == expected
    assert found.interval is not None
    assert "NLL" in found.evidence


def test_runs_are_trained_once_and_give_a_median_per_run(monkeypatch) -> None:
    """On a tiny experiment: same columns as the published medians, one row per run."""
    small = replace(figure_1_published.figure_1.ONE_RUN, experiments=2, lams=(0.25,))
    calls: list[int] = []
    run = figure_1_published.figure_1.run

    def counted(settings, *, seed):
        calls.append(seed)
        return run(settings, seed=seed)

    fake = SimpleNamespace(
        ONE_RUN=small, run=counted, quartiles=figure_1_published.figure_1.quartiles
    )
    monkeypatch.setattr(figure_1_published, "figure_1", fake)
    monkeypatch.setattr(figure_1_published, "RUNS", 2)
    seed = 987654321  # no other test's cache
    found = figure_1_published.medians(seed, "mean_error")
    figure_1_published.medians(seed, "covariance_error")
    assert len(calls) == len(set(calls)) == 2
    assert len(found) == 2
    assert {epoch for _, epoch in found.columns} == set(figure_1_published.EPOCHS)
    assert {arm for arm, _ in found.columns} == set(labels(small.arms))
