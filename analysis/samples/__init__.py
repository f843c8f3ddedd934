"""Finite samples: what rewards lose that are learned from N rows, and what held-out rows gain."""

from ..result import results_in
from . import choice, definitions, excess, linear, stated, wishart

DERIVATIONS = results_in(wishart, excess, linear, choice)

__all__ = ["DERIVATIONS", "choice", "definitions", "excess", "linear", "stated", "wishart"]
