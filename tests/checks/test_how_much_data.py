"""How much data: predictions are those of the derivations, and claims judge what the table says."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate

from analysis import samples
from figures import how_much_data as drawing
from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import how_much_data as claims
from paper_checks.experiments import how_much_data
from paper_checks.experiments.how_much_data import QUICK, Settings
from solvers.errors import InputError

SMALL = replace(QUICK, repetitions=300)


@cache
def table() -> pd.DataFrame:
    return how_much_data.run(SMALL, seed=0)


def test_same_seed_same_bits_and_another_seed_other_data() -> None:
    again = how_much_data.run(SMALL, seed=0)
    pd.testing.assert_frame_equal(again, table())
    other = how_much_data.run(replace(SMALL, rows=(9,), totals=(20,)), seed=1)
    key = (table().kind == "measured") & (table().rows == 9)
    fresh = other[(other.kind == "measured") & (other.rows == 9)]
    assert not np.isin(fresh.lost.to_numpy(), table()[key].lost.to_numpy()).any()


def test_every_arm_is_predicted_where_something_is_derived_and_measured() -> None:
    counts = table().groupby(["part", "kind"]).size()
    assert counts["structure", "measured"] == counts["structure", "predicted"] == 15
    assert counts["mean", "measured"] == 16
    missing = table()[table().lost.isna()]
    assert set(missing.arm) == {"cross-fitted"}
    assert set(missing.kind) == {"predicted"}


def test_a_scalar_reward_is_predicted_exactly() -> None:
    """By adaptive quadrature of the law of a weighted sum of χ², from its Laplace transform."""
    Sigma, N = SMALL.covariance().numpy(), 9
    weights = np.linalg.eigvalsh(Sigma)
    n, trace = len(weights), N * weights.sum()

    def transform(t: float) -> float:
        return float(np.prod((1 + 2 * weights * t) ** (-N / 2)))

    inverse, _ = integrate.quad(transform, 0, np.inf)
    log_mean, _ = integrate.quad(
        lambda u: np.exp(-np.exp(u)) - transform(np.exp(u)), -50, 8, limit=400
    )
    excess = n / 2 * (log_mean - np.log(trace) + trace * inverse - 1)
    cost = (n * np.log(weights.mean()) - np.log(weights).sum()) / 2
    row = table().query("part == 'structure' and arm == 'isotropic' and kind == 'predicted'")
    assert float(row[row.rows == N].lost.iloc[0]) == pytest.approx(cost + excess, rel=1e-8)
    # two moments of Tr S are not enough for this, but near
    near = samples.choice.total("isotropic", n).at(Sigma=Sigma, freedom=N)
    assert 1e-3 < abs(near - cost - excess) < 5e-3


def test_the_factor_of_the_rescaled_reward_is_the_derived_one() -> None:
    """1/k of `samples.linear.rescaled`, from the step that solves for it."""
    derivation = samples.linear.rescaled(3)
    (step,) = [step for step in derivation.steps if step.text == "the best k"]
    values = {derivation.arguments["features"]: 8, derivation.arguments["rows"]: 20}
    k = float(step.expression.xreplace(values))
    generator = torch.Generator().manual_seed(0)
    lost = how_much_data.means(replace(SMALL, repetitions=2), 20, generator)
    assert set(lost) == set(how_much_data.OUTERS)
    assert 1 / k == pytest.approx(20 * 19 / (11 * 8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variances": (1.0,)}, "variances has 1 entries: pass 2 or 3"),
        ({"rows": (6, 20)}, "rows has 6: pass 7 or more"),
        ({"totals": (19, 40)}, "pass even numbers of 20 or more"),
        ({"totals": (16,)}, "pass even numbers of 20 or more"),
        ({"folds": 1}, "folds is 1"),
    ],
)
def test_settings_name_what_is_wrong(change, words) -> None:
    with pytest.raises(InputError, match=words):
        replace(Settings(), **change)


def test_a_larger_structure_that_never_pays_has_no_crossing() -> None:
    round_ = replace(SMALL, variances=(1.0, 1.0), correlation=0.0, rows=(9,), totals=(20,))
    found = how_much_data.run(round_, seed=0)
    assert not (found.kind == "crossing").any()
    assert "cross over" not in drawing.caption(found)
    assert not drawing.summary(found).arm.str.startswith("crossing").any()


def test_the_caption_has_the_numbers_of_the_table() -> None:
    caption = drawing.caption(table())
    both = drawing.compared(table())
    assert f"{int(both.inside.sum())} of {len(both)} cover the derived" in caption
    for row in table()[table().kind == "crossing"].itertuples():
        assert f"at N = {row.rows:.1f} (to order 1/N: {row.leading:.1f})" in caption
    summary = drawing.summary(table())
    assert len(summary) == 15 + 16 + 2
    doubled = table().assign(lost=lambda rows: rows.lost * (1 + (rows.kind == "predicted")))
    assert drawing.compared(doubled).inside.sum() < both.inside.sum()


FAULTS = {
    "predicted": (claims.predicted, lambda t: t.lost * (1 + 0.5 * (t.kind == "predicted"))),
    "crossing": (claims.crossing, lambda t: t.lost.where(t.arm != "full", 2.0)),
    "outer level": (claims.outer_level, lambda t: t.lost),
}


@pytest.mark.parametrize("name", FAULTS)
def test_claims_hold_of_the_table_and_not_of_another(name, monkeypatch) -> None:
    judge, wrong = FAULTS[name]
    monkeypatch.setattr(claims, "_table", lambda seed: table())
    assert judge(0).verdict is Verdict.reproduced
    other = table().assign(lost=wrong)
    if name == "outer level":  # held out in turn no better than the rows of the fit
        same = table().arm == "cross-fitted"
        other.loc[same, ["lost", "low", "high"]] *= 10
    monkeypatch.setattr(claims, "_table", lambda seed: other)
    assert judge(0).verdict is Verdict.not_reproduced
