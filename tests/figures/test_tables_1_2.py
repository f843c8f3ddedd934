"""Tables 1 and 2: what its pictures, captions and summaries say is what the table says."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from scipy import stats

from figures import style, tables
from figures import tables_1_2 as drawing
from paper_checks.experiments import tables_1_2
from tests.pictures import drawn, legend

ARMS = tuple(drawing.LABELS)
# Test NLL of an arm minus that of NLL, at the optimum, in nats: the arms in the order of ARMS.
GAPS = dict(zip(ARMS, (0.0, -0.02, 0.03, 0.04, -0.05, 0.0005), strict=True))


@cache
def made() -> pd.DataFrame:
    """Return a table of two tasks, 6 splits and 3 repetitions, with chosen differences."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for name in ("digits", "iris"):  # not in the order of the panels
        for split in range(6):
            base = rng.normal(scale=0.01)
            for arm in reversed(ARMS):
                key: dict[str, Any] = {"name": name, "arm": arm, "split": split}
                found = {"accuracy": 0.9 + base, "nll": 0.2 + base, "calibration_error": 0.1}
                for i in range(3):
                    for epoch in range(0, 41, 2):
                        value = 0.9 - 0.6 * np.exp(-epoch / 4) + base
                        row = {"stage": "training", "epoch": epoch, "repetition": i}
                        rows.append(key | row | {"validation": value, "last_batch": value + 0.01})
                    noise = {"accuracy": rng.normal(scale=0.01), "nll": rng.normal(scale=0.01)}
                    ends = {m: v + noise.get(m, 0) for m, v in found.items()}
                    ends["accuracy"] -= 0.1 * (arm == "PG(diag)")
                    rows.append(key | {"stage": "trained", "epoch": 40, "repetition": i} | ends)
                gap = GAPS[arm] + rng.normal(scale=1e-3) * (arm not in ("NLL", "PG(learned)"))
                end = {"stage": "optimum", "epoch": 0, "repetition": 0, "converged": True}
                rows.append(key | end | found | {"nll": found["nll"] + gap})
    return pd.DataFrame(rows).astype({"converged": "boolean"})


@cache
def published() -> pd.DataFrame:
    settings = replace(tables_1_2.AS_PUBLISHED, names=("wine", "iris"), epochs=3, generations=5)
    return tables_1_2.run(settings, seed=0)


def rows_of(table: pd.DataFrame, name: str, stage: str, arm: str) -> pd.DataFrame:
    return table[(table["name"] == name) & (table.stage == stage) & (table.arm == arm)]


def test_picture_has_a_column_per_task_and_every_arm_in_one_order() -> None:
    figure = drawn(drawing.draw, made())
    assert [axis.get_title() for axis in figure.axes] == ["iris", "digits", "", ""]
    assert legend(figure) == list(drawing.LABELS.values())
    for axis, name in zip(figure.axes[:2], ("iris", "digits"), strict=True):
        assert [line.get_label() for line in axis.lines] == list(ARMS)
        for line in axis.lines:
            runs = rows_of(made(), name, "training", str(line.get_label()))
            want = runs.groupby("epoch").validation.mean()
            assert np.asarray(line.get_ydata()) == pytest.approx(want.to_numpy())
            assert np.asarray(line.get_xdata()) == pytest.approx(want.index.to_numpy())
        low, high = axis.get_ylim()
        assert 0.3 < low < 0.9 < high  # the start at 0.3 is left out
        (band,) = axis.collections  # of NLL alone
        end = rows_of(made(), name, "training", "NLL").query("epoch == 40")
        means = end.groupby("split").validation.mean()
        want = stats.t.interval(0.95, 5, means.mean(), means.sem())
        at_end = np.asarray(band.get_paths()[0].vertices)
        at_end = at_end[at_end[:, 0] == 40, 1]
        assert (at_end.min(), at_end.max()) == pytest.approx(want)


