"""``python -m paper_checks report``: write the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import store
from ..console import BAD_USAGE, FAILED, stop

PAGE = "report.html"
LARGEST = 10_000_000  # bytes: what mail and browsers take without complaint


def report_command(
    out: Annotated[Path, typer.Option(help="Folder of figures and verdicts; of the page.")] = Path(
        "out"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Look at the page in Chromium, at two widths.")
    ] = False,
) -> None:
    """Write OUT/report.html: claims, derivations and figures on one page that needs no network."""
    from analysis import kept

    from . import content, page, sliders

    # The gate has proved them already; a change of the theory proves them anew.
    kept.keep_in(store.ROOT / ".pytest_cache" / "derivations")
    try:
        place = store.Store.open(out)
        text = page.html(content.gather(place), sliders.forms(), out.resolve())
        if len(text.encode()) > LARGEST:
            raise store.StoreError(
                f"the page would have {len(text.encode())} bytes, more than {LARGEST}: move "
                f"pictures that are no longer needed out of {place.figures}"
            )
        typer.echo(store.write_text(out / PAGE, text))
    except store.StoreError as error:
        stop(str(error), BAD_USAGE)
    if check:
        _check(out / PAGE)


def _check(path: Path) -> None:
    try:
        from .browser import NoBrowser, faults
    except ImportError:
        stop("--check drives Chromium by playwright: pip install -e '.[dev]'", BAD_USAGE)
    try:
        found = faults(path, path.parent)
    except NoBrowser as error:
        stop(str(error), BAD_USAGE)
    if found:
        stop("\n".join(found), FAILED)
    typer.echo(
        f"{path} is whole, on a desktop and on a phone: report-desktop.png, report-phone.png"
    )
