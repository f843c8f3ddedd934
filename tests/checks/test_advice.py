"""Advice for a table: the right structure where the answer is known, in words, with its limits."""

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from figures import wrong_covariance as drawing
from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import wrong_covariance as claims
from paper_checks.experiments import advice, wrong_covariance
from paper_checks.experiments.advice import STRUCTURES, Settings, advise
from solvers.errors import InputError

F64 = torch.float64


def rows(N: int, L: np.ndarray, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and outcomes of a linear mean with noise LLᵀ."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 3))
    y = x @ rng.standard_normal((3, len(L))) + rng.standard_normal((N, len(L))) @ L.T
    return torch.tensor(x), torch.tensor(y)


CORRELATED = np.linalg.cholesky(np.array([[1.0, 0.7, 0.0], [0.7, 1.0, 0.0], [0.0, 0.0, 1.0]]))


@pytest.mark.parametrize(
    ("L", "N", "structure"),
    [
        (np.eye(3), 400, "isotropic"),
        (np.diag([1.0, 2.0, 4.0]), 400, "diagonal"),
        (CORRELATED, 400, "full"),
        (CORRELATED, 9, "isotropic"),
    ],
)
def test_the_structure_of_the_noise_is_advised_where_rows_suffice(L, N, structure) -> None:
    votes = [advise(*rows(N, L, seed)).structure for seed in range(9)]
    assert max(set(votes), key=votes.count) == structure


def test_the_expected_loss_is_that_of_new_rows_on_average() -> None:
    """Against the average over many data sets, for each structure."""
    N, L = 16, CORRELATED
    Sigma = torch.tensor(L @ L.T)
    gaps = {arm: [] for arm in STRUCTURES}
    for seed in range(200):
        x, y = rows(N, L, seed)
        rng = np.random.default_rng(seed)
        rng.standard_normal((N, 3))  # as `rows` draws: inputs, then coefficients
        B = torch.tensor(rng.standard_normal((3, 3)))
        fitted = advice.coefficients(x, y, collinear=True)
        delta = torch.cat([fitted[:3] - B, fitted[3:]])
        S = advice._second_moment(y - advice.affine(x) @ fitted)
        expected = advice.expected(x, y)
        for arm in STRUCTURES:
            new = float(advice.loss(S, Sigma + delta.mT @ delta, arm))
            gaps[arm].append(new - expected[arm])
    for arm, values in gaps.items():
        error = np.std(values) / math.sqrt(len(values))
        assert abs(np.mean(values)) <= 5 * error + (0.02 if arm == "isotropic" else 0), arm


def test_too_few_rows_and_one_outcome_are_said() -> None:
    x, y = rows(9, np.eye(3))
    assert str(advise(x[:4], y[:4])) == "at N = 4 there are too few rows for any reward"
    one = advise(x, y[:, :1])
    assert str(one) == "at N = 9 all structures are one: there is one outcome"
    few = advise(x[:7], y[:7])  # three degrees of freedom: a full reward has no expected loss
    assert few.structure in ("isotropic", "diagonal")
    assert advice.expected(x[:7], y[:7])["full"] == math.inf
    only = advise(x[:6], y[:6, :2])  # two degrees of freedom: Tr S alone has an expected inverse
    assert str(only) == "at N = 6 use scalar, the only one with rows enough"
    assert only.nats == math.inf


def test_nats_are_per_dimension_over_the_next_best() -> None:
    x, y = rows(60, CORRELATED)
    losses = sorted(advice.expected(x, y).values())
    found = advise(x, y)
    assert found.nats == pytest.approx((losses[1] - losses[0]) / 3)
    assert str(found) == f"at N = 60 use full: {found.nats:.2g} nats per dimension over " + (
        advice.NAMES[found.over] if found.over else ""
    )


def test_advice_is_printed_for_a_table_of_ones_own(tmp_path) -> None:
    x, y = rows(60, CORRELATED)
    frame = pd.DataFrame(np.hstack([x, y]), columns=list("xyzabc"))
    frame.to_csv(tmp_path / "mine.csv", index=False)
    settings = wrong_covariance.Settings(tmp_path / "mine.csv", tuple("abc"), lams=(1.0,))
    table = wrong_covariance.run(settings, seed=0)
    # standardised, as the columns of every table are: a scalar reward sees other units
    assert "mine a, b, c: at N = 60 use full: " in drawing.caption(table)
    assert set(drawing.summary(table).learn) == {"full"}


@pytest.mark.parametrize("change", [{"share": 1.0}, {"spare": 1}, {"splits": 1}, {"folds": 1}])
def test_settings_name_what_is_wrong(change) -> None:
    (name,) = change
    with pytest.raises(InputError, match=f"{name} (is )?{change[name]}"):
        Settings(**change)


@cache
def table() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        chosen = {name: advice.TABLES[name] for name in ("linnerud body", "iris petals")}
        patch.setattr(advice, "TABLES", chosen)
        return advice.run(Settings(splits=8), seed=0)


def test_same_seed_same_bits() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advice, "TABLES", {"iris petals": advice.TABLES["iris petals"]})
        again = advice.run(Settings(splits=8), seed=0)
    first = table()[table().table == "iris petals"].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, first)


def test_every_table_is_read_and_has_several_outcomes() -> None:
    names = {name: advice.load(name) for name in advice.TABLES}
    assert len(names) == 10
    assert len({(task.features, task.targets) for task in names.values()}) == 10
    assert all(len(task.targets) > 1 for task in names.values())


def test_claims_count_what_is_right(monkeypatch) -> None:
    tables = [table().assign(table=lambda t, k=k: t.table + str(k)) for k in range(5)]
    good = pd.concat(tables, ignore_index=True)
    best = good[list(STRUCTURES)].idxmin(axis=1)
    worst = good[list(STRUCTURES)].idxmax(axis=1)
    for theory, other, verdict in (
        (best, worst, Verdict.reproduced),
        (worst, best, Verdict.not_reproduced),
    ):
        judged = good.assign(**{"theory": theory, "cross-validation": other})
        monkeypatch.setattr(claims.runs, "once", lambda *_, found=judged, **__: found)
        assert claims.right(0).verdict is verdict
