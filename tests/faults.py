"""A fault planted in the solvers: a check that passes without it must notice it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from solvers.hypergradients.implicit import HypergradientWarning

Fault = tuple[Any, str, Callable[[Any], Any], Callable[[], object]]
"""Owner, attribute, plant and notices, as `check_noticed` takes them."""


def each_is_noticed(faults: Mapping[str, Fault], fails: str = "fails") -> Callable[..., None]:
    """Return the test that every fault is noticed, one case by the name of each."""

    @pytest.mark.parametrize("name", faults)
    def test(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        check_noticed(monkeypatch, *faults[name], fails)

    return test


def check_noticed(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    attribute: str,
    plant: Callable[[Any], Any],
    notices: Callable[[], object],
    fails: str = "fails",
) -> None:
    """Assert that `notices` passes, and fails as it says once a fault is planted.

    Args:
        owner: the class or module with the attribute that becomes `plant(attribute)`.
        fails: pattern of the message that the failed check ends with.
    """
    notices()
    check_fails(monkeypatch, owner, attribute, plant, notices, fails)


def check_fails(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    attribute: str,
    plant: Callable[[Any], Any],
    notices: Callable[[], object],
    fails: str = "fails",
) -> None:
    """Plant a fault, and assert that `notices` fails as it says; arguments of `check_noticed`."""
    monkeypatch.setattr(owner, attribute, plant(vars(owner)[attribute]))
    with warnings.catch_warnings():
        # a fault that announces itself is noticed too, but the check must not need that
        warnings.simplefilter("ignore", HypergradientWarning)
        with pytest.raises(AssertionError, match=fails):
            notices()
