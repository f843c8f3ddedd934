"""Value, slope and curvature of an expression at once, by Taylor arithmetic up to the second order.

As exact as derivatives that are written out, and none is: the second derivatives of one exponential
of a quadratic fill pages, of which nearly all is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy as sp

from .numerical import MODULES, function_of


class Jet:
    """f, ∇f (d,) and ∇²f (d, d) at one point; numbers are constants beside it."""

    __slots__ = ("curvature", "slope", "value")
    __array_ufunc__ = None  # NumPy's numbers leave the arithmetic to this class

    def __init__(self, value: Any, slope: Any, curvature: Any) -> None:
        self.value, self.slope, self.curvature = value, slope, curvature

    def through(self, f: Any, first: Any, second: Any) -> Jet:
        """f(self), from f, f' and f'' at its value."""
        bend = second * np.outer(self.slope, self.slope)
        return Jet(f, first * self.slope, first * self.curvature + bend)

    def __add__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.slope, self.curvature)
        return Jet(
            self.value + other.value, self.slope + other.slope, self.curvature + other.curvature
        )

    __radd__ = __add__

    def __neg__(self) -> Jet:
        return self * -1.0

    def __sub__(self, other: Any) -> Jet:
        return self + (-other)

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    def __mul__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value * other, self.slope * other, self.curvature * other)
        a, b = self.value, other.value
        cross = np.outer(self.slope, other.slope)
        return Jet(
            a * b,
            a * other.slope + b * self.slope,
            a * other.curvature + b * self.curvature + cross + cross.T,
        )

    __rmul__ = __mul__

    def __pow__(self, k: Any) -> Jet:
        if isinstance(k, Jet):
            return exp(k * log(self))
        x = self.value
        second = 0.0 if k in (0, 1) else k * (k - 1) * x ** (k - 2)
        return self.through(x**k, 0.0 if k == 0 else k * x ** (k - 1), second)

    def __rpow__(self, base: Any) -> Jet:
        return exp(self * np.log(base))

    def __truediv__(self, other: Any) -> Jet:
        return self * other**-1.0

    def __rtruediv__(self, other: Any) -> Jet:
        return self**-1.0 * other


def exp(x: Any) -> Any:
    """e^x of a jet or a number."""
    if not isinstance(x, Jet):
        return np.exp(x)
    f = np.exp(x.value)
    return x.through(f, f, f)


def log(x: Any) -> Any:
    """log x of a jet or a number."""
    if not isinstance(x, Jet):
        return np.log(x)
    return x.through(np.log(x.value), 1 / x.value, -(x.value**-2.0))


def sqrt(x: Any) -> Any:
    """√x of a jet or a number."""
    return x**0.5


def second_order(
    f: Any, variables: Sequence[Any], constants: Sequence[Any]
) -> Callable[[Any, Any], Jet]:
    """A function of the values (d,) of variables, and of constants, that returns the jet of f."""
    known: dict[str, Any] = {"exp": exp, "log": log, "sqrt": sqrt}
    plain, rarer = _named_functions(f)
    known |= {name: _composed(node, symbols) for name, (node, symbols) in rarer.items()}
    evaluate = function_of([variables, constants], plain, [known, *MODULES])
    units, flat = np.eye(len(variables)), np.zeros((len(variables), len(variables)))

    def at(x: Any, c: Any) -> Jet:
        jets = [Jet(value, unit, flat) for value, unit in zip(np.asarray(x), units, strict=True)]
        return evaluate(jets, np.asarray(c)) + Jet(np.float64(0), 0 * units[0], flat)

    return at


def _named_functions(f: Any) -> tuple[Any, dict[str, tuple[Any, list[Any]]]]:
    """f with every function besides exp and log as one of a name, of its symbols; and these."""
    named: dict[Any, Any] = {}
    for node in sp.preorder_traversal(f):
        if isinstance(node, sp.Function) and not isinstance(node, (sp.exp, sp.log)):
            symbols = sorted(node.free_symbols, key=str)
            if symbols and node not in named:
                named[node] = sp.Function(f"rarer_{len(named)}")(*symbols)
    return f.xreplace(named), {
        value.func.__name__: (node, list(value.args)) for node, value in named.items()
    }


def _composed(node: Any, symbols: list[Any]) -> Callable[..., Any]:
    """A function of jets or numbers, one for each symbol, from its first two derivatives."""
    slopes = [sp.diff(node, x) for x in symbols]
    bends = [[sp.diff(slope, x) for x in symbols] for slope in slopes]
    flat = [node, *slopes, *(bend for row in bends for bend in row)]
    smooth = [part.replace(sp.DiracDelta, lambda *_: sp.S.Zero) for part in flat]  # off a corner
    evaluate, size = function_of([symbols], smooth), len(symbols)

    def call(*given: Any) -> Any:
        value, *rest = evaluate([x.value if isinstance(x, Jet) else x for x in given])
        first, second = rest[:size], np.reshape(rest[size:], (size, size))
        jets = [(i, x) for i, x in enumerate(given) if isinstance(x, Jet)]
        if not jets:
            return value
        slope = sum(first[i] * x.slope for i, x in jets)
        curvature = sum(first[i] * x.curvature for i, x in jets)
        for i, x in jets:
            for j, z in jets:
                curvature = curvature + second[i, j] * np.outer(x.slope, z.slope)
        return Jet(value, slope, curvature)

    return call
