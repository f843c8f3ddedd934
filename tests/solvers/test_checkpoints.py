"""A checkpoint is taken up by its own run, with the same bits, and by no other."""

import hashlib
import io
import math
import operator
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from solvers.bilevel import AdamSteps, Bilevel, Exact, Inexact, Result, solve
from solvers.bilevel.single_loop import single_loop
from solvers.hypergradients.implicit import HypergradientWarning, implicit
from solvers.hypergradients.methods import Implicit
from solvers.numerics.checkpoint import MOVES, CheckpointError, Run
from tests.draws import F64

DATA = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.1]], dtype=F64)


def J(theta: Any, phi: Any, data: Tensor = DATA) -> Tensor:
    scores = data @ torch.cat([theta["x"], theta["y"]])
    decay = phi["a"].exp() * theta["x"].square().sum() + phi["b"].exp() * theta["y"].square().sum()
    return -(scores - 1).square().mean() - decay.sum()


def F(theta: Any, phi: Any) -> Tensor:
    both = torch.cat([theta["x"], theta["y"]]) - 0.3
    return -both.square().sum() - 0.01 * (phi["a"] ** 2 + phi["b"] ** 2).sum()


def named(*names: str, value: float = 0.0, shape: tuple[int, ...] = (1,)) -> dict[str, Tensor]:
    return {name: torch.full(shape, value, dtype=F64) for name in names}


@dataclass(frozen=True)
class Settings:
    """One run of an outer loop."""

    J: Any = J
    F: Any = F
    theta: Any = field(default_factory=lambda: named("x", "y"))
    phi: Any = field(default_factory=lambda: named("a", "b"))
    optimiser: Any = lambda p: torch.optim.Adam(p, lr=0.1)
    inner: Any = Exact()
    steps: int = 3
    seed: int | None = None
    hypergradient: Any = None
    every: int = 1
    rates: tuple[float, float] = (0.1, 0.05)
    kind: str = "solve"
    batch: Any = None
    tolerance: float = 0.0
    at: Any = None

    def run(self, path: Path | str | None) -> Result:
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        problem = Bilevel(self.J, self.F, batch=self.batch, at=self.at)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypergradientWarning)
            if self.kind == "solve":
                return solve(
                    problem, self.theta, self.phi, optimiser=self.optimiser, steps=self.steps,
                    inner=self.inner, hypergradient=self.hypergradient, generator=generator,
                    checkpoint=path, tolerance=self.tolerance,
                )  # fmt: skip
            return single_loop(
                problem, self.theta, self.phi, steps=self.steps,
                inner_rate=lambda k: self.rates[0], outer_rate=lambda k: self.rates[1],
                generator=generator, every=self.every, checkpoint=path,
                tolerance=self.tolerance or None,
            )  # fmt: skip


SOLVE, LOOP = Settings(), Settings(kind="single_loop", steps=4)


def other_names(theta: Any, phi: Any) -> Tensor:
    return J({"x": theta["u"], "y": theta["v"]}, phi)


def frozen(tree: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: torch.nn.Parameter(v, requires_grad=k not in ("x", "a")) for k, v in tree.items()}


def wide(theta: Any, phi: Any) -> Tensor:
    return J({k: v.flatten()[:1] for k, v in theta.items()}, phi) - sum(
        v.square().sum() for v in theta.values()
    )


def agreeing_at_the_start(theta: Any, phi: Any) -> Tensor:
    return J(theta, phi) - (theta["x"] ** 2 * theta["y"] ** 2).sum()


def differentiating(scale: float) -> Any:
    """Return an objective that takes a derivative on its way."""

    def objective(theta: Any, phi: Any) -> Tensor:
        with torch.enable_grad():
            z = theta["x"] * 1.0
            inside = (z**3).sum() if z.requires_grad else (z.requires_grad_() ** 3).sum()
            (slope,) = torch.autograd.grad(inside, z, create_graph=True)
        return J(theta, phi) - scale * slope.sum() ** 2

    return objective


class Halved(torch.optim.SGD):
    """An optimiser with an option of its own."""

    def __init__(self, tensors: Any, share: float) -> None:
        super().__init__(tensors, lr=0.1)
        self.share = share


