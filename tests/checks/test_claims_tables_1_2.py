"""Claims about tables 1 and 2 and β*: on made-up tables each can come out the other way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from paper_checks.claims.claim import Verdict, judge
from paper_checks.claims.pictures import overshoot as overshoot_claims
from paper_checks.claims.pictures import tables_1_2 as claims
from paper_checks.experiments import overshoot, tables_1_2
from paper_checks.experiments.arms import labels

Change = Callable[[str, str], float]
PUBLISHED = pd.read_csv(tables_1_2.PUBLISHED, comment="#")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """No table outlives its test."""
    for cached in (claims.beside_published, claims.optima):
        cached.cache_clear()
    yield
    for cached in (claims.beside_published, claims.optima):
        cached.cache_clear()


def published_runs(settings: tables_1_2.Settings, *, seed: int, change: Change) -> pd.DataFrame:
    """Repetitions that scatter around the published mean as published, moved by `change`."""
    rng = np.random.default_rng(seed)
    rows = []
    for entry in PUBLISHED.itertuples(index=False):
        scatter = rng.standard_normal(settings.repetitions) * entry.deviation
        for value in entry.accuracy + scatter - scatter.mean() + change(entry.name, entry.arm):
            rows.append({"name": entry.name, "arm": entry.arm, "accuracy": value})
    return pd.DataFrame(rows).assign(stage="trained")


@pytest.mark.parametrize(
    ("name", "arm", "shift", "expected"),
    [
        ("digits", "NLL", 0.0, Verdict.reproduced),
        ("digits", "NLL", 0.03, Verdict.not_reproduced),
        ("digits", "PG(β*)", -0.03, Verdict.not_reproduced),
        ("wine", "NLL", -1 / 40, Verdict.reproduced),  # nothing varies: within one row of 36
        ("wine", "NLL", -2 / 36, Verdict.not_reproduced),
    ],
)
def test_the_published_table_decides(monkeypatch, name, arm, shift, expected) -> None:
    def change(*entry: str) -> float:
        return shift if entry == (name, arm) else 0.0

    monkeypatch.setattr(
        tables_1_2,
        "run",
        lambda settings, *, seed: published_runs(settings, seed=seed, change=change),
    )
    assert claims.accuracy(name, 0).verdict is expected
    assert claims.accuracy("iris", 0).verdict is Verdict.reproduced  # the others do not care


def optima(settings: tables_1_2.Settings, nll: Change, accuracy: Change) -> pd.DataFrame:
    """Splits with scatter of their own; an arm differs from NLL by a factor and a shift."""
    rows = []
    for name in settings.names:
        rng = np.random.default_rng(len(name))
        for split in settings.splits:
            base, right, noise = rng.uniform(0.1, 0.2), rng.uniform(0.9, 0.95), rng.normal(0, 1e-3)
            for arm in labels(settings.arms):
                own = 0.0 if arm == "NLL" else accuracy(name, arm) + noise
                factor = 1.0 if arm == "NLL" else 1 + nll(name, arm)
                rows.append(
                    {"name": name, "split": split, "arm": arm, "stage": "optimum"}
                    | {"nll": base * factor, "accuracy": right + own, "converged": True}
                )
    return pd.DataFrame(rows)


def plant(monkeypatch: pytest.MonkeyPatch, where: str, nll: float, accuracy: float) -> None:
    monkeypatch.setattr(
        tables_1_2,
        "run",
        lambda settings, *, seed: optima(
            settings,
            lambda name, arm: nll if name == where else 0.0,
            lambda name, arm: accuracy if name == where else 0.0,
        ),
    )


@pytest.mark.parametrize(
    ("nll", "accuracy", "expected"),
    [
        (0.005, 0.0, Verdict.reproduced),
        (-0.5, 0.1, Verdict.reproduced),  # better than maximum likelihood is no fault
        (0.02, 0.0, Verdict.not_reproduced),
        (0.0, -0.01, Verdict.not_reproduced),  # 14 of 1440 rows
    ],
)
def test_the_learned_reward_is_judged_by_both(monkeypatch, nll, accuracy, expected) -> None:
    plant(monkeypatch, "digits", nll, accuracy)
    found = claims.learned(0)
    assert found.verdict is expected
    assert "did not converge" not in found.evidence


@pytest.mark.parametrize(
    ("where", "accuracy", "expected"),
    [
        ("digits", 0.0, Verdict.reproduced),
        ("digits", -0.01, Verdict.not_reproduced),
        ("wine", -0.01, Verdict.reproduced),  # not looked at
    ],
)
def test_accuracy_is_judged_on_digits(monkeypatch, where, accuracy, expected) -> None:
    plant(monkeypatch, where, 0.0, accuracy)
    found = claims.no_less_accurate(0)
    assert found.verdict is expected
    assert found.interval is not None
    if where == "digits":
        assert found.interval.low <= accuracy <= found.interval.high
    assert found.published == pytest.approx(0.0027)


def test_splits_are_fresh_for_every_seed_and_solved_without_training(monkeypatch) -> None:
    seen: list[tables_1_2.Settings] = []

    def run(settings: tables_1_2.Settings, *, seed: int) -> pd.DataFrame:
        seen.append(settings)
        return optima(settings, lambda *_: 0.0, lambda *_: 0.0)

    monkeypatch.setattr(tables_1_2, "run", run)
    for seed in (0, 1):
        claims.learned(seed)
    assert not set(seen[0].splits) & set(seen[1].splits)
    for settings in seen:
        assert settings.optimum
        assert settings.epochs == 0
        assert labels(settings.arms) == ("NLL", "PG(learned)")


@pytest.mark.parametrize(
    ("arm", "becomes", "expected"),
    [
        (None, 0.0, Verdict.corrected),
        ("PG(u*)", 0.01, Verdict.not_reproduced),  # the correction would not be one
        ("PG(β*)", 0.0, Verdict.reproduced),
    ],
)
def test_the_scale_is_corrected_only_if_the_exact_ones_are(
    monkeypatch, arm, becomes, expected
) -> None:
    """Tables of the experiment itself, with the outcome of one arm changed."""
    right = overshoot.run

    def run(settings: overshoot.Settings, *, seed: int) -> pd.DataFrame:
        table = right(settings, seed=seed)
        chosen = table.arm == arm
        table.loc[chosen, "kl"] = becomes
        if becomes == 0.0:
            table.loc[chosen, "p"] = table.loc[chosen, "pi"]
        return table

    monkeypatch.setattr(overshoot, "run", run)
    assert overshoot_claims.scale(0).verdict is expected


def test_names_of_claims() -> None:
    names = [claim.name for claim in claims.claims()]
    assert names == [
        *(f"tables-1-2.table.{name}" for name in claims.NAMES),
        "tables-1-2.accuracy",
        "tables-1-2.learned",
    ]
    assert [claim.name for claim in overshoot_claims.claims()] == ["overshoot.scale"]


def unconverged(monkeypatch: pytest.MonkeyPatch, name: str, arm: str, splits: int) -> None:
    """Let so many splits end far away, in a table where nothing else differs."""

    def run(settings: tables_1_2.Settings, *, seed: int) -> pd.DataFrame:
        table = optima(settings, lambda *_: 0.0, lambda *_: 0.0)
        lost = (table["name"] == name) & (table.arm == arm)
        lost &= table.split.isin(settings.splits[:splits])
        table.loc[lost, ["nll", "accuracy"]] = 77.0, 0.0
        return table.assign(converged=~lost)

    monkeypatch.setattr(tables_1_2, "run", run)


@pytest.mark.parametrize("arm", ["NLL", "PG(learned)"])
def test_splits_that_did_not_converge_decide_nothing(monkeypatch, arm) -> None:
    unconverged(monkeypatch, "digits", arm, 3)
    found = claims.learned(0)
    assert found.verdict is Verdict.reproduced
    assert f"3 of 32 runs did not converge: {arm} digits (3). They are left out." in found.evidence


def test_accuracy_leaves_out_what_did_not_converge(monkeypatch) -> None:
    unconverged(monkeypatch, "digits", "PG(β*)", 5)
    found = claims.no_less_accurate(0)
    assert found.verdict is Verdict.reproduced
    assert "over 75 splits" in found.evidence
    assert "5 of 160 runs did not converge: PG(β*) digits (5)." in found.evidence


def test_a_claim_fails_where_nothing_is_left(monkeypatch) -> None:
    unconverged(monkeypatch, "wine", "NLL", claims.LEARNED_SPLITS)
    (learned,) = (claim for claim in claims.claims() if claim.name == "tables-1-2.learned")
    found = judge(learned, 0)
    assert found.verdict is Verdict.failed
    assert "on wine nothing is left to compare: 4 of 32 runs did not converge" in found.evidence


@pytest.mark.parametrize("arm", labels(overshoot.ARMS[1:]))
@pytest.mark.parametrize("everywhere", [False, True])
def test_the_scale_is_judged_by_what_converged(monkeypatch, arm, everywhere) -> None:
    right = overshoot.run

    def run(settings: overshoot.Settings, *, seed: int) -> pd.DataFrame:
        table = right(settings, seed=seed)
        lost = (table.arm == arm) & (table.kind == "exact") & (everywhere | (table.pi < 0.3))
        table.loc[lost, ["kl", "p"]] = 0.0 if arm == "PG(β*)" else 77.0
        table.loc[lost, "converged"] = False
        return table

    monkeypatch.setattr(overshoot, "run", run)
    (scale,) = overshoot_claims.claims()
    found = judge(scale, 0)
    assert found.verdict is (Verdict.failed if everywhere else Verdict.corrected)
    assert f"of 100 runs did not converge: {arm} (" in found.evidence
    assert (f"of {arm} nothing is left to look at" in found.evidence) == everywhere
