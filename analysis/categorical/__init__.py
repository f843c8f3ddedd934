"""The categorical problem: Gibbs laws, hypergradients, scalar and diagonal rewards.

>>> from analysis import categorical
>>> categorical.scalar.heuristic_scale(2).at(pi=[0.5, 0.5], lam=1.0)
2.0
"""

from ..result import results_in
from . import costs, definitions, diagonal, estimators, inner, near_uniform, outer, scalar, stated

DERIVATIONS = results_in(inner, outer, scalar, near_uniform, costs, diagonal, estimators)

__all__ = [
    "DERIVATIONS",
    "costs",
    "definitions",
    "diagonal",
    "estimators",
    "inner",
    "near_uniform",
    "outer",
    "scalar",
    "stated",
]