class Steeper(torch.optim.SGD):
    """One whose step reads something else."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def at(scale: float) -> Any:
    return lambda phi: lambda theta: J(theta, phi) + scale * theta["x"].pow(3).sum()


def in_groups(*places: tuple[int, ...]) -> Any:
    return lambda p: torch.optim.Adam([{"params": [p[k] for k in group]} for group in places], 0.1)


def like(tree: dict[str, Tensor], **changes: Any) -> dict[str, Tensor]:
    return {**tree, **changes}


T, P = named("x", "y"), named("a", "b")
SOLVE_CHANGES: dict[str, tuple[Settings, str]] = {
    "names": (replace(SOLVE, J=other_names, F=lambda t, p: F({"x": t["u"], "y": t["v"]}, p),
                      theta=named("u", "v")), "its variables are"),
    "order": (replace(SOLVE, phi=named("b", "a")), "its variables are"),
    "one more": (replace(SOLVE, phi=named("a", "b", "c")), "its variables are"),
    "shapes": (replace(SOLVE, J=wide, F=wide, theta=named("x", "y", shape=(2,))),
               r"theta\['x'\] is torch.float64 of shape \(1,\) there, .* \(2,\)"),
    "dtypes": (replace(SOLVE, J=lambda t, p: J(t, p, DATA.float()),
                       theta={k: v.float() for k, v in T.items()},
                       phi={k: v.float() for k, v in P.items()}),
               r"theta\['x'\] is torch.float64 .* torch.float32"),
    "start of phi": (replace(SOLVE, phi=like(P, a=torch.ones(1, dtype=F64))),
                     r"phi\['a'\] starts from other values"),
    "start of theta": (replace(SOLVE, theta=like(T, y=torch.ones(1, dtype=F64))),
                       r"theta\['y'\] starts from other values"),
    "frozen theta": (replace(SOLVE, theta=frozen(T)), "its variables are"),
    "frozen phi": (replace(SOLVE, phi=frozen(P)), "its variables are"),
    "class": (replace(SOLVE, optimiser=lambda p: torch.optim.AdamW(p, lr=0.1)),
              "the optimiser is .*Adam there, .*AdamW here"),
    "lr": (replace(SOLVE, optimiser=lambda p: torch.optim.Adam(p, lr=0.2)), "optimiser's lr is"),
    "betas": (replace(SOLVE, optimiser=lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9))),
              "optimiser's betas"),
    "eps": (replace(SOLVE, optimiser=lambda p: torch.optim.Adam(p, lr=0.1, eps=1e-7)),
            "optimiser's eps"),
    "decay": (replace(SOLVE, optimiser=lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1)),
              "optimiser's weight_decay"),
    "amsgrad": (replace(SOLVE, optimiser=lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True)),
                "optimiser's amsgrad"),
    "optimiser of one's own": (replace(SOLVE, optimiser=lambda p: Steeper(p, lr=0.1)),
                               "the optimiser is .*Adam there, .*Steeper"),
    "tolerance": (replace(SOLVE, tolerance=1e-9), "tolerance is 0.0 there, 1e-09 here"),
    "at": (replace(SOLVE, at=at(0.0)), "J by at at the start is known of one run only"),
    "groups": (replace(SOLVE, optimiser=in_groups((0,), (1,))), "the optimiser's"),
    "inner tolerance": (replace(SOLVE, inner=Exact(tolerance=1e-8)), "inner is Exact"),
    "inner budget": (replace(SOLVE, inner=Exact(max_iterations=7)), "inner is Exact"),
    "inner kind": (replace(SOLVE, inner=Inexact()), "inner is Exact.* there, Inexact"),
    "inner steps": (replace(SOLVE, inner=AdamSteps(3, 0.1)), "inner is Exact.* there, AdamSteps"),
    "hypergradient": (
        replace(SOLVE, hypergradient=lambda *given: None),
        r"hypergradient is the default there, .*<lambda>\(code .* here",
    ),
    "its damping": (
        replace(SOLVE, hypergradient=Implicit(damping=1.0)),
        "hypergradient is the default there, .*Implicit.*damping=1.0",
    ),
    "seed": (replace(SOLVE, seed=1), "the generator is None there"),
    "J": (replace(SOLVE, J=lambda t, p: 2 * J(t, p)), "J at .* the problem is another"),
    "F": (replace(SOLVE, F=lambda t, p: F(t, p) + 1e-3), "F at .* the problem is another"),
    "data": (replace(SOLVE, J=lambda t, p: J(t, p, DATA + 0.01)), "J in .* is another"),
    "J beside the start": (replace(SOLVE, J=agreeing_at_the_start), "J at point 1 beside it"),
    "fewer steps": (replace(SOLVE, steps=2), "is at step 3: pass steps >= 3"),
    "loop": (LOOP, "it is one of bilevel.solve, this is single_loop"),
}  # fmt: skip
LOOP_CHANGES: dict[str, tuple[Settings, str]] = {
    "order": (replace(LOOP, phi=named("b", "a")), "its variables are"),
    "start": (replace(LOOP, phi=named("a", "b", value=1.0)), "starts from other values"),
    "frozen": (replace(LOOP, theta=frozen(T)), "its variables are"),
    "inner rate": (replace(LOOP, rates=(0.2, 0.05)), "inner_rate is"),
    "outer rate": (replace(LOOP, rates=(0.1, 0.06)), "outer_rate is"),
    "tolerance": (replace(LOOP, tolerance=1e-9), "tolerance is None there, 1e-09 here"),
    "at": (replace(LOOP, at=at(0.0)), "J by at at the start is known of one run only"),
    "every": (replace(LOOP, every=2), "every is 1 there, 2 here"),
    "seed": (replace(LOOP, seed=3), "the generator is None there"),
    "J": (replace(LOOP, J=lambda t, p: 2 * J(t, p)), "J at .* the problem is another"),
    "F": (replace(LOOP, F=lambda t, p: 2 * F(t, p)), "F at .* the problem is another"),
    "data": (replace(LOOP, J=lambda t, p: J(t, p, DATA + 0.01)), "J in .* is another"),
    "fewer steps": (replace(LOOP, steps=3), "is at step 4: pass steps >= 4"),
    "solve": (replace(SOLVE, steps=9), "it is one of single_loop, this is bilevel.solve"),
}  # fmt: skip


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(run: Callable[[], Any], path: Path, words: str) -> None:
    before, beside = digest(path), sorted(path.parent.iterdir())
    with pytest.raises(CheckpointError, match=words) as caught:
        run()
    assert path.name in str(caught.value)
    assert digest(path) == before
    assert sorted(path.parent.iterdir()) == beside


@pytest.mark.parametrize("what", SOLVE_CHANGES)
def test_another_run_of_solve(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run.pt"
    SOLVE.run(path)
    other, words = SOLVE_CHANGES[what]
    refused(lambda: replace(other, steps=max(other.steps, 5) if what != "fewer steps" else 2)
            .run(path), path, words)  # fmt: skip


@pytest.mark.parametrize("what", LOOP_CHANGES)
def test_another_run_of_single_loop(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run.pt"
    LOOP.run(path)
    other, words = LOOP_CHANGES[what]
    refused(lambda: other.run(path), path, words)


def test_other_seeds_and_other_frozen_values(tmp_path: Path) -> None:
    for base, kind in ((SOLVE, "solve"), (LOOP, "loop")):
        path = tmp_path / f"seed {kind}"
        replace(base, seed=1).run(path)
        other = replace(base, seed=2)
        refused(lambda run=other.run, at=path: run(at), path, "the generator is one in the state")
    path = tmp_path / "frozen"
    replace(SOLVE, theta=frozen(T)).run(path)
    moved = frozen(like(T, x=torch.ones(1, dtype=F64)))
    refused(lambda: replace(SOLVE, theta=moved).run(path), path, "frozen leaf 0 starts from other")


def test_tensors_in_other_groups(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    replace(SOLVE, optimiser=in_groups((0,), (1,))).run(path)
    refused(
        lambda: replace(SOLVE, optimiser=in_groups((1,), (0,))).run(path), path,
        "the places of the optimiser's tensors",
    )  # fmt: skip


@pytest.mark.parametrize("base", [SOLVE, LOOP])
def test_another_at(tmp_path: Path, base: Settings) -> None:
    """Where they differ is not the start, at which `at` is held against J."""
    path = tmp_path / "run.pt"
    replace(base, at=at(0.0)).run(path)
    refused(
        lambda: replace(base, at=at(0.1), steps=6).run(path), path, "J by at in .* is|J by at at"
    )
    same(replace(base, at=at(0.0), steps=6).run(path), replace(base, at=at(0.0), steps=6).run(None))


def test_another_option_of_an_optimiser_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    replace(SOLVE, optimiser=lambda p: Halved(p, 0.5)).run(path)
    other = replace(SOLVE, optimiser=lambda p: Halved(p, 0.25), steps=5)
    refused(lambda: other.run(path), path, "the optimiser's share is 0.5 there, 0.25 here")


@pytest.mark.parametrize("base", [SOLVE, LOOP])
def test_a_problem_that_is_another_where_the_run_has_come_to(
    tmp_path: Path, base: Settings
) -> None:
    """Beside the start it is the same: what is compared there cannot tell them apart."""
    path = tmp_path / "run.pt"

    def inner(theta: Any, phi: Any, wall: float) -> Tensor:
        x, goal = theta["x"] + theta["y"], 1e3 * (1 + phi["a"])
        return -((x - goal).square() / 2 + wall * (x - 500).relu().square()).sum()

    def outer(theta: Any, phi: Any) -> Tensor:
        return -(phi["a"] - 1).square().sum()

    def run(wall: float, steps: int) -> Result:
        walled = replace(base, J=lambda t, p: inner(t, p, wall), F=outer, rates=(0.3, 1e-4))
        return replace(walled, inner=AdamSteps(50, 10.0), steps=steps).run(path)

    run(0.0, 5)
    refused(lambda: run(0.1, 7), path, "J at the point it has come to is")
    assert run(0.0, 7).history[-1].step == 7


@pytest.mark.parametrize("base", [SOLVE, LOOP])
def test_a_checkpoint_of_another_version_says_so(tmp_path: Path, base: Settings) -> None:
    path = tmp_path / "run.pt"
    base.run(path)
    kept = path.read_bytes().partition(b"\n")[2]
    for version in (1, 4, 6, 12):
        head = f"bimle checkpoint {version} {hashlib.sha256(kept).hexdigest()}\n"
        path.write_bytes(head.encode() + kept)
        words = f"is a bimle checkpoint {version}, this version of the package reads and writes"
        refused(lambda: base.run(path), path, words)


def test_another_device() -> None:
    one = Run("kind", {"theta": torch.ones(2)}, {"the device": "cuda:0"}, {})
    other = Run("kind", {"theta": torch.ones(2)}, {"the device": "cpu"}, {})
    assert one.difference(other) == "the device is cuda:0 there, cpu here"


def test_of_long_settings_the_place_that_differs_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    many = {f"option {k}": k for k in range(100)}
    one, other = (SimpleNamespace(inside=[many], name=k, more=[many]) for k in (1, 2))
    replace(SOLVE, hypergradient=ignoring(one)).run(path)
    refused(
        lambda: replace(SOLVE, hypergradient=ignoring(other), steps=5).run(path),
        path, r"hypergradient is \.\.\..*'name': 1.* there, \.\.\..*'name': 2.* here",
    )  # fmt: skip


def ignoring(options: Any) -> Any:
    return lambda J, F, t, p: implicit(J, F, t, p, damping=0.0 * len(vars(options)))


def test_an_objective_that_takes_derivatives(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    replace(SOLVE, J=differentiating(1.0)).run(path)
    refused(lambda: replace(SOLVE, J=differentiating(2.0)).run(path), path, "problem is another")


@pytest.mark.parametrize("base", [SOLVE, LOOP])
def test_files_that_are_no_checkpoints(tmp_path: Path, base: Settings) -> None:
    path = tmp_path / "run.pt"
    base.run(path)
    whole = path.read_bytes()
    for cut in [*range(0, len(whole), 100), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        refused(lambda: base.run(path), path, "is no checkpoint, or is cut off")
    contents = {
        "a text": b"step 3\nphi 0.1\n",
        "binary": bytes(range(256)) * 4,
        "pickle": pickle.dumps({"step": 3}),
        "object": pickle.dumps(Path("x")),
    }
    for content in contents.values():
        path.write_bytes(content)
        refused(lambda: base.run(path), path, "no checkpoint")
    for foreign in ({"step": 3}, [1, 2], torch.ones(2), {"format": "other"}, None):
        torch.save(foreign, path)
        refused(lambda: base.run(path), path, "is no checkpoint, or is cut off")


@pytest.mark.parametrize("base", [SOLVE, LOOP])
def test_every_flipped_byte_is_seen(tmp_path: Path, base: Settings) -> None:
    path = tmp_path / "run.pt"
    base.run(path)
    whole, rng = path.read_bytes(), random.Random(0)
    for at in [*range(90), *(rng.randrange(len(whole)) for _ in range(60))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        refused(lambda: base.run(path), path, "damaged")


@pytest.mark.parametrize("base", [SOLVE, LOOP])
def test_places_that_cannot_hold_a_checkpoint(tmp_path: Path, base: Settings) -> None:
    with pytest.raises(CheckpointError, match="is a folder: pass a file in it"):
        base.run(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot make the folder"):
        base.run(blocked / "run.pt")
    with pytest.raises(CheckpointError, match="cannot make the folder"):
        base.run(blocked / "deep" / "run.pt")
    assert blocked.read_text() == "in the way"
    assert list(tmp_path.iterdir()) == [blocked]


def same(got: Result, want: Result) -> None:
    assert got.history == want.history
    for one, other in ((got.theta, want.theta), (got.phi, want.phi)):
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)


def batches(size: int) -> Any:
    def draws(generator: torch.Generator) -> tuple[Any, Any]:
        rows = torch.randperm(3, generator=generator)[:size]
        return lambda t, p: J(t, p, DATA[rows]), F

    return draws


def test_batches_of_another_size(tmp_path: Path) -> None:
    path, base = tmp_path / "run.pt", replace(LOOP, batch=batches(2), seed=5)
    base.run(path)
    other = replace(base, batch=batches(1), steps=6)
    refused(lambda: other.run(path), path, "J of the first batch in .* is")


def test_another_sampled_gradient(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"

    def run(scale: float, steps: int) -> Result:
        def sampled(theta: Any, phi: Any, generator: torch.Generator) -> Tensor:
            noise = torch.randn(1, generator=generator, dtype=F64)
            return J(theta, phi) + scale * (noise * theta["x"]).sum()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypergradientWarning)
            return solve(
                Bilevel(J, F, sampled=sampled), T, P, optimiser=SOLVE.optimiser, steps=steps,
                inner=AdamSteps(2, 0.1), generator=torch.Generator().manual_seed(0),
                checkpoint=path,
            )  # fmt: skip

    run(0.1, 2)
    refused(lambda: run(0.2, 4), path, "the sampled J in .* is")


@pytest.mark.parametrize("which", ["inner_rate", "outer_rate"])
def test_rates_that_differ_at_one_step_taken(tmp_path: Path, which: str) -> None:
    """The steps to come may be others: they have not been taken."""
    path = tmp_path / "run.pt"

    def run(steps: int, changed: int | None, at: Path | None) -> Result:
        table = [0.05] * steps  # no rate is asked for that is not used
        if changed is not None:
            table[changed] = 0.06
        inner = table if which == "inner_rate" else [0.05] * steps
        outer = table if which == "outer_rate" else [0.05] * steps
        return single_loop(
            Bilevel(J, F), T, P, steps=steps, checkpoint=at,
            inner_rate=lambda k: inner[k], outer_rate=lambda k: outer[k],
        )  # fmt: skip

    run(6, None, path)
    for step in (2, 3, 5):
        refused(lambda k=step: run(9, k, path), path, f"{which} is another one there")
    same(run(9, 7, path), run(9, 7, None))


def total(t: Any, p: Any, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return term(torch.cat([t["x"], t["y"]]), torch.cat([p["a"], p["b"]])).sum()


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "proximal": lambda t, p: (t - p) ** 2,
    "proximal, quartic": lambda t, p: (t - p) ** 4,
    "swapped": lambda t, p: (t - p.flip(0)) ** 2,
    "of the sum": lambda t, p: (t + p).cos(),
    "of the product": lambda t, p: t**2 * p**2,
    "of one entry": lambda t, p: t[1] ** 2,
    "of theta": lambda t, p: t**2,
    "of phi": lambda t, p: p**3,
    "linear": lambda t, p: t + p,
    "far away": lambda t, p: (t.abs() - 0.5).relu() ** 2,
}


@pytest.mark.parametrize("loop", ["solve", "single_loop", "batches"])
@pytest.mark.parametrize("which", ["J", "F"])
@given(
    name=st.sampled_from([*TERMS]),
    weight=st.sampled_from([1.0, 1e-3, 1e-6]),
    change=st.sampled_from([0.1, 0.99, 2.0, -1.0]),
    offset=st.sampled_from([0.0, 1e9, -1e12]),
)
@settings(max_examples=12, deadline=None)
def test_a_problem_with_a_term_of_another_weight(
    tmp_path_factory: Any, loop: str, which: str, name: str, weight: float, change: float,
    offset: float,
) -> None:  # fmt: skip
    """Whatever the term depends on, however small it is, and beside whatever constant."""
    path = tmp_path_factory.mktemp("run") / "run.pt"

    def run(weight: float, steps: int) -> Result:
        def term(t: Any, p: Any) -> Tensor:
            return weight * total(t, p, TERMS[name]) + offset

        def inner(t: Any, p: Any) -> Tensor:
            return J(t, p) - (term(t, p) if which == "J" else 0)

        def outer(t: Any, p: Any) -> Tensor:
            return F(t, p) - (term(t, p) if which == "F" else 0)

        base = SOLVE if loop == "solve" else replace(LOOP, rates=(1e-3, 1e-3))
        if loop == "batches":
            base = replace(base, seed=5, batch=lambda generator: (inner, outer))
        return replace(base, J=inner, F=outer, steps=steps).run(path)

    run(weight, 1)
    refused(lambda: run(weight * change, 2), path, "the problem is another")
    assert [row.step for row in run(weight, 2).history] == [0, 1, 2]


def test_a_run_that_differs_by_rounding_is_the_same(tmp_path: Path) -> None:
    """Products of matrices depend on where these begin in memory, sums on the order of terms."""
    path, rows = tmp_path / "run.pt", torch.arange(300, dtype=F64)
    data = torch.stack([(rows + 1).cos(), (rows * rows).sin()], 1)

    def run(seed: int, steps: int) -> Result:
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        mixed = data[order]
        return replace(SOLVE, J=lambda t, p: J(t, p, mixed), steps=steps).run(path)

    run(0, 1)
    for seed in range(1, 6):
        assert run(seed, seed + 1).history[-1].step == seed + 1


def test_variables_of_any_size_are_told_apart(tmp_path: Path) -> None:
    """Long gradients are kept as sums, whose signs no entry can hide behind."""
    theta, phi = torch.zeros(3000, dtype=F64), torch.zeros(1, dtype=F64)
    goal = torch.linspace(-1, 1, 3000, dtype=F64)

    def run(path: Path, place: int, weight: float, steps: int) -> Any:
        def inner(t: Tensor, p: Tensor) -> Tensor:
            return -((t - goal) ** 2).sum() - (weight - 1) * t[place] ** 2 - 0 * p.sum()

        return single_loop(
            Bilevel(inner, lambda t, p: -((t - p) ** 2).mean()), theta, phi, steps=steps,
            inner_rate=lambda k: 1e-3, outer_rate=lambda k: 1e-3, checkpoint=path,
        )  # fmt: skip

    for place in (0, 256, 1999, 2999):
        path = tmp_path / f"run {place}"
        run(path, place, 1.0, 1)
        refused(lambda at=path, k=place: run(at, k, 1.001, 2), path, "the problem is another")


def by(damping: float) -> Any:
    return lambda J, F, t, p: implicit(J, F, t, p, damping=damping)


class Method:
    """A method with a setting and a memory."""

    def __init__(self, damping: float) -> None:
        self.damping, self.calls = damping, 0

    def __call__(self, J: Any, F: Any, theta: Any, phi: Any) -> Any:
        self.calls += 1
        return implicit(J, F, theta, phi, damping=self.damping)


class Slotted:
    """A method whose setting has no place in a `__dict__`."""

    __slots__ = ("damping",)

    def __init__(self, damping: float) -> None:
        self.damping = damping

    def __call__(self, J: Any, F: Any, theta: Any, phi: Any) -> Any:
        return implicit(J, F, theta, phi, damping=self.damping)


def reading(**options: Any) -> Any:
    """A function of a module of its own, with globals."""
    space: dict[str, Any] = {"__name__": "users", "implicit": implicit, **options}
    exec("def f(J, F, t, p): return implicit(J, F, t, p, damping=float(get(OPTION)))", space)
    return space["f"]


def first(option: Any) -> float:
    return option[0]


METHODS: dict[str, tuple[Any, Any]] = {
    "partial": (partial(implicit, damping=100.0), partial(implicit, damping=0.0)),
    "partial of a function": (partial(by(1.0)), partial(by(2.0))),
    "closure": (by(1.0), by(2.0)),
    "constant": (
        lambda J, F, t, p: implicit(J, F, t, p, damping=1.0),
        lambda J, F, t, p: implicit(J, F, t, p, damping=2.0),
    ),
    "default": (
        lambda J, F, t, p, damping=1.0: implicit(J, F, t, p, damping=damping),
        lambda J, F, t, p, damping=2.0: implicit(J, F, t, p, damping=damping),
    ),
    "object": (Method(1.0), Method(2.0)),
    "slots": (Slotted(1.0), Slotted(2.0)),
    "global dict": (
        reading(OPTION={"damping": 1.0}, get=operator.itemgetter("damping")),
        reading(OPTION={"damping": 2.0}, get=operator.itemgetter("damping")),
    ),
    "global list": (reading(OPTION=[1.0], get=first), reading(OPTION=[2.0], get=first)),
    "global tensor": (
        reading(OPTION=torch.ones(1), get=first),
        reading(OPTION=torch.zeros(1), get=first),
    ),
    "global object": (
        reading(OPTION=Slotted(1.0), get=operator.attrgetter("damping")),
        reading(OPTION=Slotted(2.0), get=operator.attrgetter("damping")),
    ),
    "global function": (reading(OPTION=[1.0, 2.0], get=first), reading(OPTION=[1.0, 2.0], get=max)),
    "bound": (Method(1.0).__call__, Method(2.0).__call__),
}


@pytest.mark.parametrize("name", METHODS)
def test_another_method_of_the_users_own(tmp_path: Path, name: str) -> None:
    path, (one, other) = tmp_path / "run.pt", METHODS[name]
    replace(SOLVE, hypergradient=one).run(path)
    refused(
        lambda: replace(SOLVE, hypergradient=other, steps=5).run(path), path, "hypergradient is"
    )
    whole = replace(SOLVE, hypergradient=one, steps=5).run(None)
    same(replace(SOLVE, hypergradient=one, steps=5).run(path), whole)


NAMES = {"damping", "tolerance", "share", "count", "rate", "weight"}


def rich() -> Any:
    """A method that reads all kinds of things, in an order that is another in every process."""
    options = {name: {name, len(name)} for name in NAMES} | {"damping": 1.0}
    get = partial(operator.getitem, options)
    return reading(OPTION="damping", get=get, unread=object())


GOING_ON = """
import sys, torch
from tests.solvers.test_checkpoints import SOLVE, replace, rich
found = replace(SOLVE, steps=5, hypergradient=rich()).run(sys.argv[1])
torch.save({"theta": found.theta, "phi": found.phi}, sys.argv[2])
"""


def test_another_process_goes_on(tmp_path: Path) -> None:
    """With other ids, another order of sets and of dicts made from them, and modules of its own."""
    path, kept = tmp_path / "run.pt", tmp_path / "kept.pt"
    replace(SOLVE, hypergradient=rich()).run(path)
    root = Path(__file__).parents[2]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": seed}
    subprocess.run(
        [sys.executable, "-c", GOING_ON, str(path), str(kept)], cwd=root, env=environment,
        check=True, capture_output=True,
    )  # fmt: skip
    whole, found = replace(SOLVE, steps=5, hypergradient=rich()).run(None), torch.load(kept)
    for name, tree in (("theta", whole.theta), ("phi", whole.phi)):
        assert list(found[name]) == list(tree)
        for key, value in tree.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-10, atol=0.0)


RESUMED = {
    "Adam": SOLVE,
    "L-BFGS": replace(SOLVE, optimiser=lambda p: torch.optim.LBFGS(p, max_iter=3)),
    "momentum": replace(SOLVE, optimiser=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "inexact": replace(SOLVE, inner=Inexact()),
    "frozen": replace(SOLVE, theta=frozen(T), phi=frozen(P)),
    "single_loop": LOOP,
    "batches": replace(LOOP, batch=batches(2), seed=5),
    "every second": replace(LOOP, every=2),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, name: str) -> None:
    path, base = tmp_path / "deep" / "run.pt", RESUMED[name]
    whole = replace(base, steps=6).run(None)
    for steps in (2, 4, 6):
        found = replace(base, steps=steps).run(str(path) if steps == 4 else path)
    same(found, whole)
    same(replace(base, steps=6).run(path), whole)
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    whole = replace(SOLVE, steps=4).run(None)
    folder = tmp_path / "linked"
    (tmp_path / "there").mkdir()
    folder.symlink_to(tmp_path / "there")
    for target in (tmp_path / "target.pt", tmp_path / "deep" / "target.pt"):
        link = folder / f"{target.parent.name}.pt"
        link.symlink_to(target)
        SOLVE.run(link)  # to nothing yet
        assert link.is_symlink()
        assert not target.is_symlink()
        same(replace(SOLVE, steps=4).run(link), whole)
        assert link.is_symlink()
        same(replace(SOLVE, steps=4).run(target), whole)


@pytest.mark.parametrize("base", [SOLVE, LOOP])
def test_names_that_no_file_can_have(tmp_path: Path, base: Settings) -> None:
    def J(theta: Any, phi: Any) -> Tensor:
        raise AssertionError("no work before the path is checked")

    looped, pipe = tmp_path / "looped", tmp_path / "pipe"
    looped.symlink_to(looped)
    os.mkfifo(pipe)
    names = [
        tmp_path / "zero\0byte", str(tmp_path / "zero\0") + "/run.pt", tmp_path / ("x" * 256),
        tmp_path / ("é" * 200), tmp_path / ("y" * 300) / "run.pt", looped, pipe,
    ]  # fmt: skip
    before = sorted(tmp_path.iterdir())
    for path in names:
        with pytest.raises(CheckpointError) as caught:
            base.run(path)
        assert repr(str(path))[1:-1] in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    for name in ("x" * 250, "z" * 255, "é" * 125):
        same(base.run(tmp_path / name), base.run(None))
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize("linked", [True, False])
def test_of_runs_on_one_path_one_goes_on(
    tmp_path: Path, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that begin together: no file is overwritten that another run has written."""
    if not linked:  # a file system without hard links
        monkeypatch.setattr(os, "link", no_links)
    path, count = tmp_path / "run.pt", 4
    starting = threading.Barrier(count)

    def run(k: int) -> Any:
        def first(step: int, theta: Any, phi: Any) -> None:
            if step == 0:
                starting.wait(60)

        problem = Bilevel(lambda t, p: (1 + k) * J(t, p), F)
        try:
            return solve(
                problem, T, P, optimiser=SOLVE.optimiser, steps=3, inner=Exact(), tolerance=0.0,
                checkpoint=path, observe=first,
            )  # fmt: skip
        except CheckpointError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(run, range(count)))
    done = [k for k in range(count) if isinstance(found[k], Result)]
    assert len(done) == 1
    for k in {*range(count)} - {*done}:
        assert f"another run has written {path}" in str(found[k])
    scale = 1 + done[0]
    again = replace(SOLVE, J=lambda t, p: scale * J(t, p), steps=4)
    same(again.run(path), again.run(None))
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def no_links(*_: Any, **__: Any) -> None:
    raise PermissionError("no hard links here")


