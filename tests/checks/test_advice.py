"""Advice for a table: the right structure where the answer is known, in words, with its limits."""

import math
from functools import cache
from typing import Any, cast

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
from tests.draws import F64


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
    # all losses are one, and rounding does not decide between them
    assert {advise(*rows(N, np.eye(1), N)).name for N in range(7, 40)} == {"scalar"}
    few = advise(x[:7], y[:7])  # three degrees of freedom: a full reward has no expected loss
    assert few.structure in ("isotropic", "diagonal")
    assert advice.expected(x[:7], y[:7])["full"] == math.inf
    only = advise(x[:6], y[:6, :2])  # two degrees of freedom: Tr S alone has an expected inverse
    assert str(only) == "at N = 6 use scalar, the only one with rows enough"
    assert only.nats == math.inf


@pytest.mark.parametrize("power", [-300, -100, -6, 6, 100, 300])
@pytest.mark.parametrize("N", [7, 9, 60])
def test_a_common_unit_of_the_outcomes_adds_its_log_and_changes_no_advice(N, power) -> None:
    x, y = rows(N, CORRELATED)
    one, other = advice.expected(x, y), advice.expected(x, y * 10.0**power)
    for arm in STRUCTURES:
        assert other[arm] == pytest.approx(one[arm] + 3 * power * math.log(10), abs=1e-9), arm
    here, there = advise(x, y), advise(x, y * 10.0**power)
    assert (here.structure, here.over) == (there.structure, there.over)
    assert there.nats == pytest.approx(here.nats, abs=1e-9)


@pytest.mark.parametrize("units", [(1e-6, 1.0, 1e6), (1e-150, 1.0, 1e150), (1e-3, 1e200, 1e200)])
def test_units_of_its_own_cost_a_scalar_reward_alone(units) -> None:
    x, y = rows(60, CORRELATED)
    scale = torch.tensor(units, dtype=F64)
    one, other = advice.expected(x, y), advice.expected(x, y * scale)
    moved = float(scale.log().sum())
    for arm in ("diagonal", "full"):
        assert other[arm] == pytest.approx(one[arm] + moved, rel=1e-12, abs=1e-9), arm
    assert other["isotropic"] > one["isotropic"] + moved + 3
    assert advise(x, y * scale).structure == "full"


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e200])
def test_units_and_dependence_of_the_inputs_do_not_matter(scale) -> None:
    x, y = rows(50, CORRELATED)
    units = torch.tensor([1.0, scale, 1.0], dtype=F64)
    for same in (x * units + 3 * units, torch.cat([x, x[:, :1] - 2 * x[:, 1:2]], 1)):
        found = advice.expected(same, y)
        for arm, value in advice.expected(x, y).items():
            assert found[arm] == pytest.approx(value, rel=1e-9)


UNITS = [(1.0, 1.0, 1.0), (1e-6, 1.0, 1e6), (1e150, 1e-150, 1.0)]


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("N", [5, 9, 50])
def test_outcomes_with_a_fault_are_named(N, shift, units) -> None:
    x, y = rows(N, np.eye(3))
    names = ("weight", "waist", "pulse")
    scale = torch.tensor(units, dtype=F64)

    def said(column: int, values: torch.Tensor) -> str:
        spoilt = y.clone()
        spoilt[:, column] = values
        found = advise(x, (spoilt + shift) * scale, names)
        assert (found.structure, found.name) == (None, "none")
        return str(found).removeprefix(f"at N = {N} no reward is best: ")

    assert said(1, torch.full((N,), 0.1, dtype=F64)).startswith("waist is constant: ")
    assert said(2, 3 * x[:, 0] - x[:, 1] + 0.1).startswith("pulse is linear in the inputs, ")
    if N > 6:  # else any three outcomes are
        assert said(0, y[:, 1] - 2 * y[:, 2]).startswith("weight, waist and pulse are collinear: ")
        assert said(0, y[:, 1] + x[:, 2]).startswith("weight and waist are collinear: ")


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
def test_little_noise_is_no_fault(noise) -> None:
    x, y = rows(50, np.eye(3))
    y[:, 0] = x[:, 1] + noise * y[:, 0]  # nearly linear
    assert advise(x, y).structure == "full" or advise(x, y).structure == "diagonal"
    y[:, 1] = y[:, 2] + noise * y[:, 1]  # nearly collinear
    assert advise(x, y).structure == "full"


def test_what_cannot_be_advised_is_named() -> None:
    x, y = rows(9, np.eye(3))
    with pytest.raises(InputError, match="names has 2 entries, y 3 columns"):
        advise(x, y, ("a", "b"))
    with pytest.raises(InputError, match=r"y\[0, 1\] is nan"):
        advise(x, torch.where(y == y[0, 1], torch.nan, y))
    with pytest.raises(InputError, match="y is"):
        advise(x, cast(Any, y.numpy()))
    with pytest.raises(InputError, match="same N"):
        advise(x[:5], y)


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
