"""What `help` says: every parameter of what the rooms export is named where parameters are."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import analysis
import solvers
from solvers.rewards import bounded, mahalanobis, with_reference


def exported() -> Iterator[tuple[str, Any]]:
    """Functions and classes of both rooms, errors aside."""
    for room in (solvers, analysis):
        for name in room.__all__:
            thing = getattr(room, name)
            is_error = inspect.isclass(thing) and issubclass(thing, BaseException)
            if (inspect.isclass(thing) or inspect.isroutine(thing)) and not is_error:
                yield f"{room.__name__}.{name}", thing


EXPORTED = dict(exported())
# of rewards and laws, in modules of their own
EXPORTED |= {
    f"{function.__module__}.{name}": function
    for module in (bounded, mahalanobis, with_reference)
    for name, function in vars(module).items()
    if inspect.isfunction(function)
    and function.__module__ == module.__name__
    and "Source:" in (function.__doc__ or "")
}


def named(doc: str) -> set[str]:
    """The names that the sections of arguments and attributes speak of."""
    sections = re.findall(r"^(?:Args|Attributes):\n((?: +.*\n?|\n)*)", doc, re.MULTILINE)
    lines = re.findall(r"^    (\w[\w, ]*):", "\n".join(sections), re.MULTILINE)
    return {name.strip() for line in lines for name in line.split(",")}


@pytest.mark.parametrize("address", EXPORTED)
def test_every_parameter_is_named_in_the_docstring(address: str) -> None:
    thing = EXPORTED[address]
    doc = inspect.getdoc(thing) or ""
    unnamed = [name for name in inspect.signature(thing).parameters if name not in named(doc)]
    assert not unnamed, doc


def test_names_are_read_where_they_stand() -> None:
    doc = (
        "Do.\n\nArgs:\n    a: one.\n        more: no name.\n    b, c: two.\n\nRaises:\n    d: no.\n"
    )
    assert named(doc) == {"a", "b", "c"}
