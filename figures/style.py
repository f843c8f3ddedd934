"""One look for all figures: text width of a venue, Matplotlib's own fonts, colour-blind-safe."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from cycler import cycler
from matplotlib import font_manager
from matplotlib.ticker import LogLocator, NullLocator
from tueplots import figsizes, fontsizes

from paper_checks.experiments import arms

from . import venues
from .venues import Venue

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


class UnknownLook(ValueError):
    """Neither a method with a look nor a look has this name; the message lists both."""


class UndrawableText(ValueError):
    """The font of the pictures lacks characters of a text; the message names them."""


@dataclass(frozen=True)
class Look:
    """Colour, line and marker: never told apart by colour alone."""

    color: str
    linestyle: str | tuple[int, tuple[float, ...]]
    marker: str


# Colours of Okabe and Ito (2008); they run out, so then two of Tol (2021), a brown, and five by
# search: far from each other and from vermilion, that of NLL, all in one picture.
PALETTE = {
    "black": Look("#000000", ":", "x"),
    "vermilion": Look("#D55E00", "-.", "s"),
    "sky": Look("#56B4E9", (0, (4, 1, 1, 1, 1, 1)), "v"),
    "orange": Look("#E69F00", "--", "^"),
    "green": Look("#009E73", (0, (5, 1)), "D"),
    "blue": Look("#0072B2", "-", "o"),
    "wine": Look("#882255", (0, (8, 2)), "P"),
    "brown": Look("#80604D", (0, (2, 2)), "*"),
    "indigo": Look("#332288", (0, (3, 1, 1, 1)), "<"),
    "ultramarine": Look("#0F00FF", (0, (10, 1)), ">"),
    "cyan": Look("#3CD2FF", (0, (3, 1)), "p"),
    "peach": Look("#FFA578", (0, (6, 1, 1, 1)), "X"),
    "violet": Look("#5A4B96", (0, (1, 1)), "d"),
    "midnight": Look("#00002D", (0, (8, 1, 2, 1)), "h"),
}
# Of methods that are in several figures; what is in one alone has its look there.
METHODS = {
    arms.MSE.label: "black",
    arms.NLL.label: "vermilion",
    arms.PG_IDENTITY.label: "sky",
    arms.PG_OPTIMAL.label: "orange",
    arms.PG_OPTIMAL_LOO.label: "green",
    arms.PG_OPTIMAL_ANALYTIC.label: "blue",
    arms.PG_RAY.label: "wine",
    arms.PG_ISOTROPIC.label: "brown",
    arms.PG_FIXED.label: "indigo",
    arms.PG_TWICE_BETA.label: "ultramarine",
    arms.PG_BETA.label: "cyan",
    arms.PG_SCALAR.label: "peach",
    arms.PG_DIAGONAL.label: "violet",
    arms.PG_LEARNED.label: "midnight",
}

HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 0.7}

POINTS_PER_INCH = 72
FONT = "DejaVu Sans"  # comes with Matplotlib
LETTERS = re.compile("[^\u0300-\u036f][\u0300-\u036f]*", re.DOTALL)  # with their accents
NAME_LINES = 6  # of a name of the user's own
LETTER = 0.6  # width of an average letter of DejaVu Sans, in font sizes


@dataclass(frozen=True)
class Page:
    """What of a venue's layout matters to a figure: inches, and font sizes as rcParams."""

    width: float
    """Of the text: of both columns where there are two."""
    fonts: Mapping[str, float]
    height: float = 8.0
    """Of what fits on a page beside the caption."""


def _width(settings: Mapping[str, Any]) -> float:
    return settings["figure.figsize"][0]


PAGES = {
    Venue.icml: Page(_width(figsizes.icml2024_full()), fontsizes.icml2024()),
    Venue.neurips: Page(_width(figsizes.neurips2024()), fontsizes.neurips2024()),
    Venue.iclr: Page(_width(figsizes.iclr2024()), fontsizes.iclr2024()),
    Venue.aistats: Page(_width(figsizes.aistats2025_full()), fontsizes.aistats2025()),
    Venue.uai: Page(_width(figsizes.uai2023_full()), fontsizes.uai2023()),
    Venue.jmlr: Page(_width(figsizes.jmlr2001()), fontsizes.jmlr2001()),
    Venue.tmlr: Page(_width(figsizes.tmlr2023()), fontsizes.tmlr2023()),
    # A slide of Beamer, 16:9, is 3.5 inches high; the title takes some.
    Venue.slides: Page(_width(figsizes.beamer_169(rel_width=1)), fontsizes.beamer(), height=2.6),
}


def look(name: str) -> dict[str, Any]:
    """Return the keyword arguments of ``plot``: colour, linestyle, marker.

    Args:
        name: of a method in `METHODS`, or of a look in `PALETTE`.

    Raises:
        UnknownLook: it is in neither.
    """
    found = PALETTE.get(METHODS.get(name, name))
    if found is None:
        known = ", ".join((*METHODS, *PALETTE))
        raise UnknownLook(f"no look for {name!r}; known methods and looks: {known}")
    return asdict(found)


def line(name: str) -> dict[str, Any]:
    """Return the keyword arguments of ``plot`` for a line without markers, of a name of `look`."""
    found = look(name)
    return {"color": found["color"], "linestyle": found["linestyle"]}


def points(name: str) -> dict[str, Any]:
    """Return the keyword arguments of ``plot`` for markers without a line, of a name of `look`."""
    return look(name) | {"linestyle": "none"}


def decades(axis: Axis, most: int | None = None) -> None:
    """Label decades of a logarithmic axis, and nothing between them.

    Args:
        most: how many to label at most; None leaves it to Matplotlib.
    """
    axis.set_major_locator(LogLocator(numticks=most))
    axis.set_minor_locator(NullLocator())


