"""Figures of the paper and of this project: ``python -m figures``, or `draw` in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]


def check_rooms() -> None:
    """Raise unless everything is imported from one checkout.

    Raises:
        ImportError: something else comes first under the name of a room, e.g. a folder of the
            user's own in the current one; the message names both places.
    """
    import paper_checks

    here = Path(__file__).resolve().parent
    try:
        from paper_checks import checkout
    except ImportError as error:
        found = paper_checks.__file__ or list(paper_checks.__path__)
        raise ImportError(
            f"paper_checks is imported from {found}, figures from {here}: start "
            f"from another folder, or rename that one"
        ) from error
    # By our own place: an editable install finds our modules even in a foreign package.
    checkout.check(root=here.parent)


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
        StoreError: `out` cannot be written, or holds damaged or foreign files of the same names.
        GateFailed: a cross-check did not pass.
        ImportError: a folder of your own stands before one of this project.
        UnusableBackend: Matplotlib cannot load its backend.

    The settings of Matplotlib (rcParams) do not change the picture, and are as before afterwards.
    """
    check_rooms()
    # Imported here so that `import figures` costs nothing.
    from paper_checks import gate, store

    from . import catalogue, pipeline, venues

    pipeline.check_backend()
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
