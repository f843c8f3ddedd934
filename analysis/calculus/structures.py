"""The structures of a covariance, one object each: what the three differ in, in one place.

Public functions take their names; `shape` makes the object of a name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import sympy as sp

from . import general_n
from .conditions import Condition, zero
from .ldl import ldl_factors
from .matrices import diagonal_part, gradient, identity, replace, solve_word_equation
from .normal_form import normal
from .stationary import solve_linear
from .symbols import Structure, symbol

_SHARE = sp.Symbol("alpha", real=True)  # A = αI within an isotropic structure


@dataclass(frozen=True)
class Shape(ABC):
    """A structure of covariances, of explicit size n and of general size.

    Attributes:
        argument: what stands for P among the arguments of a derivation: P, L with P_ii = L_ii², s
            with P = sI.
        source: of the inner and the outer problem with this structure.
        dense: whether C of P = C D Cᵀ is not the identity.
        shared: whether one variance stands for all.
    """

    argument: ClassVar[str]
    source: ClassVar[str] = "paper"
    dense: ClassVar[bool] = False
    shared: ClassVar[bool] = False

    @abstractmethod
    def factors(self, name: str, n: int) -> tuple[Any, Any]:
        """Factors (C, D) of a covariance of this structure: C D Cᵀ with free entries.

        Returns:
            C: unit lower triangular, the identity unless the structure is dense.
            D: diagonal, one entry if it is shared.
        """

    @abstractmethod
    def restrict(self, H: Any) -> Any:
        """An explicit symmetric direction, within the structure."""

    @abstractmethod
    def within(self, X: Any) -> Any:
        """X of general size within the structure; αI, for any α, if it is shared."""

    @abstractmethod
    def seen(self, rest: Any) -> Any:
        """The part within the structure of G, general size, that has the same Tr(G dX)."""

    @abstractmethod
    def assemble(self, slopes: list[Any], n: int) -> Any:
        """G within the structure with df = Tr(G H), from the slopes in the free entries of H."""

    @abstractmethod
    def policy(self, n: int | None) -> Any:
        """P within the structure: in its entries, or of general size in its argument."""

    def off(self, G: Any) -> tuple[Condition, ...]:
        """That F, of explicit gradient G in U, depends on U within the structure only."""
        return ()

    def in_argument(self, X: Any) -> Any:
        """X, an explicit matrix in entries of P, in the argument."""
        return X

    def at(self, f: Any, P: Any) -> Any:
        """f, in the argument, at an explicit P."""
        return replace(f, self.policy(P.rows), P)

    def project(self, G: Any, X: Any) -> Any:
        """The part of G, general n, that every dX within the structure sees: the same Tr(G dX).

        X itself is within the structure, and so are its powers. What else there is in G leaves its
        diagonal, or the mean of its diagonal.
        """
        terms = general_n.words_of(G)
        own = {w: value for w, value in terms.items() if {name for name, *_ in w} <= {X.name}}
        rest = general_n.matrix_from({w: v for w, v in terms.items() if w not in own}, G.shape)
        return general_n.normal(general_n.matrix_from(own, G.shape) + self.seen(rest))

    def solve(self, equation: Any, A: Any, H: Any) -> Any:
        """The A within the structure at which an equation holds for every H within it."""
        unknown = self.within(A)
        return solve_word_equation(self._slope(equation, A, H), unknown)

    def _slope(self, equation: Any, A: Any, H: Any) -> Any:
        return self.project(gradient(replace(equation, A, self.within(A)), H), H)


@dataclass(frozen=True)
class Full(Shape):
    """Every symmetric matrix."""

    argument: ClassVar[str] = "P"
    dense: ClassVar[bool] = True

    def factors(self, name: str, n: int) -> tuple[Any, Any]:
        return ldl_factors(name, n)

    def restrict(self, H: Any) -> Any:
        return H

    def within(self, X: Any) -> Any:
        return X

    def seen(self, rest: Any) -> Any:
        return rest

    def project(self, G: Any, X: Any) -> Any:
        return G

    def assemble(self, slopes: list[Any], n: int) -> Any:
        H = symbol("H", n)
        value = dict(zip(free_entries(H), slopes, strict=True))
        half = sp.Rational(1, 2)
        return sp.ImmutableMatrix(
            n, n, lambda i, j: value[H[i, j]] * (sp.S.One if i == j else half)
        )

    def policy(self, n: int | None) -> Any:
        return symbol("P", n)


@dataclass(frozen=True)
class Diagonal(Shape):
    """Diagonal matrices; P_ii = L_ii², whose symbols are no entries of an SPD matrix."""

    argument: ClassVar[str] = "L"
    source: ClassVar[str] = "new"

    def factors(self, name: str, n: int) -> tuple[Any, Any]:
        return sp.ImmutableMatrix.eye(n), ldl_factors(name, n)[1]

    def restrict(self, H: Any) -> Any:
        return sp.ImmutableMatrix.diag(*H.diagonal())

    def within(self, X: Any) -> Any:
        return diagonal_part(X)

    def seen(self, rest: Any) -> Any:
        return diagonal_part(rest)

    def assemble(self, slopes: list[Any], n: int) -> Any:
        return sp.ImmutableMatrix.diag(*slopes)

    def policy(self, n: int | None) -> Any:
        if n is not None:
            return self.restrict(symbol("P", n))
        factor = diagonal_part(symbol("L", None))
        return factor * factor

    def off(self, G: Any) -> tuple[Condition, ...]:
        n = G.rows
        entries = [G[i, j] for i in range(n) for j in range(n) if i != j]
        return (zero("F does not depend on U_ij, i ≠ j", sp.Matrix(entries or [0])),)

    def in_argument(self, X: Any) -> Any:
        P, L = symbol("P", X.rows), symbol("L", X.rows)
        return X.xreplace({P[i, i]: L[i, i] ** 2 for i in range(X.rows)})

    def at(self, f: Any, P: Any) -> Any:
        L = symbol("L", P.rows)
        return f.xreplace({L[i, i]: sp.sqrt(P[i, i]) for i in range(P.rows)})


@dataclass(frozen=True)
class Isotropic(Shape):
    """Multiples of the identity."""

    argument: ClassVar[str] = "s"
    shared: ClassVar[bool] = True

    def factors(self, name: str, n: int) -> tuple[Any, Any]:
        one = sp.ImmutableMatrix.eye(n)
        return one, ldl_factors(name, n)[1][0, 0] * one

    def restrict(self, H: Any) -> Any:
        return H[0, 0] * sp.ImmutableMatrix.eye(H.rows)

    def within(self, X: Any) -> Any:
        return _SHARE * identity(X)

    def seen(self, rest: Any) -> Any:
        return general_n.normal(sp.Trace(rest)) / rest.rows * identity(rest)

    def assemble(self, slopes: list[Any], n: int) -> Any:
        return slopes[0] / n * sp.ImmutableMatrix.eye(n)

    def policy(self, n: int | None) -> Any:
        return symbol("s") * identity(symbol("P", n))

    def off(self, G: Any) -> tuple[Condition, ...]:
        spread = G - G.trace() / G.rows * sp.ImmutableMatrix.eye(G.rows)
        return (zero("F depends on U through Tr U only", spread),)

    def solve(self, equation: Any, A: Any, H: Any) -> Any:
        slope = self._slope(equation, A, H)
        (share,) = solve_linear([normal(sp.Trace(slope))], [_SHARE])
        return share * identity(A)


_SHAPES = {"full": Full(), "diagonal": Diagonal(), "isotropic": Isotropic()}


def shape(structure: Structure) -> Shape:
    """The object of a structure's name."""
    return _SHAPES[structure]


def free_entries(H: Any) -> list[Any]:
    """The distinct symbols of a symmetric matrix, row by row."""
    entries = [H[i, j] for i in range(H.rows) for j in range(i, H.rows)]
    return list(dict.fromkeys(entry for entry in entries if entry != 0))
