"""One look for all figures: column width, fonts of Matplotlib itself, colour-blind-safe methods."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
from cycler import cycler
from tueplots import figsizes, fontsizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class UnknownMethod(ValueError):
    """No look is fixed for the given method; the message lists those that have one."""


@dataclass(frozen=True)
class Look:
    """Colour, line and marker of one method: never told apart by colour alone."""

    color: str
    linestyle: str | tuple[int, tuple[float, ...]]
    marker: str


# Colours of Okabe and Ito (2008).
METHODS = {
    "MSE": Look("#000000", ":", "x"),
    "NLL": Look("#D55E00", "-.", "s"),
    "PG(I)": Look("#56B4E9", (0, (4, 1, 1, 1, 1, 1)), "v"),
    "PG(U*)": Look("#E69F00", "--", "^"),
    "PG(U*), leave-one-out": Look("#009E73", (0, (5, 1)), "D"),
    "PG(U*), analytic": Look("#0072B2", "-", "o"),
}


def look(method: str) -> dict[str, Any]:
    """Return the keyword arguments of ``plot`` for a method: colour, linestyle, marker.

    Raises:
        UnknownMethod: `method` is not in `METHODS`.
    """
    if method not in METHODS:
        raise UnknownMethod(f"no look for method {method!r}; known: {', '.join(METHODS)}")
    return asdict(METHODS[method])


def size(nrows: int = 1, ncols: int = 1, *, wide: bool = False) -> tuple[float, float]:
    """Return (width, height) in inches of a grid of panels; `wide` spans two text columns."""
    of = figsizes.icml2024_full if wide else figsizes.icml2024_half
    # tueplots annotates its settings more loosely than they are.
    return cast(tuple[float, float], of(nrows=nrows, ncols=ncols)["figure.figsize"])


def _settings() -> dict[Any, Any]:
    # Of the tueplots settings only sizes: its bundles ask for TeX or for fonts that may be missing.
    return {
        **fontsizes.icml2024(),
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "dejavusans",
        "text.usetex": False,
        "figure.constrained_layout.use": True,
        "figure.figsize": size(),
        "savefig.dpi": 200,
        "pdf.fonttype": 42,  # text stays text in the PDF
        "axes.prop_cycle": cycler(color=[look.color for look in METHODS.values()]),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "grid.linewidth": 0.4,
        "legend.frameon": False,
        "lines.linewidth": 1.2,
        "lines.markersize": 3,
    }


@contextmanager
def context() -> Generator[None]:
    """Apply the style while drawing *and* saving."""
    with mpl.rc_context(_settings()):
        yield


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
