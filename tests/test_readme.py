"""The examples of the README and of the pages run and print what they say; their links lead."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_print_what_the_page_says(page: Path) -> None:
    failed, attempted = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert (attempted > 0) == (">>>" in page.read_text(encoding="utf-8"))
    assert failed == 0, "see the captured output for the example that differs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_linked_files_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_the_readme_is_short() -> None:
    """Three ways in, two commands first; the rest is in docs/."""
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 150
