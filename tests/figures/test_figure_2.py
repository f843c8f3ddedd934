"""Figure 2 on small settings: its runs, where the biased ones must settle, and its pictures."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from figures import figure_2 as drawing
from paper_checks.experiments import figure_2
from paper_checks.experiments.estimator_variance import settles
from solvers.data import Dataset
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.tasks import gaussian
from solvers.training import streams
from solvers.training.estimators import ScoreFunction
from solvers.training.objectives import PolicyGradient
from tests.pictures import drawn
from tests.shapes import unchecked

FEW = replace(figure_2.AS_PUBLISHED, repetitions=3, lams=(0.1, 1.0), epochs=3)
SMALL = replace(FEW, settling=(2, 5), settling_epochs=4, settling_samples=20)
ARMS = ("NLL", "PG(I)", "PG(U*)")
LAW = ["mean_1", "mean_2", "std_1", "std_2"]


@cache
def small() -> pd.DataFrame:
    return figure_2.run(SMALL, seed=0)


def rows_of(table: pd.DataFrame, arm: str, **where: float | str) -> pd.DataFrame:
    rows = table[table.arm == arm]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.reset_index(drop=True)


def data() -> Dataset:
    """Return the data sets of the repetitions under seed 0."""
    generators = [streams.generator(0, "data", i) for i in range(SMALL.repetitions)]
    return gaussian.draw(generators, inputs=2, n=2, samples=10, mean=6.5, scale=0.8).train


def test_every_run_is_in_the_table() -> None:
    counts = small().groupby("arm").size()
    assert counts[[*ARMS, "settling"]].tolist() == [3 * 4, 3 * 2 * 4, 3 * 2 * 4, 2 * 3 * 5]
    assert not small().drop(columns=[*LAW, "predicted"]).duplicated().any()
    assert small()[LAW].notna().all(axis=None)
    lams = {arm: list(rows_of(small(), arm).lam.dropna().unique()) for arm in ARMS}
    assert lams == {"NLL": [], "PG(I)": [0.1, 1.0], "PG(U*)": [0.1, 1.0]}
    assert set(rows_of(small(), "PG(I)").epoch) == {0, 1, 2, 3}
    settling = rows_of(small(), "settling").groupby(["baseline", "generations"]).epoch
    assert len(settling.max()) == 6
    assert (settling.max() == SMALL.settling_epochs).all()


def test_epoch_0_is_the_policy_before_any_update() -> None:
    policy, starts = figure_2.POLICY, range(SMALL.repetitions)
    params = policy.init([streams.generator(0, "init", i) for i in starts], (len(starts),))
    law = policy(params, data().x)
    want = torch.cat([law.mean, law.scale], -1)[:, 0].detach().numpy()
    assert np.linalg.norm(want[0] - want[1]) > 0.01
    for arm in ARMS:
        for _, rows in rows_of(small(), arm).fillna({"lam": 0.0}).groupby("lam"):
            start, after = (rows[rows.epoch == epoch][LAW].to_numpy() for epoch in (0, 1))
            np.testing.assert_allclose(start, want, rtol=1e-5, atol=1e-6)
            assert np.abs(after - start).min(axis=None) > 0
    settling = rows_of(small(), "settling", epoch=0)
    assert (settling[LAW].to_numpy() == [0, 0, 1, 1]).all()


def test_same_seed_same_bits_and_other_seeds_differ() -> None:
    again, other = (figure_2.run(SMALL, seed=seed) for seed in (0, 1))
    pd.testing.assert_frame_equal(small(), again, check_exact=True)
    moved = (small()[LAW] != other[LAW]).any(axis=1)
    # Settling runs start at the optimum under every seed, and move differently.
    assert moved[(small().arm != "settling") | (small().epoch > 0)].all()


def test_a_run_does_not_depend_on_its_neighbours() -> None:
    """Neither on other repetitions, nor on other λ, nor on other settling runs."""
    alone = figure_2.run(replace(SMALL, repetitions=1, lams=(1.0,), settling=(5,)), seed=0)
    for arm in ARMS:
        where = {"repetition": 0} if arm == "NLL" else {"repetition": 0, "lam": 1.0}
        among = rows_of(small(), arm, **where)
        pd.testing.assert_frame_equal(among, rows_of(alone, arm), rtol=1e-4)
    among = rows_of(small(), "settling", generations=5)
    pd.testing.assert_frame_equal(among, rows_of(alone, "settling"), check_exact=True)


@pytest.mark.parametrize("baseline", ["minimum", "leave-one-out"])
def test_arms_share_data_and_start_and_get_their_rewards(monkeypatch, baseline) -> None:
    trained, real = [], figure_2.train

    def spy(policy, params, objective, data, **rest):
        trained.append((params, objective, data))
        return real(policy, params, objective, data, **rest)

    monkeypatch.setattr(figure_2, "train", spy)
    figure_2.run(replace(SMALL, settling=(), baseline=baseline), seed=0)
    assert len(trained) == len(ARMS)
    for params, _, used in trained:
        assert torch.equal(used.y[:, 0], data().y)
        assert torch.equal(used.x[:, 0], data().x)
        for name, p in params.items():
            assert torch.equal(p, trained[0][0][name].expand_as(p)), name
    outcomes = data().y[:, 0].numpy()
    traces = np.array([np.trace(np.cov(y.T)) for y in outcomes])  # unbiased, as published
    weights = {1: np.ones((3, 2)), 2: np.array(SMALL.lams) * 2 / (2 * traces[:, None])}
    for k, want in weights.items():
        objective = trained[k][1]
        assert isinstance(objective, PolicyGradient)
        assert isinstance(objective.reward, MahalanobisReward)
        identity = np.eye(2) * want[..., None, None]
        np.testing.assert_allclose(objective.reward.U, identity, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(objective.lam, [list(SMALL.lams)] * 3)
        assert objective.estimator == ScoreFunction(SMALL.generations, baseline)


# n, M: standard deviation where the reward is averaged over the data, and where data are sampled
STATIONARY = {
    (1, 2): (2.346, 2.370),
    (1, 5): (1.499, 1.536),
    (1, 50): (1.072, 1.082),
    (2, 2): (2.000, 2.020),
    (2, 5): (1.357, 1.382),
    (2, 50): (1.048, 1.054),
}


@pytest.mark.parametrize(("n", "M"), STATIONARY)
def test_stationary_scales_are_those_of_the_theory(n: int, M: int) -> None:
    averaged, sampled = STATIONARY[n, M]
    assert round(settles("minimum", "averaged", n, M), 3) == averaged
    assert round(settles("minimum", "sampled", n, M), 3) == sampled
    if n == 2:  # E max of M χ²_2 is 2 H_M
        exact = (1 - sum(1 / k for k in range(1, M + 1)) / M) ** -0.5
        assert settles("minimum", "averaged", 2, M) == pytest.approx(exact, rel=1e-9)


def estimates(s: float, n: int, M: int, baseline: str, *, sampled: bool = True) -> np.ndarray:
    """Return one estimate per group of `dJ/d log s` for `U* = ½ I`, λ = 1, from the definition."""
    groups, rng = 200_000 // M * 5, np.random.default_rng(7)
    y = rng.standard_normal((groups, 1, n)) * sampled
    noise = rng.standard_normal((groups, M, n))
    rewards = -0.5 * ((s * noise - y) ** 2).sum(-1)
    baselines = {
        "minimum": rewards.min(1, keepdims=True),
        "mean": rewards.mean(1, keepdims=True),
        "leave-one-out": (rewards.sum(1, keepdims=True) - rewards) / (M - 1),
    }
    score = (noise**2).sum(-1) - n
    return ((rewards - baselines[baseline]) * score).mean(1) + n


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize(("n", "M"), [(2, 5), (1, 2)])
def test_stationary_scale_against_monte_carlo(n: int, M: int, sampled: bool) -> None:
    """The expected gradient vanishes there, and 2 % to either side it does not."""
    s = settles("minimum", "sampled" if sampled else "averaged", n, M)
    scales = (0.98 * s, s, 1.02 * s)
    draws = [estimates(scale, n, M, "minimum", sampled=sampled) for scale in scales]
    below, at, above = (d.mean() / d.std() * np.sqrt(len(d)) for d in draws)
    assert below > 5
    assert abs(at) < 3
    assert above < -5


def sampling_error(s: float, M: int, baseline: str, updates: int) -> float:
    """Return the standard error of the settled scale: `sd / (slope·sqrt(groups))`, times `s`.

    Over many updates the mean of the iterates errs by the mean of the gradients over their slope,
    whatever the step size.
    """
    low, at, high = (estimates(f * s, 2, M, baseline) for f in (1 / 1.02, 1.0, 1.02))
    slope = (low.mean() - high.mean()) / (2 * np.log(1.02))
    return float(s * at.std() / slope / np.sqrt(updates * figure_2.CORRECTED.settling_samples))


def test_settling_runs_end_where_predicted() -> None:
    fewer = replace(figure_2.CORRECTED, repetitions=1, lams=(1.0,), epochs=1, settling=(2, 5))
    ends = {end[:2]: end[2:] for end in drawing.settled_scales(figure_2.run(fewer, seed=0))}
    for M in (2, 5):
        want = {"minimum": STATIONARY[2, M][1], "mean": (M / (M - 1)) ** 0.5, "leave-one-out": 1.0}
        for baseline, end in want.items():
            measured, predicted = ends[baseline, M]
            assert predicted == pytest.approx(end, abs=5e-4)
            error = sampling_error(end, M, baseline, updates=100)
            assert 0.001 < error < 0.01
            assert abs(measured - end) < 5 * error, (baseline, M)
            if baseline != "leave-one-out":
                assert measured - 1 > 20 * error, (baseline, M)


@cache
@unchecked()
def drawable() -> pd.DataFrame:
    """Two repetitions, two λ, all the epochs that are drawn."""
    fewer = replace(figure_2.QUICK, repetitions=2, lams=(0.1, 1.0), settling=(2, 5))
    return figure_2.run(replace(fewer, settling_epochs=120, settling_samples=20), seed=0)


@pytest.mark.parametrize(
    ("draw", "lams", "panels", "others"),
    [
        (drawing.draw, 2, 6, 2),
        (drawing.draw_grid, 2, 12, 0),
        (drawing.draw_grid, 1, 6, 0),
        (drawing.draw_as_published, 2, 6, 0),
    ],
)
def test_panels_and_legends(draw, lams: int, panels: int, others: int) -> None:
    table = drawable()
    figure = drawn(draw, table[(table.lam != 1) | (lams == 2) | (table.arm == "settling")])
    assert len(figure.axes) == panels + others
    (legend,) = figure.legends
    labels = ["initial", "target", "NLL", "PG, $U^\\star$", "PG, $U = I$"]
    assert [text.get_text() for text in legend.get_texts()] == labels
    titles = [axis.get_title() for axis in figure.axes[:6]]
    assert titles == [f"epoch {epoch}" for epoch in (0, 5, 10, 25, 40, 50)]
    for axis in figure.axes[:panels]:
        box = axis.get_window_extent()
        assert box.width == pytest.approx(box.height, rel=0.01)
        assert [np.shape(cloud.get_offsets()) for cloud in axis.collections] == 5 * [(100, 2)]
    if draw is drawing.draw_grid:
        assert figure.axes[-6].get_ylabel() == ("", "$\\lambda = 0.1$", "$\\lambda = 1$")[lams]
    inside = [axis.get_legend() for axis in figure.axes]
    assert not any(inside[:-1])  # only the last panel, where the lines leave room
    assert bool(inside[-1]) == (others > 0)


def test_points_are_those_of_the_table() -> None:
    """Samples of a law are near its mean, and as wide as it is."""
    table = drawable().copy()
    chosen = (table.arm == "PG(I)") & (table.epoch == 25) & (table.lam == 0.1)
    table.loc[chosen & (table.repetition == 0), LAW] = [1.0, -3.0, 0.5, 2.0]
    axis = drawn(drawing.draw, table).axes[3]
    (cloud,) = [c for c in axis.collections if c.get_label() == "PG(I)"]
    points = np.asarray(cloud.get_offsets())
    assert points.mean(0) == pytest.approx([1, -3], abs=1)
    assert points.std(0) == pytest.approx([0.5, 2.0], rel=0.3)


def test_settling_panels_show_runs_and_predictions() -> None:
    figure = drawn(drawing.draw, drawable())
    for axis, M in zip(figure.axes[-2:], (2, 5), strict=True):
        assert axis.get_title() == f"$M = {M}$ generations"
        assert [len(np.ravel(curve.get_xdata())) for curve in axis.lines[::2]] == 3 * [121]
        levels = [float(np.ravel(level.get_ydata())[0]) for level in axis.lines[1::2]]
        want = [STATIONARY[2, M][1], (M / (M - 1)) ** 0.5, 1.0]
        assert levels == pytest.approx(want, abs=5e-4)
    labels = figure.axes[-1].get_legend_handles_labels()[1]
    assert labels == ["minimum (published)", "group mean", "leave-one-out"]


def test_captions_are_computed_from_the_table() -> None:
    table = drawable().copy()
    end = (table.arm == "PG(U*)") & (table.epoch == 50)
    table.loc[end & (table.lam == 0.1), ["std_1", "std_2"]] = 2 * 0.8
    table.loc[end & (table.lam == 1.0), ["std_1", "std_2"]] = [0.8, 7**0.5 * 0.8]
    table.loc[(table.arm == "PG(I)") & (table.epoch == 50), ["std_1", "std_2"]] = 0.4
    shifted = (table.baseline == "minimum") & (table.generations == 5) & (table.epoch > 20)
    table.loc[shifted, ["std_1", "std_2"]] = 1.234
    table.loc[table.baseline == "minimum", "predicted"] = 4.321
    widths = "PG(U*) and PG(I), median of 2 repetitions: λ = 0.1: 2.00 and 0.50; λ = 1: 2.00 and"
    for caption in (drawing.caption, drawing.caption_grid, drawing.caption_as_published):
        assert widths in caption(table)
        assert widths not in caption(drawable())
        single = caption(table[table.repetition == 0])
        assert "PG(U*) and PG(I), one run: λ = 0.1: 2.00" in single
    assert "What moved" in drawing.caption(table)
    assert "minimum, M = 5: 1.234 (predicted 4.321)" in drawing.caption(table)


def test_summary_holds_the_last_laws_and_the_settled_scales() -> None:
    table = drawable().copy()
    chosen = (table.arm == "NLL") & (table.epoch == 50)
    table.loc[chosen, LAW] = [6.5 + 3, 6.5 - 4, 1.6, 1.6]
    summary = drawing.summary(table)
    assert len(summary) == 1 + 2 + 2 + 6
    nll = summary[summary.arm == "NLL"].iloc[0]
    assert nll["median mean error"] == pytest.approx(5)
    assert nll["median std / σ"] == pytest.approx(2)
    late = rows_of(table, "settling", baseline="minimum", generations=2).query("epoch > 20")
    settled = summary[summary.arm == "settling, minimum, M = 2"].iloc[0]
    assert settled.predicted == late.predicted.iloc[0]
    want = np.sqrt((late.std_1**2 + late.std_2**2) / 2).mean()
    assert settled["median std / σ"] == pytest.approx(want)
