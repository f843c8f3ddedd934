"""`show`: a result with the steps that derive it, as text or as LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .calculus import printing
from .derivation import Derivation
from .errors import StructureError
from .explain import Matches, find, result_of

Size = int | Literal["any"] | None


def read_size(text: str | None) -> Size:
    """The size that a word of a command line means: a number, any, or None if there is none.

    Raises:
        StructureError: if it is neither.
    """
    if text is None or text == "any":
        return text
    if not text.isdecimal():
        raise StructureError(f"n = {text} is no size; pass a number, or any")
    return int(text)


@dataclass(frozen=True, eq=False)
class Shown:
    """Derivations, printed with every step; LaTeX in Jupyter."""

    derivations: tuple[Derivation, ...]

    def __repr__(self) -> str:
        return "\n\n".join("\n".join([str(d), *_steps(d)]) for d in self.derivations)

    def latex(self) -> str:
        """A formula per line."""
        return "\n".join(d.latex() for d in self.derivations)

    def _repr_latex_(self) -> str:
        return "\n\n".join(d._repr_latex_() for d in self.derivations)  # pyright: ignore[reportPrivateUsage]


def show(name: str, n: Size = None) -> Shown | Matches:
    r"""Derive the result of this name, or list those that it may mean.

    >>> from analysis import show
    >>> print(show("gaussian.outer.hypergradient[full]", n="any").latex())
    \nabla _U F = - \frac{1}{\lambda} \Sigma + \left(\frac{1}{2}\right) U^{-1}

    Args:
        name: as in `explain`: an address, a part of one, words of a formula.
        n: the size, "any" for the matrix expression; None takes the smallest.
    Returns:
        What is printed: statement, assumptions, formula, status and steps of every variant; it has
        `.derivations` and `.latex()`.
    Raises:
        UnknownResultError: if nothing matches; it proposes the nearest names.
        StructureError: if the result has no such size.
    """
    found = find(name)
    if len({entry.key.address for entry in found}) > 1:
        return Matches(name, found)
    if n is None:
        return Shown(tuple(entry.build() for entry in found))
    size = None if isinstance(n, str) and n == "any" else n
    return Shown(tuple(result_of(entry).of(entry.key.variant, size) for entry in found))


def _steps(derivation: Derivation) -> list[str]:
    lines = ["  steps:"] if derivation.steps else []
    for number, step in enumerate(derivation.steps, 1):
        lines.append(f"  {number}. {step.text}")
        lines += [f"       {line}" for line in printing.terminal(step.expression).splitlines()]
    return lines
