"""The Gaussian problem: inner and outer level, and what follows from their closed forms."""

from ..result import results_in
from . import (
    divergences,
    inner,
    mean_field,
    misspecification,
    outer,
    rays,
    second_order,
    stated,
    temperature,
)

DERIVATIONS = results_in(inner, outer, rays, mean_field, misspecification, temperature, divergences)

__all__ = [
    "DERIVATIONS",
    "divergences",
    "inner",
    "mean_field",
    "misspecification",
    "outer",
    "rays",
    "second_order",
    "stated",
    "temperature",
]
