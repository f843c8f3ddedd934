"""Hypergradients of general problems: unrolled, by penalty, in the outputs of a policy."""

from ..result import results_in
from . import functional, outputs, penalty, quadratic, stated, unrolled, unrolled_gaussian

DERIVATIONS = results_in(unrolled, unrolled_gaussian, penalty, functional)

__all__ = [
    "DERIVATIONS",
    "functional",
    "outputs",
    "penalty",
    "quadratic",
    "stated",
    "unrolled",
    "unrolled_gaussian",
]
