"""What an objective may not return, refused by every solver, with what to return instead."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers as so
from solvers import bilevel
from solvers.bilevel.single_loop import single_loop
from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.families.law import Params
from solvers.hypergradients.differentiable import inner_solution
from solvers.hypergradients.implicit import implicit
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import SGD, one_step, unrolled
from solvers.numerics.optimisers import Moments
from solvers.training import ensemble, inner
from solvers.training.early_stopping import EarlyStopping

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


DESCENTS: list[Callable[..., Any]] = [ensemble.adam, ensemble.gradient_descent]
descents = pytest.mark.parametrize("descend", DESCENTS)


@wrong
@descents
@pytest.mark.parametrize("at", [1, 2])
def test_the_losses_of_a_training(descend: Callable[..., Any], what: str, at: int) -> None:
    """At the first step and at a later one, where only NaN is the member's own."""
    seen: list[int] = []

    def losses(p: Params, step: int) -> Any:
        seen.append(step)
        loss = p["t"].square().sum()
        return WRONG[what][0](loss) if step == at else loss

    def run() -> Any:
        return descend({"t": Z}, losses, steps=2, learning_rate=0.1, batch_ndim=0)

    _, error, words = WRONG[what]
    if error is NonFiniteError and at == 1:
        with pytest.raises(error, match=r"the loss is (nan|inf) at the start: pass data"):
            run()
    elif what == "NaN":
        with pytest.warns(ensemble.DivergenceWarning, match="parameters are not finite: training"):
            run()
    elif what == "infinity":  # its slope is that of the loss
        assert bool(torch.isfinite(run()["t"]).all())
    else:
        words = words.replace("return a single number", "")
        words = words if error is not ShapeError else r"has shape .*, the members \(\): return one"
        with pytest.raises(error, match=f"the loss .*{words}|the loss {words}"):
            run()
    if at == 1:
        assert seen == [1]


@pytest.mark.usefixtures("as_users_run")
@wrong
def test_the_objective_of_a_training(what: str) -> None:
    """One of the user's own, on the policy's law."""
    data = so.Dataset.of(torch.ones(4, 2).double(), torch.eye(4, 2).double()[:, None])

    def objective(law: Any, data: Any, noise: Any = None) -> Any:
        return WRONG[what][0](law.cross_entropy(data).mean())

    policy = so.GaussianPolicy(2, 2)
    with pytest.raises(InputError, match="the loss "):
        so.train(
            policy, policy.zeros(torch.float64), objective, data,
            epochs=2, learning_rate=0.1, batch_ndim=0,
        )  # fmt: skip


@wrong
@pytest.mark.parametrize("later", [False, True])
def test_the_sampled_objective(what: str, later: bool) -> None:
    """Refused before any work; where it goes wrong later, by name."""
    drawn: list[int] = []

    def sampled(t: Tensor, p: Tensor, g: torch.Generator) -> Any:
        drawn.append(1)
        return WRONG[what][0](right(t, p)) if not later or len(drawn) > 2 else right(t, p)

    def run() -> Any:
        return bilevel.solve(
            bilevel.Bilevel(right, right, sampled=sampled), Z, Z, optimiser=sgd, steps=2,
            inner=bilevel.AdamSteps(3, 0.1), generator=so.generator(0),
        )  # fmt: skip

    if not later:
        refused(what, "the sampled J", run)
        assert len(drawn) == 1
    elif what != "infinity":  # its slope is that of the objective
        with pytest.raises(InputError):
            run()


@wrong
def test_the_objective_at_one_point(what: str) -> None:
    calls = 0

    def at(phi: Tensor) -> Any:
        def J(theta: Tensor) -> Any:
            nonlocal calls
            calls += 1
            return WRONG[what][0](right(theta, phi))

        return J

    with pytest.raises(InputError, match=r"at\(phi\)\(theta\) "):
        bilevel.solve(bilevel.Bilevel(right, right, at=at), Z, Z, optimiser=sgd, steps=2)
    assert calls == 1


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (lambda p: lambda t: right(t, p).float(), "is torch.float32, J.* torch.float64: use one"),
        (lambda p: lambda t: right(t, p).half(), "is torch.float16, J.* torch.float64: use one"),
        (lambda p: right(Z, p), r"at\(phi\) is tensor.*: return a function of theta"),
        (lambda p: None, r"at\(phi\) is None .*: return a function of theta"),
        (lambda p: lambda t: right(t, p + 1), r"is .* at the start, J"),
    ],
)
def test_what_is_no_objective_at_one_point(at: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        bilevel.solve(bilevel.Bilevel(right, right, at=at), Z, Z, optimiser=sgd, steps=2)


@pytest.mark.parametrize("inner_solver", [bilevel.Inexact(), bilevel.AdamSteps(2, 0.1)])
def test_an_inner_objective_without_the_inner_variables(inner_solver: Any) -> None:
    with pytest.raises(InputError, match="J does not depend on theta"):
        bilevel.solve(
            bilevel.Bilevel(lambda t, p: -p.square().sum(), right), Z, Z,
            optimiser=sgd, steps=2, inner=inner_solver,
        )  # fmt: skip


HYPER = so.Hypergradient(Z, 0.0, 0.0, 1, 1.0)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Z, "what hypergradient returned is tensor"),
        (None, "what hypergradient returned is None"),
        ((HYPER, 1), "what hypergradient returned is "),
        (so.Hypergradient({"a": Z}, 0.0, 0.0, 1, 1.0), "a tree of another form"),
        (so.Hypergradient(Z[:1], 0.0, 0.0, 1, 1.0), r"has shape \(1,\), .* return a tree like"),
        (so.Hypergradient(Z.float(), 0.0, 0.0, 1, 1.0), "float32, .* return a tree like"),
        (so.Hypergradient(3.0, 0.0, 0.0, 1, 1.0), "the hypergradient in phi is 3.0"),
        (so.Hypergradient(Z * math.nan, 0.0, 0.0, 1, 1.0), r"hypergradient\[0\] is nan"),
    ],
)
def test_what_is_no_hypergradient(found: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        bilevel.solve(
            bilevel.Bilevel(right, right), Z, Z, optimiser=sgd, steps=2,
            hypergradient=lambda J, F, t, p: found,
        )  # fmt: skip


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("found", [None, "SGD", torch.optim.SGD, so.SGD(0.1), Z])
def test_what_is_no_outer_optimiser(found: Any) -> None:
    calls: list[int] = []

    def J(t: Tensor, p: Tensor) -> Tensor:
        calls.append(1)
        return right(t, p)

    with pytest.raises(InputError, match=r"what optimiser returned is .*: pass a function"):
        bilevel.solve(bilevel.Bilevel(J, right), Z, Z, optimiser=lambda q: found, steps=2)
    assert len(calls) <= 1


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "optimiser", [None, 0.1, "SGD", torch.optim.SGD, so.SGD, so.Adam, torch.optim.SGD([Z], lr=0.1)]
)
def test_what_is_no_inner_optimiser(optimiser: Any) -> None:
    def never(t: Tensor, p: Tensor) -> Tensor:
        raise AssertionError("no work before the optimiser is looked at")

    with pytest.raises(InputError, match=r"(?s)optimiser is .*pass SGD"):
        unrolled(never, never, Z, Z, optimiser=optimiser, steps=2)
    with pytest.raises(InputError, match=r"(?s)optimiser is .*pass SGD"):
        so.Unrolled(optimiser, steps=2)


