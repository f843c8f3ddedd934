"""Every derivation of the package by its key, none of them built before it is asked for."""

from __future__ import annotations

from . import (
    bernoulli,
    bounded,
    categorical,
    dynamics,
    estimators,
    forgetting,
    gaussian,
    hypergradients,
    reference,
    rules,
    samples,
    sequences,
)
from .result import Entry, results_in

DERIVATIONS = (
    *gaussian.DERIVATIONS,
    *results_in(rules),
    *dynamics.DERIVATIONS,
    *samples.DERIVATIONS,
    *forgetting.DERIVATIONS,
    *bounded.DERIVATIONS,
    *reference.DERIVATIONS,
    *estimators.DERIVATIONS,
    *hypergradients.DERIVATIONS,
    *categorical.DERIVATIONS,
    *sequences.DERIVATIONS,
    *bernoulli.DERIVATIONS,
)


def catalogue() -> tuple[Entry, ...]:
    """All derivations: n = 1, 2, 3, and general n where it exists; n = 2, 3, 4 classes."""
    return tuple(entry for result in DERIVATIONS for entry in result.entries())
