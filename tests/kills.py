"""Kill runs at random moments and go on: every result must be that of a run that was left alone.

``python -m tests.kills --count 50 --seed 0`` kills `python -m figures` and a bilevel run with a
checkpoint in turn, with SIGKILL, which no handler sees. After a kill every file that has its final
name must be whole; after the next run tables, pictures and captions must be the same, byte for
byte, and the bilevel run must hold the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
FIGURES = ("figure-2", "figure-3", "sequences")  # one run at once, and two in chunks
LAST = 1.05  # kills fall between 0 and this share of the time of a run that is left alone


@dataclass(frozen=True)
class Task:
    """A command that goes on where it was ended.

    Attributes:
        name: in the report.
        command: from a folder to the command that works in it.
        results: from the folder to what must be the same, by name.
    """

    name: str
    command: Callable[[Path], list[str]]
    results: Callable[[Path], dict[str, str]]


def figure(name: str) -> Task:
    """The smaller experiment of a figure, unverified: its gate is no part of what is killed."""
    options = ["--quick", "--unverified", "--out"]
    return Task(
        name,
        lambda out: [sys.executable, "-m", "figures", name, *options, str(out)],
        _tables_and_pictures,
    )


def checkpointed(steps: int = 40) -> Task:
    """A bilevel run of this module, `_solve`, with a checkpoint after every step."""
    return Task(
        "checkpoint",
        lambda out: [sys.executable, "-m", "tests.kills", "--solve", str(out), str(steps)],
        lambda out: {"solution": _digest((out / "solution").read_bytes())},
    )


def _tables_and_pictures(out: Path) -> dict[str, str]:
    """Digests of all tables by their rows, and of pictures and texts by their bytes.

    Tables say when they were made, beside the rows. Cells of unfinished ones, in hidden folders,
    are no results.
    """
    import pandas as pd

    found: dict[str, str] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if "/." in name:
            continue
        if path.suffix == ".parquet":
            found[name] = _digest(pd.read_parquet(path).to_csv().encode())
        elif path.suffix == ".csv":
            found[name] = _digest(pd.read_csv(path, comment="#").to_csv().encode())
        elif path.suffix in (".png", ".tex", ".md", ".txt"):
            found[name] = _digest(path.read_bytes())
    return found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def kill_once(task: Task, alone: dict[str, str], moment: float) -> str:
    """End a run with SIGKILL after so many seconds and run it again.

    Returns:
        What is wrong, "" if nothing is.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        out.mkdir()
        with _start(task.command(out)) as process:
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if task.name != "checkpoint":
            left = _tables_and_pictures(out)  # whatever is there must be readable and right
            if changed := [name for name in left if left[name] != alone.get(name)]:
                return f"the kill left {changed[0]} with other content"
        with _start(task.command(out)) as process:
            _, error = process.communicate()
        if process.returncode:
            return f"the next run failed: {error.strip().splitlines()[-1]}"
        found = task.results(out)
        if found.keys() != alone.keys():
            return f"other files: {sorted(found.keys() ^ alone.keys())}"
        changed = [name for name in found if found[name] != alone[name]]
        return f"{changed[0]} differs" if changed else ""


def left_alone(task: Task) -> tuple[dict[str, str], float]:
    """What a run returns that nobody kills, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        out = Path(folder) / "out"
        out.mkdir()
        subprocess.run(task.command(out), cwd=ROOT, check=True, capture_output=True)
        return task.results(out), time.monotonic() - start


def run(tasks: Sequence[Task], count: int, seed: int) -> list[str]:
    """Kill the tasks in turn, `count` times in all; return what went wrong."""
    rng = np.random.default_rng(seed)
    alone = {task.name: left_alone(task) for task in tasks}
    wrong: list[str] = []
    for k in range(count):
        task = tasks[k % len(tasks)]
        expected, seconds = alone[task.name]
        moment = float(rng.uniform(0.0, LAST)) * seconds
        said = kill_once(task, expected, moment)
        typer.echo(
            f"{k + 1}/{count} {task.name}, killed after {moment:.2f} of {seconds:.2f} s: "
            f"{said or 'the same'}"
        )
        if said:
            wrong.append(f"{task.name} after {moment:.2f} s: {said}")
    return wrong


def _start(command: list[str]) -> subprocess.Popen[str]:
    """A process that leads a group of its own, so that its children die with it."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _solve(out: Path, steps: int) -> None:
    """Ridge regression with one penalty per feature; its last bits, written as one file."""
    import torch

    from solvers import bilevel

    rng = torch.Generator().manual_seed(0)
    X = torch.randn(60, 8, generator=rng, dtype=torch.float64)
    y = X.sum(-1) + torch.randn(60, generator=rng, dtype=torch.float64)

    def J(w: torch.Tensor, rho: torch.Tensor) -> torch.Tensor:
        return -((X[:30] @ w - y[:30]) ** 2).mean() - (rho.exp() * w**2).sum()

    def F(w: torch.Tensor, rho: torch.Tensor) -> torch.Tensor:
        return -((X[30:] @ w - y[30:]) ** 2).mean()

    zeros = torch.zeros(8, dtype=torch.float64)
    found = bilevel.solve(
        bilevel.Bilevel(J, F),
        zeros,
        zeros - 1,
        optimiser=lambda tensors: torch.optim.Adam(tensors, lr=0.05),
        steps=steps,
        tolerance=0.0,
        checkpoint=out / "checkpoint.pt",
        observe=lambda *_: time.sleep(0.02),  # steps that take as long as those of a network
    )
    history = [step.F for step in found.history]
    bits = torch.cat([found.theta, found.phi, torch.tensor(history, dtype=torch.float64)])
    temporary = out / "solution.tmp"
    temporary.write_bytes(bits.numpy().tobytes())
    temporary.rename(out / "solution")


def main() -> int:
    """Read the command line; 1 if a result differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solve", nargs=2, metavar=("FOLDER", "STEPS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.solve:
        _solve(Path(given.solve[0]), int(given.solve[1]))
        return 0
    bilevel_run = checkpointed()
    tasks = [task for name in FIGURES for task in (figure(name), bilevel_run)]
    wrong = run(tasks, given.count, given.seed)
    typer.echo(f"{given.count - len(wrong)} of {given.count} results are the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
