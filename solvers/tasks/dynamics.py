"""Transitions of MuJoCo's environments: predict the next observation from observation and action.

They are read from datasets in Minari's format, whose names are `mujoco/{environment}/{quality}-v0`:
Minari's own, or those that `python -m solvers.tasks.collect` makes here under the same names.
`load` has all steps at once, `stream` some at a time; `split` and `moments` work on either.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import MissingExtraError, check_count, check_precision
from .episode_splits import Split, split
from .minari_files import QUALITIES, MalformedDataError, NoDataError, find, pieces
from .moments import Moments, Scale, moments
from .simulators import SIMULATORS
from .transitions import Transitions, batches, join, of_piece

__all__ = [
    "ENVIRONMENTS",
    "QUALITIES",
    "MalformedDataError",
    "MissingExtraError",
    "Moments",
    "NoDataError",
    "Scale",
    "Split",
    "Transitions",
    "load",
    "moments",
    "split",
    "stream",
]

ENVIRONMENTS = tuple(SIMULATORS)


def load(
    environment: str,
    quality: str,
    *,
    root: Path | None = None,
    download: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Transitions:
    """Return all steps of a dataset.

    Args:
        environment: one of `ENVIRONMENTS`.
        quality: one of `QUALITIES`, of the controller that acted.
        root: folder of datasets; None: `$MINARI_DATASETS_PATH`, else Minari's own.
        download: let Minari fetch the dataset where it is not there.
        dtype: of observations and actions, float32 or float64.

    Raises:
        InputError: unknown environment, quality or dtype.
        NoDataError: no such dataset in the folder, or no download; names the command to run.
        MissingExtraError: Minari or h5py is not installed.
        MalformedDataError: as `minari_files.find` and `minari_files.pieces`.
    """
    check_precision("dtype", dtype)
    path = find(environment, quality, root, download=download)
    return join([of_piece(piece, dtype) for piece in pieces(path)])


def stream(
    environment: str,
    quality: str,
    *,
    batch: int,
    root: Path | None = None,
    download: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Iterator[Transitions]:
    """Return an iterator over the steps of a dataset in their order, `batch` at a time.

    The last batch may be smaller. No more than a batch is read ahead of what is asked for.

    Args:
        environment: as of `load`, and so the rest.
        quality: of the controller that acted.
        batch: steps at a time.
        root: folder of datasets.
        download: let Minari fetch the dataset where it is not there.
        dtype: of observations and actions.

    Raises:
        InputError: and the errors of `load`; those about the content when it is reached.
    """
    check_count("batch", batch)
    check_precision("dtype", dtype)
    path = find(environment, quality, root, download=download)
    return batches((of_piece(piece, dtype) for piece in pieces(path, batch)), batch)