STEPS: dict[str, tuple[Callable[[Tensor, Moments], Any], str]] = {
    "None": (lambda t, m: None, "Mine.step returned None"),
    "a point": (lambda t, m: t, "Mine.step returned tensor"),
    "three things": (lambda t, m: (t, m, 1), "Mine.step returned "),
    "no tensor": (lambda t, m: (1.0, m), "the point of Mine.step is 1.0"),
    "another shape": (lambda t, m: (t[:1], m), r"returned a point of shape \(1,\)"),
    "another dtype": (lambda t, m: (t.float(), m), "torch.float32, and theta has"),
    "detached": (lambda t, m: (t.detach(), m), "does not depend on theta or slope"),
    "NaN": (lambda t, m: (t * math.nan, m), "not finite after [12] steps"),
}


@pytest.mark.parametrize("what", STEPS)
@pytest.mark.parametrize("last", [2, 1])
def test_the_step_of_an_inner_optimiser(what: str, last: int) -> None:
    class Mine:
        def step(self, theta: Tensor, slope: Tensor, moments: Moments) -> Any:
            return STEPS[what][0](theta + 0.1 * slope, moments)

    with pytest.raises(InputError, match=STEPS[what][1]):
        unrolled(right, right, Z, Z, optimiser=Mine(), steps=2, last=last)


RATES: list[Any] = [None, "0.1", True, math.nan, math.inf, -0.1, 0.1j, [0.1], Z]


@pytest.mark.parametrize("bad", RATES, ids=repr)
@pytest.mark.parametrize("name", ["inner_rate", "outer_rate"])
@pytest.mark.parametrize("at", [0, 2])
def test_the_rates_of_a_single_loop(name: str, bad: Any, at: int) -> None:
    calls: list[int] = []

    def J(t: Tensor, p: Tensor) -> Tensor:
        calls.append(1)
        return right(t, p)

    rates: dict[str, Any] = {"inner_rate": lambda k: 0.1, "outer_rate": lambda k: 0.1}
    rates[name] = lambda k: bad if k == at else 0.1
    with pytest.raises(InputError, match=rf"{name}\({at}\) is .*: pass a number"):
        single_loop(bilevel.Bilevel(J, right), Z, Z, steps=3, **rates)
    assert bool(calls) == (at > 0)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("bad", [None, 1.0, "low", (Z, Z)])
def test_the_score_of_early_stopping(bad: Any) -> None:
    with pytest.raises(InputError, match="the score is "):
        EarlyStopping(lambda p: bad)(1, {"t": Z})


@pytest.mark.parametrize("what", ["tuple", "None", "float", "detached", "constant"])
def test_a_loss_that_goes_wrong_later(what: str) -> None:
    calls = 0

    def loss(p: Params) -> Any:
        nonlocal calls
        calls += 1
        value = p["t"].pow(4).sum() + p["t"].sum()
        return value if calls < 4 else WRONG[what][0](value)

    with pytest.raises(InputError, match="the objective "):
        inner.minimum({"t": Z}, loss)


@pytest.mark.parametrize("bad", [None, 1.0, (), (len,), (1, 2), "JF"])
def test_the_batch_of_a_single_loop(bad: Any) -> None:
    problem = bilevel.Bilevel(right, right, batch=lambda generator: bad)
    with pytest.raises(InputError, match=r"batch returned .*: return J and F"):
        single_loop(
            problem, Z, Z, steps=1, inner_rate=lambda k: 0.1, outer_rate=lambda k: 0.1,
            generator=torch.Generator(),
        )  # fmt: skip
