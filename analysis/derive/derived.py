"""What `derive` returns: both levels of one reward, their closed forms, and numbers where none are.

Everything is a SymPy expression or a dict of them by name, in the symbols of `arguments`; a field
that has no closed form is None, and the methods `solve`, `slopes` and `best` find its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import sympy as sp

from ..calculus import compiled, printing
from ..calculus.arguments import read_arguments, read_number
from ..calculus.conditions import Condition
from ..calculus.normal_form import normal
from ..calculus.symbols import QUANTITIES
from ..derivation import Step
from ..errors import ArgumentError, ArgumentNameError, DerivationError
from .best import Best, best
from .expectation import Finite
from .lawful import Lawful, LawfulBits
from .outer import larger_than
from .parameters import by_symbol
from .problem import Classes, Data, Entropy, Family, Regulariser, improper
from .search import Reached, Solved

EXPRESSIONS = (
    "reward",
    "mean_reward",
    "expected_reward",
    "objective",
    "gibbs",
    "stationarity",
    "solution",
    "likelihood",
    "hypergradient",
    "optimum",
    "cost",
)
_MOST = 500  # nodes of an expression that is printed at all
_LONGEST, _WIDEST = 12, 96  # lines and columns that one expression takes on the screen


class Levels(Protocol):
    """What both levels of a family are at numbers by name."""

    def solve(self, derived: Any, values: Mapping[str, Any]) -> Solved:
        """The inner solution."""
        ...

    def reached(self, derived: Any, values: Mapping[str, Any]) -> Reached:
        """The outer level there, and its slopes."""
        ...

    def scales(self, derived: Any, data: Mapping[str, Any]) -> tuple[Any, Any, float]:
        """Mean and scale of the outcomes, and λ: the units of the problem."""
        ...


@dataclass(frozen=True, eq=False)
class Derived:
    """Both levels of the problem of one reward.

    Args:
        reward: r(ŷ, y), or the table r(c, k) of classes.
        family: of policies.
        regulariser: entropy, or KL to a reference.
        data: what is known of them; None for classes.
        parameters: of the reward, name -> symbol or SPD matrix of symbols.
        policy: the inner variables θ by name: m and P or s, p, or psi.
        moments: of the data that the results use, name -> symbol or matrix.
        constants: λ and the reference, name -> symbol or matrix.
        outcomes: ŷ and y by name.
        mean_reward: r̄(ŷ) = E_y r(ŷ, y); of classes, a column.
        expected_reward: E_ŷ E_y r(ŷ, y), in θ.
        objective: J(θ), the expected reward plus the regulariser.
        gibbs: log of the Gibbs density p₀ exp(r̄/λ) without its normaliser, over all laws; of
            classes and bits, its probabilities.
        stationarity: ∂J/∂θ by name; symmetric G with dJ = Tr(G dP) for a matrix; of classes
            ∂J/∂p_c - Σ_k p_k ∂J/∂p_k, which is 0 at p*, where all slopes are one.
        solution: θ* by name in closed form, or None.
        likelihood: F = E_y log p_θ(y), in θ.
        hypergradient: dF/dφ at θ*(φ), by parameter: in θ where `solution` is None, to be taken at
            what `solve` finds; or None.
        optimum: the best parameters in closed form, those that are determined; or None.
        cost: how far F at the optimum is below maximum likelihood in the family, in nats; or None.
        existence: why the maximum exists.
        limit: the entropy weight below which there is a local maximum, in closed form; or None.
        notes: what else is said of the results.
        steps: how they were derived.
        assumptions: where they hold.
        conditions: that the closed forms are what they should be; checked by `verify`.
        probabilities: of the reference, and of the data if given, of classes or bits; what numbers
            make of them is checked.
        domain: what must hold of the numbers for expectations to be finite and moments to be those
            of a law; checked by `at`, `solve`, `slopes` and `best`.
        levels: the numerical side.
    """

    reward: Any
    family: Family
    regulariser: Regulariser
    data: Data | None
    parameters: Mapping[str, Any]
    policy: Mapping[str, Any]
    moments: Mapping[str, Any]
    constants: Mapping[str, Any]
    outcomes: Mapping[str, Any]
    mean_reward: Any
    expected_reward: Any
    objective: Any
    gibbs: Any
    stationarity: Mapping[str, Any]
    solution: Mapping[str, Any] | None
    likelihood: Any
    hypergradient: Mapping[str, Any] | None
    optimum: Mapping[str, Any] | None
    cost: Any
    existence: str
    limit: Any = None
    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    assumptions: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    probabilities: Mapping[str, Any] = field(default_factory=dict[str, Any])
    domain: tuple[Finite | Lawful | LawfulBits, ...] = ()
    levels: Levels = field(kw_only=True)

    @property
    def arguments(self) -> dict[str, Any]:
        """Every name that `at` takes: parameters, data, constants, policy, outcomes."""
        return {
            **self.parameters,
            **self.moments,
            **self.constants,
            **self.policy,
            **self.outcomes,
        }

    @cached_property
    def failure(self) -> str | None:
        """The first condition that does not hold, or None."""
        for condition in self.conditions:
            if not condition.holds():
                return (
                    f"condition '{condition.text}' fails: expected {condition.kind}, got "
                    f"{normal(condition.expression)}"
                )
        return None

    def verify(self) -> Derived:
        """Check every condition.

        Raises:
            DerivationError: naming the condition.
        """
        if self.failure is not None:
            raise DerivationError(self.failure)
        return self

    def at(self, quantity: str, /, **values: Any) -> Any:
        """A quantity at numbers, every entry rounded to the nearest double.

        Args:
            quantity: the name of a field with an expression, such as "expected_reward".
            values: floats and arrays for the names of `arguments` that the expression has.
        Returns:
            float, array, or dict of them by name.
        Raises:
            ArgumentNameError: for an unknown quantity or name, a missing one, or no real number.
            ArgumentError: for a value outside its domain, or where there is no closed form.
            NoMaximumError: where an expectation is infinite.
        """
        if not isinstance(quantity, str) or quantity not in EXPRESSIONS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentNameError(
                f"no quantity {quantity!r}; pass one of {', '.join(EXPRESSIONS)}"
            )
        found = getattr(self, quantity)
        if found is None:
            raise ArgumentError(
                f"{quantity} has no closed form here: solve(...), slopes(...) and best(...) find "
                "numbers"
            )
        numbers = self.read(found, values)
        if isinstance(found, Mapping):
            return {name: self.number(part, numbers) for name, part in found.items()}
        return self.number(found, numbers)

    def solve(self, /, **values: Any) -> Solved:
        """The inner solution θ* at numbers: its closed form, or the best maximum a search finds.

        Of several with the same J, as of a reward that is even in ŷ, it is the likeliest, the one
        that maximising F takes too; `Solved.equal` has the others.

        Args:
            values: parameters of the reward, moments of the data, constants.
        Raises:
            ArgumentNameError: for an unknown or missing name, or no real number.
            ArgumentError: for a value outside its domain.
            NoMaximumError: if a search ends at no strict maximum, such as at one of a line of them,
                or an expectation is infinite.
        """
        return self.levels.solve(self, values)

    def slopes(self, /, **values: Any) -> dict[str, Any]:
        """The hypergradient dF/dφ by parameter at numbers, by implicit differentiation at θ*."""
        return self.levels.reached(self, values).slopes

    def best(self, /, **values: Any) -> Best:
        """The best parameters of the reward for data at numbers, and what they cost in nats.

        Args:
            values: moments of the data and constants; of a parameter, where a search starts.
        Raises:
            ArgumentNameError: for an unknown or missing name, or no real number.
            ArgumentError: for a value outside its domain.
            NoMaximumError: if none is found inside the domain of the parameters: the likelihood
                rises towards an edge of it, such as 0 for one that is declared positive.
        """
        return best(self, values)

    def read(self, expression: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, checked, of the arguments that an expression has."""
        parts = list(expression.values()) if isinstance(expression, Mapping) else [expression]
        free = set().union(*(part.free_symbols for part in parts))
        for name in values:
            if name not in self.arguments:
                raise ArgumentNameError(
                    f"there is no argument {name!r}; pass some of {', '.join(self.arguments)}"
                )
        needed = {name: X for name, X in self.arguments.items() if free & X.free_symbols}
        for name in needed:
            if name not in values:
                raise ArgumentNameError(f"{name!r} is missing; pass {', '.join(needed)}")
        numbers = {name: read(name, X, values[name]) for name, X in needed.items()}
        self._check_probabilities(numbers)
        if self.domain:
            exact = {x: sp.Rational(value) for x, value in by_symbol(needed, numbers).items()}
            for condition in self.domain:
                condition.check(exact)
        return numbers

    def _check_probabilities(self, numbers: Mapping[str, Any]) -> None:
        """Raise `ArgumentError` where numbers leave no probabilities of reference or data."""
        at = {self.arguments[k]: sp.Float(x) for k, x in numbers.items() if isinstance(x, float)}
        for what, column in self.probabilities.items():
            free = sp.Tuple(*column).free_symbols
            p = [x.xreplace(at) for x in column] if free and free <= at.keys() else []
            fault = improper(what, p, whole=isinstance(self.family, Classes))
            if fault is not None:
                raise ArgumentError(fault)

    def number(self, expression: Any, numbers: Mapping[str, Any]) -> Any:
        """An expression at checked numbers of its arguments, every entry rounded once.

        Raises:
            ArgumentError: where it is no real number.
        """
        import numpy as np

        found = self.unjudged(expression, numbers)
        if not np.all(np.isfinite(found)):
            raise ArgumentError(f"the value is {found.tolist()} at these arguments: no real number")
        if found.size == 1:
            return float(found.reshape(()))
        return found.ravel() if found.shape[-1] == 1 else found

    def unjudged(self, expression: Any, numbers: Mapping[str, Any]) -> Any:
        """The array of an expression at checked numbers, as it comes.

        An entry is NaN where it divides by 0 or is complex, infinite where it is beyond a double.
        """
        import numpy as np

        if isinstance(expression, sp.MatrixBase):
            expression = expression.as_immutable()
        symbols = tuple(self.arguments[name] for name in numbers)
        function = compiled.compiled(symbols, expression)
        with np.errstate(all="ignore"):  # judged by the result
            return np.asarray(function(*numbers.values()), dtype=float)

    def latex(self) -> str:
        """LaTeX of the closed forms, one line each."""
        return " \\\\ ".join(
            f"{symbol} = {printing.latex(value)}" for symbol, value in self._lines()
        )

    def _repr_latex_(self) -> str:
        lines = [rf"\displaystyle {line}" for line in self.latex().split(" \\\\ ")]
        return r"$\begin{array}{l} " + r" \\ ".join(lines) + r" \end{array}$"

    def _lines(self) -> list[tuple[str, Any]]:
        """What is shown, with its symbol."""
        lines = [("r", self.reward), (r"\bar r", self.mean_reward), ("J", self.objective)]
        if self.solution is not None:
            lines += [(rf"{_tex(name)}^\star", value) for name, value in self.solution.items()]
        if self.hypergradient is not None:
            lines += [
                (rf"\nabla_{{{_tex(name)}}} F", value) for name, value in self.hypergradient.items()
            ]
        if self.optimum is not None:
            lines += [(rf"{_tex(name)}^\star", value) for name, value in self.optimum.items()]
        return lines

    def __str__(self) -> str:
        lines = [
            f"derive: {self.family}, {_named(self.regulariser)}",
            *_shown("r(ŷ, y)", self.reward),
        ]
        lines += [f"  assuming {text}" for text in self.assumptions]
        lines += [f"  where {condition}" for condition in self.domain]
        lines += [f"  {self.existence}"]
        lines += _shown("E r", self.expected_reward)
        if self.solution is None:
            lines.append("  inner solution: numerical, by solve(...); .stationarity is exact")
        else:
            for name, value in self.solution.items():
                lines += _shown(f"{name}*", value)
        if self.hypergradient is None:
            lines.append("  dF/dφ: numerical, by slopes(...)")
        else:
            where = "" if self.solution is not None else " at the inner solution"
            for name, value in self.hypergradient.items():
                lines += _shown(f"dF/d{_plain(name)}{where}", value)
        if self.optimum is None and self.parameters:
            lines.append("  best reward: numerical, by best(...)")
        elif self.optimum is not None:
            for name, value in self.optimum.items():
                lines += _shown(f"best {_plain(name)}", value)
        if self.cost is not None:
            lines += _shown("cost against maximum likelihood", self.cost)
        lines += [f"  {note}" for note in self.notes]
        status = "verified" if self.failure is None else f"FAILED, {self.failure}"
        lines.append(f"  status: {status} ({len(self.conditions)} conditions)")
        return "\n".join(lines)

    __repr__ = __str__


def read(name: str, X: Any, value: Any) -> Any:
    """One value, checked against its symbol: a float, or an array for a matrix of symbols."""
    if isinstance(X, sp.MatrixBase) and name in QUANTITIES:
        return read_arguments("derive", {name: X}, {name: value})[0]
    return read_number(name, X, value)


def _tex(name: str) -> str:
    return printing.latex(sp.Symbol(name))


def _plain(name: str) -> str:
    return printing.terminal(sp.Symbol(name))


def _named(regulariser: Regulariser) -> str:
    kind = "entropy" if isinstance(regulariser, Entropy) else "KL to a reference"
    shown = printing.terminal(regulariser.lam)
    weight = str(regulariser.lam) if "\n" in shown else shown  # the header is one line
    return f"{kind} with weight {weight}"


def _shown(label: str, value: Any) -> list[str]:
    """An equation on the screen, or that it is too large for it."""
    lines = [] if larger_than(value, _MOST) else printing.equation(label, value).splitlines()
    if not lines or len(lines) > _LONGEST or max(map(len, lines)) > _WIDEST:
        return [f"  {label}: in closed form, too long to show"]
    return [f"  {line}".rstrip() for line in lines]
