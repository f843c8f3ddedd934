"""The experiments behind the figures, on small settings, and the pictures drawn from them."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from figures import figure_1 as drawing_1
from figures import wrong_covariance as drawing_cost
from paper_checks.experiments import figure_1, wrong_covariance
from paper_checks.experiments.arms import labels
from tests.pictures import drawn
from tests.shapes import unchecked

SMALL = replace(
    figure_1.CORRECTED, experiments=2, sigma=(0.5, 1.0), lams=(0.25, 1.58), epochs=100, chunk=3
)
LINNERUD_COST = 0.185113  # nats per row of linnerud's marginal covariance, as in the README


@cache
@unchecked()
def corrected() -> pd.DataFrame:
    return figure_1.run(SMALL, seed=0)


def rows_of(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    return table[table.arm == arm].reset_index(drop=True)


def test_every_run_is_in_the_table() -> None:
    table, recorded = corrected(), len(SMALL.recorded)
    counts = table.groupby("arm").size().to_dict()
    runs = {arm.label: 4 * (2 if arm.reward else 1) for arm in SMALL.arms}
    assert counts == {arm: n * recorded for arm, n in runs.items()}
    assert sorted(set(table.sigma)) == [0.5, 1.0]
    assert set(table.epoch) == set(SMALL.recorded)


def test_only_what_is_not_trained_is_missing() -> None:
    table = corrected()
    assert rows_of(table, "MSE")[["nll", "excess_nll", "covariance_error"]].isna().all(axis=None)
    assert table.mean_error.notna().all()
    assert table[table.arm != "MSE"][list(figure_1.METRICS)].notna().all(axis=None)


def test_same_seed_same_bits_and_other_seeds_differ() -> None:
    fewer = replace(SMALL, epochs=2, recorded=())
    first, again, other = (figure_1.run(fewer, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert not np.allclose(first.mean_error, other.mean_error)


def test_neither_other_arms_nor_chunks_change_a_run() -> None:
    fewer = replace(SMALL, epochs=3, recorded=())
    whole = figure_1.run(fewer, seed=0)
    alone = figure_1.run(replace(fewer, arms=(figure_1.PG_OPTIMAL_LOO,)), seed=0)
    arm = figure_1.PG_OPTIMAL_LOO.label
    pd.testing.assert_frame_equal(rows_of(whole, arm), rows_of(alone, arm), check_exact=True)
    one = figure_1.run(replace(fewer, chunk=1), seed=0)
    pd.testing.assert_frame_equal(whole.sort_values(list(whole.columns[:5])).reset_index(drop=True),
        one.sort_values(list(one.columns[:5])).reset_index(drop=True), rtol=1e-4)  # fmt: skip


def test_paired_arms_start_alike_and_published_ones_do_not() -> None:
    """After one update MSE and NLL differ little in the mean only if data and start are shared."""
    arms = (figure_1.MSE, figure_1.NLL, figure_1.PG_OPTIMAL_ANALYTIC)
    one_step = replace(SMALL, arms=arms, epochs=1, recorded=(), learning_rate=1e-9)
    paired = figure_1.run(one_step, seed=0).groupby("arm").mean_error.first()
    assert paired.max() - paired.min() < 1e-5
    published = figure_1.run(replace(one_step, paired=False), seed=0)
    assert published.groupby("arm").mean_error.first().max() - paired.max() > 1e-2 or (
        published.groupby("arm").mean_error.first().std() > 1e-2
    )


def test_progress_reports_every_chunk() -> None:
    seen: list[tuple[str, int, int]] = []
    few = replace(SMALL, arms=(figure_1.MSE, figure_1.NLL), epochs=1, recorded=())
    figure_1.run(few, seed=0, progress=lambda *report: seen.append(report))
    assert seen == [(arm.label, done, 2) for arm in few.arms for done in (1, 2)]


def test_policy_gradient_learns_the_law() -> None:
    last = figure_1.final(corrected())
    assert set(last.arm) == {*labels(SMALL.arms)} - {"MSE"}
    analytic = last[last.arm == "PG(U*), analytic"]
    assert not analytic.failed.any()
    assert analytic.excess_nll.median() < 0.1
    assert analytic.covariance_error.median() < 0.1


def test_diverged_runs_count_as_failures_and_as_large() -> None:
    table = corrected().copy()
    broken = (table.arm == "NLL") & (table.experiment == 0)
    table.loc[broken, ["excess_nll", "mean_error", "covariance_error"]] = np.nan
    failed = figure_1.final(table).groupby("arm").failed.mean()
    assert failed["NLL"] == 0.25
    upper = dict(figure_1.quartiles(table, "mean_error"))["NLL"]
    assert np.isfinite(upper.to_numpy()).all()
    assert (upper[0.75] >= dict(figure_1.quartiles(corrected(), "mean_error"))["NLL"][0.75]).all()


@pytest.mark.slow
def test_as_published_medians_lie_inside_the_published_quartiles() -> None:
    with unchecked():
        table = figure_1.run(replace(figure_1.AS_PUBLISHED, repetitions=5), seed=1)
    compared = figure_1.agreement(table)
    assert len(compared) == 40
    # Quartiles of 50 runs, whose own medians scatter: a few of 40 may fall out, most may not.
    assert compared.inside.sum() >= 36, compared[~compared.inside].to_string()


@cache
def linnerud() -> pd.DataFrame:
    return wrong_covariance.run(wrong_covariance.Settings(lams=(0.1, 10.0)), seed=0)


def test_real_data_cost_what_the_theory_predicts() -> None:
    table = linnerud()
    assert table.converged.all()
    assert (table.measured - table.predicted).abs().max() <= 1e-6
    assert table[table.reward == "residual Σ"].measured.abs().max() <= 1e-6
    marginal = table[(table.reward == "marginal Σ") & (table.n == 3)]
    assert marginal.measured.to_numpy() == pytest.approx(LINNERUD_COST, abs=1e-6)
    assert (table[table.reward == "marginal Σ"].measured > 1e-3).all()


def test_a_table_of_ones_own_beyond_explicit_derivations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 2))
    outcomes = features @ rng.standard_normal((2, 4)) + rng.standard_normal((60, 4))
    frame = pd.DataFrame(np.hstack([features, outcomes]), columns=list("xyabcd"))
    frame.to_csv(tmp_path / "mine.csv", index=False)
    settings = wrong_covariance.Settings(tmp_path / "mine.csv", tuple("abcd"), lams=(1.0,))
    table = wrong_covariance.run(settings, seed=0)
    assert set(table.n) == {4}
    assert table.converged.all()
    assert (table.measured - table.predicted).abs().max() <= 1e-6
    assert (table.predicted[table.reward != "residual Σ"] > 0.01).all()


def test_figure_1_shows_every_arm_and_says_what_moved() -> None:
    figure = drawn(drawing_1.draw, corrected())
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(SMALL.arms)
    assert len(figure.axes) == 4
    assert "What moved" in drawing_1.caption(corrected())
    summary = drawing_1.summary(corrected())
    assert set(summary["σ"]) == {"0.5", "1", "all"}


def test_figure_1_as_published() -> None:
    short = replace(figure_1.ONE_RUN, repetitions=2, experiments=2, lams=(0.25, 1.58))
    table = figure_1.run(short, seed=0)
    figure = drawn(drawing_1.draw_as_published, table)
    assert len(figure.axes) == 6
    assert "of 40 of our medians" in drawing_1.caption_as_published(table)
    assert len(drawing_1.summary_as_published(table)) == 40


def test_wrong_covariance_and_its_caption() -> None:
    figure = drawn(drawing_cost.draw, linnerud())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"$U$ from {reward}" for reward in wrong_covariance.REWARDS
    ]
    assert "every run converged" in drawing_cost.caption(linnerud())
    assert "linnerud Weight, Waist, Pulse: 0.1851" in drawing_cost.caption(linnerud())


def test_wrong_covariance_leaves_out_what_did_not_converge() -> None:
    table, all_runs = linnerud().copy(), len(linnerud())
    lost = (table.targets == "Weight, Waist, Pulse") & (table.reward == "marginal Σ")
    table.loc[lost, "measured"] = 77.0
    table.loc[lost, "converged"] = False
    caption = drawing_cost.caption(table)
    assert (
        f" 2 of {all_runs} runs did not converge: linnerud Weight, Waist, Pulse (2). They are left "
        "out." in caption
    )
    assert "every run converged" not in caption
    assert "Pulse: 0.1851" not in caption
    assert "77" not in caption
    rows = drawing_cost.summary(table)
    assert rows[["measured", "distance"]].isna().all(axis=1).tolist() == lost.tolist()
    assert rows.converged.tolist() == (~lost).tolist()
    figure = drawn(drawing_cost.draw, table)
    assert figure.axes[0].get_xlim()[1] < 77

    none = drawing_cost.caption(table.assign(converged=False))
    assert f"{all_runs} of {all_runs} runs did not converge" in none
    assert "nan" not in none
    assert "Largest distance" not in none
    assert "costs, in nats" not in none
    drawn(drawing_cost.draw, table.assign(converged=False))
