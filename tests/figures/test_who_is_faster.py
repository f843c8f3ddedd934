"""Who is faster: trainings beside their flows, the boundary, and the picture."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from analysis.dynamics import inner_flow
from figures import style
from figures import who_is_faster as drawing
from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import who_is_faster as claims
from paper_checks.experiments import who_is_faster
from solvers.errors import InputError
from tests.shapes import unchecked

SMALL = replace(who_is_faster.QUICK, steps=300)
STARTS = SMALL.columns * SMALL.rows


@cache
@unchecked()
def small() -> pd.DataFrame:
    return who_is_faster.run(SMALL, seed=0)


def cells(kind: str, measure: str) -> pd.DataFrame:
    rows = small()[(small().kind == kind) & (small().measure == measure)]
    if kind == "cell":
        rows = rows[rows.training == "small steps"]
    return rows.set_index(["delta_0", "v_0"])[["PG", "NLL"]]


def test_flows_are_the_derived_ones() -> None:
    t = np.array([0.0, 0.3, 1.1])
    delta_0, v_0 = np.array([0.2, 1.7]), np.array([0.01, 2.0])
    delta, v = who_is_faster.flow(SMALL, "PG", delta_0, v_0, t)
    for i in (0, 1):
        for k in (1, 2):
            start = {"u": SMALL.u, "t": t[k]}
            want = inner_flow.mean_error().at("derived", delta_0=delta_0[i], **start)
            assert delta[i, k] == pytest.approx(want, rel=1e-12)
            want = inner_flow.precision().at("derived", v_0=v_0[i], lam=SMALL.lam, **start)
            assert 1 / v[i, k] == pytest.approx(want, rel=1e-12)
    delta, v = who_is_faster.flow(SMALL, "NLL", delta_0, v_0, t)
    for i in (0, 1):
        for k in (1, 2):
            start = {"sigma": SMALL.sigma, "delta_0": delta_0[i], "v_0": v_0[i]}
            end = {"delta_t": delta[i, k], "v_t": v[i, k]}
            assert inner_flow.clock().at("derived", **start, **end) == pytest.approx(t[k], rel=1e-6)
            want = inner_flow.orbit().at("derived", **start, delta_t=delta[i, k])
            assert 1 / v[i, k] == pytest.approx(want, rel=1e-6)


def test_times_of_the_theory() -> None:
    """δ₀ = .2, v₀ = .01, σ = .8: |δ| < .01 after .28 by NLL, and 1.92 by PG."""
    one = replace(SMALL, errors=(0.2, 0.3), variances=(0.01, 0.02), columns=2, rows=2, small=0.001)
    with unchecked():
        table = who_is_faster.run(replace(one, horizon=2.2, steps=1), seed=0)
    rows = table[(table.measure == "mean") & (table.delta_0 == 0.2) & (table.v_0 == 0.01)]
    predicted = rows[rows.kind == "predicted"][["PG", "NLL"]].iloc[0].tolist()
    assert predicted == pytest.approx([0.64 * np.log(20), 0.27557], abs=1e-4)
    trained = rows[rows.training == "small steps"][["PG", "NLL"]].iloc[0].tolist()
    assert trained == pytest.approx(predicted, abs=0.015)  # a step is a tenth of v₀


@pytest.mark.parametrize("measure", who_is_faster.MEASURES)
def test_small_steps_take_the_time_of_the_flow(measure: str) -> None:
    trained, predicted = cells("cell", measure), cells("predicted", measure)
    assert len(trained) == len(predicted) == STARTS
    assert (trained.PG - predicted.PG).abs().max() < 5 * SMALL.small
    near = trained[trained.index.get_level_values("v_0") > 0.1]
    assert (near.NLL - predicted.NLL[near.index]).abs().max() < 10 * SMALL.small
    assert trained.PG.groupby("delta_0").nunique().max() == 1 or measure == "likelihood"


def test_the_boundary_is_the_closed_form_for_small_errors() -> None:
    lines = small()[small().kind == "boundary"].pivot(
        index="delta_0", columns="measure", values="v_0"
    )
    assert lines["limit"].to_numpy() == pytest.approx(0.64 * np.exp(-(lines.index.to_numpy() ** 2)))
    known = lines["mean"].dropna()
    assert len(known) > len(lines) / 2
    assert known.to_numpy() == pytest.approx(lines["limit"][known.index].to_numpy(), rel=0.02)


def test_a_level_is_settled_after_the_last_crossing() -> None:
    t = np.arange(5.0)
    values = np.exp([[2.0, 1, -1, 1, -1], [-1.0, -1, -1, -1, -1], [1.0, 1, 1, 1, 1]])
    found = who_is_faster._settled(t, values, 1.0)
    assert found[:2] == pytest.approx([3.5, 0.0])
    assert np.isnan(found[2])


def test_ties_and_runs_that_did_not_arrive() -> None:
    table = small().copy()
    rows = table.index[(table.kind == "cell") & (table.training == "Adam")][:4]
    table.loc[rows, "PG"] = [1.0, 2.0, np.nan, np.nan]
    table.loc[rows, "NLL"] = [1.0, np.nan, 2.0, np.nan]
    found = who_is_faster.compared(table)
    assert found[found.training == "Adam"]["first"].tolist()[:4] == ["tie", "PG", "NLL", "tie"]


def test_nothing_is_random() -> None:
    short = replace(SMALL, horizon=0.2, steps=3)
    pd.testing.assert_frame_equal(
        who_is_faster.run(short, seed=0), who_is_faster.run(short, seed=1), check_exact=True
    )


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"errors": (0.5, 0.2)}, "errors are"),
        ({"variances": (0.0, 1.0)}, "variances are"),
        ({"mean": 0.2}, "mean is 0.2"),
    ],
)
def test_starts_without_sense_are_refused(fault: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(SMALL, **fault)  # pyright: ignore[reportArgumentType]


def test_picture_caption_and_summary() -> None:
    with style.context():
        figure = drawing.draw(small())
        figure.canvas.draw()
    plt.close(figure)
    shown = figure.axes[1].lines
    marks = sum(
        len(np.atleast_1d(line.get_xdata())) for line in shown if line.get_marker() != "None"
    )
    assert marks == STARTS
    rows = drawing.summary(small()).set_index(["training", "measure"])
    right = rows.loc[("small steps", "mean"), "as predicted"]
    assert f"{right:.1%} of {STARTS} starts (mean)" in drawing.caption(small())
    turned = small().rename(columns={"PG": "NLL", "NLL": "PG"})
    assert f"{right:.1%} of {STARTS} starts (mean)" in drawing.caption(turned)
    half = small().copy()
    swapped = half.kind == "cell"
    half.loc[swapped, ["PG", "NLL"]] = half.loc[swapped, ["NLL", "PG"]].to_numpy()
    assert drawing.summary(half)["as predicted"].iloc[0] < 0.2


def judged(monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame) -> dict[str, Verdict]:
    monkeypatch.setattr(who_is_faster, "run", lambda settings, *, seed: table)
    return {claim.name.partition(".")[2]: claim.judge(0).verdict for claim in claims.claims()}


def test_verdicts_follow_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = small().copy()
    trained = (table.kind == "cell") & (table.training == "small steps")
    table.loc[trained, ["PG", "NLL"]] = table.loc[
        table.kind == "predicted", ["PG", "NLL"]
    ].to_numpy()
    assert judged(monkeypatch, table) == {
        c.name.partition(".")[2]: c.expected for c in claims.claims()
    }
    ahead = table.copy()
    ahead.loc[trained, "NLL"] = ahead.loc[trained, "PG"] + 1
    found = judged(monkeypatch, ahead)
    assert found["moments"] is Verdict.reproduced
    assert found["boundary"] is Verdict.not_reproduced
    behind = table.copy()
    behind.loc[trained, "NLL"] = 0.0
    assert judged(monkeypatch, behind)["moments"] is Verdict.not_reproduced
    same = table.copy()
    adam = (same.kind == "cell") & (same.training == "Adam")
    same.loc[adam, ["PG", "NLL"]] = same.loc[trained, ["PG", "NLL"]].to_numpy()
    assert judged(monkeypatch, same)["adam"] is Verdict.reproduced
