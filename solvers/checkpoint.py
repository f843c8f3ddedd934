"""Checkpoints of the outer loops: written whole or not at all, checked when read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solvers.errors import InputError


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of tensors, numbers, texts, lists and dicts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(dict(state), temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path, like: Mapping[str, Sequence[Tensor]]) -> dict[str, Any]:
    """Read a state, after checking that it belongs to variables of these shapes.

    Raises:
        InputError: the shapes differ.
    """
    state = torch.load(path, weights_only=True)
    for name, tensors in like.items():
        kept, wanted = ([tuple(t.shape) for t in group] for group in (state[name], tensors))
        if kept != wanted:
            raise InputError(
                f"{path} holds {name} of shapes {kept}, this problem has {wanted}: "
                f"pass another checkpoint file"
            )
    return state


@torch.no_grad()
def set_values(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into tensors, in place."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