def test_lower_panels_show_differences_at_the_optimum_in_thousandths() -> None:
    figure = drawn(drawing.draw, made())
    for axis, name in zip(figure.axes[2:], ("iris", "digits"), strict=True):
        points = [line for line in axis.lines if line.get_marker() not in ("None", None, "")]
        assert len(points) == len(ARMS) - 1
        nll = rows_of(made(), name, "optimum", "NLL").nll.mean()
        for place, (point, arm) in enumerate(zip(points, ARMS[1:], strict=True)):
            want = rows_of(made(), name, "optimum", arm).nll.mean() - nll
            assert np.ravel(point.get_xdata()) == pytest.approx([1e3 * want])
            assert np.ravel(point.get_ydata()) == pytest.approx([-place])
            assert point.get_marker() == style.look(arm)["marker"]
        for bars, arm in zip(axis.collections, ARMS[1:], strict=True):
            assert isinstance(bars, LineCollection)
            bar = np.asarray(bars.get_segments()[0])[:, 0]
            found = dict(drawing.differences(made(), "nll", "optimum")[arm])[name]
            ends = [1e3 * found.interval.low, 1e3 * found.interval.high]
            assert bar == pytest.approx(ends, abs=1e-9)


def test_differences_are_paired() -> None:
    """Splits scatter by 0.01; differences of the same split by a tenth of it."""
    for arm, found in drawing.differences(made(), "nll", "optimum").items():
        for _, difference in found:
            assert difference.mean == pytest.approx(GAPS[arm], abs=2e-3)
            ends = difference.interval
            assert ends.low - 1e-12 <= difference.mean <= ends.high + 1e-12
            assert ends.high - ends.low < 4e-3
            assert difference.real
            assert difference.relative == pytest.approx(difference.mean / 0.2, rel=0.1)


def test_summary_is_computed_from_the_table() -> None:
    summary = drawing.summary(made()).set_index(["data", "arm"])
    assert list(summary.index) == [(name, arm) for name in ("iris", "digits") for arm in ARMS]
    for (name, arm), row in summary.iterrows():
        for stage in ("trained", "optimum"):
            runs = rows_of(made(), name, stage, arm)
            assert row[f"accuracy, {stage}"] == pytest.approx(runs.accuracy.mean())
            assert row[f"NLL, {stage}"] == pytest.approx(runs.nll.mean())
            assert row[f"calibration error, {stage}"] == pytest.approx(0.1)
        if arm == "NLL":
            assert row.filter(like="Δ").isna().all()
            continue
        ours, theirs = (rows_of(made(), name, "trained", a).accuracy for a in (arm, "NLL"))
        assert row["Δ accuracy, trained"] == pytest.approx(ours.mean() - theirs.mean())
        assert row["Δ accuracy, trained, real"] == "yes" or arm != "PG(diag)"
        low, high = map(float, row["interval of Δ accuracy, trained"].strip("[]").split(","))
        assert low <= row["Δ accuracy, trained"] <= high
        assert (row["Δ accuracy, trained, real"] == "yes") == (not low <= 0 <= high)
        assert row["Δ NLL, optimum, real"] == "yes"
    assert tables.latex(drawing.summary(made()))


def test_caption_follows_the_numbers() -> None:
    caption = drawing.caption(made())
    assert "mean over 6 splits (3 of 3 initial policies each" in caption
    assert (
        "6 splits of 3 repetitions take the place of one split of 5 (make figures FULL=1" in caption
    )
    for arm in ARMS[1:]:
        ends = []
        for name in ("iris", "digits"):
            nll = rows_of(made(), name, "optimum", "NLL").nll.mean()
            gap = rows_of(made(), name, "optimum", arm).nll.mean() / nll - 1
            ends.append(f"{name} {gap:+.1%}*")
        assert f"{arm}: {', '.join(ends)}" in caption
    assert "Within 1% of it on every table: PG(learned)." in caption
    accuracy = drawing.differences(made(), "accuracy", "trained")
    real = [(arm, d) for arm, ds in accuracy.items() for _, d in ds if d.real]
    assert f"in {len(real)} of 10 comparisons (by chance alone: in about 0.5)" in caption
    for _, d in real:
        assert f"{100 * d.mean:+.2f}*" in caption.split("in points: ")[1]
    assert {arm for arm, _ in real} >= {"PG(diag)"}
    assert "NLL is penalised too" in caption
    assert "What moved" in caption


