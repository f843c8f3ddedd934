"""Pictures look the same whatever Matplotlib was told before, and leave that as it was."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from cycler import cycler
from matplotlib import pyplot as plt

from figures import catalogue, pipeline, style, wrong_covariance
from figures.venues import Venue
from paper_checks import store
from tests import fakes
from tests.figures.test_style_layout import faults

HOSTILE: dict[Any, Any] = {
    "savefig.bbox": "tight",
    "savefig.dpi": 33,
    "savefig.transparent": True,
    "savefig.facecolor": "black",
    "figure.dpi": 301,
    "figure.autolayout": True,
    "figure.facecolor": "yellow",
    "font.size": 31,
    "font.family": "serif",
    "axes.prop_cycle": cycler(color=["red"]),
    "axes.grid": True,
    "axes.unicode_minus": False,
    "axes.formatter.use_locale": False,
    "axes.xmargin": 0.3,
    "lines.marker": "x",
    "text.usetex": True,
    "text.color": "green",
    "xtick.direction": "in",
    "legend.loc": "upper left",
    "path.sketch": (3, 100, 20),
    "pdf.compression": 0,
    "mathtext.default": "rm",
}
DRAW = """
import sys
from pathlib import Path
import matplotlib as mpl
import pandas as pd
from figures import wrong_covariance, style
from figures.venues import Venue
from paper_checks.store import Store
from tests.figures.test_style_settings import real
before = dict(mpl.rcParams)
with style.context(Venue.icml):
    Store.open(sys.argv[1]).save_figure(wrong_covariance.draw(real("Größe $x_1$")), "R")
assert dict(mpl.rcParams) == before
"""


def real(target: str, table: str = "mine") -> pd.DataFrame:
    """Return a table as the experiment `wrong_covariance` would."""
    rows = [
        {
            "table": table,
            "targets": target,
            "reward": reward,
            "predicted": cost,
            "measured": cost + 1e-9,
            "converged": True,
            "lam": 1.0,
            "n": 1,
        }
        for reward, cost in zip(wrong_covariance.LOOKS, (0.0, 0.2, 0.1), strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, bytes]:
    """The picture, drawn in a process of its own with Matplotlib as it comes."""
    return drawn(tmp_path_factory.mktemp("plain"), "")


def drawn(folder: Path, settings: str) -> dict[str, bytes]:
    (folder / "rc").write_text(settings)
    environment = {**os.environ, "MATPLOTLIBRC": str(folder / "rc"), "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", DRAW, str(folder / "out")]
    subprocess.run(command, cwd=store.ROOT, env=environment, check=True)
    return {path.name: path.read_bytes() for path in (folder / "out/figures").iterdir()}


def test_an_rc_file_of_the_user_changes_nothing(plain, tmp_path) -> None:
    lines = [f"{key}: {value}" for key, value in HOSTILE.items() if key != "path.sketch"]
    lines.append("path.sketch: 3, 100, 20")
    assert drawn(tmp_path, "\n".join(lines)) == plain


def test_settings_of_a_notebook_change_nothing_and_stay(plain, tmp_path) -> None:
    with mpl.rc_context(HOSTILE):
        before = dict(mpl.rcParams)
        with style.context():
            figure = wrong_covariance.draw(real("Größe $x_1$"))
            store.Store.open(tmp_path).save_figure(figure, "R")
            plt.close(figure)
        assert dict(mpl.rcParams) == before
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == plain


def test_settings_stay_after_a_failure_too() -> None:
    with mpl.rc_context(HOSTILE):
        before = dict(mpl.rcParams)
        with pytest.raises(KeyError), style.context():
            raise KeyError
        assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("key", HOSTILE)
def test_every_setting_is_ours_while_drawing(key: Any) -> None:
    with style.context():
        ours = mpl.rcParams[key]
    with mpl.rc_context({key: HOSTILE[key]}), style.context():
        assert mpl.rcParams[key] == ours


@pytest.mark.parametrize(
    "arguments",
    [["-m", "figures", "B", "--unverified"], ["-c", "import figures; figures.draw('B')"]],
)
def test_an_unknown_backend_is_named_before_any_work(arguments, tmp_path) -> None:
    environment = {**os.environ, "MPLBACKEND": "foo", "PYTHONPATH": str(store.ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "'foo' is not a valid value for backend" in last
    assert "set MPLBACKEND=Agg" in last
    if "-m" in arguments:
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []
    else:
        assert last.startswith("figures.pipeline.UnusableBackend: ")


def test_a_backend_that_does_not_load_is_named(monkeypatch) -> None:
    module = fakes.install(monkeypatch)

    def draw(table: pd.DataFrame) -> None:
        raise ImportError("Cannot load backend 'QtAgg'")

    module.draw = draw
    picture = pipeline.Picture(catalogue.find("T"))
    with pytest.raises(pipeline.UnusableBackend, match=r"'QtAgg'\): set MPLBACKEND=Agg"):
        pipeline.draw(picture, pd.DataFrame())


@pytest.mark.parametrize("text", ["Größe", "λ̂ ≤ ½", "Θερμοκρασία", "a$x$_\\b", "two\nlines\t", ""])
def test_what_the_font_has_can_be_drawn(text: str) -> None:
    style.check_drawable(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("身長", r"'身長' cannot be drawn: .*'身' .*U\+8EAB"),
        ("gene 🧬", r"DNA DOUBLE HELIX, U\+1F9EC"),
        ("bell \a", r"U\+0007"),
    ],
)
def test_what_the_font_lacks_is_named(text: str, named: str) -> None:
    with pytest.raises(style.UndrawableText, match=named):
        style.check_drawable(text)


@pytest.mark.parametrize("target", ["$x_1$", "a$b", "$\\frac", "x_1^2", "50 %", "{a}", "λ, η"])
def test_names_are_drawn_as_they_are(target: str, tmp_path) -> None:
    with style.context():
        figure = wrong_covariance.draw(real(target))
        figure.savefig(tmp_path / "a.png")  # a formula that cannot be parsed would be an error
        labels = [label for axes in figure.axes for label in axes.get_yticklabels()]
        (label,) = [label for label in labels if target in label.get_text()]
        assert not label.get_parse_math()
        plt.close(figure)


@pytest.mark.parametrize("venue", [Venue.icml, Venue.aistats, Venue.jmlr, Venue.slides])
@pytest.mark.parametrize("target", ["n" * 150, "e\u0301" * 90, "word " * 60])
def test_names_of_any_length_fit(target: str, venue: Venue) -> None:
    with style.context(venue):
        figure = wrong_covariance.draw(real(target))
        found = faults(figure)  # a layout that cannot be made would be an error
        plt.close(figure)
    assert not found


def test_short_names_are_wrapped_as_any_text_and_long_ones_lose_nothing_but_their_end() -> None:
    with style.context():
        for name in ("linnerud: Weight, Waist, Pulse", "mine: Größe"):
            assert style.wrap_name(name, 0.34) == style.wrap(name, 0.34)
        lines = style.wrap_name("e\u0301" * 500, 0.34).split("\n")
    assert len(lines) == 6
    assert lines[-1].endswith("…")
    assert "".join(lines)[:-1] == "e\u0301" * (len("".join(lines)) // 2)
