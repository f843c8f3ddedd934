"""A checkpoint is taken up by its own run, with the same bits, and by no other."""

import hashlib
import io
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.bilevel import AdamSteps, Bilevel, Exact, Inexact, Result, solve
from solvers.bilevel.single_loop import single_loop
from solvers.hypergradients.implicit import HypergradientWarning
from solvers.hypergradients.methods import Implicit
from solvers.numerics.checkpoint import CheckpointError

F64 = torch.float64
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

    def run(self, path: Path | str | None) -> Result:
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        problem = Bilevel(self.J, self.F, batch=self.batch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypergradientWarning)
            if self.kind == "solve":
                return solve(
                    problem, self.theta, self.phi, optimiser=self.optimiser, steps=self.steps,
                    inner=self.inner, hypergradient=self.hypergradient, generator=generator,
                    checkpoint=path, tolerance=0.0,
                )  # fmt: skip
            return single_loop(
                problem, self.theta, self.phi, steps=self.steps,
                inner_rate=lambda k: self.rates[0], outer_rate=lambda k: self.rates[1],
                generator=generator, every=self.every, checkpoint=path,
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
    "groups": (replace(SOLVE, optimiser=in_groups((0,), (1,))), "the optimiser's"),
    "inner tolerance": (replace(SOLVE, inner=Exact(tolerance=1e-8)), "inner is Exact"),
    "inner budget": (replace(SOLVE, inner=Exact(max_iterations=7)), "inner is Exact"),
    "inner kind": (replace(SOLVE, inner=Inexact()), "inner is Exact.* there, Inexact"),
    "inner steps": (replace(SOLVE, inner=AdamSteps(3, 0.1)), "inner is Exact.* there, AdamSteps"),
    "hypergradient": (
        replace(SOLVE, hypergradient=lambda *given: None),
        "hypergradient is the default there, given here",
    ),
    "its damping": (
        replace(SOLVE, hypergradient=Implicit(damping=1.0)),
        "hypergradient is the default there, Implicit.*damping=1.0",
    ),
    "seed": (replace(SOLVE, seed=1), "the generator is None there"),
    "J": (replace(SOLVE, J=lambda t, p: 2 * J(t, p)), "J at .* the problem is another"),
    "F": (replace(SOLVE, F=lambda t, p: F(t, p) + 1e-3), "F at .* the problem is another"),
    "data": (replace(SOLVE, J=lambda t, p: J(t, p, DATA + 0.01)), "J at .* is another"),
    "J beside the start": (replace(SOLVE, J=agreeing_at_the_start), "J at a point beside it"),
    "fewer steps": (replace(SOLVE, steps=2), "is at step 3: pass steps >= 3"),
    "loop": (LOOP, "it is one of bilevel.solve, this is single_loop"),
}  # fmt: skip
LOOP_CHANGES: dict[str, tuple[Settings, str]] = {
    "order": (replace(LOOP, phi=named("b", "a")), "its variables are"),
    "start": (replace(LOOP, phi=named("a", "b", value=1.0)), "starts from other values"),
    "frozen": (replace(LOOP, theta=frozen(T)), "its variables are"),
    "inner rate": (replace(LOOP, rates=(0.2, 0.05)), "inner_rate is"),
    "outer rate": (replace(LOOP, rates=(0.1, 0.06)), "outer_rate is"),
    "every": (replace(LOOP, every=2), "every is 1 there, 2 here"),
    "seed": (replace(LOOP, seed=3), "the generator is None there"),
    "J": (replace(LOOP, J=lambda t, p: 2 * J(t, p)), "J at .* the problem is another"),
    "F": (replace(LOOP, F=lambda t, p: 2 * F(t, p)), "F at .* the problem is another"),
    "data": (replace(LOOP, J=lambda t, p: J(t, p, DATA + 0.01)), "J at .* is another"),
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
    refused(lambda: other.run(path), path, "J of the first batch at a point beside it is")


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
    refused(lambda: run(0.2, 4), path, "the sampled J at a point beside it is")


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