def test_caption_changes_its_words_with_the_numbers() -> None:
    table = made().copy()
    table.loc[(table.stage == "optimum") & (table.arm != "NLL"), "nll"] += 0.2
    table.loc[table.stage == "trained", "accuracy"] = 0.9
    caption = drawing.caption(table)
    assert "on every table: no arm." in caption
    assert "NLL is penalised too" not in caption
    assert "differs from that of NLL in 0 of 10 comparisons (by chance alone: in about 0.5). " in (
        caption
    )
    fewer = drawing.caption(table[table.arm != "PG(learned)"])
    assert "as many updates" not in fewer


def test_published_picture_shows_the_last_batch_and_all_rows_where_they_differ() -> None:
    wine = published()[published()["name"] == "wine"]
    table = pd.concat([wine, wine.assign(name="digits")], ignore_index=True)
    apart = (table["name"] == "digits") & (table.stage == "training") & (table.arm == "NLL")
    table.loc[apart, "last_batch"] = 1.0
    figure = drawn(drawing.draw_as_published, table)
    assert legend(figure) == [drawing.LABELS[arm] for arm in ARMS[:3]]
    assert [axis.get_title() for axis in figure.axes] == ["wine", "digits"]
    assert [len(axis.lines) for axis in figure.axes] == [3, 4]
    thick, thin = figure.axes[1].lines[:2]
    assert (np.asarray(thick.get_ydata()) == 1.0).all()
    want = rows_of(table, "digits", "training", "NLL").groupby("epoch").validation.mean()
    assert np.asarray(thin.get_ydata()) == pytest.approx(want.to_numpy())
    assert thin.get_color() == thick.get_color()
    end = table[(table["name"] == "digits") & (table.stage == "training") & (table.epoch == 3)]
    last, whole = end.last_batch.mean(), end.validation.mean()
    text = f"(digits, last epoch: {last:.3f} on the last batch, {whole:.3f} on all rows)"
    assert text in drawing.caption_as_published(table)


def test_published_table_stands_beside_ours() -> None:
    summary = drawing.summary_as_published(published())
    assert list(summary.data) == ["wine"] * 3 + ["iris"] * 3
    row = summary.iloc[4]
    ours = rows_of(published(), "iris", "trained", "PG(2β*)")
    mean, sd = ours.accuracy.mean(), ours.accuracy.std(ddof=1)
    assert (row.arm, row.published) == ("PG(2β*)", "0.7733 ± 0.0548")
    assert row.ours == f"{mean:.4f} ± {sd:.4f}"
    assert row.difference == pytest.approx(mean - 0.7733)
    test = stats.ttest_ind_from_stats(mean, sd, 5, 0.7733, 0.0548, 5, equal_var=False)
    assert row.agrees == ("yes" if test.pvalue >= 0.05 else "no")
    assert row["NLL"] == pytest.approx(ours.nll.mean())
    assert row["calibration error"] == pytest.approx(ours.calibration_error.mean())
    assert tables.latex(summary)


@pytest.mark.parametrize(("rows_off", "agrees"), [(0, True), (1, True), (2, False)])
def test_without_variance_a_test_row_decides(rows_off: int, agrees: bool) -> None:
    """The 36 test rows of wine, on which the publication reports 1.0000 ± 0.0000."""
    table = published().copy()
    table.loc[table.stage == "trained", "accuracy"] = 1 - rows_off / 36
    found = tables_1_2.agreement(table)
    wine = found[found["name"] == "wine"]
    assert (wine.low == wine.high).all()
    assert wine.agrees.tolist() == [agrees] * 3
    caption = drawing.caption_as_published(table)
    assert f"agree with {int(found.agrees.sum())} of 6 published ones" in caption
    assert ("PG(β*) on wine (0.9444, published 1.0000)" in caption) == (not agrees)
    assert "wine NLL = PG(2β*) = PG(β*), published NLL = PG(2β*) = PG(β*)" in caption
    assert "nowhere at the end" in caption


