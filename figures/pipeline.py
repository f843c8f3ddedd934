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

from paper_checks import store
from paper_checks.experiments import Progress

from . import venues
from .catalogue import FigureSpec
from .venues import Venue

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

UNVERIFIED = "unverified"
QUICK = "quick: smaller experiments, for a first look only"
CODE = (
    *store.CODE,
    "figures",
    "paper_checks/store.py",
    "paper_checks/published",
)
LIBRARIES = (*store.NUMERICS, "matplotlib", "tueplots")


class NoDevice(ValueError):
    """Torch has no device of the name that was given."""


class UnusableBackend(ValueError):
    """Matplotlib cannot work with the backend it was told to use."""


@dataclass(frozen=True)
class OwnTable:
    """A CSV file of the user's own, how it is written, and the columns to predict.

    The fields are as in the ``Settings`` of an experiment that takes such a file.
    """

    data: Path
    targets: tuple[str, ...]
    sep: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    na_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """One figure with all that determines it."""

    spec: FigureSpec
    seed: int = 0
    own: OwnTable | None = None
    verified: bool = True
    quick: bool = False
    venue: Venue = venues.DEFAULT
    full: bool = False
    device: str = "cpu"

    @property
    def extended(self) -> bool:
        """Whether the experiment is longer than by default: asked for, and on offer."""
        return self.full and self.spec.full

    @property
    def reduced(self) -> bool:
        """Whether the experiment is smaller than that of the figure: asked for, and on offer."""
        return self.quick and self.spec.quick

    @property
    def table_name(self) -> str:
        """Name of the table; from the user's own data, of another size or device it has another."""
        return self._suffixed(self.spec.table)

    @property
    def name(self) -> str:
        """File name without extension; every venue but the default has its own."""
        name = self._suffixed(self.spec.name)
        return name if self.venue == venues.DEFAULT else f"{name}-{self.venue}"

    def _suffixed(self, name: str) -> str:
        size = (self.reduced and "quick", self.extended and "full")
        elsewhere = self.device != "cpu" and self.device.replace(":", "-")
        parts = (name, self.own and self.own.data.stem, *size, elsewhere)
        return "-".join(part for part in parts if part)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The data files read, beyond those that come with installed libraries."""
        return (self.own.data,) if self.own else ()


def fingerprint(picture: Picture) -> str:
    """Return the SHA-256 of all that determines the picture."""
    parts = {
        "spec": json.loads(store.canonical(picture.spec)),
        "seed": picture.seed,
        "own": json.loads(store.canonical(picture.own)) if picture.own else None,
        "verified": picture.verified,
        "quick": picture.reduced,
        "full": picture.extended,
        "venue": picture.venue,
        "device": picture.device,
        "code": store.digest_files(store.ROOT, CODE),
        "versions": store.versions(LIBRARIES),
    }
    return store.fingerprint(parts, picture.inputs)


def current(place: store.Store, picture: Picture, mark: str, formats: Sequence[str]) -> list[Path]:
    """Return the files of the picture if all exist with the fingerprint `mark`, else nothing.

    Raises:
        StoreError: the record of the picture is damaged, or not of this project.
    """
    record = _record(place, picture)
    if record is None:
        return []
    files = [place.root / name for name in record["files"]]
    asked = {place.figures / f"{picture.name}.{extension}" for extension in formats}
    return (
        files
        if record["fingerprint"] == mark and asked <= set(files) and all(f.exists() for f in files)
        else []
    )


def check(place: store.Store, picture: Picture, formats: Sequence[str]) -> None:
    """Look at the files to be written and at a table of the user's own, before any work.

    Raises:
        StoreError: a file of the same name is not of this project.
        UndrawableText, NoLatexForm: a name has characters that fonts or LaTeX lack.
        Exception: what the experiment raises if the table cannot be used.
    """
    _check_ours(place, picture, formats)
    if picture.own:
        experiment = import_module(picture.spec.experiment)
        experiment.tasks(settings(experiment, picture))
        from . import style, tables

        for name in (picture.own.data.stem, *picture.own.targets):
            style.check_drawable(name)
            tables.escape(name)


def _record(place: store.Store, picture: Picture) -> dict[str, Any] | None:
    path = place.figures / f"{picture.name}.json"
    return store.read_record(path, {"fingerprint": str, "files": list})


def _check_ours(place: store.Store, picture: Picture, formats: Sequence[str]) -> list[str]:
    """Return all files that were written or will be, relative to the store's folder."""
    record = _record(place, picture) or {}
    ours: set[str] = {*record.get("files", ()), *record.get("written", ())}
    paths = [place.figures / f"{picture.name}.{extension}" for extension in (*formats, "txt")]
    paths += [place.tables / f"{picture.name}.{extension}" for extension in ("md", "tex")]
    planned = {path.relative_to(place.root).as_posix() for path in paths}
    foreign = sorted(name for name in planned - ours if (place.root / name).exists())
    if foreign:
        raise store.StoreError(
            f"{', '.join(foreign)} in {place.root} would be overwritten, and no record says that "
            f"this project wrote them: move or delete them, or pass another folder with --out"
        )
    return sorted(ours | planned)


