"""Linear coordinates in which the search of a bilevel problem is well conditioned.

A gradient method is as good as its coordinates. Raw inputs, such as years, or outcomes that almost
repeat each other, make some directions of the parameters steep and others flat by many orders of
magnitude: then hypergradients are small, beside those that were met, far from any maximum. Relative
to means and deviations of the inputs, or to a factor of the residuals' precision, they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from ..families.networks import InputUnits
from ..hypergradients.implicit import Level
from ..numerics.trees import Tree
from ..rewards.learnable import Phi, entries, factor
from .problem import Bilevel

Map = Callable[[Tree], Tree]


@dataclass(frozen=True)
class Coordinates:
    """A linear map of trees of parameters, and its inverse.

    Attributes:
        there: from parameters to coordinates.
        back: from coordinates to parameters.
    """

    there: Map
    back: Map


def _same(tree: Tree) -> Tree:
    return tree


SAME = Coordinates(_same, _same)


def of_inputs(x: Float[Tensor, "N d"], prefixes: Sequence[str]) -> Coordinates:
    """Return those of networks, by the prefixes of their names, relative to their inputs."""
    units = InputUnits.of(x)
    there, back = (partial(way, prefixes=tuple(prefixes)) for way in (units.relative, units.raw))
    return Coordinates(cast(Map, there), cast(Map, back))


def of_factor(R: Float[Tensor, "n n"]) -> Coordinates:
    """Return the `M` of a factor `C = R M` of `U = C Cᵀ`."""
    return Coordinates(cast(Map, partial(_divided, R)), cast(Map, partial(_multiplied, R)))


def _divided(R: Tensor, phi: Phi) -> Phi:
    C = factor(phi["log_diagonal"], phi["lower"])
    return entries(torch.linalg.solve_triangular(R, C, upper=False))


def _multiplied(R: Tensor, phi: Phi) -> Phi:
    return entries(R @ factor(phi["log_diagonal"], phi["lower"]))


def relative(levels: Bilevel, theta: Coordinates, phi: Coordinates) -> Bilevel:
    """Return the problem in these coordinates of its inner and outer variables."""

    def of(level: Level) -> Level:
        return lambda at, given: level(theta.back(at), phi.back(given))

    def at(given: Tree) -> Callable[[Tree], Tensor]:
        assert levels.at is not None
        J = levels.at(phi.back(given))
        return lambda inside: J(theta.back(inside))

    return Bilevel(of(levels.J), of(levels.F), at=None if levels.at is None else at)
