"""Claims about pictures: on made-up runs each can come out the other way."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from paper_checks.claims.claim import Verdict
from paper_checks.claims.pictures import figure_2, full_covariance
from paper_checks.experiments.arms import PG_RAY
from paper_checks.experiments.minimum_shift import stationary_scale
from paper_checks.statistics import Interval

REPRODUCED, NOT_REPRODUCED = Verdict.reproduced, Verdict.not_reproduced


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- figure 2 ---


def fake_settled(monkeypatch, rng, published: float, corrected: float, noise: float = 0.002):
    columns = {("minimum", M): published for M in figure_2.LONG_RUN.settling}
    columns[("leave-one-out", figure_2.M)] = corrected
    scatter = rng.normal(0, noise, (len(columns), 8))
    scatter -= scatter.mean(1, keepdims=True)
    table = pd.DataFrame({k: v + e for (k, v), e in zip(columns.items(), scatter, strict=True)})
    monkeypatch.setattr(figure_2, "settled", lambda seed: table)


@pytest.mark.parametrize(
    ("published", "corrected", "expected"),
    [
        (1.38, 1.0, "corrected"),
        (1.38, 1.1, "not reproduced"),
        (1.02, 1.0, "not reproduced"),  # on the edge: undecided
        (1.0, 1.0, "reproduced"),
    ],
)
def test_the_target_needs_both_estimators(monkeypatch, rng, published, corrected, expected) -> None:
    fake_settled(monkeypatch, rng, published, corrected)
    found = figure_2.reaches_target(0)
    assert (found.verdict, found.published) == (expected, 1.0)
    assert found.ours == pytest.approx(published)
    assert "predicted 1.382" in found.evidence


def test_runs_too_noisy_to_tell_do_not_count_as_reaching_the_target(monkeypatch, rng) -> None:
    fake_settled(monkeypatch, rng, 1.0, 1.0, noise=0.2)
    assert figure_2.reaches_target(0).verdict is NOT_REPRODUCED


@pytest.mark.parametrize("M", figure_2.LONG_RUN.settling)
def test_settling_is_held_against_the_prediction(monkeypatch, rng, M) -> None:
    predicted = stationary_scale(2, M)
    for factor, noise, expected in (
        (1.0, 0.002, REPRODUCED),
        (1.02, 0.002, NOT_REPRODUCED),
        (1.0, 2.0, NOT_REPRODUCED),  # holds 1 as well
    ):
        fake_settled(monkeypatch, rng, factor * predicted, 1.0, noise)
        assert figure_2.settles_as_predicted(M, 0).verdict is expected


def fake_pictures(monkeypatch, rng, distance: float, slope: float, level: float) -> None:
    """Widths `level λ^slope`, distances of U* as given at one λ, and 0.3 at the others."""
    rows = [
        {
            "arm": arm,
            "lam": lam,
            "repetition": i,
            "distance": (distance if lam == 1.0 else 0.3) * rng.lognormal(0, 0.2),
            "width": (level * lam**slope if arm == "PG(I)" else 1.3) * rng.lognormal(0, 0.1),
        }
        for arm in ("PG(I)", "PG(U*)")
        for lam in figure_2.PICTURES.lams
        for i in range(figure_2.PICTURES.repetitions)
    ]
    monkeypatch.setattr(figure_2, "pictures", lambda seed: pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("distance", "expected"), [(0.5, REPRODUCED), (1.0, NOT_REPRODUCED), (2.0, NOT_REPRODUCED)]
)
def test_the_mean_must_arrive_at_every_weight(monkeypatch, rng, distance, expected) -> None:
    fake_pictures(monkeypatch, rng, distance, 0.5, 1.0)
    found = figure_2.mean_arrives(0)
    assert found.verdict is expected
    if distance > 0.5:
        assert "λ = 1, the furthest of 5" in found.evidence


@pytest.mark.parametrize(
    ("slope", "level", "expected"),
    [
        (0.5, 1.0, REPRODUCED),
        (0.0, 1.0, NOT_REPRODUCED),
        (-0.5, 1.0, NOT_REPRODUCED),
        (0.5, 10.0, NOT_REPRODUCED),  # too wide for every λ
        (0.5, 0.1, NOT_REPRODUCED),  # too narrow for every λ
    ],
)
def test_the_width_must_grow_through_the_right_one(
    monkeypatch, rng, slope, level, expected
) -> None:
    fake_pictures(monkeypatch, rng, 0.5, slope, level)
    found = figure_2.width_follows_weight(0)
    assert found.verdict is expected
    assert found.ours == pytest.approx(slope, abs=0.05)


def test_tables_of_figure_2_come_from_its_experiment(monkeypatch) -> None:
    """On tiny runs: one number per seed and baseline, late epochs only; laws in units of σ."""
    small = replace(figure_2.LONG_RUN, settling=(2, 5), settling_epochs=3, settling_samples=8)
    monkeypatch.setattr(figure_2, "LONG_RUN", small)
    monkeypatch.setattr(figure_2, "SEEDS", 2)
    monkeypatch.setattr(figure_2, "ARRIVED", 1)
    seed = 987654321  # no other test's cache
    found = figure_2.settled(seed)
    assert found.shape == (2, 6)
    assert ("minimum", 5) in found.columns
    assert found[("minimum", 5)].nunique() == 2
    assert found.to_numpy() == pytest.approx(1, abs=0.1)  # starts at the optimum

    monkeypatch.setattr(figure_2, "PICTURES", replace(figure_2.PICTURES, repetitions=2, epochs=1))
    monkeypatch.setattr(figure_2, "LAST", 0)
    rows = figure_2.pictures(seed)
    assert rows.distance.to_numpy() == pytest.approx(6.5 / 0.8, abs=1)
    assert rows.width.to_numpy() == pytest.approx(1 / 0.8, abs=0.5)


# --- full covariance ---


def fake_published_runs(monkeypatch, rng, factor: float, scatter: float = 0.1) -> None:
    """Runs whose means are `factor` times the values read off the picture."""
    read = full_covariance.picture()
    frame = pd.MultiIndex.from_product(
        [full_covariance.SHORT, full_covariance.EPOCHS, range(full_covariance.RUNS), range(20)],
        names=["arm", "epoch", "run", "experiment"],
    )
    table = pd.DataFrame(index=frame)
    for metric in full_covariance.PIXEL:
        values = read[read.metric == metric].set_index(["arm", "epoch"])["value"]
        centre = values.reindex(frame.droplevel(["run", "experiment"])).to_numpy()
        table[metric] = centre * factor * (1 + rng.normal(0, scatter, len(frame)))
    monkeypatch.setattr(full_covariance, "published_runs", lambda seed: table.reset_index())


@pytest.mark.parametrize("arm", full_covariance.SHORT)
@pytest.mark.parametrize(
    ("factor", "expected"), [(1.0, REPRODUCED), (0.6, NOT_REPRODUCED), (1.5, NOT_REPRODUCED)]
)
def test_the_picture_decides(monkeypatch, rng, arm, factor, expected) -> None:
    fake_published_runs(monkeypatch, rng, factor)
    found = full_covariance.shows((arm,), full_covariance.EPOCHS[1:], "; a remark", 0)
    assert found.verdict is expected
    assert found.evidence.startswith("12 of 12") == (factor == 1)
    assert ("learn faster" in found.evidence) == (factor == 0.6)
    assert found.evidence.endswith("; a remark")
    assert found.published in set(full_covariance.picture().value)


def test_the_start_is_compared_at_epoch_0_only(monkeypatch, rng) -> None:
    fake_published_runs(monkeypatch, rng, 1.0)
    claim = next(c for c in full_covariance.claims() if c.name == "full-covariance.published.start")
    assert claim.judge(0).evidence.startswith("7 of 7")
    fake_published_runs(monkeypatch, rng, 2.0)
    assert claim.judge(0).verdict is NOT_REPRODUCED


def test_runs_are_the_unit_where_they_share_a_policy(monkeypatch, rng) -> None:
    """Twice as many experiments in a run leave the interval of PG(U*) as it is."""
    fake_published_runs(monkeypatch, rng, 1.0, 0.1)
    table = full_covariance.published_runs(0)
    twice = pd.concat([table, table.assign(experiment=table.experiment + 20)])
    widths: dict[str, list[float]] = {"NLL": [], "PG(U*)": []}
    for rows in (table, twice):
        monkeypatch.setattr(full_covariance, "published_runs", lambda seed, rows=rows: rows)
        for arm, found in widths.items():
            interval = full_covariance.compare("mean_error", arm, 50, 1.0, 0).interval
            found.append(interval.high - interval.low)
    assert widths["PG(U*)"][1] == pytest.approx(widths["PG(U*)"][0])
    assert widths["NLL"][1] < 0.95 * widths["NLL"][0]


@pytest.mark.parametrize("panel", full_covariance.PANELS, ids=lambda panel: panel.name)
def test_nll_must_end_below_both_arms(monkeypatch, rng, panel) -> None:
    columns = pd.MultiIndex.from_product(
        [[p.metric for p in full_covariance.PANELS], full_covariance.SHORT]
    )
    levels = {"NLL": 1.0, "PG(M)": 3.0, "PG(U*)": 2.0}
    centre = [levels[arm] for _, arm in columns]
    means = pd.DataFrame(
        rng.normal(centre, 0.1, (full_covariance.PANEL_RUNS, len(centre))), None, columns
    )
    monkeypatch.setattr(full_covariance, "panel_means", lambda seed: means)
    found = full_covariance.nll_wins(panel, 0)
    assert found.verdict is REPRODUCED
    assert found.ours == pytest.approx(-1, abs=0.1)
    close = means.copy()
    close[(panel.metric, "PG(U*)")] = rng.normal(1.0, 0.1, len(means))
    monkeypatch.setattr(full_covariance, "panel_means", lambda seed: close)
    found = full_covariance.nll_wins(panel, 0)
    assert found.verdict is NOT_REPRODUCED
    assert "minus PG(U*)" in found.evidence


def test_panels_are_means_of_runs(monkeypatch) -> None:
    small = replace(full_covariance.PANEL, experiments=2, epochs=1, recorded=(1,))
    monkeypatch.setattr(full_covariance, "PANEL", small)
    monkeypatch.setattr(full_covariance, "PANEL_RUNS", 2)
    full_covariance.panel_means.cache_clear()
    found = full_covariance.panel_means(0)
    full_covariance.panel_means.cache_clear()
    assert found.shape == (2, len(full_covariance.PANELS) * len(full_covariance.SHORT))
    assert found["nll"].notna().all(axis=None)


@pytest.mark.parametrize(
    ("published", "corrected", "expected"),
    [
        ((0.5, 2.0), (0.0, 0.001), "corrected"),
        ((0.0, 0.001), (0.0, 0.001), "reproduced"),
        ((0.5, 2.0), (0.0, 0.1), "not reproduced"),
        ((0.005, 2.0), (0.0, 0.001), "not reproduced"),
    ],
)
def test_the_reward_is_corrected_only_if_both_are_clear(
    published: tuple[float, float], corrected: tuple[float, float], expected: str
) -> None:
    found = full_covariance.correction(Interval(*published, 0.95), Interval(*corrected, 0.95))
    assert found == expected


def fake_ends(monkeypatch, rng, measured: dict[str, float], predicted: float) -> None:
    rows = [
        {"arm": arm, "excess_nll": excess * rng.lognormal(0, 0.1), "predicted": predicted}
        for arm, excess in measured.items()
        for _ in range(40)
    ]
    table = pd.DataFrame(rows)
    table["gap"] = (table.excess_nll - table.predicted).abs()
    monkeypatch.setattr(full_covariance, "ends", lambda seed: table)


@pytest.mark.parametrize(("loss", "expected"), [(0.001, "corrected"), (0.1, "not reproduced")])
def test_the_optimum_is_judged_by_what_it_loses(monkeypatch, rng, loss, expected) -> None:
    fake_ends(monkeypatch, rng, {"PG(U*)": 1.5, "PG(U*), analytic": loss}, 0.0)
    found = full_covariance.is_optimal(0)
    assert (found.verdict, found.published) == (expected, 0.0)
    assert found.ours == pytest.approx(loss, rel=0.2)


@pytest.mark.parametrize(
    ("measured", "expected"), [(0.02, REPRODUCED), (0.05, NOT_REPRODUCED), (1.0, NOT_REPRODUCED)]
)
def test_a_ray_must_end_at_its_loss(monkeypatch, rng, measured, expected) -> None:
    fake_ends(monkeypatch, rng, {"PG(ray)": measured}, 0.02)
    assert full_covariance.ends_as_predicted(PG_RAY, 0).verdict is expected


def test_tables_of_full_covariance_come_from_its_experiment(monkeypatch) -> None:
    """On tiny runs: a column for the run, and the gap to the prediction at the last epoch."""
    small = replace(
        full_covariance.PUBLISHED, experiments=2, epochs=1, recorded=(0,), generations=2
    )
    monkeypatch.setattr(full_covariance, "PUBLISHED", small)
    monkeypatch.setattr(full_covariance, "RUNS", 2)
    seed = 987654321  # no other test's cache
    found = full_covariance.published_runs(seed)
    assert set(zip(found.run, found.experiment, strict=True)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert set(found.arm) == set(full_covariance.SHORT)

    small = replace(
        full_covariance.CORRECTED, experiments=2, epochs=1, recorded=(1,), generations=2
    )
    monkeypatch.setattr(full_covariance, "CORRECTED", small)
    ends = full_covariance.ends(seed)
    assert set(ends.epoch) == {1}
    assert (ends.gap == (ends.excess_nll - ends.predicted).abs()).all()
