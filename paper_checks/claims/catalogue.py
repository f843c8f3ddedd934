"""All claims that can be judged, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from ..experiments import FORMER
from .claim import Claim
from .pictures import (
    bounded_reward,
    estimator_variance,
    figure_1,
    figure_2,
    figure_3,
    forgetting,
    full_covariance,
    how_much_data,
    overshoot,
    reference_policy,
    sequences,
    table_3,
    tables_1_2,
    who_is_faster,
    wrong_covariance,
)
from .theory import PROPOSITIONS, quartic
from .theory.proposition import claim


class UnknownClaim(ValueError):
    """No claim has this name or begins with it; the message lists the known ones."""


def all_claims() -> tuple[Claim, ...]:
    """Return every claim of the propositions and of the figures."""
    figures = (
        figure_1,
        figure_2,
        figure_3,
        tables_1_2,
        table_3,
        full_covariance,
        reference_policy,
        how_much_data,
        wrong_covariance,
        sequences,
        who_is_faster,
        bounded_reward,
        estimator_variance,
        forgetting,
        overshoot,
    )
    return (
        *map(claim, PROPOSITIONS),
        *quartic.claims(),
        *(item for figure in figures for item in figure.claims()),
    )


def select(claims: Sequence[Claim], names: Sequence[str]) -> tuple[Claim, ...]:
    """Return the claims whose name is, or begins with, one of `names`; all if there are none.

    Raises:
        UnknownClaim: a name selects nothing; of a former name the message says the new one.
    """
    for name in names:
        if not any(claim.name.startswith(name) for claim in claims):
            letter, dot, rest = name.removeprefix("figure_").partition(".")
            if name.startswith("figure_") and letter in FORMER:
                now = f"{FORMER[letter]}{dot}{rest}"
                raise UnknownClaim(f"unknown claim {name!r}: these begin with {now!r} now")
            known = ", ".join(claim.name for claim in claims)
            raise UnknownClaim(f"unknown claim {name!r}; known claims: {known}")
    return tuple(c for c in claims if not names or c.name.startswith(tuple(names)))
