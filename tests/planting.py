"""Faults on the derived side: inside, every result is derived again, and forgotten afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from analysis import Derivation
from analysis import kept as kept_on_disk
from analysis.calculus.symbols import symbol
from analysis.catalogue import DERIVATIONS
from tests.faults import check_fails


@contextmanager
def derived_anew() -> Generator[None]:
    """Forget what has been derived, so that a planted fault reaches all that follows from it."""
    kept = [(result, dict(result.made)) for result in DERIVATIONS]
    _forget()
    try:
        with kept_on_disk.nothing_kept():
            yield
    finally:
        _forget()
        for result, made in kept:
            result.made.update(made)


def check_noticed(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    attribute: str,
    plant: Callable[[Any], Any],
    notices: Callable[[], object],
) -> None:
    """Assert that `notices` passes, and fails once a definition of the derived side is wrong.

    Args:
        owner: the module with the definition that becomes `plant(definition)`.
    """
    notices()
    with derived_anew(), monkeypatch.context() as patch:  # undone before results are kept again
        check_fails(patch, owner, attribute, plant, notices)


def unproved(derivation: Derivation) -> set[str]:
    """Return what the conditions say that do not hold."""
    return {condition.text for condition in derivation.conditions if not condition.holds()}


def _forget() -> None:
    for result in DERIVATIONS:
        result.made.clear()
    for name, module in tuple(sys.modules.items()):
        if name.startswith("analysis."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear") and value is not symbol:
                    value.cache_clear()
