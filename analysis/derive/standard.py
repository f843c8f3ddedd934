"""The inner problem in units of its own: J/λ about any point and on any scale.

A polynomial that is written out in ŷ loses its digits where ŷ is large against the distances in
which J varies, and its size depends on the units of data and λ. So ŷ = μ + d + s ẑ, d the distance
from the data's mean to a point near the policy's, s near its standard deviation. What g/λ has for
coefficients in ẑ is rounded once (`compiled`), and J/λ in ẑ is of moderate numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from typing import Any

import sympy as sp

from ..calculus.compiled import compiled
from .expectation import Term, restored, under_normal
from .printed import function_of

Powers = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Units:
    """ŷ = μ + offset + scale · ẑ, coordinate by coordinate, both (n,)."""

    offset: Any
    scale: Any


@dataclass(frozen=True, eq=False)
class Part:
    """polynomial · exp(exponent) in ŷ, both by powers of ŷ; none of an exponent 0."""

    polynomial: Mapping[Powers, Any]
    exponent: Mapping[Powers, Any]

    def map(self, polynomial: Callable[[Any], Any], exponent: Callable[[Any], Any]) -> Part:
        """The part of what functions make of both."""
        return Part(polynomial(self.polynomial), exponent(self.exponent))


@dataclass(frozen=True, eq=False)
class ByFields:
    """What is pickled by its fields alone: functions that it compiled cannot be, and come anew."""

    def __getstate__(self) -> dict[str, Any]:
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True, eq=False)
class Standard(ByFields):
    """J/λ without its entropy, in units that are given with the numbers.

    Args:
        parts: of g.
        lam: λ.
        mean: of the data, (n,) expressions.
        x: coordinates of the policy in these units: its mean, then what L has.
        L: P = LLᵀ in them.
        symbols: of all numbers.
        unknowns: those of the reward's parameters.
    """

    parts: tuple[Part, ...]
    lam: Any
    mean: tuple[Any, ...]
    x: tuple[Any, ...]
    L: Any
    symbols: tuple[Any, ...]
    unknowns: tuple[Any, ...]

    @cached_property
    def _scales(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Symbols of offset and scale."""
        size = range(len(self.mean))
        return (
            tuple(sp.Dummy(f"d{i}", real=True) for i in size),
            tuple(sp.Dummy(f"s{i}", positive=True) for i in size),
        )

    def _moved(self, polynomial: Mapping[Powers, Any], weight: Any) -> dict[Powers, Any]:
        """Coefficients in ẑ, over a weight: Σ_β c_β Π_i (β_i over α_i) w_i^(β_i-α_i) s_i^α_i.

        w = μ + d. They are not multiplied out.
        """
        offset, scale = self._scales
        at = [mu + d for mu, d in zip(self.mean, offset, strict=True)]
        found: dict[Powers, list[Any]] = {}
        for powers, value in polynomial.items():
            for lower in product(*(range(power + 1) for power in powers)):
                ways = math.prod(math.comb(b, a) for b, a in zip(powers, lower, strict=True))
                rest = (w ** (b - a) for w, b, a in zip(at, powers, lower, strict=True))
                found.setdefault(lower, []).append(value * ways * sp.Mul(*rest))
        return {
            lower: sp.Add(*values)
            * sp.Mul(*(s**a for s, a in zip(scale, lower, strict=True)))
            / weight
            for lower, values in found.items()
        }

    @cached_property
    def named(self) -> tuple[tuple[Part, ...], tuple[Any, ...], tuple[Any, ...]]:
        """Parts in ẑ with names for coefficients, these names, and what they stand for."""
        names: list[Any] = []
        values: list[Any] = []

        def name(coefficient: Any) -> Any:
            if coefficient == 0:
                return sp.S.Zero
            names.append(sp.Dummy(f"c{len(names)}", real=True))
            values.append(coefficient)
            return names[-1]

        def each(polynomial: Mapping[Powers, Any]) -> dict[Powers, Any]:
            return {a: name(c) for a, c in polynomial.items()}

        parts = tuple(part.map(each, each) for part in self._parts(lambda c: c))
        return parts, tuple(names), tuple(values)

    @property
    def parts_in_names(self) -> tuple[Part, ...]:
        """The parts in ẑ, over λ, with names for coefficients."""
        return self.named[0]

    @property
    def names(self) -> tuple[Any, ...]:
        """Of the coefficients."""
        return self.named[1]

    @cached_property
    def constants(self) -> tuple[int, ...]:
        """Places of the coefficients that are added to J as they are."""
        at_zero = [
            c
            for part in self.parts_in_names
            if not part.exponent
            for a, c in part.polynomial.items()
            if not any(a)
        ]
        return tuple(i for i, name in enumerate(self.names) if name in at_zero)

    @cached_property
    def _expected(self) -> Any:
        """E g/λ in x and names."""
        n = len(self.mean)
        z = [sp.Dummy(f"z{i}", real=True) for i in range(n)]
        cells = {
            (i, j): sp.Dummy(f"P{i}{j}", real=True, positive=True if i == j else None)
            for i in range(n)
            for j in range(i, n)
        }
        P = sp.ImmutableMatrix(n, n, lambda i, j: cells[min(i, j), max(i, j)])
        of_policy = self.L * self.L.T
        back = {name: of_policy[place] for place, name in cells.items()}

        def written(polynomial: Mapping[Powers, Any]) -> Any:
            terms = (c * sp.Mul(*map(sp.Pow, z, a)) for a, c in polynomial.items())
            return sp.Add(*terms)

        terms = [
            Term(written(part.polynomial), written(part.exponent)) for part in self.parts_in_names
        ]
        mean = sp.ImmutableMatrix(self.x[:n])
        found = (under_normal(term, z, mean, P).expression for term in terms)
        return sp.Add(*found).xreplace(back)

    @cached_property
    def objective(self) -> Any:
        """J/λ without constants, in x and names: log det L is what the entropy varies by."""
        return self._expected + sp.Add(*(entry.exp for entry in self.L.diagonal()))

    @cached_property
    def value(self) -> Callable[..., Any]:
        """`objective` of x and coefficients."""
        return function_of([self.x, self.names], self.objective)

    @cached_property
    def jet(self) -> Callable[..., Any]:
        """`objective` with slope and curvature, of jets of x, and of jets or numbers."""
        from .jets import second_order

        return second_order(self.objective, self.x, self.names)

    @cached_property
    def _arguments(self) -> tuple[Any, ...]:
        offset, scale = self._scales
        return (*self.symbols, *offset, *scale)

    def _parts(self, of: Callable[[Any], Any]) -> tuple[Part, ...]:
        """The parts in ẑ, over λ, with a linear function of each coefficient in its place."""

        def over(weight: Any) -> Callable[[Any], Any]:
            return lambda p: self._moved({a: of(c) for a, c in p.items()}, weight)

        return tuple(part.map(over(self.lam), over(sp.S.One)) for part in self.parts)

    @cached_property
    def _slopes(self) -> Any:
        """Of every named coefficient by every unknown, as one column."""
        flat = [
            coefficients(parts)
            for parts in (
                self.parts_in_names,
                *(self._parts(lambda c, b=b: sp.diff(c, b)) for b in self.unknowns),
            )
        ]
        rows = [row for name, *row in zip(*flat, strict=True) if name != 0]
        return sp.ImmutableMatrix(
            len(rows) * len(self.unknowns), 1, [f for row in rows for f in row]
        )

    def coefficients(self, numbers: Mapping[Any, float], units: Units) -> Any:
        """The coefficients (k,) at numbers by symbol, each rounded once."""
        column = sp.ImmutableMatrix(len(self.named[2]), 1, list(self.named[2]))
        return self._rounded(column, numbers, units)

    def slopes(self, numbers: Mapping[Any, float], units: Units) -> Any:
        """Those of the coefficients by the unknowns, (k, unknowns)."""
        shape = (len(self.names), len(self.unknowns))
        return self._rounded(self._slopes, numbers, units).reshape(shape)

    def _rounded(self, column: Any, numbers: Mapping[Any, float], units: Units) -> Any:
        import numpy as np

        if not column.rows:
            return np.zeros(0)
        row = [*(numbers[x] for x in self.symbols), *units.offset, *units.scale]
        with np.errstate(all="ignore"):  # judged by the result
            return np.ravel(compiled(self._arguments, column)(*row))