@pytest.mark.parametrize("base", [SOLVE, LOOP])
def test_a_run_that_is_overtaken_stops(tmp_path: Path, base: Settings) -> None:
    """The same run, taken up twice: the file stays that of the one which was first."""
    path = tmp_path / "run.pt"
    base.run(path)
    ahead = replace(base, steps=base.steps + 3)

    def overtaken(theta: Any, phi: Any) -> Tensor:
        calls.append(0)
        if len(calls) == 3 + len(MOVES):  # it has been taken up
            ahead.run(path)
        return J(theta, phi)

    calls: list[int] = []
    late = replace(base, J=overtaken, steps=base.steps + 2)
    with pytest.raises(CheckpointError, match=r"another run has written .*run\.pt since"):
        late.run(path)
    whole = replace(base, steps=base.steps + 3)
    same(whole.run(path), whole.run(None))


def test_a_file_that_was_taken_away_is_written_anew(tmp_path: Path) -> None:
    path, kept = tmp_path / "run.pt", tmp_path / "kept.pt"

    def moved(step: int, theta: Any, phi: Any) -> None:
        if step == 2:
            path.rename(kept)

    solve(
        Bilevel(J, F), T, P, optimiser=SOLVE.optimiser, steps=4, inner=Exact(), tolerance=0.0,
        checkpoint=path, observe=moved,
    )  # fmt: skip
    whole = replace(SOLVE, steps=5).run(None)
    same(replace(SOLVE, steps=5).run(path), whole)
    same(replace(SOLVE, steps=5).run(kept), whole)


