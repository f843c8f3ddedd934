"""A derivation can be pickled and copied at any time, and is the same afterwards."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis import Condition, Derivation, Step, catalogue, gaussian
from tests.analysis.test_derivations import values_for

ENTRIES = [entry for entry in catalogue() if "n=3" not in entry.name]  # sizes change nothing
STATES: dict[str, Callable[[Derivation], Any]] = {
    "fresh": lambda d: d,
    "evaluated": lambda d: [d.at(side, **sample(d)) for side in ("stated", "derived")],
    "verified": lambda d: d.verify(),
    "shown": lambda d: (str(d), d._repr_latex_()),
}
WAYS: tuple[Callable[[Any], Any], ...] = (
    lambda x: pickle.loads(pickle.dumps(x)),
    copy.copy,
    copy.deepcopy,
)


def sample(derivation: Derivation) -> dict[str, Any]:
    return values_for(derivation, np.random.default_rng(0), size=derivation.size or 4)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_every_derivation_survives(entry):
    derivation = entry.build()
    derivation.at(**sample(derivation))
    again = pickle.loads(pickle.dumps(derivation))
    for side in ("stated", "derived"):
        found, expected = (d.at(side, **sample(derivation)) for d in (again, derivation))
        np.testing.assert_array_equal(found, expected)
    assert again.name == derivation.name
    assert again.statement == derivation.statement
    for parts in ("steps", "conditions"):
        found, expected = (getattr(d, parts) for d in (again, derivation))
        assert [part.text for part in found] == [part.text for part in expected]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("n", [1, 2, 5, None])
def test_in_every_state_and_every_way(state, n):
    derivation = replace(gaussian.outer.hypergradient("full", n))  # nothing kept
    STATES[state](derivation)
    for way in WAYS:
        again = way(derivation)
        assert again.stated == derivation.stated
        assert again.derived == derivation.derived
        assert dict(again.arguments) == dict(derivation.arguments)
        assert again.verify() is again
        assert str(again) == str(derivation)
        np.testing.assert_array_equal(again.at(**sample(again)), derivation.at(**sample(again)))


def test_parts_and_entries_survive():
    derivation = gaussian.inner.solution("diagonal", 2)
    for way in WAYS:
        step, condition = way(derivation.steps[0]), way(derivation.conditions[0])
        assert isinstance(step, Step)
        assert isinstance(condition, Condition)
        assert step.expression == derivation.steps[0].expression
        assert condition.holds()
        entries = way(catalogue())
        assert [entry.name for entry in entries] == [entry.name for entry in catalogue()]
        assert entries[0].build() is catalogue()[0].build()
