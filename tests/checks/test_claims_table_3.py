"""Claims about table 3: on made-up tables each can come out the other way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pytest

from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import table_3 as claims
from paper_checks.experiments import table_3, table_3_bilevel
from paper_checks.experiments.table_3_bilevel import IMPLICIT_TEMPERED
from paper_checks.experiments.table_3_methods import TEMPERED


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """No table outlives its test."""
    for cached in (claims.as_published, claims.corrected):
        cached.cache_clear()
    yield
    for cached in (claims.as_published, claims.corrected):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Verdict.reproduced),
        ({"PG(I)": (2.2, 8.0)}, Verdict.reproduced),  # it may swap with PG(implicit)
        ({"PG(I)": (1.5, 8.0)}, Verdict.not_reproduced),
        ({"NLL": (2.5, 0.7)}, Verdict.not_reproduced),
        ({"NLL": (4.6, 9.0)}, Verdict.not_reproduced),
    ],
)
def test_the_order_decides(
    monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, tuple[float, float]], expected: Verdict
) -> None:
    published = pd.read_csv(table_3.PUBLISHED, comment="#")
    found = published[published.quality == "medium"][["arm", "rmse", "nll"]].set_index("arm")
    for arm, values in changes.items():
        found.loc[arm] = values
    monkeypatch.setattr(table_3, "run", lambda settings, *, seed: found.reset_index())
    assert claims.order(0).verdict is expected


def test_the_published_scalar_is_near_that_of_the_published_error() -> None:
    assert claims.implicit(0).verdict is Verdict.reproduced
    assert table_3.published_scalar() == pytest.approx(0.0931, abs=1e-4)


def test_another_scalar_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PUBLISHED_U", 0.2)
    assert claims.implicit(0).verdict is Verdict.not_reproduced


@pytest.mark.parametrize(
    ("u", "expected"), [(0.303, Verdict.reproduced), (0.31, Verdict.not_reproduced)]
)
def test_the_scalar_of_held_out_residuals_decides(
    monkeypatch: pytest.MonkeyPatch, u: float, expected: Verdict
) -> None:
    found = table_3_bilevel.Scalar(u, 0.3, 0.1, 1e-3, 0, 6, 2000)
    monkeypatch.setattr(table_3, "load", lambda *of: None)
    monkeypatch.setattr(table_3_bilevel, "scalar", lambda data, **how: found)
    assert claims.bilevel(0).verdict is expected


@pytest.mark.parametrize(
    ("rmse", "nll", "expected"),
    [
        (-0.01, -0.05, Verdict.reproduced),
        (0.02, -0.05, Verdict.not_reproduced),
        (-0.01, 0.05, Verdict.not_reproduced),
    ],
)
def test_differences_on_the_same_split_decide(
    monkeypatch: pytest.MonkeyPatch, rmse: float, nll: float, expected: Verdict
) -> None:
    rng = np.random.default_rng(0)

    def run(settings: table_3.Settings, *, seed: int) -> pd.DataFrame:
        rows = []
        for split in settings.splits:
            error, likely = rng.uniform(0.1, 0.4), rng.uniform(-1, 1)
            for arm in ("MSE", *claims.LIKELY):
                rows.append({"split": split, "arm": arm, "rmse": error, "nll": likely})
            noise = rng.normal(0, 1e-3)
            own = {"split": split, "rmse": error + rmse, "nll": likely + nll + noise}
            rows += [own | {"arm": IMPLICIT_TEMPERED}, own | {"arm": TEMPERED, "rmse": error + 1}]
        return pd.DataFrame(rows).assign(power=1.0)

    monkeypatch.setattr(table_3, "run", run)
    assert claims.learned(0).verdict is expected
    assert claims.alternation(0).verdict is Verdict.not_reproduced


def test_every_claim_has_a_name_of_its_own() -> None:
    names = [claim.name for claim in claims.claims()]
    kinds = ("order", "scalar", "bilevel", "learned", "alternation")
    assert names == [f"table-3.{kind}" for kind in kinds]
