"""Overshoot on few class probabilities: what is learned is what is derived, and its picture."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from figures import overshoot as drawing
from figures import style
from paper_checks.experiments import overshoot
from paper_checks.experiments.arms import labels
from solvers.errors import InputError
from tests.shapes import unchecked

SMALL = overshoot.Settings(
    lowest=0.1, points=17, generations=50, repetitions=6, steps=600, learning_rate=0.05
)
ARMS, EXACT = labels(overshoot.ARMS), labels(overshoot.EXACT)
PUBLISHED = ARMS[:2]


@cache
@unchecked()
def small() -> pd.DataFrame:
    return overshoot.run(SMALL, seed=0)


def of(kind: str, *arms: str) -> pd.DataFrame:
    """Return the rows of a kind, of these arms or of all."""
    rows = small()[(small().kind == kind) & small().arm.isin(arms or ARMS)]
    return rows.reset_index(drop=True)


def kl(pi: pd.Series, logit: pd.Series) -> pd.Series:
    """Return `KL(π ‖ p)` from its definition."""
    log_p, log_q = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    return pi * (np.log(pi) - log_p) + (1 - pi) * (np.log1p(-pi) - log_q)


def test_every_case_is_in_the_table_once() -> None:
    assert not small().duplicated(["arm", "pi", "kind", "repetition"]).any()
    counts = small().groupby("kind").size().to_dict()
    cases = len(ARMS) * SMALL.points
    assert counts == {"predicted": cases, "exact": cases, "sampled": cases * SMALL.repetitions}
    assert small().drop(columns="converged").notna().all(axis=None)
    assert of("exact").converged.all()
    assert small().converged[small().kind != "exact"].isna().all()
    for _, rows in small().groupby(["arm", "kind", "repetition"]):
        assert (rows.pi == 0.5).sum() == 1
        assert rows.pi.to_numpy() == pytest.approx(np.linspace(0.1, 0.9, 17), abs=1e-15)


def test_costs_are_divergences_of_the_learned_law() -> None:
    assert small().p.to_numpy() == pytest.approx(1 / (1 + np.exp(-small().logit.to_numpy())))
    assert small().kl.to_numpy() == pytest.approx(kl(small().pi, small().logit), abs=1e-13)
    assert (small().kl > -1e-14).all()


@pytest.mark.parametrize("lam", [0.5, 3.0])
def test_exact_training_ends_where_it_is_derived_to_end(lam: float) -> None:
    few = replace(SMALL, lowest=0.02, lam=lam, steps=0)
    rows = overshoot.run(few, seed=0).set_index(["arm", "pi"])
    derived, found = (rows[rows.kind == kind] for kind in ("predicted", "exact"))
    assert derived.index.equals(found.index)
    assert found.p.to_numpy() == pytest.approx(derived.p.to_numpy(), abs=1e-6)
    # and so where a softmax is saturated and p would not show it
    assert found.logit.to_numpy() == pytest.approx(derived.logit.to_numpy(), rel=1e-9, abs=1e-9)
    assert found.kl.to_numpy() == pytest.approx(derived.kl.to_numpy(), abs=1e-9)
    assert derived.logit.abs().max() > 90


def test_logits_are_those_of_the_theory() -> None:
    for rows in (of("predicted"), of("exact")):
        pi = rows.pi
        want = {
            "PG(β*)": (2 * pi - 1) / (pi * (1 - pi)),
            "PG(2β*)": 2 * (2 * pi - 1) / (pi * (1 - pi)),
        }
        exact = np.log(pi / (1 - pi))
        for arm in ARMS:
            chosen = rows.arm == arm
            assert rows.logit[chosen].to_numpy() == pytest.approx(
                want.get(arm, exact)[chosen].to_numpy(), abs=1e-9
            )


def test_exact_rewards_lie_on_the_diagonal_and_cost_nothing() -> None:
    for kind in ("predicted", "exact"):
        rows = of(kind, *EXACT)
        assert rows.p.to_numpy() == pytest.approx(rows.pi.to_numpy(), abs=1e-6)
        assert rows.kl.to_numpy() == pytest.approx(0, abs=1e-9)


def test_published_rewards_overshoot_away_from_one_half() -> None:
    rows = of("exact", *PUBLISHED)
    rows = rows[rows.pi != 0.5]
    assert ((rows.p - 0.5).abs() > (rows.pi - 0.5).abs()).all()
    assert (np.sign(rows.p - 0.5) == np.sign(rows.pi - 0.5)).all()
    assert (rows.kl > 1e-3).all()
    twice, once = (rows[rows.arm == arm].kl.to_numpy() for arm in PUBLISHED)
    assert (twice > once).all()
    beta = of("exact", "PG(β*)")
    assert beta.p[np.isclose(beta.pi, 0.6)].item() == pytest.approx(0.697, abs=5e-4)
    assert beta.p[np.isclose(beta.pi, 0.9)].item() == pytest.approx(0.99986, abs=5e-6)


def test_classes_can_be_exchanged_and_one_half_stays() -> None:
    for kind in ("predicted", "exact"):
        for _, rows in of(kind).groupby("arm"):
            assert rows.p.to_numpy() == pytest.approx(1 - rows.p.to_numpy()[::-1], abs=1e-12)
            assert rows.kl.to_numpy() == pytest.approx(rows.kl.to_numpy()[::-1], abs=1e-12)
    half = small()[small().pi == 0.5]
    assert half.p.to_numpy() == pytest.approx(0.5, abs=1e-12)


def test_derived_and_solved_diagonals_differ_in_all_but_what_they_teach() -> None:
    """Else that they agree would say nothing about the freedom in the diagonal."""
    task = overshoot.data(SMALL)
    solved = overshoot.weights(overshoot.PG_DIAGONAL, task.pi, SMALL).numpy()
    derived = [
        overshoot.derived_weights(overshoot.PG_DIAGONAL, pi, SMALL.lam) for pi in task.pi.numpy()
    ]
    away = (task.pi[:, 0] != 0.5).numpy()
    assert (np.abs(np.array(derived) - solved).max(-1)[away] > 1e-3).all()
    assert np.sum(derived, -1)[away] == pytest.approx(solved.sum(-1)[away])


def test_at_one_half_the_limit_is_chosen() -> None:
    pi = torch.tensor([[0.5, 0.5], [0.5 + 1e-4, 0.5 - 1e-4]], dtype=torch.float64)
    weights = overshoot.weights(overshoot.PG_SCALAR, pi, SMALL)
    assert weights[0].tolist() == [SMALL.lam, SMALL.lam]
    assert weights[1] == pytest.approx(SMALL.lam, abs=1e-6)


def test_sampled_training_stays_on_the_exact_solution_up_to_noise() -> None:
    for arm in EXACT:
        runs = of("sampled", arm).pivot(index="repetition", columns="pi", values="p")
        error = (runs - runs.columns.to_numpy()).drop(columns=0.5)
        assert error.abs().max(axis=None) < 0.1
        assert error.mean().abs().max() < 0.03
        assert error.abs().mean(axis=None) > 1e-4  # it is noisy
    rows = of("sampled", "PG(β*)").groupby("pi").p.mean()
    derived = of("predicted", "PG(β*)").set_index("pi").p
    assert rows.to_numpy() == pytest.approx(derived.to_numpy(), abs=0.04)


def test_same_seed_same_bits_and_other_seeds_or_arms_differ() -> None:
    short = replace(SMALL, steps=3)
    one, again, other = (overshoot.run(short, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again, check_exact=True)
    same = one.p == other.p
    assert same[(one.kind != "sampled") | (one.pi == 0.5)].all()
    assert not same[(one.kind == "sampled") & (one.pi != 0.5)].all()
    fewer = overshoot.run(replace(short, repetitions=2), seed=0)
    kept = one[one.repetition < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer, kept, check_exact=True)


def test_progress_reports_every_kind() -> None:
    seen: list[tuple[str, int, int]] = []
    overshoot.run(replace(SMALL, steps=1), seed=0, progress=lambda *report: seen.append(report))
    assert seen == [(kind, done + 1, 3) for done, kind in enumerate(overshoot.KINDS)]


@pytest.mark.parametrize("fault", [{"points": 16}, {"points": 1}, {"lowest": 0.5}, {"lowest": 0}])
def test_a_grid_without_one_half_is_refused(fault: dict[str, float]) -> None:
    with pytest.raises(InputError, match="odd number"):
        replace(SMALL, **fault)  # pyright: ignore[reportArgumentType]


def test_picture_shows_lines_markers_and_the_diagonal() -> None:
    with style.context():
        figure = drawing.draw(small())
        figure.canvas.draw()
    plt.close(figure)
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *(drawing.LABELS[arm] for arm in ARMS),
        "trained, exact gradient",
        "trained, sampled gradient",
    ]
    diagonal = figure.axes[0].lines[0]
    assert np.asarray(diagonal.get_xydata()).tolist() == [[0, 0], [1, 1]]
    for axis, column in zip(figure.axes, ("p", "kl"), strict=True):
        for arm in ARMS:
            color = style.look(arm)["color"].lower()
            own = [line for line in axis.lines if to_hex(line.get_color()) == color]
            points = [np.asarray(line.get_xydata()) for line in own]
            want = of("predicted", arm)[["pi", column]].to_numpy()
            assert points[0] == pytest.approx(want)
            for shown, kind in zip(points[1:], ("exact", "sampled"), strict=True):
                medians = of(kind, arm).groupby("pi")[column].median()
                assert shown[:, 1] == pytest.approx(medians[shown[:, 0]].to_numpy())
                assert len(shown) >= SMALL.points // drawing.EVERY


def test_no_two_markers_on_the_diagonal_coincide() -> None:
    with style.context():
        figure = drawing.draw(small())
    plt.close(figure)
    looks = {style.look(arm)["color"].lower() for arm in EXACT}
    places = [
        pi
        for line in figure.axes[0].lines
        if to_hex(line.get_color()) in looks and line.get_linestyle() == "None"
        for pi in np.asarray(line.get_xdata(), float)
    ]
    assert len(places) == len(set(places)) > 0


def test_caption_is_computed_from_the_table() -> None:
    text = drawing.caption(small())
    assert "at π = 0.6 PG(2β*) gives 0.84113, PG(β*) gives 0.69706" in text
    assert "at π = 0.9 PG(2β*) gives 1 - 1.9e-08, PG(β*) gives 0.99986" in text
    assert "farther from ½ than π in 32 of 32 cases" in text
    assert "range of 6 runs" in text
    costs = of("predicted", *PUBLISHED).groupby("arm", sort=False).kl.max()
    assert f"PG(2β*) {costs['PG(2β*)']:.3g}, PG(β*) {costs['PG(β*)']:.3g}." in text
    rows = of("sampled", *EXACT)
    assert f"within {(rows.p - rows.pi).abs().max():.2g} in p of it with the exact rewards" in text
    assert f"at a cost of at most {rows.kl.max():.1g} nats" in text
    assert "ends where the theory says" in text
    assert "have not arrived" in text


def test_caption_says_what_is_wrong_with_other_tables() -> None:
    table = small().copy()
    moved = (table.kind == "exact") & (table.arm == "PG(β*)") & np.isclose(table.pi, 0.6)
    table.loc[moved, "p"] = 0.55
    text = drawing.caption(table)
    assert "does NOT end where the theory says: largest distance 0.1 in p" in text
    assert "in 31 of 32 cases" in text
    costly = (table.kind == "exact") & (table.arm == "PG(diag)") & (table.pi == 0.5)
    table.loc[costly, "kl"] = 0.0321
    assert "The exact rewards cost at most 0.03 nats" in drawing.caption(table)
    derived = of("predicted").set_index(["arm", "pi"]).kl
    everywhere = pd.MultiIndex.from_frame(table[["arm", "pi"]])
    table["kl"] = table.kl.where(table.kind != "sampled", derived.loc[everywhere].to_numpy())
    assert "have not arrived" not in drawing.caption(table)


def test_summary_has_every_arm_at_the_listed_probabilities() -> None:
    rows = drawing.summary(small())
    assert rows.groupby("pi").arm.apply(list).tolist() == [list(ARMS)] * 7
    assert rows.pi.unique() == pytest.approx(drawing.LISTED)
    row = rows[(rows.arm == "PG(β*)") & np.isclose(rows.pi, 0.6)].iloc[0]
    assert row["p, predicted"] == pytest.approx(0.69706, abs=1e-5)
    own = of("sampled", "PG(β*)")
    assert row["p, sampled"] == own[np.isclose(own.pi, 0.6)].p.median()
    assert row["cost, exact"] == pytest.approx(row["cost, predicted"], abs=1e-9)


def unconverged(*arms: str) -> pd.DataFrame:
    """Return the table as if exact training of these arms had ended somewhere, at every π but ½."""
    table = small().copy()
    lost = (table.kind == "exact") & table.arm.isin(arms) & (table.pi != 0.5)
    table.loc[lost, ["p", "logit", "kl"]] = 0.123, -1.96, 77.0
    table.loc[lost, "converged"] = False
    return table


def test_runs_that_did_not_converge_are_counted_and_left_out() -> None:
    cases = len(ARMS) * SMALL.points
    table = unconverged("PG(β*)")
    text = drawing.caption(table)
    assert f"16 of {cases} runs did not converge: PG(β*) (16). They are left out." in text
    assert "farther from ½ than π in 16 of 16 cases" in text
    assert "ends where the theory says" in text
    assert "did not converge" not in drawing.caption(small())
    rows = drawing.summary(table)
    lost = (rows.arm == "PG(β*)") & (rows.pi != 0.5)
    assert rows[lost][["p, exact", "cost, exact"]].isna().all(axis=None)
    assert not rows.converged[lost].any()
    assert rows[~lost].notna().all(axis=None)
    assert rows.converged[~lost].all()


def test_no_number_comes_from_no_run() -> None:
    table = unconverged(*ARMS)
    table.loc[table.kind == "exact", "converged"] = False
    text = drawing.caption(table)
    assert "nan" not in text
    for said in ("theory says", "exact rewards cost", "of 0 cases"):
        assert said not in text
    with style.context():
        plt.close(drawing.draw(table))


def test_newton_that_does_not_arrive_says_so(monkeypatch) -> None:
    monkeypatch.setattr(overshoot, "NEWTON_STEPS", 1)
    table = overshoot.run(replace(SMALL, steps=0, repetitions=1), seed=0)
    exact = table[table.kind == "exact"]
    assert exact.converged[exact.pi == 0.5].all()
    assert not exact.converged[exact.pi != 0.5].any()
