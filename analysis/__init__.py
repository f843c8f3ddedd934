"""The theory in SymPy: each result derived from the definitions beside the stated one.

>>> from analysis import gaussian
>>> gaussian.outer.hypergradient("full", n=1).at(U=2.0, lam=0.5, Sigma=0.3)
-0.35
"""

from . import (
    bernoulli,
    bounded,
    categorical,
    dynamics,
    estimators,
    forgetting,
    gaussian,
    hypergradients,
    reference,
    rules,
    samples,
    sequences,
)
from .calculus.conditions import Condition
from .catalogue import catalogue
from .derivation import Derivation, Key, Step
from .derive import (
    KL,
    Bits,
    Classes,
    Derived,
    Entropy,
    Gaussian,
    Moments,
    Normal,
    derive,
    outcome,
)
from .errors import (
    ArgumentError,
    ArgumentNameError,
    DerivationError,
    FormError,
    MomentError,
    NoMaximumError,
    RewardError,
    RewardTypeError,
    RuleError,
    SlowDerivationWarning,
    StructureError,
    UnknownResultError,
)
from .explain import explain, listing
from .public import show_only_public
from .result import Entry, Result
from .show import show

__all__ = [
    "KL",
    "ArgumentError",
    "ArgumentNameError",
    "Bits",
    "Classes",
    "Condition",
    "Derivation",
    "DerivationError",
    "Derived",
    "Entropy",
    "Entry",
    "FormError",
    "Gaussian",
    "Key",
    "MomentError",
    "Moments",
    "NoMaximumError",
    "Normal",
    "Result",
    "RewardError",
    "RewardTypeError",
    "RuleError",
    "SlowDerivationWarning",
    "Step",
    "StructureError",
    "UnknownResultError",
    "bernoulli",
    "bounded",
    "catalogue",
    "categorical",
    "derive",
    "dynamics",
    "estimators",
    "explain",
    "forgetting",
    "gaussian",
    "hypergradients",
    "listing",
    "outcome",
    "reference",
    "rules",
    "samples",
    "sequences",
    "show",
]

show_only_public(__name__)
