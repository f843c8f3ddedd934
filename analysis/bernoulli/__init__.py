"""Independent binary outcomes: the same reward as for vectors, whose closed form is logistic."""

from ..result import results_in
from . import definitions, inner, outer, stated

DERIVATIONS = results_in(inner, outer)

__all__ = ["DERIVATIONS", "definitions", "inner", "outer", "stated"]
