"""Paths in time: of the reward under a gradient flow."""

from ..result import results_in
from . import outer_flow, stated

DERIVATIONS = results_in(outer_flow)

__all__ = ["DERIVATIONS", "outer_flow", "stated"]
