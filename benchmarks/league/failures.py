"""Where a library is silently wrong: the smallest input for each way to be.

Every library runs every case, with the defaults of its adapter. What counts is what a user would
notice: the right value, an exception, a warning, or a wrong value and no word.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.league.libraries import Call, Effort, Library
from benchmarks.league.problems import F64, Loss, Problem

RIGHT = 1e-6  # relative error up to which a value is right
UNROLLED = (500, 0.1)  # steps and step size, for what differentiates through steps only
RAISED = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError,
          TypeError, ValueError)  # fmt: skip
"""What a library may raise: anything but what would end the run anyway."""
CHATTER = (DeprecationWarning, FutureWarning, PendingDeprecationWarning)


@dataclass(frozen=True)
class Case:
    """One way to go wrong.

    Attributes:
        name: of it.
        input: the smallest one, in words.
        problem: with the exact hypergradient.
        effort: that the library may spend.
    """

    name: str
    input: str
    problem: Problem
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True)
class Outcome:
    """What a library made of a case.

    Attributes:
        case: its name.
        library: its name.
        result: "right", "wrong", "raises" or "not finite".
        error: relative error of the value, None without a value.
        told: name of the exception or of the warnings, empty without.
    """

    case: str
    library: str
    result: str
    error: float | None = None
    told: str = ""

    @property
    def silent(self) -> bool:
        """Whether the value is wrong, and nothing says so."""
        return self.result in ("wrong", "not finite") and not self.told

    def __str__(self) -> str:
        if self.result == "raises":
            return f"raises {self.told}"
        size = "" if self.result != "wrong" else f" by {self.error:.2g}"
        if self.result == "right":
            return f"right, warns ({self.told})" if self.told else "right"
        return f"{self.result}{size}, " + (f"warns ({self.told})" if self.told else "no word")


def _problem(
    inner: Loss, outer: Loss, theta: Sequence[Any], phi: Sequence[float], exact: Sequence[float]
) -> Problem:
    leaves = tuple(torch.tensor(leaf, dtype=F64) for leaf in theta)
    return Problem("", inner, outer, leaves, _vector(phi), (), _vector(exact))


def _vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=F64)


def _half_square(xp: Any, theta: tuple[Any, ...], phi: Any, data: Any) -> Any:
    return 0.5 * (theta[0] ** 2).sum()


def cases() -> list[Case]:
    """Return all cases; each closed form is in its comment."""

    # θ* = φ/2, F = θ²/2: dF/dφ = φ/4
    def square(xp: Any, theta: tuple[Any, ...], phi: Any, data: Any) -> Any:
        return (theta[0] ** 2 - theta[0] * phi[0]).sum()

    # (a, b)* = φ (0, 1), F = a²/2 + a + b²: dF/dφ = 2φ
    def coupled(xp: Any, theta: tuple[Any, ...], phi: Any, data: Any) -> Any:
        a, b = theta
        return (a**2 + b**2 + a * b - phi[0] * (a + 2 * b)).sum()

    def both(xp: Any, theta: tuple[Any, ...], phi: Any, data: Any) -> Any:
        a, b = theta
        return (0.5 * a**2 + a + b**2).sum()

    # Two samples y = 0, 2 of N(m, 1) at m = φ = 1 with rewards -(y - φ)² = -1: the gradient
    # E r (y - m) is that of -E(y - φ)², 0 at m* = φ. The curvature E r = -1 of the maximised
    # surrogate has the wrong sign (-2 is right, up to the sign of a loss). F = m²/2: dF/dφ = φ.
    def surrogate(xp: Any, theta: tuple[Any, ...], phi: Any, data: Any) -> Any:
        m = theta[0]
        return (
            -0.5 * ((0 - phi[0]) ** 2 * (0 - m) ** 2 + (2 - phi[0]) ** 2 * (2 - m) ** 2).sum() / 2
        )

    # θ* = (φ, φ/2), F = θ₁²/2 + θ₂²: dF/dφ = 3φ/2
    def two(xp: Any, theta: tuple[Any, ...], phi: Any, data: Any) -> Any:
        t = theta[0]
        return 0.5 * t[0] ** 2 + t[1] ** 2 - phi[0] * (t[0] + t[1])

    def weighted(xp: Any, theta: tuple[Any, ...], phi: Any, data: Any) -> Any:
        t = theta[0]
        return 0.5 * t[0] ** 2 + t[1] ** 2

    # θ* = φ^⅓, F = θ²/2: dF/dφ = φ^(-⅓)/3; at θ = 2 the formula gives 1/6
    def quartic(xp: Any, theta: tuple[Any, ...], phi: Any, data: Any) -> Any:
        return (theta[0] ** 4 / 4 - theta[0] * phi[0]).sum()

    return [
        Case("0-dim variable", "θ = 1.5 without dimensions",
             _problem(square, _half_square, [1.5], [3.0], [0.75])),
        Case("several tensors", "θ = ([0], [1]), coupled",
             _problem(coupled, both, [[0.0], [1.0]], [1.0], [2.0])),
        Case("surrogate curvature", "samples 0 and 2 of N(1, 1), held",
             _problem(surrogate, _half_square, [[1.0]], [1.0], [1.0])),
        Case("last CG iterate dropped", "θ = [1.5]",
             _problem(square, _half_square, [[1.5]], [3.0], [0.75])),
        Case("second CG direction", "θ = [1, 0.5]",
             _problem(two, weighted, [[1.0, 0.5]], [1.0], [1.5])),
        Case("CG goes on", "θ = [1.5], ten steps where one is enough",
             _problem(square, _half_square, [[1.5]], [3.0], [0.75]), Effort(iterations=10)),
        Case("CG stopped short", "θ = [1, 0.5], one step of two",
             _problem(two, weighted, [[1.0, 0.5]], [1.0], [1.5]), Effort(iterations=1)),
        Case("not stationary", "θ = [2], solution 1",
             _problem(quartic, _half_square, [[2.0]], [1.0], [1 / 3])),
    ]  # fmt: skip


def judge(case: Case, library: Library) -> Outcome:
    """Run one library on one case."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            value = _call(library, case)()
            error = case.problem.error(_plain(value))
        except RAISED as raised:
            return Outcome(case.name, library.name, "raises", told=type(raised).__name__)
    kinds = {w.category.__name__ for w in heard if not issubclass(w.category, CHATTER)}
    told = ", ".join(sorted(kinds))
    if error != error:
        return Outcome(case.name, library.name, "not finite", told=told)
    result = "right" if error <= RIGHT else "wrong"
    return Outcome(case.name, library.name, result, error, told)


def _call(library: Library, case: Case) -> Call:
    if library.implicit is not None:
        return library.implicit(case.problem, case.effort)
    assert library.unrolled is not None
    count, rate = UNROLLED
    return library.unrolled(replace(case.problem, steps=count, rate=rate))


def _plain(value: Any) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.tensor(value.tolist(), dtype=F64)
