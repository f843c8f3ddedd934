"""Methods for hypergradients as objects: `Implicit(CG(tolerance=1e-10))`, `Unrolled(...)`, ...

Called with `(J, F, θ, φ)` each returns a `Hypergradient`; `bilevel.solve` takes any of them, or a
function of these four arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from ..arguments import checked_class
from ..errors import check_count, check_limit, check_number, check_seed
from ..numerics.optimisers import Optimiser, check_optimiser
from ..numerics.trees import Tree
from .implicit import Hypergradient, Level, check_damping, implicit
from .penalty import penalty
from .unrolled import unrolled

HypergradientMethod = Callable[[Level, Level, Tree, Tree], Hypergradient]


@checked_class
@dataclass(frozen=True)
class Dense:
    """Cholesky of the whole Hessian: up to some thousands of inner parameters.

    Attributes:
        tolerance: on the relative residual; by default 1e-10 in double precision.
    """

    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_limit("tolerance", self.tolerance)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `implicit`."""
        return {"method": "dense", "tolerance": self.tolerance}


@checked_class
@dataclass(frozen=True)
class CG:
    """Conjugate gradients on Hessian-vector products.

    Attributes:
        tolerance: on the relative residual; by default 1e-10 in double precision.
        max_iterations: at most this many products; by default ten times as many as there are
            parameters.
    """

    tolerance: float | None = None
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        check_limit("tolerance", self.tolerance)
        if self.max_iterations is not None:
            check_count("max_iterations", self.max_iterations)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `implicit`."""
        return {
            "method": "cg",
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
        }


@checked_class
@dataclass(frozen=True)
class Neumann:
    """The Neumann series of the inverse Hessian.

    Attributes:
        step: of the series; found by power iteration if not given.
        tolerance: on the relative residual.
        max_iterations: at most this many terms.
    """

    step: float | None = None
    tolerance: float | None = None
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        if self.step is not None:
            check_number("step", self.step, positive=True)
        check_limit("tolerance", self.tolerance)
        if self.max_iterations is not None:
            check_count("max_iterations", self.max_iterations)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `implicit`."""
        return {
            "method": "neumann",
            "step": self.step,
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
        }


@checked_class
@dataclass(frozen=True)
class Nystrom:
    """A low-rank approximation of the Hessian: in its place, or before conjugate gradients.

    Attributes:
        rank: of the approximation.
        seed: of the random sketch.
        exact: whether conjugate gradients follow, preconditioned by it; otherwise the system is
            solved with the approximation alone, which needs `damping`.
        tolerance: on the relative residual.
    """

    rank: int = 20
    seed: int = 0
    exact: bool = True
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_count("rank", self.rank)
        check_seed(self.seed)
        check_limit("tolerance", self.tolerance)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `implicit`."""
        return {
            "method": "nystrom-cg" if self.exact else "nystrom",
            "rank": self.rank,
            "generator": torch.Generator().manual_seed(int(self.seed)),
            "tolerance": self.tolerance,
        }


@checked_class
@dataclass(frozen=True)
class Implicit:
    """Implicit differentiation (see `implicit`).

    Attributes:
        solver: of the linear system; by default dense where that is small, else CG.
        tolerance: of the default solver, on the relative residual.
        damping: as of `implicit`; by default "auto" where the solver affords it, else 0.
        distance: as of `implicit`.
        strict: whether to raise where the default is to warn.
    """

    solver: Dense | CG | Neumann | Nystrom | None = None
    tolerance: float | None = None
    damping: float | Literal["auto"] | None = None
    distance: float | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        check_damping(self._options()["method"], self._damping())
        check_limit("tolerance", self.tolerance)
        check_limit("distance", self.distance)

    def __call__(self, J: Level, F: Level, theta: Tree, phi: Tree) -> Hypergradient:
        """Return the hypergradient at an inner solution `theta`."""
        return implicit(
            J, F, theta, phi,
            damping=self._damping(), distance=self.distance, strict=self.strict,
            **self._options(),
        )  # fmt: skip

    def _options(self) -> dict[str, Any]:
        if self.solver is None:
            return {"method": "auto", "tolerance": self.tolerance}
        return self.solver.options()

    def _damping(self) -> float | Literal["auto"]:
        if self.damping is not None:
            return self.damping
        return "auto" if self._options()["method"] in ("auto", "dense", "cg") else 0.0


@checked_class
@dataclass(frozen=True)
class Unrolled:
    """Differentiation through `steps` steps of an optimiser from `theta` (see `unrolled`).

    Attributes:
        optimiser: such as `SGD(0.1)` or `Adam(0.01)` of `numerics.optimisers`.
        steps: number of steps.
        last: how many of them are differentiated; all if not given.
        strict: whether to raise where the default is to warn.
    """

    optimiser: Annotated[Optimiser, check_optimiser]
    steps: int
    last: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        if self.last is not None:
            check_count("last", self.last, most=self.steps)

    def __call__(self, J: Level, F: Level, theta: Tree, phi: Tree) -> Hypergradient:
        """Return the hypergradient of the point that the steps reach."""
        last = None if self.last is None else int(self.last)
        return unrolled(
            J, F, theta, phi,
            optimiser=self.optimiser, steps=int(self.steps), last=last, strict=self.strict,
        )  # fmt: skip


@checked_class
@dataclass(frozen=True)
class Penalty:
    """First derivatives only, by a penalty (see `penalty`): a bias of order `1/weight`.

    Attributes:
        weight: of the inner objective.
        strict: whether to raise where the default is to warn.
    """

    weight: float
    strict: bool = False

    def __post_init__(self) -> None:
        check_number("weight", self.weight, positive=True)

    def __call__(self, J: Level, F: Level, theta: Tree, phi: Tree) -> Hypergradient:
        """Return the hypergradient at an inner solution `theta`."""
        return penalty(J, F, theta, phi, weight=self.weight, strict=self.strict)
