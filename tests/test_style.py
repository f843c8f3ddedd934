"""The look of figures: distinct methods, sizes, no missing fonts, the watermark."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from figures import style


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


def test_sizes_are_those_of_a_column_and_of_a_page():
    assert style.size()[0] == pytest.approx(3.25)
    assert style.size(wide=True)[0] == pytest.approx(6.75)
    assert style.size(nrows=2)[1] > style.size()[1]


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
