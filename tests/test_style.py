"""The look of figures: methods, sizes, marks; no missing font, no text cut or overlapping."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from figures import figure_a as drawing_a
from figures import figure_b as drawing_b
from figures import figure_c as drawing_c
from figures import figure_f as drawing_f
from figures import figure_g as drawing_g
from figures import figure_r as drawing_r
from figures import pipeline, style
from figures.venues import Venue
from paper_checks.experiments import (
    figure_a,
    figure_b,
    figure_c,
    figure_f,
    figure_g,
    figure_r,
)


def test_methods_differ_in_colour_and_in_line_and_in_marker():
    looks = list(style.METHODS.values())
    for field in ("color", "linestyle", "marker"):
        assert len({getattr(look, field) for look in looks}) == len(looks)


# Linear RGB as seen without red (protan) or green (deutan) receptors: Viénot et al. (1999).
BLIND = {
    "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}


@pytest.mark.parametrize("kind", BLIND)
def test_colours_stay_apart_for_the_colour_blind(kind):
    linear = np.array([to_rgb(look.color) for look in style.METHODS.values()]) ** 2.2
    seen = np.clip(linear @ np.array(BLIND[kind]).T, 0, 1) ** (1 / 2.2)
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    closest = distance[~np.eye(len(seen), dtype=bool)].min()
    assert closest > 0.1, distance.round(2)


def test_look_is_what_plot_takes():
    axes = Figure().add_subplot()
    for method in style.METHODS:
        axes.plot([0, 1], **style.look(method))
    with pytest.raises(style.UnknownMethod, match=r"'PPO'.*MSE, NLL"):
        style.look("PPO")


WIDTHS = {
    Venue.icml: 6.75,
    Venue.neurips: 5.5,
    Venue.iclr: 5.5,
    Venue.aistats: 6.75,
    Venue.uai: 6.75,
    Venue.jmlr: 6.0,
    Venue.tmlr: 6.5,
    Venue.slides: 5.51,
}


@pytest.mark.parametrize("venue", Venue)
def test_figures_are_as_wide_as_the_text_of_the_venue(venue):
    with style.context(venue):
        width, height = style.size(15)
        assert width == pytest.approx(WIDTHS[venue], abs=0.01)
        assert height == pytest.approx(15 * mpl.rcParams["font.size"] / 72)
        assert 8 <= mpl.rcParams["font.size"] <= 10
        assert style.size(30)[1] == pytest.approx(2.6 if venue == "slides" else 2 * height)


def test_text_is_broken_only_where_it_must_and_may():
    text = "Excess NLL [nats\xa0/\xa0dim.]"
    with style.context(Venue.icml):
        assert style.wrap(text, 1 / 4) == text
    with style.context(Venue.neurips):
        assert style.wrap(text, 1 / 4) == "Excess NLL\n[nats\xa0/\xa0dim.]"
        assert style.wrap(text, 1 / 4, "ytick.labelsize") == text.replace(" [", "\n[")
        assert style.wrap(text, 1 / 3, "ytick.labelsize") == text


def test_legend_takes_fewer_columns_where_the_text_is_narrow_and_no_room_from_the_panels():
    with style.context():
        figure = Figure(figsize=(6.75, 2))
        axes = figure.add_subplot()
        for method in style.METHODS:
            axes.plot([0, 1], label=method)
        style.legend_below(figure, axes, 6, names={"MSE": "a name " * 12})
        (legend,) = figure.legends
        extent = legend.get_window_extent()
        assert extent.width <= figure.bbox.width
        assert figure.get_size_inches()[1] == pytest.approx(2 + extent.height / figure.dpi)
        assert [text.get_text() for text in legend.get_texts()] == [
            "a name " * 12,
            *list(style.METHODS)[1:],
        ]


def test_banner_has_a_line_of_its_own_and_keeps_a_title():
    with style.context():
        figure = Figure(figsize=(4, 2))
        axes = figure.add_subplot(title="panel")
        figure.suptitle("whole")
        style.banner(figure, "quick")
        figure.draw_without_rendering()
        assert figure.get_suptitle() == "quick\nwhole"
        assert figure.get_size_inches()[1] > 2
        assert axes.title.get_window_extent().y1 < figure.texts[0].get_window_extent().y0


def test_context_needs_no_tex_and_no_other_font_and_ends(tmp_path):
    before = mpl.rcParams["font.family"]
    with style.context():
        figure = Figure()
        axes = figure.add_subplot(title=r"Σ, λ, $\hat U^\star$")
        axes.plot([0, 1])
        assert not mpl.rcParams["text.usetex"]
        figure.savefig(tmp_path / "a.pdf")  # a missing font or glyph warns, and warnings are errors
        figure.savefig(tmp_path / "a.png")
    assert mpl.rcParams["font.family"] == before


def test_watermark_is_visible(tmp_path):
    def pixels(mark: bool) -> np.ndarray:
        figure = Figure(figsize=(2, 2), dpi=100)
        figure.add_subplot()
        if mark:
            style.watermark(figure, "unverified")
        figure.savefig(tmp_path / "a.png")
        return imread(tmp_path / "a.png")

    changed = (pixels(True) != pixels(False)).any(axis=-1).mean()
    assert changed > 0.01


SMALL = replace(figure_b.CORRECTED, experiments=1, lams=(0.25,))


@cache
def corrected() -> pd.DataFrame:
    return figure_b.run(SMALL, seed=0)


@cache
def published() -> pd.DataFrame:
    return figure_b.run(replace(figure_b.ONE_RUN, experiments=3, lams=(0.25,)), seed=0)


@cache
def real() -> pd.DataFrame:
    return figure_r.run(figure_r.Settings(lams=(1.0,)), seed=0)


def test_captions_stand_a_level_where_every_run_of_an_arm_diverged() -> None:
    analytic, metric = "PG(U*), analytic", "mean_error"
    for arm, leads in (("NLL", False), (analytic, True)):
        table = corrected().copy()
        lost = (table.arm == arm) & (table.sigma == table.sigma.min())
        table.loc[lost, list(figure_b.METRICS)] = np.nan
        assert ("0.1" in drawing_b.where_nll_leads(table, analytic, metric, 100)) == leads
        assert "over 7 experiments" in drawing_b.caption(table)
        summary = drawing_b.summary(table)
        lowest = summary[(summary["σ"] == "0.1") & (summary.arm == arm)]
        assert lowest["median of"].tolist() == ["failure fraction"]
        assert lowest["epoch 100"].tolist() == [1.0]


@cache
def evolution() -> pd.DataFrame:
    fast = replace(figure_a.QUICK, repetitions=1, settling_epochs=120, settling_samples=10)
    return figure_a.run(fast, seed=0)


@cache
def evolution_as_published() -> pd.DataFrame:
    return figure_a.run(figure_a.AS_PUBLISHED, seed=0)


@cache
def covariance() -> pd.DataFrame:
    return figure_c.run(replace(figure_c.CORRECTED, experiments=3, generations=5), seed=0)


@cache
def covariance_as_published() -> pd.DataFrame:
    fast = replace(figure_c.AS_PUBLISHED, experiments=3, generations=5)
    return figure_c.run(fast, seed=0)


@cache
def hypergradients() -> pd.DataFrame:
    return figure_f.run(replace(figure_f.QUICK, size=20, products=(1, 2, 8, 32, 64)), seed=0)


@cache
def trajectories() -> pd.DataFrame:
    return figure_g.run(replace(figure_g.QUICK, rows=50, steps=30, loops=200), seed=0)


DRAWINGS = {
    "A": (drawing_a.draw, evolution),
    "A-grid": (drawing_a.draw_grid, evolution),
    "A-as-published": (drawing_a.draw_as_published, evolution_as_published),
    "A-grid-as-published": (drawing_a.draw_grid, evolution_as_published),
    "B": (drawing_b.draw, corrected),
    "B-as-published": (drawing_b.draw_as_published, published),
    "C": (drawing_c.draw, covariance),
    "C-as-published": (drawing_c.draw_as_published, covariance_as_published),
    "F": (drawing_f.draw, hypergradients),
    "G": (drawing_g.draw, trajectories),
    "R": (drawing_r.draw, real),
}


def tick_labels(axis: Axis) -> Iterator[Text]:
    low, high = sorted(axis.get_view_interval())
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        if low <= tick.get_loc() <= high:
            yield tick.label1


def all_texts(figure: Figure) -> list[Text]:
    """Return every text that is drawn, with a position on the canvas."""
    found = list(figure.texts)
    for legend in figure.legends:
        found += legend.get_texts()
    for axes in figure.axes:
        if legend := axes.get_legend():
            found += legend.get_texts()
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        found += [*tick_labels(axes.xaxis), *tick_labels(axes.yaxis)]
    return [text for text in found if text.get_visible() and text.get_text()]


def faults(figure: Figure) -> list[str]:
    """Say which texts leave the figure or overlap; a pixel does not count."""
    figure.draw_without_rendering()
    boxes = [(text, text.get_window_extent().padded(-1)) for text in all_texts(figure)]
    cut = [
        f"{text.get_text()!r} is cut"
        for text, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1
    ]
    # The boxes of slanted neighbours overlap although the texts do not.
    overlapping = [
        f"{one.get_text()!r} overlaps {other.get_text()!r}"
        for (one, a), (other, b) in combinations(boxes, 2)
        if a.overlaps(b) and not one.get_rotation() % 90 == other.get_rotation() % 90 == 60
    ]
    return cut + overlapping


@pytest.mark.parametrize("venue", Venue)
@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_is_cut_or_overlaps(name: str, venue: Venue) -> None:
    draw, table = DRAWINGS[name]
    with style.context(venue):
        figure = draw(table())
        style.banner(figure, pipeline.QUICK)
        found = faults(figure)
        plt.close(figure)
    assert not found


def too_long(figure: Figure) -> None:
    figure.axes[0].set_xlabel("a label that is far too long for the figure " * 3)


def too_close(figure: Figure) -> None:
    figure.axes[0].set_xticks([0.5, 0.52], ["one", "two"])


@pytest.mark.parametrize(("plant", "fault"), [(too_long, "is cut"), (too_close, "overlaps")])
def test_the_faults_above_would_be_found(plant: Callable[[Figure], None], fault: str) -> None:
    with style.context():
        figure = Figure(figsize=style.size(15))
        figure.add_subplot()
        assert not faults(figure)
        plant(figure)
        assert fault in "; ".join(faults(figure))
