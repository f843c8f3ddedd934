"""The pictures of figure 3: what they show, and what their captions say."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from figures import figure_3 as drawing
from figures import style
from paper_checks.experiments import figure_3


@cache
def table() -> pd.DataFrame:
    return figure_3.run(
        replace(figure_3.QUICK, repetitions=1, epochs=2, inner_steps=3, rows=30), seed=0
    )


@cache
def published() -> pd.DataFrame:
    short = replace(
        figure_3.AS_PUBLISHED, published_repetitions=2, epochs=4, inner_steps=3, rows=30
    )
    return figure_3.run(short, seed=0)


def test_both_arms_are_on_one_axis_of_cost() -> None:
    with style.context():
        figure = drawing.draw(table())
        figure.canvas.draw()
    plt.close(figure)
    for axis in figure.axes[:5]:
        drawn = [line for line in axis.lines if np.size(line.get_xdata()) > 2]
        assert len(drawn) == 4  # three starts, and the published one
        ends = [float(np.asarray(line.get_xdata())[-1]) for line in drawn]
        last = table().groupby(["arm", "start"]).cost.max()
        assert sorted(ends) == sorted(last.to_list())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == [
        "corrected, from U = 0.03 I", "corrected, from U = I", "corrected, from U = 3 I",
        "as published, from U = I",
    ]  # fmt: skip


def test_lines_stand_where_the_theory_puts_them() -> None:
    with style.context():
        figure = drawing.draw_as_published(published())
    plt.close(figure)
    for axis in figure.axes[3:5]:
        level = [np.asarray(line.get_ydata()) for line in axis.lines]
        flat = [float(y[0]) for y in level if len(y) == 2]
        assert flat == pytest.approx([0.32, published().marginal.mean()])


def test_the_exact_hypergradient_is_zero_at_the_optimum_and_points_to_it() -> None:
    rows = pd.DataFrame({"U_11": [0.1, 0.2, 0.4], "optimum_11": 0.2})
    assert np.sign(drawing.exact_hypergradient(rows, "11")).tolist() == [1, 0, -1]
    # ½/U - Σ/λ with Σ = (λ/2)/U*, over two outcomes
    assert drawing.exact_hypergradient(rows, "11")[0] == pytest.approx((5 - 2.5) / 2)


def test_captions_name_both_figures_and_say_what_U_costs() -> None:
    said = drawing.caption(table())
    assert "figure-3-as-published" in said
    assert "as published, never in 1 of 1 runs of 27 evaluations" in said
    assert "did not converge" not in said
    lost = table().assign(converged=(table().start != 3).where(table().arm == "corrected"))
    lost = lost.astype({"converged": "boolean"})
    assert "1 of 3 runs did not converge: corrected 3.0 (1)" in drawing.caption(lost)
    said = drawing.caption_as_published(published())
    assert "figure-3 shows it corrected" in said
    assert "An outer epoch is 9 gradient evaluations" in said


def test_the_summary_counts_until_U_stays() -> None:
    found = drawing.summary(table()).set_index("runs")
    assert found.index.tolist()[-1] == "as published, from U = I"
    arrived = found["evaluations to stay within 1 % of U*"]
    assert arrived.notna().tolist() == [True] * 3 + [False]
    assert found.converged.tolist() == [True] * 3 + [None]
    assert len(drawing.summary_as_published(published())) == 1
