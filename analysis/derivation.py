"""Derivation: a derived expression beside a stated one, with the checks that make it a proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import sympy as sp

from .calculus import compiled, printing
from .calculus.arguments import read_arguments
from .calculus.boundary import without
from .calculus.conditions import Condition
from .calculus.general_n import is_general
from .calculus.normal_form import is_clearly_nonzero, normal
from .calculus.symbols import DIMENSION
from .errors import ArgumentError, ArgumentNameError, DerivationError

Side = Literal["stated", "derived"]


@dataclass(frozen=True)
class Key:
    """The address of a result, and which of its derivations is meant.

    Args:
        family: module within `analysis`, such as "gaussian.outer".
        name: of the function there, such as "hypergradient".
        variant: a structure, a kind of data or the size of a group, where there are several.
        n: the dimension or number of classes, "any", or None where there is none.
    """

    family: str
    name: str
    variant: str | int | None = None
    n: int | Literal["any"] | None = None

    @property
    def address(self) -> str:
        """The name without variant and size, such as "gaussian.outer.hypergradient"."""
        return f"{self.family}.{self.name}"

    def __str__(self) -> str:
        variant = f"M={self.variant}" if isinstance(self.variant, int) else self.variant
        size = None if self.n is None else "any n" if self.n == "any" else f"n={self.n}"
        inside = ", ".join(word for word in (variant, size) if word)
        return f"{self.address}[{inside}]" if inside else self.address


@dataclass(frozen=True, eq=False)
class Step:
    """One line of a derivation: what was done, and the expression it gave.

    Args:
        text: what was done.
        expression: what it gave.
    """

    text: str
    expression: Any


@dataclass(frozen=True, eq=False)
class Derivation:
    """A result derived by SymPy from the definitions beside the same result stated independently.

    Args:
        symbol: what is computed, e.g. "∇_U F".
        arguments: Python name -> scalar symbol, explicit matrix of symbols, or MatrixSymbol.
        stated: the result as stated in the theory.
        derived: the result as SymPy derived it.
        assumptions: where it holds, and the gradient convention.
        steps: how it was derived.
        conditions: second-order conditions, positivity, uniqueness; checked by `verify`.
        source: the item of the paper, or "new".
        above: numbers, or expressions in other arguments, that arguments must exceed.
        closed: names of probabilities of which some may be 0: there `at` takes the limit,
            0 log 0 = 0.
        size: the one n that `at` takes, where the expressions are for any n; else None.
        key: its address, given by `result`.
        statement: the identity in one line, given by `result`.
    """

    symbol: str
    arguments: Mapping[str, Any]
    stated: Any
    derived: Any
    assumptions: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    conditions: tuple[Condition, ...] = ()
    source: str = "new"
    above: Mapping[str, Any] = field(default_factory=dict[str, Any])
    closed: tuple[str, ...] = ()
    size: int | None = None
    key: Key = Key("", "derivation")
    statement: str = ""

    @property
    def name(self) -> str:
        """The key, for people."""
        return str(self.key)

    def of_size(self, n: int) -> Derivation:
        """This derivation, for any n, at one n: the same proof, arguments of that size only.

        A scalar argument n becomes this number.
        """
        at = {DIMENSION: sp.Integer(n)} if "n" in self.arguments else {}
        return replace(
            self,
            key=replace(self.key, n=n),
            arguments={name: value for name, value in self.arguments.items() if name != "n"},
            stated=self.stated.xreplace(at),
            derived=self.derived.xreplace(at),
            assumptions=(*self.assumptions, f"n = {n}, from the derivation for any n"),
            size=None if at else n,
        )

    def residual(self) -> Any:
        """derived - stated, reduced entry by entry: 0 only if proved to be 0.

        An entry that a value at one point shows to be non-zero is returned as it is.
        """
        return self._residual

    @cached_property
    def _residual(self) -> Any:
        """The residual, reduced once: it is what a proof takes its time for."""
        difference = self.derived - self.stated
        if is_general(difference):
            return normal(difference)
        if isinstance(difference, sp.MatrixBase):
            return difference.as_immutable().applyfunc(_reduced)
        return _reduced(difference)

    def verify(self) -> Derivation:
        """Check the residual and every condition.

        Returns:
            The derivation itself.
        Raises:
            DerivationError: naming the identity, the entry and its residual, or the condition.
        """
        if self.failure is not None:
            raise DerivationError(self.failure)
        return self

    @cached_property
    def failure(self) -> str | None:
        """What is wrong with the derivation, or None."""
        known = {DIMENSION}.union(*(value.free_symbols for value in self.arguments.values()))
        for side, expression in (("stated", self.stated), ("derived", self.derived)):
            unknown = expression.free_symbols - known
            if unknown:
                return f"{self.name}: {side} side contains {unknown}, which are not arguments"
        residual = self.residual()
        entries = (
            {
                (i + 1, j + 1): residual[i, j]
                for i in range(residual.rows)
                for j in range(residual.cols)
            }
            if isinstance(residual, sp.MatrixBase)
            else {None: residual}
        )
        for at, entry in entries.items():
            if entry != 0 and not getattr(entry, "is_ZeroMatrix", False):
                where = "" if at is None else f" at entry {at}"
                return f"{self.name}: {self.statement} fails{where}: derived - stated = {entry}"
        for condition in self.conditions:
            if not condition.holds():
                return (
                    f"{self.name}: condition '{condition.text}' fails: expected "
                    f"{condition.kind}, got {normal(condition.expression)}"
                )
        return None

    def at(self, side: Side = "stated", **values: Any) -> Any:
        """The result at numbers: one float or array per name in `arguments`.

        Explicit entries are evaluated exactly and rounded to the nearest double, whatever the
        condition number. Expressions for any n are evaluated by LAPACK in double precision, to
        1e-15 times the condition number.

        Args:
            side: "stated" or "derived".
            values: floats for scalars (and for n = 1), arrays of shape (n,) and (n, n) otherwise;
                anything NumPy reads as real numbers. A matrix that is symmetric up to rounding
                stands for its symmetric part.
        Returns:
            float for a scalar or 1 x 1 result, else an array of shape (n, n), or (n,) for a vector.
        Raises:
            ArgumentNameError: if a name is missing or unknown, or a value is no real number.
            ArgumentError: if a value is of the wrong shape, not finite, or outside its domain: not
                symmetric, not SPD, not lower triangular with a positive diagonal, not positive, no
                probability, no integer >= 1 (a dimension) or >= 2 (the size of a group), not above
                what it must exceed; or if the result is not finite.
        """
        import numpy as np

        if not isinstance(side, str) or side not in ("stated", "derived"):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentNameError(f"side must be 'stated' or 'derived', not {side!r}")
        numbers = read_arguments(self.name, self.arguments, values, self.size, self.closed)
        self._check_above(dict(zip(self.arguments, numbers[-len(values) :], strict=True)))
        expression = self.stated if side == "stated" else self.derived
        if isinstance(expression, sp.MatrixBase):
            expression = expression.as_immutable()
        for name in self.closed:
            absent = numbers[list(self.arguments).index(name)] == 0
            expression = without(expression, self.arguments[name], absent)
        function = compiled.compiled(tuple(self.arguments.values()), expression)
        with np.errstate(all="ignore"):  # judged by the result
            result = np.asarray(function(*numbers), dtype=float)
        if not np.all(np.isfinite(result)):
            raise ArgumentError(
                f"{self.name} is {result.tolist()} at these arguments: they lie at a limit of the "
                f"formula or beyond floating-point range; it assumes {'; '.join(self.assumptions)}"
            )
        if result.size == 1:
            return float(result.reshape(()))
        return result.ravel() if result.shape[-1] == 1 else result

    def _check_above(self, numbers: Mapping[str, Any]) -> None:
        """Raise ArgumentError if an argument is not above its bound at these numbers."""
        import numpy as np

        for name, bound in self.above.items():
            others: dict[Any, Any] = {}
            for other, x in self.arguments.items():
                if isinstance(x, sp.MatrixBase):
                    others |= dict(zip(x, np.ravel(numbers[other]), strict=True))
                elif x.is_Symbol:
                    others[x] = numbers[other]
            least, number = sp.sympify(bound, strict=True).subs(others), numbers[name]
            if not number > float(least):
                given = int(number) if number.is_integer() else number
                shown = f"{float(least):.6g}" if least.is_Float else least
                raise ArgumentError(
                    f"{self.name}: {name} = {given} must be above {shown}: what it is the "
                    "expectation of has none there; pass more"
                )

    def latex(self) -> str:
        """LaTeX of the result: symbol = stated expression."""
        return f"{printing.latex_of_text(self.symbol)} = {printing.latex(self.stated)}"

    def _repr_latex_(self) -> str:
        verdict = "verified" if self.failure is None else "FAILED, print it to see where"
        words = (self.name, *(f"assuming {text}" for text in self.assumptions))
        lines = [printing.words_in_latex(line) for line in words]
        lines += [rf"\displaystyle {self.latex()}", rf"\text{{status: {verdict}}}"]
        return r"$\begin{array}{l} " + r" \\ ".join(lines) + r" \end{array}$"

    def __str__(self) -> str:
        lines = [self.name, f"  {self.statement}"]
        lines += [f"  assuming {text}" for text in self.assumptions]
        result = printing.terminal(self.stated)
        lines += ["", *(f"    {line}" for line in f"{self.symbol} =\n{result}".splitlines()), ""]
        if self.failure is None:
            lines.append(f"  status: verified (residual 0, {len(self.conditions)} side conditions)")
        else:
            lines.append(f"  status: FAILED, {self.failure}")
        return "\n".join(lines)

    __repr__ = __str__


def _reduced(entry: Any) -> Any:
    return entry if is_clearly_nonzero(entry) else normal(entry)