def unconverged(*lost: tuple[str, str, int], stages: tuple[str, ...] = ("optimum",)):
    """Return the table in which these runs of (name, arm, split) stopped somewhere."""
    table = made().copy()
    keys = pd.MultiIndex.from_frame(table[["name", "arm", "split"]])
    chosen = keys.isin(lost) & table.stage.isin(stages)
    table.loc[chosen, ["accuracy", "nll", "calibration_error", "validation"]] = 77.0
    table.loc[chosen, "converged"] = False
    return table


def test_runs_that_did_not_converge_are_counted_and_left_out() -> None:
    table = unconverged(
        ("iris", "PG(diag)", 0), ("iris", "PG(diag)", 3), ("digits", "NLL", 1)
    )  # fmt: skip
    caption = drawing.caption(table)
    assert (
        f" 3 of {2 * 6 * len(ARMS)} runs did not converge: NLL digits (1); PG(diag) iris (2). They "
        "are left out." in caption
    )
    assert "did not converge" not in drawing.caption(made())
    for arm, found in drawing.differences(table, "nll", "optimum").items():
        for name, difference in found:
            left = made()[made()["name"] == name]
            out = [0, 3] if (name, arm) == ("iris", "PG(diag)") else [1] if name == "digits" else []
            left = left[(left.stage == "optimum") & ~left.split.isin(out)]
            means = left.groupby("arm").nll.mean()
            assert difference.mean == pytest.approx(means[arm] - means["NLL"])
    summary = drawing.summary(table).set_index(["data", "arm"])
    assert summary.converged["iris", "PG(diag)"] == "4 of 6"
    assert summary.converged["digits", "NLL"] == "5 of 6"
    assert (summary.converged == "6 of 6").sum() == len(summary) - 2
    assert (summary["NLL, optimum"] < 1).all()
    drawn(drawing.draw, table)


def test_a_reward_that_was_not_found_is_left_out_of_training_too() -> None:
    stages = ("training", "trained", "optimum")
    table = unconverged(("digits", "PG(learned)", 2), stages=stages)
    caption = drawing.caption(table)
    assert "1 of 72 runs did not converge: PG(learned) digits (1)." in caption
    for metric, stage in drawing.COMPARED:
        found = dict(drawing.differences(table, metric, stage)["PG(learned)"])
        assert abs(found["digits"].mean) < 1
    summary = drawing.summary(table).set_index(["data", "arm"])
    assert summary["accuracy, trained"]["digits", "PG(learned)"] < 1
    figure = drawn(drawing.draw, table)
    assert max(np.max(line.get_ydata()) for line in figure.axes[1].lines) < 1


def test_no_number_comes_from_fewer_than_two_splits() -> None:
    lost = [(name, "PG(learned)", split) for name in ("digits", "iris") for split in range(6)]
    table = unconverged(*lost, stages=("training", "trained", "optimum"))
    caption = drawing.caption(table)
    assert "PG(learned): " not in caption
    assert "nan" not in caption
    assert "on every table: no arm." in caption
    summary = drawing.summary(table).set_index(["data", "arm"])
    assert np.isnan(summary["NLL, optimum"]["iris", "PG(learned)"])
    drawn(drawing.draw, table)
    nothing = unconverged(*((n, a, s) for n in ("digits", "iris") for a in ARMS for s in range(6)))
    caption = drawing.caption(nothing)
    assert "72 of 72 runs did not converge" in caption
    assert "Test NLL at the optimum, relative" not in caption
    drawn(drawing.draw, nothing)


def test_published_runs_are_of_fixed_length() -> None:
    assert published().converged.isna().all()
    assert "did not converge" not in drawing.caption_as_published(published())
