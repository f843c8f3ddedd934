"""Checkpoints of the outer loops: written whole or not at all, and taken up by their own run only.

A file holds, beside the state, what the run was: its kind, the names, shapes, dtypes and starting
values of its variables, its optimiser with all options, its other settings, and the values of both
objectives at two points, by which another problem is told from the same one. Whatever differs is
named in the error, and the file is left as it is.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .trees import Leaves

FORMAT = "bimle checkpoint 3"
SAME = 1e-6  # relative difference up to which two values of an objective are one, across machines


class CheckpointError(InputError):
    """A checkpoint cannot be read or written, or belongs to another run."""


@dataclass(frozen=True)
class Run:
    """What makes a run itself.

    Attributes:
        kind: of the outer loop.
        variables: name, shape, dtype and starting value of every tensor.
        settings: all else that decides where the run goes, as text.
        values: of the objectives at the start and beside it; NaN where they are undefined.
    """

    kind: str
    variables: Mapping[str, Tensor]
    settings: Mapping[str, str]
    values: Mapping[str, float]

    @classmethod
    def of(
        cls,
        kind: str,
        objectives: Mapping[str, Callable[[Any, Any], Tensor]],
        theta: Leaves,
        phi: Leaves,
        settings: Mapping[str, str],
    ) -> Run:
        """Describe a run by its objectives, its start and its settings."""
        variables = dict(zip(theta.names + phi.names, theta.tensors + phi.tensors, strict=True))
        for group, leaves in (("theta", theta), ("phi", phi)):
            for place, leaf in leaves.frozen:
                variables[f"{group}, frozen leaf {place}"] = leaf
        values: dict[str, float] = {}
        points = {"the start": (theta, phi), "a point beside it": _beside(theta, phi)}
        for where, point in points.items():
            for name, objective in objectives.items():
                values[f"{name} at {where}"] = _value(objective, *point)
        detached = {name: t.detach().clone() for name, t in variables.items()}
        return cls(kind, detached, dict(settings), values)

    def difference(self, other: Run) -> str | None:
        """Say in what a run that was written down, `self`, differs from another, if it does."""
        if self.kind != other.kind:
            return f"it is one of {self.kind}, this is {other.kind}"
        names = list(self.variables), list(other.variables)
        if names[0] != names[1]:  # in this order: an optimiser knows its tensors by their place
            return f"its variables are {names[0]}, those of this run {names[1]}"
        for name, kept in self.variables.items():
            here = other.variables[name]
            if kept.shape != here.shape or kept.dtype != here.dtype:
                return (
                    f"{name} is {kept.dtype} of shape {tuple(kept.shape)} there, "
                    f"{here.dtype} of shape {tuple(here.shape)} here"
                )
            if not torch.equal(kept, here.to(kept.device)):
                return f"{name} starts from other values there"
        for name in {**self.settings, **other.settings}:
            kept, here = self.settings.get(name, "absent"), other.settings.get(name, "absent")
            if kept != here:
                return f"{name} is {kept} there, {here} here"
        for name in {**self.values, **other.values}:
            kept, here = self.values.get(name, math.nan), other.values.get(name, math.nan)
            if not _same(kept, here):
                return f"{name} is {kept:.9g} there, {here:.9g} here: the problem is another"
        return None


def optimiser_settings(
    optimiser: torch.optim.Optimizer, tensors: Sequence[Tensor]
) -> dict[str, str]:
    """Return the class of an optimiser and its options, group by group, as text.

    Each group is also told by which of the tensors it holds: its state is kept by their place.
    """
    places = {id(t): k for k, t in enumerate(tensors)}
    kind = type(optimiser)
    settings = {"the optimiser": f"{kind.__module__}.{kind.__qualname__}"}
    for k, group in enumerate(optimiser.param_groups):
        where = f" of group {k}" if k else ""
        for name, value in group.items():
            if name == "params":
                held = [places.get(id(t)) for t in value]
                settings[f"the places of the optimiser's tensors{where}"] = repr(held)
            else:
                plain = value.tolist() if isinstance(value, Tensor) else value
                settings[f"the optimiser's {name}{where}"] = repr(plain)
    return settings


def generator_settings(generator: torch.Generator | None) -> dict[str, str]:
    """Return where a generator starts, as text."""
    if generator is None:
        return {"the generator": "None"}
    state = hashlib.sha256(generator.get_state().numpy().tobytes()).hexdigest()
    return {"the generator": f"one in the state {state[:12]}"}


def check_path(path: Path | str) -> Path:
    """Return the path, if a checkpoint can be written there.

    Raises:
        CheckpointError: it is a folder, or its folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder: pass a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot make the folder of checkpoint {path}: {error}") from error
    if not os.access(path.parent, os.W_OK):
        raise CheckpointError(f"checkpoint {path}: its folder cannot be written to")
    return path