def table(
    place: store.Store, picture: Picture, verdict: str, progress: Progress | None = None
) -> DataFrame:
    """Return the table of the picture, computed only if it is not in the store.

    Args:
        verdict: digest of the passed gate, or `UNVERIFIED`; recorded as provenance.
        progress: called with (description, completed, total) while computing.
    """
    experiment = import_module(picture.spec.experiment)
    chosen = settings(experiment, picture)
    return place.load_or_run(
        picture.table_name,
        chosen,
        lambda: experiment.run(chosen, seed=picture.seed, progress=progress),
        seed=picture.seed,
        provenance={**store.provenance(), "gate": verdict},
        inputs=picture.inputs,
    )


def settings(experiment: Any, picture: Picture) -> Any:
    """Return the settings of the picture, one of those its experiment offers."""
    published, own = picture.spec.published, picture.own
    if picture.reduced:
        chosen = experiment.QUICK_AS_PUBLISHED if published else experiment.QUICK
    elif picture.extended:
        chosen = experiment.FULL
    elif published:
        chosen = experiment.AS_PUBLISHED
    else:  # nothing is corrected where nothing was published
        chosen = getattr(experiment, "CORRECTED", None) or experiment.Settings()
    if picture.device != "cpu":
        chosen = replace(chosen, device=picture.device)
    if own is None:
        return chosen
    return replace(
        chosen,
        data=own.data,
        targets=own.targets,
        sep=own.sep,
        encoding=own.encoding,
        decimal=own.decimal,
        na_values=own.na_values,
    )


def check_device(device: str) -> None:
    """Put a tensor on a device of torch.

    Raises:
        NoDevice: there is none of this name, or it computes nothing.
    """
    import torch  # only where a device is named

    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # builds of torch differ
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise NoDevice(f"no tensor can be on {device!r} ({reason}): leave --device out") from error


def check_backend() -> None:
    """Import Matplotlib, which looks at the backend it is told to use in MPLBACKEND.

    Raises:
        UnusableBackend: there is none of this name.
    """
    try:
        import_module("matplotlib")
    except ValueError as error:
        raise UnusableBackend(
            f"Matplotlib does not start ({error}): set MPLBACKEND=Agg, or unset it"
        ) from error


def draw(picture: Picture, data: DataFrame) -> Figure:
    """Return the picture of a table, marked if the experiments are reduced or not verified.

    Raises:
        UnusableBackend: Matplotlib cannot load its backend.
    """
    check_backend()
    from . import style

    with style.context(picture.venue):
        return _drawn(picture, data)


def _drawn(picture: Picture, data: DataFrame) -> Figure:
    """Return the picture in the style that is active."""
    from . import style

    try:
        figure = _call(picture, "draw", data)
    except ImportError as error:  # Matplotlib loads the backend with the first figure
        raise UnusableBackend(
            f"Matplotlib cannot draw ({error}): set MPLBACKEND=Agg, or call "
            f"matplotlib.use('Agg') first"
        ) from error
    if picture.reduced:
        style.banner(figure, QUICK)
    if not picture.verified:
        style.watermark(figure, UNVERIFIED)
    return figure


def _call(picture: Picture, kind: str, data: DataFrame) -> Any:
    module = import_module(picture.spec.drawing)
    return getattr(module, picture.spec.function(kind))(data)


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

    Raises:
        StoreError: a file cannot be written, or one of the same name is not of this project.
    """
    check_backend()
    from matplotlib import pyplot as plt

    from . import style, tables

    written = _check_ours(place, picture, formats)
    record = {**store.provenance(), "gate": verdict, "written": written}
    caption: str = _call(picture, "caption", data)
    if picture.reduced:
        caption = f"{QUICK}.\n{caption}"

    def note(fingerprint: str, files: Sequence[Path]) -> None:
        names = [path.relative_to(place.root).as_posix() for path in files]
        text = json.dumps({**record, "fingerprint": fingerprint, "files": names}, indent=2)
        place.save_text(place.figures, f"{picture.name}.json", text + "\n")

    note("", [])  # an interrupted run leaves a picture that is known, and counts as out of date
    with style.context(picture.venue):
        figure = _drawn(picture, data)
        files = place.save_figure(figure, picture.name, formats, record)
        plt.close(figure)
    files.append(place.save_text(place.figures, f"{picture.name}.txt", caption.rstrip() + "\n"))
    summary: DataFrame = _call(picture, "summary", data)
    for extension, text in (("md", tables.markdown(summary)), ("tex", tables.latex(summary))):
        files.append(place.save_text(place.tables, f"{picture.name}.{extension}", text))
    note(mark, files)
    return caption, files
