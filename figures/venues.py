"""Where a picture may be published. Kept apart from `style`, which imports Matplotlib."""

from __future__ import annotations

from enum import StrEnum


class UnknownVenue(ValueError):
    """Sizes and fonts of the given venue are not known; the message lists those that are."""


class Venue(StrEnum):
    """Venues whose text width and font sizes are known."""

    icml = "icml"
    neurips = "neurips"
    iclr = "iclr"
    aistats = "aistats"
    uai = "uai"
    jmlr = "jmlr"
    tmlr = "tmlr"
    slides = "slides"


DEFAULT = Venue.icml


def find(name: str) -> Venue:
    """Return the venue called `name`.

    Raises:
        UnknownVenue: there is none.
    """
    for venue in Venue:
        if venue == name:
            return venue
    raise UnknownVenue(f"unknown venue {name!r}; known venues: {', '.join(Venue)}")