def write(path: Path, run: Run, state: Mapping[str, Any]) -> None:
    """Write a state of tensors, numbers, texts, lists and dicts."""
    kept = io.BytesIO()
    torch.save({"run": _plain(run), "state": dict(state)}, kept)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(_headed(kept.getvalue()))
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path, run: Run, steps: int) -> dict[str, Any] | None:
    """Return the state in a file, None where there is no file.

    Args:
        path: of the file.
        run: the one that wants to go on.
        steps: how far it is to go; a state beyond is of no use to it.

    Raises:
        CheckpointError: the file is cut off, is no checkpoint, belongs to another run, or is at a
            later step.
    """
    if not path.exists():
        return None
    remedy = "pass another checkpoint file, or remove this one"
    try:
        found = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    _, _, kept = found.partition(b"\n")
    if found != _headed(kept):  # before any of it is made an object
        raise CheckpointError(
            f"{path} is no checkpoint, or is cut off, damaged, or of another version of the "
            f"package: {remedy}"
        )
    content = torch.load(io.BytesIO(kept), weights_only=True)
    difference = Run(**content["run"]).difference(run)
    if difference is not None:
        raise CheckpointError(f"{path} belongs to another run: {difference}; {remedy}")
    state: dict[str, Any] = content["state"]
    if state["step"] > steps:
        raise CheckpointError(
            f"{path} is at step {state['step']}: pass steps >= {state['step']}, or {remedy}"
        )
    return state


@torch.no_grad()
def set_values(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into tensors, in place."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _headed(kept: bytes) -> bytes:
    """Return what a file holds: a line with the format and the digest of the rest, and the rest."""
    return f"{FORMAT} {hashlib.sha256(kept).hexdigest()}\n".encode() + kept


def _plain(run: Run) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "variables": dict(run.variables),
        "settings": dict(run.settings),
        "values": dict(run.values),
    }


def _beside(theta: Leaves, phi: Leaves) -> tuple[Leaves, Leaves]:
    """Return a point near the start that no problem singles out, as 0 or an optimum would be."""

    def moved(leaves: Leaves) -> Leaves:
        shifts = [
            0.1 * torch.arange(1, t.numel() + 1, dtype=t.dtype, device=t.device).cos().view(t.shape)
            for t in leaves.tensors
        ]
        return leaves.moved(shifts, 1.0)

    return moved(theta), moved(phi)


def _value(objective: Callable[[Any, Any], Tensor], theta: Leaves, phi: Leaves) -> float:
    try:  # with gradients recorded: an objective may take derivatives itself
        return float(objective(theta.tree(), phi.tree()).detach())
    except (ValueError, ArithmeticError, RuntimeError):  # outside its domain, beside the start
        return math.nan


def _same(kept: float, here: float) -> bool:
    if math.isnan(kept) or math.isnan(here):
        return math.isnan(kept) and math.isnan(here)
    return kept == here or abs(kept - here) <= SAME * max(abs(kept), abs(here))
