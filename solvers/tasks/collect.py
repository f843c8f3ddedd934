"""Collect a dataset with MuJoCo's simulators: `python -m solvers.tasks.collect hopper medium`.

It has the name and the layout of Minari's dataset of the same environment and quality; other
controllers acted. Noise is added to their actions, which else were a function of the observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from ..errors import SolverError, check_count, check_seed
from . import controllers
from .controllers import Controller
from .minari_files import QUALITIES, folder, identity
from .minari_writer import Episode, check_absent, write
from .simulators import SIMULATORS, simulator

if TYPE_CHECKING:
    import gymnasium

NOISE = 0.1  # standard deviation of what is added to each action before it is clipped to [-1, 1]


def collect(
    environment: str,
    quality: str,
    *,
    transitions: int = 100_000,
    seed: int = 0,
    root: Path | None = None,
) -> Path:
    """Collect a dataset in Minari's format; return its folder, `root/mujoco/.../{quality}-v0`.

    It appears whole or not at all: it is written under another name, and renamed.

    Args:
        environment: "halfcheetah", "hopper" or "walker2d".
        quality: of the controller: "simple", "medium" or "expert".
        transitions: number of steps, exactly; the last episode is cut there.
        seed: of starts and noise; the same seed gives the same bits on one machine.
        root: folder of datasets; None: `$MINARI_DATASETS_PATH`, else Minari's own.

    Raises:
        InputError: unknown environment or quality, counts out of range, or the dataset is there.
        MissingExtraError: gymnasium, MuJoCo, Minari or h5py is not installed.
    """
    name, top = identity(environment, quality), folder(root)
    check_count("transitions", transitions)
    check_seed(seed)
    check_absent(top / name)
    controller = controllers.read(environment, quality)
    streams = np.random.SeedSequence([seed, *name.encode()])
    with simulator(environment) as env:
        return write(
            top,
            name,
            episodes(env, controller, transitions, streams),
            observations=env.observation_space,
            actions=env.action_space,
            spec=env.spec,
            algorithm="linear controller found by random search",
            description=f"{transitions} steps of bimle's linear controller {quality!r}, noise "
            f"{NOISE} on the actions, seed {seed}",
        )


def episodes(
    env: gymnasium.Env, controller: Controller, transitions: int, streams: np.random.SeedSequence
) -> Iterator[Episode]:
    """Return an iterator over episodes of `transitions` steps together."""
    left = transitions
    while left:
        (stream,) = streams.spawn(1)
        episode = run(env, controller, np.random.default_rng(stream), left)
        left -= len(episode.action)
        yield episode


def run(
    env: gymnasium.Env, controller: Controller, rng: np.random.Generator, limit: int
) -> Episode:
    """Run one episode, of `limit` steps at most."""
    seed = int(rng.integers(2**31))
    observation, _ = env.reset(seed=seed)
    observations, actions = [observation], []
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated):
        noise = NOISE * rng.standard_normal(len(controller.k))
        action = np.clip(controller(observation) + noise, -1, 1).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
        truncated = truncated or (len(actions) == limit and not terminated)
    last = np.arange(1, len(actions) + 1) == len(actions)
    return Episode(
        seed,
        np.array(observations),
        np.array(actions),
        np.array(rewards),
        last & bool(terminated),
        last & bool(truncated),
    )


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    environment: Annotated[str, typer.Argument(help=f"One of {', '.join(SIMULATORS)}.")],
    quality: Annotated[str, typer.Argument(help=f"One of {', '.join(QUALITIES)}.")],
    transitions: Annotated[int, typer.Option(min=1, help="Number of steps.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Of starts and noise.")] = 0,
    root: Annotated[
        Path | None, typer.Option(help="Folder of datasets; none: $MINARI_DATASETS_PATH.")
    ] = None,
) -> None:
    """Collect a dataset in Minari's format, under the name of Minari's own."""
    try:
        found = collect(environment, quality, transitions=transitions, seed=seed, root=root)
    except SolverError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{transitions} steps in {found}")


if __name__ == "__main__":
    app(prog_name="python -m solvers.tasks.collect")
