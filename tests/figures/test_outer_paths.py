"""Outer paths on small data: every algorithm ends where it should, and its picture."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from scipy import linalg

from figures import outer_paths as drawing
from figures import style
from paper_checks.experiments import outer_paths
from tests.shapes import unchecked

SMALL = replace(outer_paths.QUICK, rows=60, steps=50, learning_rate=0.2, loops=500, batch_size=20)
ARMS = ("implicit, Adam", "implicit, L-BFGS", "single loop")


@cache
@unchecked()
def small() -> pd.DataFrame:
    return outer_paths.run(SMALL, seed=0)


def runs(arm: str) -> dict[int, pd.DataFrame]:
    return {int(start): rows for start, rows in small()[small().arm == arm].groupby("start")}


def matrix(row: Any) -> np.ndarray:
    return np.array([[row.P_11, row.P_12], [row.P_12, row.P_22]])


def residual_covariance() -> np.ndarray:
    data = outer_paths.task(SMALL, 0).data
    x, y = data.x.numpy(), data.mean.numpy()
    design = np.column_stack([x, np.ones(len(x))])
    e = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return e.T @ e / len(e)


def test_every_run_is_in_the_table_and_starts_where_it_is_told() -> None:
    assert not small().duplicated(["arm", "start", "step"]).any()
    for arm in ARMS:
        assert list(runs(arm)) == [0, 1, 2]
        for start, rows in runs(arm).items():
            first = rows.iloc[0]
            assert first.step == 0
            told = SMALL.starts[start]
            assert pytest.approx(told) == [first.P_11, first.P_12, first.P_22]
            # at the inner solution the excess is the derived cost of that covariance
            Sigma, P = residual_covariance(), matrix(first)
            log_det = np.linalg.slogdet(P)[1] - np.linalg.slogdet(Sigma)[1]
            cost = (log_det + np.trace(np.linalg.solve(P, Sigma)) - 2) / 2
            assert first.excess == pytest.approx(cost, abs=1e-7)


def test_same_seed_same_bits_and_other_seeds_differ() -> None:
    short = replace(SMALL, steps=2, quasi_newton=2, loops=20)
    one, again, other = (outer_paths.run(short, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again, check_exact=True)
    assert (one.distance[one.arm == ARMS[0]] != other.distance[other.arm == ARMS[0]]).all()


@pytest.mark.parametrize(("arm", "near"), [(ARMS[0], 0.2), (ARMS[1], 1e-4), (ARMS[2], 0.5)])
def test_every_trajectory_ends_at_the_target(arm: str, near: float) -> None:
    Sigma = residual_covariance()
    for rows in runs(arm).values():
        last, first = rows.iloc[-1], rows.iloc[0]
        assert last.distance < min(near, 0.4 * first.distance)
        assert last.excess < 0.1 * first.excess
        assert matrix(last) == pytest.approx(Sigma, rel=near, abs=near)


def test_distance_is_the_norm_of_a_logarithm() -> None:
    Sigma = residual_covariance()
    for row in small().iloc[:: len(small()) // 10].itertuples():
        want = np.linalg.norm(np.log(linalg.eigh(matrix(row), Sigma, eigvals_only=True)))
        assert row.distance == pytest.approx(want, abs=1e-7)
    target = small()[small().arm == "target"].iloc[0]
    assert matrix(target) == pytest.approx(Sigma)


def test_plug_in_is_maximum_likelihood_with_the_residual_covariance_only() -> None:
    rows = small().set_index("arm")
    assert rows.excess["plug-in, residual"] == pytest.approx(0, abs=1e-9)
    assert rows.predicted["plug-in, residual"] == pytest.approx(0, abs=1e-9)
    assert rows.distance["plug-in, residual"] < 1e-6
    marginal = rows.loc["plug-in, marginal"]
    assert marginal.excess == pytest.approx(marginal.predicted, abs=1e-7)
    assert marginal.excess > 0.2
    y = outer_paths.task(SMALL, 0).data.mean
    assert matrix(marginal) == pytest.approx(torch.cov(y.T, correction=0).numpy())


def test_flow_is_the_straight_line_to_the_target() -> None:
    Sigma = residual_covariance()
    for rows in runs("flow").values():
        start = matrix(rows.iloc[0])
        for row in rows.itertuples():
            t = float(np.asarray(row.step))
            assert matrix(row) == pytest.approx(Sigma + np.exp(-t / 2) * (start - Sigma))
        assert rows.distance.iloc[-1] < 1e-5


def test_picture_shows_starts_paths_and_every_arm() -> None:
    with style.context():
        figure = drawing.draw(small())
        figure.canvas.draw()
    plt.close(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(drawing.ARMS)
    assert len(figure.axes) == 5
    target = np.asarray(figure.axes[0].lines[-1].get_xydata())
    ones = np.einsum("ki,ij,kj->k", target, np.linalg.inv(residual_covariance()), target)
    assert ones == pytest.approx(1)
    section = figure.axes[3]
    for line in section.lines:  # nothing outside the cone
        points = np.asarray(line.get_xydata(), float)
        assert (np.linalg.norm(points, axis=1) < 1 + 1e-9).all()
    levels = [line for line in figure.axes[4].lines if len(np.unique(line.get_ydata())) == 1]
    marginal = small().set_index("arm").excess["plug-in, marginal"]
    assert [float(np.ravel(line.get_ydata())[0]) for line in levels] == [marginal, drawing.FLOOR]


def test_long_runs_are_thinned_and_keep_their_ends() -> None:
    rows = pd.DataFrame({"step": range(0, 4001, 10)})
    shown = drawing._thinned(rows)
    assert len(shown) <= drawing.RECORDS
    assert (shown.step.iloc[0], shown.step.iloc[-1]) == (0, 4000)
    short = pd.DataFrame({"step": range(10)})
    pd.testing.assert_frame_equal(drawing._thinned(short), short)


def test_caption_and_summary_are_computed_from_the_table() -> None:
    table = small().copy()
    last = (table.arm == "single loop") & (table.step == 500)
    table.loc[last, "excess"], table.loc[last, "distance"] = 0.0321, 0.0654
    table.loc[table.arm == "plug-in, marginal", ["excess", "predicted"]] = 0.1234, 0.4321
    text = drawing.caption(table)
    assert "single loop, 500 steps: 0.03 nats, distance 0.07" in text
    assert "costs 0.1234 nats (predicted 0.4321)" in text
    assert "worst of 3 starts" in text
    rows = drawing.summary(table)
    assert rows.groupby("arm", sort=False).size().to_dict() == {
        "plug-in, marginal": 1,
        "plug-in, residual": 1,
        **dict.fromkeys(ARMS, 3),
    }
    assert (rows[rows.arm == "single loop"]["last excess NLL"] == 0.0321).all()


def test_real_runs_converge_and_those_of_fixed_length_say_nothing() -> None:
    ends = small().groupby("arm").converged
    for arm in ("implicit, Adam", "implicit, L-BFGS", "plug-in, marginal", "plug-in, residual"):
        assert ends.get_group(arm).all()
        assert ends.get_group(arm).notna().all()
    assert ends.get_group("single loop").isna().all()
    assert "did not converge" not in drawing.caption(small())


def test_l_bfgs_out_of_steps_did_not_converge_and_adam_takes_all_of_them() -> None:
    short = replace(SMALL, steps=2, quasi_newton=2, loops=20)
    table = outer_paths.run(short, seed=0)
    assert not table.converged[table.arm == "implicit, L-BFGS"].any()
    assert table.converged[table.arm == "implicit, Adam"].all()
    text = drawing.caption(table)
    assert "3 of 8 runs did not converge: implicit, L-BFGS (3). They are left out." in text
    assert "implicit, L-BFGS, " not in text


def test_runs_that_did_not_converge_are_counted_and_left_out() -> None:
    table = small().copy()
    lost = ((table.arm == "implicit, L-BFGS") & (table.start == 0)) | (
        table.arm == "plug-in, marginal"
    )
    table.loc[lost, ["excess", "distance"]] = 77.0
    table.loc[lost, "converged"] = False
    text = drawing.caption(table)
    assert (
        "2 of 8 runs did not converge: plug-in, marginal (1); implicit, L-BFGS (1). They are left "
        "out." in text
    )
    assert "77" not in text
    assert "marginal covariance" not in text
    rows = drawing.summary(table)
    out = rows.converged.eq(False)
    assert out.sum() == 2
    assert rows[out][["last distance", "last excess NLL"]].isna().all(axis=None)
    assert rows[~out][["last distance", "last excess NLL"]].notna().all(axis=None)
    with style.context():
        figure = drawing.draw(table)
    plt.close(figure)
    assert max(np.max(line.get_ydata()) for line in figure.axes[4].lines) < 77
    table["converged"] = pd.Series(False, table.index, dtype="boolean")
    text = drawing.caption(table)
    assert "nan" not in text
    assert "nats, distance" not in text
