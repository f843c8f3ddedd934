"""The propositions by subject: what each says, the results it covers, and who witnesses them."""

from . import (
    bernoulli,
    bounded,
    categorical,
    estimators,
    forgetting,
    gaussian_inner,
    gaussian_misspecification,
    gaussian_outer,
    hypergradients,
)

PROPOSITIONS = (
    *gaussian_inner.PROPOSITIONS,
    *gaussian_outer.PROPOSITIONS,
    *gaussian_misspecification.PROPOSITIONS,
    *estimators.PROPOSITIONS,
    *bounded.PROPOSITIONS,
    *forgetting.PROPOSITIONS,
    *hypergradients.PROPOSITIONS,
    *categorical.PROPOSITIONS,
    *bernoulli.PROPOSITIONS,
)

__all__ = ["PROPOSITIONS"]