def size(lines: float) -> tuple[float, float]:
    """Return (width, height) in inches of a figure across the whole text of the active venue.

    Args:
        lines: height in font sizes of the venue, cut to what its page holds; `legend_below` and
            `banner` add their own.
    """
    width, most = mpl.rcParams["figure.figsize"]
    return width, min(lines * mpl.rcParams["font.size"] / POINTS_PER_INCH, most)


def wrap(
    text: str,
    share: float,
    font: Literal["font.size", "xtick.labelsize", "ytick.labelsize"] = "font.size",
) -> str:
    """Break `text` into lines that fit into a `share` of the text width of the active venue.

    Args:
        text: no-break spaces keep words together.
        share: between 0 and 1.
        font: the rcParam that holds the font size of the text.
    """
    width = share * mpl.rcParams["figure.figsize"][0] * POINTS_PER_INCH
    letters = int(width / (LETTER * mpl.rcParams[font]))
    return textwrap.fill(text, letters, break_long_words=False, break_on_hyphens=False)


def wrap_name(
    text: str,
    share: float,
    font: Literal["font.size", "xtick.labelsize", "ytick.labelsize"] = "font.size",
) -> str:
    """Break a name of the user's own into lines that fit, as `wrap`: within words where it must.

    Args:
        text: of any length; what does not fit into `NAME_LINES` is left out, and "…" says so.
        share: of the text width, between 0 and 1.
        font: the rcParam that holds the font size of the text.
    """
    face = font_manager.get_font(font_manager.findfont(FONT, fallback_to_default=False))
    face.set_size(mpl.rcParams[font], POINTS_PER_INCH)
    width = share * mpl.rcParams["figure.figsize"][0] * POINTS_PER_INCH

    def fits(line: str) -> bool:
        face.set_text(line, 0.0)
        return face.get_width_height()[0] <= 64 * width  # in 64ths of a point

    broken: list[str] = []
    for line in wrap(text, share, font).split("\n"):
        broken.append("")
        for letter in LETTERS.findall(line):
            if not fits(broken[-1] + letter):
                broken.append("")
            broken[-1] += letter
    if len(broken) > NAME_LINES:
        broken[NAME_LINES - 1 :] = ["".join(LETTERS.findall(broken[NAME_LINES - 1])[:-1]) + "…"]
    return "\n".join(broken)


def _settings(venue: Venue) -> dict[Any, Any]:
    # Of the tueplots settings only sizes: its bundles ask for TeX or for fonts that may be missing.
    page = PAGES[venue]
    return {
        **page.fonts,
        "figure.figsize": (page.width, page.height),
        "font.family": FONT,
        "mathtext.fontset": "dejavusans",
        "text.usetex": False,
        "figure.constrained_layout.use": True,
        "savefig.dpi": 200,
        "pdf.fonttype": 42,  # text stays text in the PDF
        "axes.prop_cycle": cycler(color=[look.color for look in PALETTE.values()]),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "grid.linewidth": 0.4,
        "legend.frameon": False,
        "lines.linewidth": 1.2,
        "lines.markersize": 3,
    }


@contextmanager
def context(venue: Venue = venues.DEFAULT) -> Generator[None]:
    """Apply the style, in the sizes of a venue, while drawing *and* saving.

    It starts from the defaults of Matplotlib, whatever a user's rc file or notebook has set, and
    gives these settings back in the end.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_settings(venue))
        yield


def check_drawable(text: str) -> None:
    """Raise `UndrawableText` if the font of the pictures lacks a character, but for white space."""
    font = font_manager.get_font(font_manager.findfont(FONT, fallback_to_default=False))
    lacking = sorted({c for c in "".join(text.split()) if font.get_char_index(ord(c)) == 0})
    if lacking:
        named = ", ".join(
            f"{c!r} ({unicodedata.name(c, 'unnamed')}, U+{ord(c):04X})" for c in lacking
        )
        raise UndrawableText(f"{text!r} cannot be drawn: {FONT} has no {named}; rename it")


def legend_below(
    figure: Figure, axes: Axes, columns: int, names: Mapping[str, str] | None = None
) -> None:
    """Put the legend of one panel below all panels; the figure grows by its height.

    Args:
        columns: at most; fewer where the text is too narrow for so many.
        names: what to print for a label that should not be printed as it is.
    """
    handles, labels = axes.get_legend_handles_labels()
    shown = [(names or {}).get(str(label), str(label)) for label in labels]
    for ncols in range(columns, 0, -1):
        legend = figure.legend(
            handles,
            shown,
            loc="outside lower center",
            ncols=ncols,
            borderpad=0.2,
            borderaxespad=0.2,
        )
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or ncols == 1:
            _grow(figure, extent.height / figure.dpi)
            return
        legend.remove()


def banner(figure: Figure, text: str) -> None:
    """Write `text` in a line of its own above all panels; the figure grows by that line."""
    points = mpl.rcParams["font.size"]
    _grow(figure, 2 * points / POINTS_PER_INCH)
    title = figure.get_suptitle()
    figure.suptitle(
        f"{text}\n{title}" if title else text,
        fontsize=points,
        weight="bold",
        color="white",
        bbox={"boxstyle": "square,pad=0.3", "facecolor": "#B00020", "edgecolor": "none"},
    )


def _grow(figure: Figure, inches: float) -> None:
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + inches)


def watermark(figure: Figure, text: str) -> None:
    """Write `text` across the whole figure."""
    figure.text(
        0.5,
        0.5,
        text,
        ha="center",
        va="center",
        rotation=25,
        fontsize=36,
        color="0.3",
        alpha=0.3,
        zorder=100,
    ).set_in_layout(False)
