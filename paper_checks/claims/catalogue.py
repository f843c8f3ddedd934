"""All claims that can be judged, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from . import figure_a, figure_b, figure_c, figure_d
from .claim import Claim
from .theory import PROPOSITIONS
from .theory.proposition import claim


class UnknownClaim(ValueError):
    """No claim has this name or begins with it; the message lists the known ones."""


def all_claims() -> tuple[Claim, ...]:
    """Return every claim of the propositions and of the figures."""
    figures = (figure_a, figure_b, figure_c, figure_d)
    return (*map(claim, PROPOSITIONS), *(item for figure in figures for item in figure.claims()))


def select(claims: Sequence[Claim], names: Sequence[str]) -> tuple[Claim, ...]:
    """Return the claims whose name is, or begins with, one of `names`; all if there are none.

    Raises:
        UnknownClaim: a name selects nothing.
    """
    for name in names:
        if not any(claim.name.startswith(name) for claim in claims):
            known = ", ".join(claim.name for claim in claims)
            raise UnknownClaim(f"unknown claim {name!r}; known claims: {known}")
    return tuple(c for c in claims if not names or c.name.startswith(tuple(names)))
