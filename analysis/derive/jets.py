"""Value, slope and curvature of an expression at once, by Taylor arithmetic up to the second order.

As exact as derivatives that are written out, and none is: the second derivatives of one exponential
of a quadratic fill pages, of which nearly all is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .printed import MODULES, function_of


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


def second_order(f: Any, variables: Sequence[Any], constants: Sequence[Any]) -> Callable[..., Jet]:
    """A function of jets of variables, and of jets or numbers of constants, to the jet of f."""
    known = {"exp": exp, "log": log, "sqrt": sqrt}
    evaluate = function_of([variables, constants], f, [known, *MODULES])

    def at(x: Sequence[Jet], c: Sequence[Any]) -> Jet:
        nothing = Jet(np.float64(0), 0 * x[0].slope, 0 * x[0].curvature)
        return evaluate(x, c) + nothing  # a jet of constants too

    return at


def variables(values: Any, size: int | None = None) -> list[Jet]:
    """Jets of independent variables (d,), the first of `size` if there are more."""
    size = len(values) if size is None else size
    flat = np.zeros((size, size))
    return [Jet(value, unit, flat) for value, unit in zip(values, np.eye(size), strict=False)]