def parts_of(terms: Sequence[Term], v: Sequence[Any], names: Mapping[Any, Any]) -> tuple[Part, ...]:
    """The parts of g, given as terms in v in which names stand for something."""

    def polynomial(f: Any) -> dict[Powers, Any]:
        weight, rest = f.as_independent(*v, as_Add=False)
        return {a: restored(weight * c, names) for a, c in sp.Poly(rest, *v).terms()}

    def exponent(f: Any) -> dict[Powers, Any]:
        found = {a: restored(c, names) for a, c in _quadratic(f, v).items()}
        return {a: c for a, c in found.items() if c != 0}

    kept = [t for t in terms if t.polynomial != 0]
    return tuple(Part(polynomial(t.polynomial), exponent(t.exponent)) for t in kept)


def _quadratic(f: Any, v: Sequence[Any]) -> dict[Powers, Any]:
    """Coefficients of a quadratic, which is not multiplied out, by its derivatives at 0."""
    at_zero = dict.fromkeys(v, sp.S.Zero)
    n = len(v)
    found: dict[Powers, Any] = {(0,) * n: f.xreplace(at_zero)}
    for i, x in enumerate(v):
        slope = sp.diff(f, x)
        found[tuple(int(k == i) for k in range(n))] = slope.xreplace(at_zero)
        for j in range(i, n):
            powers = tuple(int(k == i) + int(k == j) for k in range(n))
            found[powers] = sp.diff(slope, v[j]).xreplace(at_zero) / (2 if i == j else 1)
    return found


def coefficients(parts: Sequence[Part]) -> list[Any]:
    """All of them, in one row."""
    return [c for part in parts for p in vars(part).values() for c in p.values()]
