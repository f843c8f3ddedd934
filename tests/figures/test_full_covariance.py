"""Full covariance on small settings: runs, the ends that the theory predicts, and its pictures."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats
from torch.distributions import MultivariateNormal

from figures import full_covariance as drawing
from paper_checks.experiments import full_covariance
from paper_checks.experiments.arms import labels
from solvers.tasks import gaussian
from solvers.training import streams
from tests.pictures import drawn, legend
from tests.shapes import unchecked

SMALL = replace(full_covariance.CORRECTED, experiments=3, epochs=3, recorded=(), chunk=2)
PUBLISHED = replace(SMALL, arms=full_covariance.AS_PUBLISHED.arms, paired=False)
STARTS = replace(SMALL, epochs=0)  # nothing is trained: for what is known before
M = np.array([[2.631, -3.399], [-3.399, 5.735]])


@cache
def small() -> pd.DataFrame:
    return full_covariance.run(SMALL, seed=0)


def rows_of(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    return table[table.arm == arm].reset_index(drop=True)


def task(experiments: int) -> gaussian.GaussianTask:
    """Return the data sets of the experiments under seed 0."""
    generators = [streams.generator(0, "data", i) for i in range(experiments)]
    return gaussian.draw(generators, inputs=10, n=2, samples=64, mean=1.0, dtype=torch.float64)


def outcomes(experiments: int) -> list[np.ndarray]:
    return list(task(experiments).train.y[:, 0].numpy())


def test_every_run_is_in_the_table() -> None:
    assert small().groupby("arm").size().to_dict() == dict.fromkeys(labels(SMALL.arms), 3 * 4)
    assert not small().duplicated(["arm", "experiment", "epoch"]).any()
    assert set(small().epoch) == {0, 1, 2, 3}
    assert small().notna().all(axis=None)
    some = full_covariance.run(replace(SMALL, recorded=(0, 2)), seed=0)
    kept = small()[small().epoch.isin([0, 2])].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, kept, check_exact=True)


def test_same_seed_same_bits_and_other_seeds_differ() -> None:
    again, other = (full_covariance.run(SMALL, seed=seed) for seed in (0, 1))
    pd.testing.assert_frame_equal(small(), again, check_exact=True)
    assert (small().nll != other.nll).all()


@pytest.mark.parametrize("settings", [SMALL, PUBLISHED], ids=["corrected", "as published"])
def test_neither_other_arms_nor_chunks_change_a_run(settings: full_covariance.Settings) -> None:
    whole = full_covariance.run(settings, seed=0)
    for arm in settings.arms:
        alone = full_covariance.run(replace(settings, arms=(arm,)), seed=0)
        pd.testing.assert_frame_equal(rows_of(whole, arm.label), alone, check_exact=True)
    one = full_covariance.run(replace(settings, chunk=1), seed=0)
    a, b = (t.set_index(["arm", "experiment", "epoch"]).sort_index() for t in (whole, one))
    pd.testing.assert_frame_equal(a, b, rtol=1e-8, atol=1e-12)


def spied(monkeypatch, settings: full_covariance.Settings) -> tuple[dict, pd.DataFrame]:
    """Return initial and trained parameters of each arm, all experiments in one chunk."""
    seen, real = [], full_covariance.train

    def spy(policy, params, *rest, **named):
        trained = real(policy, params, *rest, **named)
        seen.append((params, trained))
        return trained

    monkeypatch.setattr(full_covariance, "train", spy)
    # one after the other: arms of one run are trained side by side
    runs = [replace(settings, arms=(arm,), chunk=50) for arm in settings.arms]
    tables = [full_covariance.run(one, seed=0) for one in runs]
    return dict(zip(labels(settings.arms), seen, strict=True)), pd.concat(tables, ignore_index=True)


def test_paired_arms_start_from_the_same_policies(monkeypatch) -> None:
    params, table = spied(monkeypatch, STARTS)
    for start, _ in params.values():
        for name, p in start.items():
            assert torch.equal(p, params["NLL"][0][name]), name
            assert not torch.equal(p[0], p[1]), name
    nll = table.pivot(index="experiment", columns="arm", values="nll")
    assert (nll.nunique(axis=1) == 1).all()


def test_published_arms_start_apart_and_one_of_them_from_one_policy(monkeypatch) -> None:
    params, _ = spied(monkeypatch, replace(PUBLISHED, epochs=0))
    starts = {arm: start["mean.weight0"] for arm, (start, _) in params.items()}
    drawn_once = {arm: all(torch.equal(w[0], w[i]) for i in (1, 2)) for arm, w in starts.items()}
    assert drawn_once == {"NLL": False, "PG(M)": False, "PG(U*)": True}
    for one, other in (("NLL", "PG(M)"), ("NLL", "PG(U*)"), ("PG(M)", "PG(U*)")):
        for i in range(3):
            assert not torch.equal(starts[one][i], starts[other][i])


@pytest.mark.parametrize("settings", [SMALL, PUBLISHED], ids=["corrected", "as published"])
def test_arms_share_data(settings: full_covariance.Settings) -> None:
    """The lowest possible NLL is a function of the data alone."""
    table = full_covariance.run(settings, seed=0)
    floor = (table.nll - table.excess_nll).groupby(table.experiment)
    assert floor.std().max() < 1e-12
    laws = [stats.multivariate_normal(y.mean(0), np.cov(y.T, bias=True)) for y in outcomes(3)]
    best = [-law.logpdf(y).mean() for law, y in zip(laws, outcomes(3), strict=True)]
    assert floor.mean().to_numpy() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_metrics_against_their_definitions(monkeypatch, precision) -> None:
    settings = replace(SMALL, arms=full_covariance.CORRECTED_ARMS[:2], precision=precision)
    params, table = spied(monkeypatch, settings)
    data = task(3)
    for arm, (start, end) in params.items():
        for epoch, theta in ((0, start), (3, end)):
            law = full_covariance.POLICY(theta, data.train.x.to(theta["mean.weight0"].dtype))
            m, S = law.mean[:, 0].detach().double(), law.scale[:, 0].detach().double()
            rows = table[(table.arm == arm) & (table.epoch == epoch)]
            for i, y in enumerate(data.train.y[:, 0]):
                nll = -MultivariateNormal(m[i], scale_tril=S[i]).log_prob(y).mean()
                Sigma_hat = torch.cov(y.T, correction=0)
                best = -MultivariateNormal(y.mean(0), Sigma_hat).log_prob(y).mean()
                A = data.factor[i]
                want = {
                    "nll": nll,
                    "excess_nll": nll - best,
                    "mean_error": (m[i] - 1).norm(),
                    "covariance_error": (S[i] @ S[i].T - Sigma_hat).norm(),
                    "cholesky_error": (S[i] - torch.linalg.cholesky(A @ A.T)).norm(),
                }
                got = rows[rows.experiment == i][list(want)].iloc[0]
                assert got.to_dict() == pytest.approx({k: float(v) for k, v in want.items()})


@cache
def predictions() -> pd.DataFrame:
    """A column per arm, a row per experiment: the predicted excess NLL."""
    arms = (*SMALL.arms, *PUBLISHED.arms[1:])
    table = full_covariance.run(replace(STARTS, arms=arms, experiments=8), seed=0)
    return table.pivot(index="experiment", columns="arm", values="predicted")


def excess(y: np.ndarray, P: np.ndarray) -> float:
    """Return the excess NLL of `N(ȳ, P)` over the best Gaussian, from log-densities."""
    best, law = (stats.multivariate_normal(y.mean(0), S) for S in (np.cov(y.T, bias=True), P))
    return (best.logpdf(y) - law.logpdf(y)).mean()


@pytest.mark.parametrize(("arm", "direction"), [("PG(ray)", M), ("PG(isotropic)", np.eye(2))])
def test_predicted_ends_are_the_best_on_their_ray(arm: str, direction: np.ndarray) -> None:
    """The inner solution is `P = (λ/2)(cM)⁻¹`: minimise its excess over log c numerically."""
    for y, predicted in zip(outcomes(8), predictions()[arm], strict=True):

        def loss(log_c: float, y: np.ndarray = y) -> float:
            return excess(y, 0.001 / 2 * np.linalg.inv(np.exp(log_c) * direction))

        best = optimize.minimize_scalar(loss, bounds=(-12, 12), method="bounded")
        assert predicted == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("arm", ["PG(M)", "PG(U*)"])
def test_predicted_ends_of_published_arms(arm: str) -> None:
    """Twice: from the inner solution, and as loss of the ray plus regret of the scale on it."""
    traces = np.trace(task(8).covariance.numpy(), axis1=1, axis2=2)  # of the true Σ, as published
    scales = np.ones(8) if arm == "PG(M)" else 0.001 * 2 / traces
    for y, c, predicted in zip(outcomes(8), scales, predictions()[arm], strict=True):
        assert predicted == pytest.approx(excess(y, 0.001 / 2 * np.linalg.inv(c * M)), rel=1e-9)
        product = M @ np.cov(y.T, bias=True)
        loss = math.log(np.trace(product) / 2) - 0.5 * math.log(np.linalg.det(product))
        k = c / (0.001 * 2 / (2 * np.trace(product)))
        assert predicted == pytest.approx(loss + (k - 1 - math.log(k)), rel=1e-9)


def test_only_the_optimum_is_predicted_to_lose_nothing() -> None:
    optimal = ["NLL", "PG(U*), leave-one-out", "PG(U*), analytic"]
    assert predictions()[optimal].abs().max(axis=None) < 1e-9
    assert predictions().drop(columns=optimal).min(axis=None) > 1e-3


def test_converged_arms_end_where_predicted() -> None:
    """On experiments whose Σ̂ is well conditioned, all of them; gradients are exact."""
    arms = full_covariance.CORRECTED_ARMS[2:]
    settings = replace(full_covariance.CORRECTED, arms=arms, experiments=10, recorded=(0, 300))
    last = drawing.final(full_covariance.run(settings, seed=0))
    conditions = [np.linalg.cond(np.cov(y.T, bias=True)) for y in outcomes(10)]
    good = [i for i, condition in enumerate(conditions) if condition < 100]
    assert len(good) >= 6
    for arm in labels(arms):
        rows = last[(last.arm == arm) & last.experiment.isin(good)]
        assert len(rows) == len(good)
        assert (rows.excess_nll - rows.predicted).abs().max() < 1e-4, arm


@cache
@unchecked()
def drawable() -> pd.DataFrame:
    return full_covariance.run(replace(SMALL, experiments=4, epochs=40, generations=5), seed=0)


@cache
@unchecked()
def published() -> pd.DataFrame:
    return full_covariance.run(
        replace(full_covariance.AS_PUBLISHED, experiments=4, generations=5), seed=0
    )


def test_picture_shows_every_arm_and_the_predicted_ends() -> None:
    table = drawable().copy()
    table.loc[table.arm == "PG(ray)", "predicted"] = 0.25
    figure = drawn(drawing.draw, table)
    assert len(figure.axes) == 4
    assert legend(figure) == [drawing.LABELS.get(arm, arm) for arm in labels(SMALL.arms)]
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    isotropic = rows_of(table, "PG(isotropic)").predicted.median()
    assert [float(np.ravel(line.get_ydata())[0]) for line in dotted] == [0.25, isotropic]
    box = figure.axes[3].get_window_extent()
    assert box.width == pytest.approx(box.height, rel=0.01)
    assert figure.axes[3].get_xlim() == figure.axes[3].get_ylim()
    for arm, points in zip(("PG(ray)", "PG(isotropic)"), figure.axes[3].collections, strict=True):
        ends = drawing.final(rows_of(table, arm))[["predicted", "excess_nll"]]
        assert np.asarray(points.get_offsets()) == pytest.approx(ends.to_numpy())


def test_published_picture_has_the_published_values_as_markers() -> None:
    figure = drawn(drawing.draw_as_published, published())
    assert legend(figure) == [drawing.LABELS.get(arm, arm) for arm in labels(PUBLISHED.arms)]
    for axis, end in zip(figure.axes, (0.273, 0.190, 1.509), strict=True):
        markers = [line for line in axis.lines if line.get_linestyle() == "None"]
        assert len(markers) == 3
        assert float(np.ravel(markers[0].get_ydata())[-1]) == end  # of NLL, at epoch 99


def test_caption_and_summary_are_computed_from_the_table() -> None:
    table = drawable().copy()
    chosen = table.arm == "PG(ray)"
    table.loc[chosen, "excess_nll"], table.loc[chosen, "predicted"] = 0.37, 0.35
    table.loc[chosen & (table.experiment == 0), "predicted"] = 0.37
    text = "PG(ray) 0.37 (predicted 0.35; more than 0.01 nats off: 3 of 4)"
    assert text in drawing.caption(table)
    assert text not in drawing.caption(drawable())
    fewer = drawing.caption(table[(table.epoch <= 20) & (table.experiment < 3)])
    for experiments, epoch, caption in ((4, 40, drawing.caption(table)), (3, 20, fewer)):
        assert f"over {experiments} experiments" in caption
        assert f"at epoch {epoch}" in caption
    assert "What moved" in fewer
    summary = drawing.summary(table).set_index("arm")
    assert list(summary.index) == [*labels(SMALL.arms)]
    for arm, rows in table[table.epoch == 40].groupby("arm"):
        assert summary["median excess_nll"][arm] == rows.excess_nll.median()
        assert summary["median mean_error"][arm] == rows.mean_error.median()
    assert summary["median gap"]["PG(ray)"] == pytest.approx(0.02)


def test_published_caption_and_summary_are_computed_from_the_table() -> None:
    summary = drawing.summary_as_published(published())
    assert len(summary) == 43
    row = summary.iloc[4]
    runs = published()[(published().arm == "NLL") & (published().epoch == 99)].cholesky_error
    assert (row["metric"], row["arm"], row["published"]) == ("cholesky_error", "NLL", 0.273)
    assert row["ours"] == pytest.approx(runs.mean())
    assert row["standard error"] == pytest.approx(runs.std() / 2)
    table = published().copy()
    for arm, error in {"NLL": 0.11, "PG(M)": 0.22, "PG(U*)": 0.33}.items():
        table.loc[(table.arm == arm) & (table.epoch == 50), "mean_error"] = error
    table.loc[table.epoch == 0, ["nll", "cholesky_error", "mean_error"]] = [9.526, 0.838, 1.423]
    caption = drawing.caption_as_published(table)
    assert "0.11 (NLL; published 0.80), 0.22 (PG(M); published 1.12), 0.33 (PG(U*)" in caption
    assert "start within 100% of the published ones" in caption  # 9.526 is twice 4.763
    assert "learn faster" in caption
    last = table.epoch == 100
    for arm, wins in {"NLL": "3", "PG(M)": "0"}.items():
        table.loc[last, list(drawing.PUBLISHED_PANELS)] = 2.0
        table.loc[last & (table.arm == arm), list(drawing.PUBLISHED_PANELS)] = 1.0
        assert f"NLL ends lowest in {wins} of 3 panels" in drawing.caption_as_published(table)
    table.loc[(table.arm == "NLL") & (table.epoch == 50), "mean_error"] = 0.9
    assert "learn faster" not in drawing.caption_as_published(table)