KILLED = """
import sys, torch
from tests.solvers.test_checkpoints import SOLVE, replace
replace(SOLVE, steps=100000, optimiser=lambda p: torch.optim.SGD(p, lr=1e-3)).run(sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_run_leaves_a_readable_checkpoint(tmp_path: Path) -> None:
    path, rng = tmp_path / "run.pt", random.Random(1)
    base = replace(SOLVE, optimiser=lambda p: torch.optim.SGD(p, lr=1e-3))
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    reached = 0
    for _ in range(2):
        run = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=root, env=environment)
        deadline = time.monotonic() + 90
        before = path.stat().st_mtime_ns if path.exists() else 0
        while not path.exists() or path.stat().st_mtime_ns == before:
            assert run.poll() is None, "the run ended by itself"
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        kept = io.BytesIO(path.read_bytes().partition(b"\n")[2])
        step = torch.load(kept, weights_only=True)["state"]["step"]
        assert step > reached
        reached = step
    # all of it, but for what the killed process was about to write
    found = replace(base, steps=reached).run(path)
    assert [row.step for row in found.history] == list(range(reached + 1))
    assert math.isfinite(found.history[-1].F)
    left = [p.name for p in tmp_path.iterdir()]
    assert [name for name in left if not name.startswith(".")] == ["run.pt"]
