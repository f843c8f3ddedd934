"""Claims about figure 3: on made-up tables each can come out the other way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paper_checks.claims.claim import Judgement, Verdict
from paper_checks.claims.pictures import figure_3 as claims
from paper_checks.experiments import figure_3

BEST, OPTIMUM = 0.32, 0.23  # U*, and where mean errors put it


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """No table outlives its test."""
    for cached in (claims.published, claims.corrected):
        cached.cache_clear()
    yield
    for cached in (claims.published, claims.corrected):
        cached.cache_clear()


def made_up(
    end: float = OPTIMUM, optimum: float = OPTIMUM, wrong: float = 1.0, off: float = 0.0,
    converged: bool = True, steps: int = 8,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Published runs that go to `end` by sign steps, corrected ones that stop `off` from U*."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for k in range(5):
        for epoch in range(101):
            U = max(1 - 0.01 * epoch, end) + 0.002 * rng.standard_normal()
            exact = np.sign(optimum - U)
            seen = -exact if rng.uniform() < wrong else exact
            rows.append(
                {
                    "arm": "as published", "start": 1.0, "repetition": k, "epoch": epoch,
                    "cost": 56 * (epoch + 1), "U": U, "optimum": optimum, "hypergradient": seen,
                    "converged": None,
                }
            )  # fmt: skip
    published = pd.DataFrame(rows)
    rows = [
        {
            "arm": "corrected", "start": u, "repetition": k, "epoch": step,
            "cost": 100 * (step + 1),
            "U": BEST * (1 + off) if step == steps - 1 else u, "converged": converged,
        }
        for u in (0.03, 1.0, 3.0) for k in range(5) for step in range(steps)
    ]  # fmt: skip
    tables = {"published": published, "corrected": pd.DataFrame(rows)}
    return {name: doubled(table.assign(residual=BEST)) for name, table in tables.items()}


def doubled(table: pd.DataFrame) -> pd.DataFrame:
    """Both entries of everything that has two, alike."""
    twice = [c for c in ("U", "optimum", "hypergradient", "residual") if c in table]
    more = {f"{name}_{entry}": table[name] for name in twice for entry in ("11", "22")}
    return table.assign(**more).astype({"converged": "boolean"})


def judged(monkeypatch: pytest.MonkeyPatch, claim: str, **kinds: Any) -> Judgement:
    tables = made_up(**kinds)
    monkeypatch.setattr(claims, "published", lambda seed: tables["published"])
    monkeypatch.setattr(claims, "corrected", lambda seed: tables["corrected"])
    (item,) = (c for c in claims.claims() if c.name == f"figure-3.{claim}")
    return item.judge(0)


REPRODUCED, NOT = Verdict.reproduced, Verdict.not_reproduced


@pytest.mark.parametrize(
    ("claim", "kinds", "expected"),
    [
        ("target", {}, Verdict.corrected),
        ("target", {"end": BEST}, REPRODUCED),
        ("target", {"off": 0.02}, NOT),
        ("target", {"converged": False}, NOT),
        ("hovers", {}, REPRODUCED),
        ("hovers", {"end": 0.3}, NOT),
        ("hovers", {"end": 0.31, "optimum": 0.31}, NOT),  # not told from U*
        ("sign", {}, REPRODUCED),
        ("sign", {"wrong": 0.5}, NOT),
        ("sign", {"wrong": 0.0}, NOT),
        ("cost", {}, REPRODUCED),
        ("cost", {"end": BEST}, NOT),
        ("cost", {"steps": 20}, NOT),
        ("cost", {"off": 0.02}, NOT),
    ],
)
def test_tables_decide(monkeypatch, claim, kinds, expected) -> None:
    found = judged(monkeypatch, claim, **kinds)
    assert found.verdict is expected, found


def test_tables_come_from_the_experiment(monkeypatch) -> None:
    asked: list[tuple[figure_3.Settings, int]] = []

    def run(settings: figure_3.Settings, *, seed: int) -> pd.DataFrame:
        asked.append((settings, seed))
        return pd.DataFrame()

    monkeypatch.setattr(figure_3, "run", run)
    for table in (claims.published, claims.corrected):
        table(3)
    assert [settings for settings, _ in asked] == [figure_3.AS_PUBLISHED, claims.CORRECTED]
    assert claims.CORRECTED.arms == ("corrected",)
    assert len({seed for _, seed in asked} | {3}) == 3  # fresh seeds, not the figure's
