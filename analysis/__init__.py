"""The theory in SymPy: each result derived from the definitions beside the stated one.

>>> from analysis import outer
>>> outer.hypergradient("full", n=1).at(U=2.0, lam=0.5, Sigma=0.3)
-0.35
"""

from . import (
    bounded_reward,
    categorical,
    divergences,
    estimators,
    functional,
    gaussian,
    misspecification,
    outer,
    penalty,
    unrolled,
)
from .catalogue import Entry, catalogue
from .derivation import Condition, Derivation, Step
from .errors import (
    ArgumentError,
    ArgumentNameError,
    DerivationError,
    MomentError,
    SlowDerivationWarning,
    StructureError,
)

__all__ = [
    "ArgumentError",
    "ArgumentNameError",
    "Condition",
    "Derivation",
    "DerivationError",
    "Entry",
    "MomentError",
    "SlowDerivationWarning",
    "Step",
    "StructureError",
    "bounded_reward",
    "catalogue",
    "categorical",
    "divergences",
    "estimators",
    "functional",
    "gaussian",
    "misspecification",
    "outer",
    "penalty",
    "unrolled",
]
