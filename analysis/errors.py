"""Typed errors: each message names the value that was wrong and what to pass instead."""


class DerivationError(RuntimeError):
    """A derived result differs from the stated one, or a side condition does not hold."""


class MomentError(ValueError):
    """An expectation needs more than the first two moments of the data."""


class ArgumentError(ValueError):
    """An argument of `Derivation.at` lies outside its domain."""


class ArgumentNameError(TypeError):
    """An argument of `Derivation.at` is missing, unknown or of the wrong type."""


class StructureError(ValueError):
    """An unknown covariance structure or an unsupported dimension."""


class FormError(ValueError):
    """An expression is not of the form that a step of the calculus takes or solves."""


class RuleError(TypeError):
    """The calculus has no rule for a kind of expression."""


class RewardError(ValueError):
    """A reward, regulariser or data that `derive` does not take; the message says what it takes."""


class RewardTypeError(TypeError):
    """What was passed to `derive` is no SymPy expression, or of the wrong kind."""


class NoMaximumError(ValueError):
    """A problem, inner or outer, has no maximum, or none that is found; the message says why."""


class SlowDerivationWarning(UserWarning):
    """A derivation that is about to start takes longer than five seconds."""


class UnknownResultError(LookupError):
    """No result matches a name."""
