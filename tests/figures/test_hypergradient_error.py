"""Hypergradient error on small problems: rates, closed forms, warnings, and its picture."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from figures import hypergradient_error as drawing
from figures import style
from paper_checks.experiments import hypergradient_error
from paper_checks.experiments.hypergradient_cases import GAUSSIAN, Case
from solvers.hypergradients.implicit import implicit
from solvers.hypergradients.penalty import penalty
from solvers.numerics.trees import Leaves, flat
from tests.shapes import unchecked

SMALL = replace(
    hypergradient_error.QUICK,
    conditions=(10.0, 40.0),
    size=12,
    rows=10,
    rank=4,
    products=(1, 2, 4, 8, 60, 100),
    weights=(1e-4, 1e4, 1e5),
    inner_errors=(1e-3, 0.1),
    directions=2,
)
PROBLEMS = ("quadratic, κ = 10", "quadratic, κ = 40", GAUSSIAN)


@cache
@unchecked()
def small() -> pd.DataFrame:
    return hypergradient_error.run(SMALL, seed=0)


@cache
def cases() -> dict[str, Case]:
    return {case.name: case for case in hypergradient_error.cases(SMALL, 0)}


def errors(problem: str, method: str) -> pd.Series:
    rows = small()[(small().problem == problem) & (small().method == method)]
    return rows.set_index("setting").error


def test_every_hypergradient_is_in_the_table() -> None:
    assert tuple(small().problem.unique()) == PROBLEMS
    assert not small().duplicated(["problem", "method", "setting", "direction"]).any()
    each = 6 * 6 + 1 + 3 + 2 * 2 * 2  # methods x products, one step, penalties, inner errors
    assert small().groupby("problem").size().tolist() == [each] * 3
    assert small().error.notna().all()


def test_same_seed_same_bits_and_other_seeds_differ() -> None:
    few = replace(SMALL, products=(1, 4), weights=(10.0,), directions=1)
    one, again, other = (hypergradient_error.run(few, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again, check_exact=True)
    assert (one.error != other.error).all()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_closed_forms_are_the_hypergradient_at_the_solution(problem: str) -> None:
    case = cases()[problem]
    found = implicit(case.J, case.F, case.theta, case.phi, strict=True)
    assert case.error(found) < 1e-12
    step = 1e-6  # the inner solution moves, as F(θ*(φ), φ) says
    inner, outer = (Leaves.of(name, getattr(case, name)) for name in ("theta", "phi"))
    move = torch.linalg.solve(case.A, case.B)

    def along(sign: int, j: int) -> float:
        direction = torch.zeros(move.shape[1], dtype=move.dtype)
        direction[j] = sign * step
        there = inner.moved(inner.split(move @ direction), 1.0).detached()
        return float(case.F(there, outer.moved(outer.split(direction), 1.0).detached()))

    slopes = [(along(1, j) - along(-1, j)) / (2 * step) for j in range(move.shape[1])]
    assert slopes == pytest.approx(case.exact.tolist(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_cg_keeps_its_bound(problem: str) -> None:
    rows = small()[(small().problem == problem) & (small().method == "CG")]
    assert (rows.error <= rows.predicted + 1e-12).all()
    assert rows.predicted.iloc[2] < 10  # and the bound says something


def test_unrolling_decays_at_the_predicted_rate() -> None:
    curve = errors(PROBLEMS[0], "truncated")
    # η = 1 and μ = 1/10; by 60 steps the other parts are (0.7/0.9)^60 of the slowest
    assert math.log(curve[100] / curve[60]) / 40 == pytest.approx(math.log(0.9), abs=1e-6)
    rows = small()[(small().problem == PROBLEMS[0]) & (small().setting == 100)]
    chosen = rows[rows.method.isin(["truncated", "Neumann series", "warm start", "cold start"])]
    assert len(chosen) == 4
    # from a start off the solution there is a part that decays twice as fast
    assert chosen.error.to_numpy() == pytest.approx(chosen.predicted.to_numpy(), rel=1e-3)


def test_truncation_to_k_steps_is_a_neumann_series_of_k_terms() -> None:
    for problem in PROBLEMS:
        truncated, series = errors(problem, "truncated"), errors(problem, "Neumann series")
        assert truncated.to_numpy() == pytest.approx(series.to_numpy(), rel=1e-9, abs=1e-13)
        assert errors(problem, "one step")[1] == pytest.approx(series[1], rel=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_bias_of_the_penalty_is_inverse_in_its_weight(problem: str) -> None:
    curve = errors(problem, "penalty")
    assert math.log10(curve[1e5] / curve[1e4]) == pytest.approx(-1, abs=0.01)
    if problem != GAUSSIAN:
        rows = small()[(small().problem == problem) & (small().sweep == "penalty")]
        assert rows.predicted.iloc[-1] == pytest.approx(rows.error.iloc[-1], rel=0.01)
        # at no weight only the direct part is left
        case = cases()[problem]
        direct = flat(Leaves.of("d", case.exact).tensors) - case.B.T @ torch.linalg.solve(
            case.A, case.pull
        )
        gone = float((case.exact - direct).norm() / case.exact.norm())
        assert curve[1e-4] == pytest.approx(gone, rel=0.01)


def test_what_is_left_by_ascent_lies_along_the_least_curvature() -> None:
    case = cases()[PROBLEMS[0]]
    q = torch.linalg.eigh(case.A)[1][:, 0]
    generator = torch.Generator().manual_seed(0)
    away = case.off(0.3, generator, 400) - case.theta
    assert float(away.norm() / case.theta.norm()) == pytest.approx(0.3)
    assert float((away @ q).abs() / away.norm()) == pytest.approx(1)


def test_inner_errors_are_proportional_on_quadratics_and_warned_of() -> None:
    rows = small()[small().sweep == "inner error"]
    assert rows.warned.all()
    for problem in PROBLEMS[:2]:
        table = rows[rows.problem == problem].pivot_table(
            index=["method", "direction"], columns="setting", values="error"
        )
        assert (table[0.1] / table[1e-3]).to_numpy() == pytest.approx(100)
        estimates = rows[rows.problem == problem]
        assert (estimates.estimate > 0.99 * estimates.setting).all()
    near = hypergradient_error.run(replace(SMALL, inner_errors=(1e-12,), products=(1,)), seed=0)
    assert not near[near.sweep == "inner error"].warned.any()


def test_picture_shows_every_method_and_every_problem() -> None:
    with style.context():
        figure = drawing.draw(small())
        figure.canvas.draw()
    plt.close(figure)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [*(drawing.LABELS.get(m, m) for m in drawing.METHODS), "predicted"]
    assert [axis.get_title() for axis in figure.axes[:3]] == list(PROBLEMS)
    legend = figure.axes[3].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["κ = 10", "κ = 40", GAUSSIAN]
    cold = next(line for line in figure.axes[0].lines if line.get_label() == "cold start")
    assert np.asarray(cold.get_ydata()) == pytest.approx(errors(PROBLEMS[0], "cold start"))


def test_caption_and_summary_are_computed_from_the_table() -> None:
    table = small().copy()
    tenth = (table.setting == 0.1) & (table.problem == PROBLEMS[0])
    table.loc[tenth & (table.method == "left by ascent"), "error"] = 0.123
    table.loc[tenth & (table.method == "random"), "estimate"] = 0.456
    table.loc[(table.method == "one step"), "error"] = 0.77
    table.loc[(table.method == "CG") & (table.setting >= 2), "error"] = 1e-7
    text = drawing.caption(table)
    assert "quadratic, κ = 10: 12.3% (estimate" in text
    assert "(46%)" in text
    assert "wrong by 77%, 77%, 77%" in text
    assert "error of 1e-06, of the numbers tried: CG 3, 3, 3;" in text
    assert "warned of 100% of them" in text
    table.loc[table.sweep == "inner error", "warned"] = False
    assert "warned of 0% of them" in drawing.caption(table)
    rows = drawing.summary(table).set_index(["problem", "method"])
    assert rows.loc[(GAUSSIAN, "one step"), "error"] == 0.77
    assert len(rows) == 3 * 10


def test_searches_and_systems_of_the_real_table_converge() -> None:
    table = hypergradient_error.run(hypergradient_error.QUICK, seed=0)
    ends = table.groupby("sweep").converged
    for sweep in ("penalty", "inner error"):
        assert ends.get_group(sweep).notna().all()
        assert ends.get_group(sweep).all()
    assert ends.get_group("cost").isna().all()
    assert "did not converge" not in drawing.caption(table)


def test_what_did_not_converge_is_counted_and_left_out() -> None:
    table = small().copy()
    table.loc[table.converged.notna(), "converged"] = True
    lost = (table.problem == PROBLEMS[0]) & (
        (table.method == "random") | ((table.method == "penalty") & (table.setting == 1e5))
    )
    table.loc[lost, ["error", "estimate"]] = 54321.0
    table.loc[lost, "converged"] = False
    text = drawing.caption(table)
    runs = table.converged.notna().sum()
    assert f"{lost.sum()} of {runs} runs did not converge: {PROBLEMS[0]} penalty (1); " in text
    assert f"{PROBLEMS[0]} random ({lost.sum() - 1}). They are left out." in text
    assert "error at ς = 1e+05: no converged run, " in text
    assert "in a random direction no converged run (no converged run)" in text
    assert "5432100" not in text
    rows = drawing.summary(table).set_index(["problem", "method"])
    assert rows.setting[PROBLEMS[0], "penalty"] == 1e4
    assert (PROBLEMS[0], "random") not in rows.index
    assert (rows.error < 54321).all()
    with style.context():
        plt.close(drawing.draw(table))
    table.loc[table.converged.notna(), "converged"] = False
    text = drawing.caption(table)
    assert "nan" not in text
    assert "An inner error of" not in text


def test_a_penalty_out_of_evaluations_did_not_converge(monkeypatch) -> None:
    def short(*args, **options):
        return penalty(*args, **options, max_iterations=2)

    monkeypatch.setattr(hypergradient_error, "penalty", short)
    few = replace(SMALL, conditions=(40.0,), products=(1,), weights=(1.0,), directions=1)
    table = hypergradient_error.run(few, seed=0)
    assert not table.converged[table.sweep == "penalty"].any()
    assert table.converged[table.sweep == "inner error"].all()
