"""The page in Chromium: nothing breaks or is fetched, all is seen, every link leads somewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from playwright.sync_api import Page, sync_playwright


class NoBrowser(RuntimeError):
    """There is no Chromium to look at the page with."""


WIDTHS = {"desktop": 1280, "phone": 390}
HEIGHT = 844
UNSEEN = """() => {
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const seen = (e) => e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().height > 0;
  const failed = [];
  document.querySelectorAll("math, svg, img").forEach((e) => {
    if (!seen(e)) failed.push(e.outerHTML.slice(0, 80));
  });
  document.querySelectorAll("img").forEach((e) => {
    if (!e.naturalWidth || !e.alt) failed.push("picture " + e.alt);
  });
  document.querySelectorAll(".form").forEach((e) => {
    const text = e.querySelector("output").textContent;
    if (!Number.isFinite(Number(text)) || text === "") failed.push("closed form " + text);
  });
  return failed;
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def faults(path: Path, pictures: Path | None = None) -> list[str]:
    """What is wrong with the page, at two widths, in words; empty if nothing is.

    Args:
        path: of the page.
        pictures: folder for a picture of each width; None for none.
    Raises:
        NoBrowser: there is no Chromium on the PATH.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise NoBrowser("there is no chromium on the PATH: install your system's package of it")
    found: list[str] = []
    with sync_playwright() as playwright:
        # The page is our own file, and containers rarely allow Chromium's sandbox.
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, width in WIDTHS.items():
            page = chromium.new_page(viewport={"width": width, "height": HEIGHT})
            page.on("console", lambda message: found.append(f"console: {message.text}"))
            page.on("pageerror", lambda error: found.append(f"error: {error}"))
            page.on("request", lambda request: _note(request.url, path, found))
            page.goto(path.resolve().as_uri())
            found.extend(f"{name}: not seen: {text}" for text in page.evaluate(UNSEEN))
            if page.evaluate(OVERFLOW) > 0:
                found.append(f"{name}: the page is wider than the screen")
            found.extend(f"{name}: {text}" for text in _links(page))
            if pictures is not None:
                page.reload()
                page.screenshot(path=pictures / f"report-{name}.png", full_page=True)
            page.close()
        chromium.close()
    return found


def _note(url: str, path: Path, found: list[str]) -> None:
    if url != path.resolve().as_uri() and not url.startswith("data:"):
        found.append(f"asks for {url}")


def _links(page: Page) -> Iterator[str]:
    """The links that lead nowhere: to a file or a place on the page that does not exist."""
    targets: list[str] = page.evaluate("() => [...document.links].map((a) => a.href)")
    ids: set[str] = set(
        page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
    )
    here = urlsplit(page.url).path
    for target in dict.fromkeys(targets):
        parts = urlsplit(target)
        if parts.path != here:
            if not Path(url2pathname(parts.path)).exists():
                yield f"no file {parts.path}"
        elif unquote(parts.fragment) not in ids:
            yield f"no place {unquote(parts.fragment)}"
