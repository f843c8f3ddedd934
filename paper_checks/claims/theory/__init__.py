"""The propositions by subject: what each says, the results it covers, and who witnesses them."""

from . import (
    bernoulli,
    bounded,
    categorical,
    dynamics,
    estimators,
    forgetting,
    gaussian_inner,
    gaussian_misspecification,
    gaussian_outer,
    gaussian_temperature,
    hypergradients,
    reference,
    samples,
    sequences,
)

PROPOSITIONS = (
    *gaussian_inner.PROPOSITIONS,
    *gaussian_outer.PROPOSITIONS,
    *gaussian_misspecification.PROPOSITIONS,
    *gaussian_temperature.PROPOSITIONS,
    *samples.PROPOSITIONS,
    *estimators.PROPOSITIONS,
    *bounded.PROPOSITIONS,
    *reference.PROPOSITIONS,
    *dynamics.PROPOSITIONS,
    *forgetting.PROPOSITIONS,
    *hypergradients.PROPOSITIONS,
    *categorical.PROPOSITIONS,
    *sequences.PROPOSITIONS,
    *bernoulli.PROPOSITIONS,
)

__all__ = ["PROPOSITIONS"]
