"""Hypergradients of general problems: unrolled, by penalty, in a policy's outputs, sampled."""

from ..result import results_in
from . import (
    functional,
    outputs,
    penalty,
    quadratic,
    stated,
    surrogate,
    unrolled,
    unrolled_gaussian,
)

DERIVATIONS = results_in(unrolled, unrolled_gaussian, penalty, functional, surrogate)

__all__ = [
    "DERIVATIONS",
    "functional",
    "outputs",
    "penalty",
    "quadratic",
    "stated",
    "surrogate",
    "unrolled",
    "unrolled_gaussian",
]
