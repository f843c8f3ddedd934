"""From a catalogue entry to files: table, picture, caption, summary; and are they still current?

A picture is current while the fingerprint in the file ``<name>.json`` beside it equals that of the
present code, settings, seed, data, venue and versions. Computing it imports neither torch nor
Matplotlib.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import venues
from figures.catalogue import FigureSpec
from figures.venues import Venue
from paper_checks import store
from paper_checks.experiments import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

UNVERIFIED = "unverified"
QUICK = "quick: smaller experiments, for a first look only"
CODE = (*store.CODE, "figures", "paper_checks/store.py", "paper_checks/published")
LIBRARIES = (*store.NUMERICS, "matplotlib", "tueplots")


@dataclass(frozen=True)
class Picture:
    """One figure with all that determines it."""

    spec: FigureSpec
    seed: int = 0
    data: Path | None = None
    targets: tuple[str, ...] = ()
    verified: bool = True
    quick: bool = False
    venue: Venue = venues.DEFAULT

    @property
    def reduced(self) -> bool:
        """Whether the experiment is smaller than that of the figure: asked for, and on offer."""
        return self.quick and self.spec.quick is not None

    @property
    def table_name(self) -> str:
        """Name of the table; one from the user's own data or of smaller experiments has another."""
        return self._suffixed(self.spec.table or self.spec.name)

    @property
    def name(self) -> str:
        """File name without extension; every venue but the default has its own."""
        name = self._suffixed(self.spec.name)
        return name if self.venue == venues.DEFAULT else f"{name}-{self.venue}"

    def _suffixed(self, name: str) -> str:
        parts = (name, self.data and self.data.stem, self.reduced and "quick")
        return "-".join(part for part in parts if part)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The data files read, beyond those that come with installed libraries."""
        return (self.data,) if self.data else ()


def fingerprint(picture: Picture) -> str:
    """Return the SHA-256 of all that determines the picture."""
    parts = {
        "spec": json.loads(store.canonical(picture.spec)),
        "seed": picture.seed,
        "targets": picture.targets,
        "verified": picture.verified,
        "quick": picture.reduced,
        "venue": picture.venue,
        "code": store.digest_files(store.ROOT, CODE),
        "versions": store.versions(LIBRARIES),
    }
    return store.fingerprint(parts, picture.inputs)


def current(place: store.Store, picture: Picture, mark: str, formats: Sequence[str]) -> list[Path]:
    """Return the files of the picture if all exist with the fingerprint `mark`, else nothing."""
    try:
        record = json.loads((place.figures / f"{picture.name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    files = [place.root / name for name in record["files"]]
    asked = {place.figures / f"{picture.name}.{extension}" for extension in formats}
    return (
        files
        if record["fingerprint"] == mark and asked <= set(files) and all(f.exists() for f in files)
        else []
    )


def check(picture: Picture) -> None:
    """Read a table of the user's own, so that what is wrong with it is said before any work."""
    if picture.data:
        experiment = import_module(picture.spec.experiment)
        experiment.tasks(_settings(experiment, picture))


def table(
    place: store.Store, picture: Picture, verdict: str, progress: Progress | None = None
) -> DataFrame:
    """Return the table of the picture, computed only if it is not in the store.

    Args:
        verdict: digest of the passed gate, or `UNVERIFIED`; recorded as provenance.
        progress: called with (description, completed, total) while computing.
    """
    experiment = import_module(picture.spec.experiment)
    settings = _settings(experiment, picture)
    return place.load_or_run(
        picture.table_name,
        settings,
        lambda: experiment.run(settings, seed=picture.seed, progress=progress),
        seed=picture.seed,
        provenance={**store.provenance(), "gate": verdict},
        inputs=picture.inputs,
    )


def _settings(experiment: Any, picture: Picture) -> Any:
    name = picture.spec.quick if picture.reduced else picture.spec.settings
    settings = getattr(experiment, name) if name else experiment.Settings()
    if picture.data:
        return replace(settings, data=picture.data, targets=picture.targets)
    return settings


def draw(picture: Picture, data: DataFrame) -> Figure:
    """Return the picture of a table, marked if the experiments are reduced or not verified."""
    from figures import style

    with style.context(picture.venue):
        figure = getattr(import_module(picture.spec.drawing), picture.spec.draw)(data)
        if picture.reduced:
            style.banner(figure, QUICK)
        if not picture.verified:
            style.watermark(figure, UNVERIFIED)
        return figure


def save(
    place: store.Store,
    picture: Picture,
    data: DataFrame,
    *,
    mark: str,
    verdict: str,
    formats: Sequence[str],
) -> tuple[str, list[Path]]:
    """Draw the picture, write it with caption and summary, return the caption and the files.

    Args:
        mark: the fingerprint taken *before* the table was computed, so that code edited meanwhile
            makes the picture out of date.
        verdict: digest of the passed gate, or `UNVERIFIED`.
    """
    from matplotlib import pyplot as plt

    from figures import style, tables

    record = {**store.provenance(), "gate": verdict, "fingerprint": mark}
    module = import_module(picture.spec.drawing)
    caption: str = getattr(module, picture.spec.caption)(data)
    if picture.reduced:
        caption = f"{QUICK}.\n{caption}"
    with style.context(picture.venue):
        figure = draw(picture, data)
        files = place.save_figure(figure, picture.name, formats, record)
        plt.close(figure)
    files.append(place.save_text(place.figures, f"{picture.name}.txt", caption.rstrip() + "\n"))
    summary: DataFrame = getattr(module, picture.spec.summary)(data)
    for extension, text in (("md", tables.markdown(summary)), ("tex", tables.latex(summary))):
        files.append(place.save_text(place.tables, f"{picture.name}.{extension}", text))
    # Last, so that an interrupted run leaves a picture that counts as out of date.
    record["files"] = [path.relative_to(place.root).as_posix() for path in files]
    place.save_text(place.figures, f"{picture.name}.json", json.dumps(record, indent=2) + "\n")
    return caption, files
