"""Paths in time: of the reward, and of the policy, under a gradient flow."""

from ..result import results_in
from . import inner_flow, outer_flow, stated

DERIVATIONS = results_in(outer_flow, inner_flow)

__all__ = ["DERIVATIONS", "inner_flow", "outer_flow", "stated"]
