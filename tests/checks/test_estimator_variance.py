"""Variances of estimators: estimates are unbiased, predictions derived, claims can fail."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.estimators import score_function
from figures import estimator_variance as drawing
from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import estimator_variance as claims
from paper_checks.experiments import estimator_variance
from paper_checks.experiments.estimator_variance import (
    LEAVE_ONE_OUT,
    OPTIMAL,
    PATHWISE,
    QUICK,
    VALUE,
    compared,
)
from solvers.errors import InputError
from tests.shapes import unchecked

# Variances of fewer estimates are far from normal: their tails are those of ε⁸.
SMALL = replace(QUICK, generations=(2, 16), dimensions=(1,), groups=(2, 10), samples=100, steps=200)


@cache
@unchecked()
def table() -> pd.DataFrame:
    return estimator_variance.run(SMALL, seed=0)


def test_same_seed_same_bits_and_another_seed_other_noise() -> None:
    short = replace(SMALL, batches=2, size=10, groups=(2,), members=2, steps=4)
    first, again, other = (estimator_variance.run(short, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    measured = first.kind == "measured"
    assert not np.isin(first[measured].value, other[measured].value).any()
    pd.testing.assert_frame_equal(first[~measured], other[~measured])


def test_every_estimate_is_unbiased() -> None:
    """Their means are the derived gradient, whatever the baseline and the law of the data."""
    points = list(estimator_variance._points(SMALL))
    assert {point.part for point in points} == {"baseline", "generations", "spread"}
    for k, point in enumerate(points):
        generator = torch.Generator().manual_seed(k)
        found = estimator_variance.estimates(point, SMALL.s, 4000, generator)
        at = {"u": SMALL.u, "delta": point.delta, "s": SMALL.s}
        want = score_function.score_gradient(point.data).at("derived", **at)
        errors = (found.mean(1).numpy() - want) / (found.std(1).numpy() / 4000**0.5)
        assert np.abs(errors).max() < 5, point


def test_variances_at_the_mean_of_the_data_are_those_of_the_theory() -> None:
    """10u²s² and 56u²s⁴ of the baseline E r, to which leave-one-out tends; 6 and 24; 4 and 8."""
    want = {VALUE: (10, 56), OPTIMAL: (6, 24), PATHWISE: (4, 8)}
    for arm, numbers in want.items():
        b = estimator_variance.expected_reward(SMALL)
        found = estimator_variance.variance(SMALL, arm, "averaged", delta=0.0, sigma=1.0, M=7, b=b)
        np.testing.assert_allclose(found / estimator_variance.scales(SMALL, 7), numbers, rtol=1e-12)
    many = estimator_variance.variance(
        SMALL, LEAVE_ONE_OUT, "averaged", delta=0.0, sigma=1.0, M=10**6
    )
    np.testing.assert_allclose(
        many / estimator_variance.scales(SMALL, 10**6), want[VALUE], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("n", "M", "averaged", "sampled"),
    [(1, 2, 2.346, 2.370), (1, 50, 1.072, 1.082), (2, 2, 2.000, 2.020), (2, 5, 1.357, 1.382)],
)
def test_groups_settle_where_the_theory_says(n, M, averaged, sampled) -> None:
    assert estimator_variance.settles("minimum", "averaged", n, M) == pytest.approx(
        averaged, abs=5e-4
    )
    assert estimator_variance.settles("minimum", "sampled", n, M) == pytest.approx(
        sampled, abs=5e-4
    )
    assert estimator_variance.settles("mean", "averaged", n, M) == pytest.approx(
        (M / (M - 1)) ** 0.5
    )


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"batches": 1}, "batches is 1"),
        ({"samples": 5}, "pass at least 10"),
        ({"dimensions": (2,)}, "dimensions is"),
    ],
)
def test_settings_name_what_is_wrong(fault, words) -> None:
    with pytest.raises(InputError, match=words):
        replace(SMALL, **fault)


def test_the_caption_has_the_numbers_of_the_table() -> None:
    rows = compared(table())
    estimates = rows[rows.part != "group"]
    caption = drawing.caption(table())
    assert f"{int(estimates.inside.sum())} of {len(estimates)} cover the derived" in caption
    assert len(drawing.summary(table())) == len(rows)
    doubled = table().assign(predicted=2 * table().predicted)
    assert compared(doubled).inside.sum() == 0


def of(t: pd.DataFrame, arm: str, factor: float) -> pd.DataFrame:
    """Multiply all that was measured of an arm."""
    changed = (t.arm == arm) & (t.kind == "measured")
    return t.assign(value=t.value.where(~changed, factor * t.value))


FAULTS = {
    "predicted": lambda t: t.assign(predicted=1.5 * t.predicted),
    "best": lambda t: of(t, OPTIMAL, 2),
    "ranking": lambda t: of(t, PATHWISE, 2),
    "expected_reward": lambda t: of(t, VALUE, 0.6),
    "groups": lambda t: of(t, "minimum", 1.1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_claims_hold_of_the_table_and_not_of_another(name, monkeypatch) -> None:
    (claim,) = [c for c in claims.claims() if c.name == f"estimator-variance.{name}"]
    monkeypatch.setattr(estimator_variance, "run", lambda settings, *, seed: table())
    assert claim.judge(0).verdict is Verdict.reproduced
    other = FAULTS[name](table())
    monkeypatch.setattr(estimator_variance, "run", lambda settings, *, seed: other)
    assert claim.judge(0).verdict is Verdict.not_reproduced
