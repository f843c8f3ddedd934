"""A derivation can be pickled and copied at any time, and is the same afterwards."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp

from analysis import (
    KL,
    Bits,
    Classes,
    Condition,
    Derivation,
    Derived,
    Entropy,
    Gaussian,
    Normal,
    Step,
    catalogue,
    derive,
    gaussian,
    outcome,
)
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


u, a, b = sp.symbols("u a b", positive=True)
y_hat, y = outcome(1)
Y_hat, Y = outcome(2)
G = (Y_hat - Y).T * (Y_hat - Y)
REWARDS: dict[str, tuple[Callable[[], Derived], dict[str, Any]]] = {
    "closed": (lambda: derive(-u * (y_hat - y) ** 2, Gaussian(1)), {"u": 0.7, "Sigma": 0.4}),
    "searched": (
        lambda: derive(-a * (y_hat - y) ** 4, Gaussian(1), Entropy(), Normal()),
        {"a": 0.7, "Sigma": 0.4},
    ),
    "local": (
        lambda: derive(sp.exp(-G[0] / a), Gaussian(2, "isotropic"), data=Normal(), local=True),
        {"a": 2.0, "Sigma": [[0.4, 0.1], [0.1, 0.3]], "mu": [0.1, 0.2], "lam": 0.1},
    ),
    "reference": (
        lambda: derive(-u * (y_hat - y) ** 2, Gaussian(1), KL()),
        {"u": 0.7, "Sigma": 0.4, "m0": 0.1, "P0": 2.0},
    ),
    "classes": (lambda: derive(u * sp.eye(2), Classes(2)), {"u": 0.7, "pi": [0.3, 0.7]}),
    "bits": (lambda: derive(-u * G[0], Bits(2)), {"u": 0.7, "rho": [0.3, 0.8]}),
}
USES: dict[str, Callable[[Derived, dict[str, Any]], Any]] = {
    "solve": lambda d, at: vars(d.solve(**at)),
    "slopes": lambda d, at: d.slopes(**at),
    "verify": lambda d, at: str(d.verify()),
    "best": lambda d, at: vars(d.best(**{k: v for k, v in at.items() if k not in d.parameters})),
}


@pytest.mark.parametrize("way", WAYS, ids=["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("name", REWARDS)
def test_what_derive_returns_survives_before_and_after_every_use(name, way):
    make, values = REWARDS[name]
    derived = make()
    at = {"lam": 0.6, **({"mu": 0.2} if "Sigma" in values else {})} | values
    # The maximum of a bounded kernel over its width is at its edge: nothing is found there.
    uses = {k: use for k, use in USES.items() if (name, k) != ("local", "best")}
    fresh = way(derived)
    for kind, use in uses.items():
        want = use(derived, at)
        again = way(derived)
        for copied in (fresh, again, way(again)):
            assert copied.arguments == derived.arguments
            np.testing.assert_equal(use(copied, at), want, err_msg=kind)
