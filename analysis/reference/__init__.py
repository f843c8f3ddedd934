"""A reference policy p₀ instead of entropy, J = E r - λ KL(p ‖ p₀), and other rewards of RLHF."""

from ..result import results_in
from . import definitions, embeddings, group_deviation, inner, outer, stated

DERIVATIONS = results_in(inner, outer, group_deviation, embeddings)

__all__ = [
    "DERIVATIONS",
    "definitions",
    "embeddings",
    "group_deviation",
    "inner",
    "outer",
    "stated",
]
