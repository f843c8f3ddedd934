"""Whether some law has the moments that are given for the data.

E f² >= 0 for every polynomial f of z = y - μ: the matrix of E z^α z^β has no negative eigenvalue.
Of bits every probability must be >= 0, which bounds each E of a product by those of fewer factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import sympy as sp

from ..errors import ArgumentError

ROUNDING = 1e-9  # by which moments of bits may miss their bounds
NEGATIVE = 1e-9  # an eigenvalue that is no rounding, of a matrix scaled to a unit diagonal


@dataclass(frozen=True)
class Lawful:
    """That a law has these central moments.

    Args:
        monomials: powers α of z, by degree.
        moments: E z^α z^β by (α, β).
        symbols: of order 3 and above.
    """

    monomials: tuple[tuple[int, ...], ...]
    moments: Mapping[tuple[tuple[int, ...], tuple[int, ...]], Any]
    symbols: tuple[Any, ...]

    def check(self, numbers: Mapping[Any, Any]) -> None:
        """Raise `ArgumentError` where numbers, exact ones by symbol, are moments of no law.

        Of every part of the matrix that is known; symbols without a number are not.
        """
        import numpy as np

        if not set(self.symbols) & numbers.keys():
            return
        known = {
            pair: float(value)
            for pair, moment in self.moments.items()
            if not (value := moment.xreplace(dict(numbers))).free_symbols
        }
        for part in self._parts(known):
            matrix = np.array([[known[a, b] for b in part] for a in part])
            d = np.sqrt(np.diagonal(matrix))
            if not np.all(d > 0):
                continue  # beyond a double
            least = float(np.linalg.eigvalsh(matrix / d / d[:, None])[0])
            if least < -NEGATIVE:
                at = ", ".join(
                    f"{x} = {float(numbers[x]):.6g}" for x in self.symbols if x in numbers
                )
                raise ArgumentError(
                    f"no law has the central moments {at} beside its covariance: {self}, but it "
                    f"has the eigenvalue {least:.3g}, scaled to a unit diagonal; pass central "
                    "moments of the data, means of products of y - mu, neither raw ones nor such "
                    "of standardised outcomes"
                )

    def _parts(self, known: Mapping[Any, float]) -> set[tuple[tuple[int, ...], ...]]:
        """Sets of monomials among which all moments are known, each as large as can be."""
        parts: set[tuple[tuple[int, ...], ...]] = set()
        for first in self.monomials:
            if (first, first) not in known:
                continue
            part = [first]
            for other in self.monomials:
                if other != first and all((other, a) in known for a in (*part, other)):
                    part.append(other)
            parts.add(tuple(sorted(part)))
        return parts

    def __str__(self) -> str:
        return "the matrix of E (y-μ)^α (y-μ)^β has no negative eigenvalue"


@dataclass(frozen=True)
class LawfulBits:
    """That bits have these moments.

    Args:
        rho: their means.
        Sigma: their covariance.
        third: E Π (y_i - ρ_i) of three bits by name, where it is asked for.
    """

    rho: Any
    Sigma: Any
    third: Mapping[str, Any]

    def check(self, numbers: Mapping[Any, Any]) -> None:
        """Raise `ArgumentError` where numbers, exact ones by symbol, are moments of no bits.

        Nothing is checked where means or covariances have no numbers.
        """
        at = dict(numbers)
        known = sp.Tuple(*self.rho, *self.Sigma).xreplace(at)
        if known.free_symbols:
            return
        n = len(self.rho)
        rho, Sigma = self.rho.xreplace(at), self.Sigma.xreplace(at)
        for i in range(n):
            wanted = rho[i] * (1 - rho[i])
            _check_bounds(f"Sigma[{i}][{i}]", Sigma[i, i], wanted, wanted)
        mean: dict[tuple[int, ...], Any] = {}
        for i, j in combinations(range(n), 2):
            apart = rho[i] * rho[j]
            lowest, highest = max(0, rho[i] + rho[j] - 1), min(rho[i], rho[j])
            _check_bounds(f"Sigma[{i}][{j}]", Sigma[i, j], lowest - apart, highest - apart)
            mean[i, j] = Sigma[i, j] + apart
        if n < 3:
            return
        pairs = {k: mean[tuple(i for i in range(3) if i != k)] for k in range(3)}
        lowest = max(0, *(sum(pairs.values()) - pairs[k] - rho[k] for k in range(3)))
        highest = min(*pairs.values(), 1 - sum(rho) + sum(pairs.values()))
        if lowest - highest > ROUNDING:
            raise ArgumentError(
                f"no three bits have the means {_floats(rho)} and the covariance {_floats(Sigma)}: "
                "some outcome has a negative probability; pass those of bits"
            )
        apart = sum(rho[k] * (pairs[k] - rho[0] * rho[1] * rho[2] / rho[k]) for k in range(3))
        apart += rho[0] * rho[1] * rho[2]
        for name, x in self.third.items():
            if x in at:
                _check_bounds(name, at[x], lowest - apart, highest - apart)

    def __str__(self) -> str:
        return "bits have these means and covariances"


def _check_bounds(name: str, value: Any, lowest: Any, highest: Any) -> None:
    if lowest - ROUNDING <= value <= highest + ROUNDING:
        return
    where = (
        f"it is {float(lowest):.6g}"
        if lowest == highest
        else (f"it lies in [{float(lowest):.6g}, {float(highest):.6g}]")
    )
    raise ArgumentError(
        f"no bits of these means have {name} = {float(value):.6g}: {where}; pass the central "
        "moments of the bits of the data, with ρ_i(1-ρ_i) on the diagonal"
    )


def _floats(X: Any) -> list[float]:
    return [round(float(x), 6) for x in X]


def lawful(moment: Any, n: int, order: int, symbols: Sequence[Any]) -> tuple[Lawful, ...]:
    """What central moments must be, nothing if there are only μ and Σ.

    Args:
        moment: from powers to a central moment.
        n: of outcomes.
        order: of the highest moment.
        symbols: those of order 3 and above that are asked for.
    """
    if not symbols:
        return ()
    powers = product(range((order + 1) // 2 + 1), repeat=n)
    monomials = sorted((a for a in powers if 2 * sum(a) <= order + 1), key=sum)
    moments = {
        (a, b): sp.sympify(moment(tuple(i + j for i, j in zip(a, b, strict=True))))
        for a in monomials
        for b in monomials
    }
    return (Lawful(tuple(monomials), moments, tuple(symbols)),)
