"""What a policy forgets of its base: paths of likelihood and policy gradient, ties, old modes."""

from ..result import results_in
from . import avoidable, modes, paths, razors, stated, ties

DERIVATIONS = results_in(paths, razors, ties, avoidable, modes)

__all__ = ["DERIVATIONS", "avoidable", "modes", "paths", "razors", "stated", "ties"]
