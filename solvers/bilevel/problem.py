"""A bilevel problem, and a first look at what its functions return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arguments import checked_class
from ..errors import InputError, shown
from ..hypergradients.implicit import Level, where
from ..numerics.trees import Leaves, Tree
from ..numerics.values import check_depends, check_repeats, finite_number, number


@checked_class
@dataclass(frozen=True)
class Bilevel:
    """A bilevel problem: `max_φ F(θ*(φ), φ)`, `θ*(φ) = argmax_θ J(θ, φ)`.

    Attributes:
        J: inner objective.
        F: outer objective.
        batch: `batch(generator)` draws `J` and `F` on a batch of the data, for `single_loop`.
        sampled: `sampled(θ, φ, generator)` is a surrogate of `J` whose gradient in `θ` is a
            sampled estimate, for `AdamSteps`.
        at: `at(φ)` is `θ -> J(θ, φ)`, with what depends on `φ` alone computed once: inner solves
            evaluate `J` many times at one `φ`, which may be a network.
    """

    J: Level
    F: Level
    batch: Callable[[torch.Generator], tuple[Level, Level]] | None = None
    sampled: Callable[[Tree, Tree, torch.Generator], Tensor] | None = None
    at: Callable[[Tree], Callable[[Tree], Tensor]] | None = None


def inner_objective(problem: Bilevel, phi: Tree) -> Callable[[Tree], Tensor]:
    """Return `θ -> J(θ, φ)` at one `φ`, by `at` where the problem has it."""
    if problem.at is None:
        return lambda theta: problem.J(theta, phi)
    J = problem.at(phi)
    if not callable(J):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"at(phi) is {shown(J)}: return a function of theta")
    return J


def levels(problem: Bilevel) -> dict[str, Level]:
    """Return the objectives by which a checkpoint tells a problem from another."""
    found: dict[str, Level] = {"J": problem.J, "F": problem.F}
    at = problem.at
    if at is not None:
        found["J by at"] = lambda t, p: at(Leaves.of("phi", p).detached())(t)
    return found


def looked_at(
    problem: Bilevel, theta: Tree, phi: Tree, generator: torch.Generator | None, *, exact: bool
) -> Bilevel:
    """Return the problem with objectives that check what they return, after a first look at it.

    Where the inner solver is to be `exact`, or has `at`, `J` is to be the same from call to call.
    Its `sampled` is looked at where there is a generator, by a copy, which leaves it where it is.
    """

    def J(t: Tree, p: Tree) -> Tensor:
        return number("J", problem.J(t, p))

    def F(t: Tree, p: Tree) -> Tensor:
        return number("F", problem.F(t, p))

    fixed = Leaves.of("phi", phi).detached()  # as it is in an inner problem
    start = f"the start{where(Leaves.of('theta', theta), Leaves.of('phi', phi))}"
    first = finite_number("J", J(theta, fixed), start)
    check_depends("J", first, "theta")
    if exact or problem.at is not None:
        check_repeats("J", first, J(theta, fixed), start)
    check_depends("F", finite_number("F", F(theta, phi), start), "theta or phi")
    if problem.sampled is not None and generator is not None:
        drawn = problem.sampled(theta, fixed, generator.clone_state())
        drawn = finite_number("the sampled J", drawn, start)
        check_depends("the sampled J", drawn, "theta")
    if problem.at is not None:
        found = number("at(phi)(theta)", inner_objective(problem, fixed)(theta))
        check_depends("at(phi)(theta)", found, "theta")
        one, other = first.detach(), found.detach()
        if one.dtype != other.dtype:
            raise InputError(
                f"at(phi)(theta) is {other.dtype}, J(theta, phi) {one.dtype}: use one dtype"
            )
        if not torch.allclose(one, other):
            raise InputError(
                f"at(phi)(theta) is {other.item():.6g} at the start, J(theta, phi) "
                f"{one.item():.6g}: pass an `at` that returns the same as J, or none"
            )
    return replace(problem, J=J, F=F)
