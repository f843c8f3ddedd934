"""Write a dataset in Minari's layout, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from ..errors import InputError
from .simulators import extra

if TYPE_CHECKING:
    from gymnasium import Space
    from gymnasium.envs.registration import EnvSpec


@dataclass(frozen=True)
class Episode:
    """One episode of `T` steps.

    Attributes:
        seed: the environment was reset with.
        observation: before each step, and after the last, `(T + 1, n)`.
        action: `(T, a)`.
        reward: `(T,)`.
        terminated: the environment ended the episode with this step, `(T,)`.
        truncated: a limit of time did, `(T,)`.
    """

    seed: int
    observation: Float[np.ndarray, "T1 n"]
    action: Float[np.ndarray, "T a"]
    reward: Float[np.ndarray, "T"]
    terminated: Bool[np.ndarray, "T"]
    truncated: Bool[np.ndarray, "T"]


def check_absent(goal: Path) -> None:
    """Raise `InputError` if there is a dataset already: it may be Minari's own."""
    if goal.exists():
        raise InputError(f"{goal} is there already: remove it, or pass another root")


def write(
    top: Path,
    name: str,
    episodes: Iterable[Episode],
    *,
    observations: Space[np.ndarray],
    actions: Space[np.ndarray],
    spec: EnvSpec | None,
    algorithm: str,
    description: str,
) -> Path:
    """Write a dataset and return its folder, `top/name`.

    It is written under a name that Minari does not list, then renamed.

    Args:
        top: folder of datasets; made where it is not there.
        name: in Minari's sense, e.g. "mujoco/hopper/medium-v0".
        episodes: taken one at a time.
        observations: their space.
        actions: their space.
        spec: of the environment, which Minari can make again from it.
        algorithm: that acted.
        description: for people.

    Raises:
        InputError: there is one already.
        MissingExtraError: Minari or h5py is not installed.
    """
    goal = top / name
    check_absent(goal)
    minari = extra("minari")
    storage, collector = extra("minari.dataset.minari_storage"), extra("minari.data_collector")
    extra("h5py")  # which Minari asks for when it is late
    goal.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=goal.parent) as temporary:
        made = Path(temporary) / "dataset"  # itself readable for its owner alone
        made.mkdir()
        written = storage.MinariStorage.new(made / "data", observations, actions, spec)
        written.update_metadata(
            {
                "dataset_id": name,
                "minari_version": minari.__version__,
                "algorithm_name": algorithm,
                "description": description,
            }
        )
        written.update_episodes(
            collector.EpisodeBuffer(
                seed=episode.seed,
                observations=episode.observation,
                actions=episode.action,
                rewards=episode.reward,
                terminations=episode.terminated,
                truncations=episode.truncated,
            )
            for episode in episodes
        )
        made.rename(goal)
    return goal
