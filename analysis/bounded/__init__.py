"""The bounded reward exp(-‖ŷ - y‖²/ω): where its inner problem has a maximum."""

from ..result import results_in
from . import definitions, inner, stated

DERIVATIONS = results_in(inner)

__all__ = ["DERIVATIONS", "definitions", "inner", "stated"]
