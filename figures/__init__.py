"""Figures of the paper and of this project: ``python -m figures``, or `draw` in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(
    name: str,
    *,
    seed: int = 0,
    out: Path | str = "out",
    unverified: bool = False,
    quick: bool = False,
    venue: str = "icml",
) -> Figure:
    """Verify, compute (or load) the table of the figure `name` and return the picture.

    Args:
        name: a name listed by ``python -m figures --list``.
        seed: seed of the experiment, >= 0.
        out: folder of results, shared with ``python -m figures``.
        unverified: skip the gate; the picture then carries a watermark.

        quick: smaller experiments, for a first look in seconds; the picture says so. An experiment
            that is fast anyway stays as it is.
        venue: sizes and fonts of where the picture is to appear: icml, neurips, iclr, aistats, uai,
            jmlr, tmlr, slides.

    Raises:
        UnknownFigure: no figure has this name.
        UnknownVenue: sizes and fonts of this venue are not known.
        StoreError: `out` cannot be written.
        GateFailed: a cross-check did not pass.
    """
    # Imported here so that `import figures` costs nothing.
    from figures import catalogue, pipeline, venues
    from paper_checks import gate, store

    picture = pipeline.Picture(
        catalogue.find(name),
        seed=seed,
        verified=not unverified,
        quick=quick,
        venue=venues.find(venue),
    )
    place = store.Store.open(out)
    verdict = pipeline.UNVERIFIED if unverified else gate.ensure(place.root).digest
    return pipeline.draw(picture, pipeline.table(place, picture, verdict))
