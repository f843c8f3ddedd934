"""What an objective may not return, refused by every solver, with what to return instead."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers import bilevel
from solvers.bilevel.single_loop import single_loop
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.families.law import Params
from solvers.hypergradients.differentiable import inner_solution
from solvers.hypergradients.implicit import implicit
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import SGD, one_step, unrolled
from solvers.training import inner

Z = torch.ones(2, dtype=torch.float64)


def right(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - phi).square().sum() - 0.1 * theta.square().sum()


WRONG: dict[str, tuple[Callable[[Tensor], Any], type[Exception], str]] = {
    "tuple": (lambda v: (v, 0), InputError, "returned a tuple of 2: return the number alone"),
    "list": (lambda v: [v], InputError, "returned a list of 1: return the number alone"),
    "dict": (lambda v: {"loss": v}, InputError, "returned a dict: return a tensor of one number"),
    "float": (lambda v: v.item(), InputError, "returned a float: return a tensor of one number"),
    "None": (lambda v: None, InputError, r"returned None: return the number \(is `return`"),
    "numpy": (lambda v: v.detach().numpy(), InputError, "return a tensor of one number computed"),
    "int": (lambda v: v.long(), InputError, r"is torch.int64, which has no derivative: return a"),
    "bool": (lambda v: v > 0, InputError, r"is torch.bool, which has no derivative: return"),
    "complex": (lambda v: v + 0j, InputError, r"is torch.complex128: return a real number"),
    "shape (1,)": (lambda v: v[None], ShapeError, r"has shape \(1,\): return a single number"),
    "shape (3,)": (lambda v: v.expand(3), ShapeError, r"has shape \(3,\): return a single number"),
    "empty": (lambda v: v.expand(0), ShapeError, r"has shape \(0,\): return a single number"),
    "constant": (torch.ones_like, InputError, "does not depend on"),
    "detached": (lambda v: v.detach(), InputError, r"does not depend on .*without .detach\(\)"),
    "NaN": (lambda v: v * math.nan, NonFiniteError, "is nan at"),
    "infinity": (lambda v: v + math.inf, NonFiniteError, "is inf at"),
}  # fmt: skip
wrong = pytest.mark.parametrize("what", WRONG)


def sgd(tensors: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(tensors, lr=0.1)


def solve(J: Any, F: Any, path: Path | None = None) -> Any:
    return bilevel.solve(bilevel.Bilevel(J, F), Z, Z, optimiser=sgd, steps=2, checkpoint=path)


def loop(J: Any, F: Any, path: Path | None = None) -> Any:
    return single_loop(
        bilevel.Bilevel(J, F), Z, Z, steps=2,
        inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1, checkpoint=path,
    )  # fmt: skip


ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "implicit": lambda J, F: implicit(J, F, Z, Z),
    "unrolled": lambda J, F: unrolled(J, F, Z, Z, optimiser=SGD(0.1), steps=3),
    "unrolled in part": lambda J, F: unrolled(J, F, Z, Z, optimiser=SGD(0.1), steps=3, last=1),
    "one_step": lambda J, F: one_step(J, F, Z, Z, optimiser=SGD(0.1)),
    "penalty": lambda J, F: penalty(J, F, Z, Z, weight=1e3),
    "solve": solve,
    "single_loop": loop,
}
entries = pytest.mark.parametrize("entry", ENTRIES)


def spoiled(what: str) -> Any:
    return lambda t, p: WRONG[what][0](right(t, p))


def refused(what: str, name: str, run: Callable[[], Any]) -> None:
    _, error, words = WRONG[what]
    if what in ("NaN", "infinity"):  # some say so of the value, some of value and derivative
        words = f"({words}|not finite at)"
    with pytest.raises(error, match=f"{name} .*{words}|{name} {words}"):
        run()


@wrong
@entries
def test_an_inner_objective(entry: str, what: str) -> None:
    refused(what, "J", lambda: ENTRIES[entry](spoiled(what), right))


@wrong
@entries
def test_an_outer_objective(entry: str, what: str) -> None:
    refused(what, "F", lambda: ENTRIES[entry](right, spoiled(what)))


@wrong
def test_the_objective_of_a_differentiable_solution(what: str) -> None:
    refused(what, "J", lambda: inner_solution(spoiled(what), Z, Z))


@wrong
def test_the_loss_of_a_minimum(what: str) -> None:
    def loss(p: Params) -> Any:
        return WRONG[what][0](p["t"].square().sum())

    _, error, words = WRONG[what]
    words = words if error is not ShapeError else "returned shape"
    with pytest.raises(error, match=f"the objective.*{words}"):
        inner.minimum({"t": Z}, loss)


@wrong
@pytest.mark.parametrize("run", [solve, loop])
@pytest.mark.parametrize("outer", [False, True])
def test_no_checkpoint_is_left(tmp_path: Path, run: Any, outer: bool, what: str) -> None:
    path = tmp_path / "run.pt"
    objectives = (right, spoiled(what)) if outer else (spoiled(what), right)
    with pytest.raises(InputError):
        run(*objectives, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["tuple", "None", "float", "complex", "shape (3,)"])
def test_an_objective_that_goes_wrong_later(what: str) -> None:
    """The first value is right; a later one is not."""
    calls = 0

    def J(t: Tensor, p: Tensor) -> Any:
        nonlocal calls
        calls += 1
        return right(t, p) if calls < 5 else WRONG[what][0](right(t, p))

    with pytest.raises(InputError, match="J "):
        solve(J, right)
