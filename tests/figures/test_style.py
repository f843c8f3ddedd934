"""The look of figures: methods, sizes, marks; no missing font."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from figures import style
from figures.venues import Venue


def test_looks_differ_in_colour_and_in_line_and_in_marker():
    assert len(set(style.METHODS.values())) == len(style.METHODS)
    looks = list(style.PALETTE.values())
    for field in ("color", "linestyle", "marker"):
        assert len({getattr(look, field) for look in looks}) == len(looks)


# Linear RGB as seen without red (protan) or green (deutan) receptors: Viénot et al. (1999).
BLIND = {
    "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}


@pytest.mark.parametrize("kind", BLIND)
def test_colours_stay_apart_for_the_colour_blind(kind):
    linear = np.array([to_rgb(look.color) for look in style.PALETTE.values()]) ** 2.2
    seen = np.clip(linear @ np.array(BLIND[kind]).T, 0, 1) ** (1 / 2.2)
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    closest = distance[~np.eye(len(seen), dtype=bool)].min()
    assert closest > 0.1, distance.round(2)


def test_look_is_what_plot_takes():
    axes = Figure().add_subplot()
    for method in style.METHODS:
        axes.plot([0, 1], **style.look(method))
    for name in style.PALETTE:
        axes.plot([0, 1], **style.look(name))
    assert style.look("NLL") == style.look("vermilion")
    with pytest.raises(style.UnknownLook, match=r"'PPO'.*MSE, NLL.*black, vermilion"):
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
