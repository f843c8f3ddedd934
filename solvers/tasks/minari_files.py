"""Datasets in Minari's layout on disk: where they are, and their episodes, read piece by piece.

Minari keeps a dataset in `<root>/<id>/data`: `metadata.json`, and `main_data.hdf5` with a group
`episode_<i>` per episode that holds T + 1 observations, T actions and T flags of each kind. Its own
reader takes whole episodes with all that was logged beside them; here only what is asked for is
read.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from ..errors import InputError, MissingExtraError, check_choice
from .simulators import SIMULATORS, extra

if TYPE_CHECKING:
    import h5py

QUALITIES = ("simple", "medium", "expert")
FILE = "main_data.hdf5"


class NoDataError(InputError):
    """A dataset is not there, or could not be downloaded."""


class MalformedDataError(InputError):
    """A dataset is not what its format promises."""


@dataclass(frozen=True)
class Piece:
    """Consecutive steps of one episode, as stored.

    Attributes:
        episode: its number, from 0.
        first: the number of its first step within the episode, from 0.
        observation: before each step, and after the last, `(T + 1, n)`.
        action: `(T, a)`.
        terminated: the environment ended the episode, `(T,)`.
        truncated: a limit of time did, `(T,)`.
    """

    episode: int
    first: int
    observation: Float[np.ndarray, "T1 n"]
    action: Float[np.ndarray, "T a"]
    terminated: Bool[np.ndarray, "T"]
    truncated: Bool[np.ndarray, "T"]


def identity(environment: str, quality: str) -> str:
    """Return Minari's name of a dataset.

    Raises:
        InputError: unknown environment or quality.
    """
    check_choice("environment", environment, SIMULATORS)
    check_choice("quality", quality, QUALITIES)
    return f"mujoco/{environment}/{quality}-v0"


def folder(root: Path | None) -> Path:
    """Return `root`; without one `$MINARI_DATASETS_PATH`, else Minari's own folder at home."""
    if root is not None:
        return root
    given = os.environ.get("MINARI_DATASETS_PATH")
    return Path(given) if given else Path.home() / ".minari" / "datasets"


def find(environment: str, quality: str, root: Path | None, *, download: bool) -> Path:
    """Return the HDF5 file of a dataset; download the dataset first if it is not there.

    Raises:
        InputError: unknown environment or quality.
        NoDataError: it is not there, or cannot be downloaded.
        MissingExtraError: Minari, h5py or what Minari downloads with is not installed.
        MalformedDataError: not in HDF5, incomplete, or of a version that Minari does not read.
    """
    name, top = identity(environment, quality), folder(root)
    minari = extra("minari")
    extra("h5py")
    data = top / name / "data"
    command = f"python -m solvers.tasks.collect {environment} {quality}"
    if root is not None:
        command += f" --root {shlex.quote(str(root))}"
    if not data.exists():
        if not download:
            raise NoDataError(
                f"there is no dataset {name} in {top}: run `{command}` to collect one here, which "
                f"needs no network, or pass download=True"
            )
        _download(name, top, command)
    try:
        dataset = minari.MinariDataset(data)
    except (ValueError, KeyError, AssertionError) as error:
        raise MalformedDataError(
            f"Minari cannot read {data}: {error}; remove {data.parent} and run `{command}`"
        ) from error
    if dataset.storage.FORMAT != "hdf5":
        raise MalformedDataError(
            f"{data} is stored as {dataset.storage.FORMAT}: only 'hdf5' is read; run `{command}` "
            f"with another root"
        )
    return data / FILE


def _download(name: str, top: Path, command: str) -> None:
    """Let Minari download a dataset into `top`."""
    with _datasets_path(top):
        try:
            extra("minari").load_dataset(name, download=True)
        except ImportError as error:
            raise MissingExtraError(
                f"Minari cannot download {name}: {error}; without a network, run `{command}`"
            ) from error
        except _download_errors() as error:
            raise NoDataError(
                f"{name} could not be downloaded: {error}; run `{command}` to collect one here"
            ) from error


