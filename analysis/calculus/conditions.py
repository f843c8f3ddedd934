"""Side conditions: expressions that are zero, or positive by their form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .normal_form import is_positive, is_zero


@dataclass(frozen=True, eq=False)
class Condition:
    """A side condition: `expression` is zero, or positive by its form, entry by entry.

    Args:
        text: what it says.
        kind: "zero" or "positive".
        expression: scalar or matrix.
    """

    text: str
    kind: Literal["zero", "positive"]
    expression: Any

    def holds(self) -> bool:
        """Whether the normal form proves the condition."""
        return is_zero(self.expression) if self.kind == "zero" else is_positive(self.expression)


def zero(text: str, expression: Any) -> Condition:
    """The condition that an expression is 0."""
    return Condition(text, "zero", expression)


def positive(text: str, expression: Any) -> Condition:
    """The condition that every entry of an expression is positive."""
    return Condition(text, "positive", expression)
