"""The bounded reward's trainings: who stays and who leaves is measured, and held to the theory."""

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.bounded import inner as theory
from figures import bounded_reward as drawing
from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import bounded_reward as claims
from paper_checks.experiments import bounded_reward
from paper_checks.experiments.bounded_reward import LEFT, QUICK, STAYED, UNDECIDED
from solvers.errors import InputError
from solvers.rewards import bounded
from tests.shapes import unchecked

SMALL = replace(
    QUICK, dimensions=(2,), ladders=3, rows=6, sampled=(0.5,), sampled_steps=300, widths=5
)


@cache
@unchecked()
def table() -> pd.DataFrame:
    return bounded_reward.run(SMALL, seed=0)


def part(name: str) -> pd.DataFrame:
    return table()[table().part == name]


def test_same_seed_same_bits_and_another_seed_other_noise() -> None:
    short = replace(SMALL, sampled_steps=20)
    first, again, other = (bounded_reward.sampled(short, 2, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert not np.isin(first.s, other.s).any()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_roots_are_those_of_the_derived_slope_and_of_the_solver(n: int) -> None:
    top = bounded_reward.critical_weight(n, 3.0)
    low, high = bounded_reward.roots(n, 0.7 * top, 3.0)
    for s in (low, high):
        at = {"lam": 0.7 * top, "omega": 3.0, "s": s, "beta": 1.0}
        assert theory.slope(n).at("derived", **at) == pytest.approx(0.0, abs=1e-10)
    reward, zero = bounded.BoundedReward(3.0), torch.zeros(n, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bounded.NoGlobalMaximumWarning)
        found = bounded.inner_solution(reward, 0.7 * top, zero, 1.0)
    assert low == pytest.approx(float(found.value.scale[0] ** 2), rel=1e-9)
    assert low < theory.peak_variance(n).at(omega=3.0, beta=1.0) < high
    assert np.isnan(bounded_reward.roots(n, 1.01 * top, 3.0)).all()


def test_trainings_climb_the_derived_objective() -> None:
    paths = part("path")
    for row in paths.itertuples():
        want = bounded_reward.objective_value(2, row.s, row.lam, row.omega)
        assert pytest.approx(want, rel=1e-10) == row.J
    for _, path in paths.groupby(["share", "start"]):
        assert (path.sort_values("steps").J.diff().dropna() >= -1e-14).all()


def test_every_exact_training_ends_as_derived() -> None:
    for name in ("basin", "reach"):
        rows = part(name)
        assert (rows.ended == rows.predicted).all()
        stayed = rows[rows.ended == STAYED]
        np.testing.assert_allclose(stayed.s, stayed.root, rtol=1e-5)
        assert (rows[rows.ended == LEFT].s > SMALL.far).all()


def test_a_training_that_is_not_done_is_undecided_and_counted() -> None:
    short = bounded_reward.basin(replace(SMALL, steps=2), 2)
    assert (short.ended == UNDECIDED).all()
    rows = table().copy()
    rows.loc[part("basin").index[:7], "ended"] = UNDECIDED
    assert "Undecided: 7." in drawing.caption(rows)
    assert "Undecided: 0." in drawing.caption(table())
    assert drawing.summary(rows)[UNDECIDED].sum() == 7


def test_a_fold_outside_of_the_weights_is_refused() -> None:
    for weights in ((0.01, 0.1), (0.5, 1.0)):  # λ_c = 1/6
        with pytest.raises(InputError, match="pass weights with the fold between them"):
            bounded_reward.fold(replace(SMALL, weights=weights, steps=1000), 2)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"dimensions": (2, 4)}, "dimensions are"),
        ({"dimensions": (1, 3)}, "pass 2, and 1 or 3 as well"),
        ({"starts": (3.0, 0.1)}, "starts are"),
        ({"weights": (0.0, 1.0)}, "weights are"),
        ({"sampled": (0.5, 1.0)}, "shares of λ_c below 1"),
        ({"widths": 4}, "widths is 4: pass an odd number"),
    ],
)
def test_settings_name_what_is_wrong(fault, words) -> None:
    with pytest.raises(InputError, match=words):
        replace(SMALL, **fault)


def test_the_caption_has_the_numbers_of_the_table() -> None:
    caption = drawing.caption(table())
    count = len(part("basin"))
    assert f"{count} of {count} end as derived, for every n" in caption
    for row in part("fold").itertuples():
        assert f"[{row.low:.5f}, {row.high:.5f}] (n = {row.n})" in caption


def wrong_end(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """One training of a part ends the other way."""
    stayed = rows[(rows.part == name) & (rows.ended == STAYED)].index
    return rows.assign(ended=rows.ended.where(rows.index != stayed[0], LEFT))


FAULTS = {
    "fold": lambda t: t.assign(root=t.root * (1 + 0.01 * (t.part == "fold"))),
    "basin": lambda t: wrong_end(t, "basin"),
    "sampled": lambda t: wrong_end(t, "sampled"),
    "unbounded": lambda t: t.assign(J=t.J.where(t.ended != LEFT, 0.0)),
    "reach": lambda t: t.assign(s=t.s * (1 + 0.01 * (t.part == "reach"))),
}


@pytest.mark.parametrize("name", FAULTS)
def test_claims_hold_of_the_table_and_not_of_another(name, monkeypatch) -> None:
    (claim,) = [c for c in claims.claims() if c.name == f"bounded-reward.{name}"]
    known = table()  # computed by what is replaced next
    monkeypatch.setattr(bounded_reward, "run", lambda settings, *, seed: known)
    assert claim.judge(0).verdict is Verdict.reproduced
    other = FAULTS[name](known)
    monkeypatch.setattr(bounded_reward, "run", lambda settings, *, seed: other)
    assert claim.judge(0).verdict is Verdict.not_reproduced
