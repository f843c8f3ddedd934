"""Sequences of symbols: what rewards of positions, of windows and of whole sequences can teach."""

from ..result import results_in
from . import definitions, inner, outer, stated

DERIVATIONS = results_in(inner, outer)

__all__ = ["DERIVATIONS", "definitions", "inner", "outer", "stated"]
