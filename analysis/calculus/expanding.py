"""Products multiplied out, as `sympy.expand` does it, by arithmetic on dictionaries of monomials.

An expression is read as a sum of products of powers of generators: its symbols, the sums that it
divides by or takes roots of, and whatever else is no sum, product or power. A polynomial is
{monomial: coefficient}. A monomial is one integer that holds twice the exponents of all generators
side by side, 64 bits for each: monomials are multiplied by adding two integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import sympy as sp
from sympy.polys.domains import QQ

Polynomial: TypeAlias = dict[int, Any]
_BITS = 64
_HALF, _WHOLE = 1 << (_BITS - 1), 1 << _BITS
_LARGEST = 1000  # exponent that is read: products of them stay far below 64 bits


def expanded(expression: Any) -> Any:
    """A scalar, or every entry of a matrix, as a sum of products of powers."""
    if isinstance(expression, sp.MatrixBase):
        return expression.applyfunc(expanded)
    reader = Reader()
    return reader.expression(reader.polynomial(expression))


class Reader:
    """Reads scalars as polynomials in the generators it has met so far."""

    def __init__(self) -> None:
        self._generators: list[Any] = []
        self._places: dict[Any, int] = {}
        self._offset = 0  # makes the exponents in a monomial positive
        self._values: dict[Any, Polynomial] = {}  # of the generators that are sums or numbers
        self._read: dict[Any, Polynomial] = {}

    def polynomial(self, expression: Any) -> Polynomial:
        """What an expression is read as; generators that are new get their place."""
        found = self._read.get(expression)
        if found is None:
            found = self._read[expression] = self._polynomial(expression)
        return found

    def expression(self, p: Polynomial) -> Any:
        """The sum of products that a polynomial stands for."""
        for generator in reversed(self._values):
            p = self._multiplied_out(p, generator, 0)
        return sp.Add(
            *(
                sp.Mul(_rational(value), *(x ** sp.Rational(k, 2) for x, k in self._powers(at)))
                for at, value in p.items()
            )
        )

    def numerator(self, p: Polynomial) -> Polynomial:
        """The polynomial times every sum it divides by. It is 0 only if the polynomial is."""
        for generator in reversed(self._values):  # a sum divides by sums that were read before it
            lowest = min((self._power(at, generator) for at in p), default=0)
            p = self._multiplied_out(p, generator, min(0, lowest // 2))
        return p

    def _multiplied_out(self, p: Polynomial, generator: Any, lowest: int) -> Polynomial:
        """p / generator^lowest, where whole positive powers of the generator are multiplied out."""
        place, value = self._places[generator], self._values[generator]
        parts: dict[int, Polynomial] = {}
        for monomial, coefficient in p.items():
            k = max(0, self._power(monomial, generator) // 2 - lowest)
            parts.setdefault(k, {})[monomial - 2 * (k + lowest) * place] = coefficient
        return _sum(_product([part, *[value] * k]) for k, part in parts.items())

    def _polynomial(self, expression: Any) -> Polynomial:
        if expression.is_Rational:
            return {0: _number(expression)} if expression else {}
        if expression.is_Add:
            return _sum(self.polynomial(term) for term in expression.args)
        if expression.is_Mul:
            return _product([self.polynomial(factor) for factor in expression.args])
        if expression.is_Pow and expression.exp.is_Rational:
            return self._of_power(expression, *expression.args)
        return self._of_other(expression)

    def _of_power(self, expression: Any, base: Any, exponent: Any) -> Polynomial:
        halves = 2 * exponent
        if not halves.is_Integer or abs(halves) > _LARGEST:
            return self._of_other(expression)
        p, k = self.polynomial(base), int(halves)
        if exponent.is_Integer and k > 0:
            return _product([p] * (k // 2))
        if exponent.is_Integer and len(p) == 1:
            ((monomial, value),) = p.items()
            return {k // 2 * monomial: 1 / QQ(value) ** -(k // 2)}
        if base.is_Symbol:
            return {k * self._place(base): 1}
        total = self.expression(p)
        if not (total.is_Add or (total.is_Integer and total > 0)):
            return self._of_other(expression)
        self._values.setdefault(total, p)
        return {k * self._place(total): 1}

    def _of_other(self, expression: Any) -> Polynomial:
        """A logarithm, an exponential: split by SymPy; what stays whole is a generator."""
        split = expression if expression.is_Atom else sp.expand(expression)
        if split.is_Add or split.is_Mul or split.is_Rational:
            return self.polynomial(split)
        return {2 * self._place(split): 1}

    def _place(self, generator: Any) -> int:
        if generator not in self._places:
            place = self._places[generator] = 1 << _BITS * len(self._generators)
            self._offset += _HALF * place
            self._generators.append(generator)
        return self._places[generator]

    def _powers(self, monomial: int) -> Iterator[tuple[Any, int]]:
        """The generators in a monomial with twice their exponents."""
        for generator in self._generators:
            if k := self._power(monomial, generator):
                yield generator, k

    def _power(self, monomial: int, generator: Any) -> int:
        """Twice the exponent of a generator in a monomial."""
        shift = self._places[generator].bit_length() - 1
        return ((monomial + self._offset) >> shift) % _WHOLE - _HALF


def _sum(parts: Iterable[Polynomial]) -> Polynomial:
    total: Polynomial = {}
    for part in parts:
        for monomial, value in part.items():
            total[monomial] = total.get(monomial, 0) + value
    return {monomial: value for monomial, value in total.items() if value}


def _product(parts: list[Polynomial]) -> Polynomial:
    total: Polynomial = {0: 1}
    for part in sorted(parts, key=len):
        new: Polynomial = {}
        for left, a in total.items():
            for right, b in part.items():
                new[left + right] = new.get(left + right, 0) + a * b
        total = new
    return {monomial: value for monomial, value in total.items() if value}


def _number(value: Any) -> Any:
    return int(value) if value.is_Integer else QQ(value.p, value.q)


def _rational(value: Any) -> Any:
    return sp.Rational(int(value.numerator), int(value.denominator))