def _download_errors() -> tuple[type[Exception], ...]:
    """Return what is raised without a network, or where a dataset is not to be had.

    What Minari downloads with speaks through httpx, in some versions under another name, whose
    errors are no `OSError`.
    """
    spoken = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return (OSError, ValueError, *(module.HTTPError for module in spoken if module is not None))


@contextmanager
def _datasets_path(top: Path) -> Generator[None]:
    """Set Minari's root for a while: it is told by the environment alone."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(top)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def pieces(path: Path, rows: int | None = None) -> Iterator[Piece]:
    """Return an iterator over the steps of a file, episode by episode, checked.

    Args:
        path: of the HDF5 file.
        rows: steps of a piece at most; None: an episode is one piece.

    Raises:
        MalformedDataError: no episodes, an array that is missing or not of its shape, other than
            T + 1 observations for T actions, entries that are not finite, episodes of different
            widths, or steps after the end of an episode.
    """
    h5py = extra("h5py")
    try:
        opened = h5py.File(path, "r")
    except OSError as error:
        raise MalformedDataError(f"{path} is no HDF5 file that can be read: {error}") from error
    with opened as file:
        count = len(file.keys())
        if count == 0:
            raise MalformedDataError(f"{path} holds no episode: collect or download it again")
        widths: tuple[int, int] | None = None
        for number in range(count):
            group = file.get(f"episode_{number}")
            if group is None:
                raise MalformedDataError(
                    f"{path} holds {count} episodes, but no episode_{number}: they must be "
                    f"numbered from 0"
                )
            where = f"{path}: episode_{number}"
            found = _widths(where, group)
            if widths is not None and found != widths:
                raise MalformedDataError(
                    f"{where} has {found[0]} observed and {found[1]} action columns, those before "
                    f"it {widths[0]} and {widths[1]}: one dataset holds one environment"
                )
            widths = found
            yield from _episode(where, group, number, rows)


def _widths(where: str, group: h5py.Group) -> tuple[int, int]:
    """Check the shapes of an episode; return the columns of observations and of actions."""
    dimensions = {"observations": 2, "actions": 2, "terminations": 1, "truncations": 1}
    for name, ndim in dimensions.items():
        if name not in group:
            raise MalformedDataError(f"{where} has no {name}: collect or download it again")
        if getattr(group[name], "ndim", None) != ndim:
            raise MalformedDataError(
                f"{where}/{name} is no array of {ndim} dimensions: only environments with plain "
                f"vectors are read"
            )
    T = group["actions"].shape[0]
    if T == 0:
        raise MalformedDataError(f"{where} has no step: drop it")
    for name, expected in (("observations", T + 1), ("terminations", T), ("truncations", T)):
        if group[name].shape[0] != expected:
            raise MalformedDataError(
                f"{where} has {group[name].shape[0]} {name} for {T} actions: it must have "
                f"{expected}"
            )
    return group["observations"].shape[1], group["actions"].shape[1]


def _episode(where: str, group: h5py.Group, number: int, rows: int | None) -> Iterator[Piece]:
    T = group["actions"].shape[0]
    for first in range(0, T, rows or T):
        last = min(first + (rows or T), T)
        piece = Piece(
            number,
            first,
            np.asarray(group["observations"][first : last + 1]),
            np.asarray(group["actions"][first:last]),
            np.asarray(group["terminations"][first:last], dtype=np.bool_),
            np.asarray(group["truncations"][first:last], dtype=np.bool_),
        )
        for name, values in (("observations", piece.observation), ("actions", piece.action)):
            bad = ~np.isfinite(values)
            if bad.any():
                row, column = np.argwhere(bad)[0]
                raise MalformedDataError(
                    f"{where}/{name}[{first + row}, {column}] is {values[row, column]}: drop the "
                    f"episode"
                )
        ended = np.flatnonzero((piece.terminated | piece.truncated)[: T - 1 - first])
        if len(ended):
            raise MalformedDataError(
                f"{where} ends at step {first + ended[0]} of {T}: what follows belongs to another "
                f"episode"
            )
        yield piece
