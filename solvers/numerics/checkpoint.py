"""Checkpoints of the outer loops: written whole or not at all, and taken up by their own run only.

A file holds, beside the state, what the run was: its kind, the names, shapes, dtypes, device and
starting values of its variables, its optimiser with all options, its other settings (see
`described`), and values and gradients of both objectives at several points, at the start and where
the run has come to, by which another problem is told from the same one. Whatever differs is named
in the error, and the file is left as it is.

Of objectives two things are not seen: a difference below `SAME`, which a machine's rounding may
make, too; and one that shows at none of the points, nor in a derivative there, such as one on the
way only. What an optimiser keeps beside its `state_dict`, as a scheduler of its step does, is
neither seen nor restored; nor is the memory of a method of the user's own.

A file belongs to one running run. A run replaces only what it has written or taken up itself:
where two run on one path, one of them is refused at its first write after the other's, whether they
are threads, processes or machines. A symbolic link is followed: what it leads to is written.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .derivatives import slopes
from .described import described, known
from .norms import digits
from .trees import Leaves
from .values import number

NAME = "bimle checkpoint"
FORMAT = f"{NAME} 5"
# Share of a derivative, and of the largest of its tensor, up to which two are one in double
# precision. Bits would be too strict on one machine, even: products of matrices depend on where
# these begin in memory, which for arrays of NumPy is elsewhere in every process.
SAME, FLOOR = 1e-10, 1e-13
WIDE = 256  # entries of a gradient that are kept; of longer ones as many sums with random signs
SHOWN = 200  # characters of a setting in a message
MOVES = ((0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (1.0, 1.0))  # to the points, see `_moved`


At = Callable[[Sequence[Tensor], Sequence[Tensor]], Mapping[str, Tensor]]
"""From tensors of theta and phi to values of the objectives there, by name."""


def _nothing(theta: Sequence[Tensor], phi: Sequence[Tensor]) -> Mapping[str, Tensor]:
    return {}


class CheckpointError(InputError):
    """A checkpoint cannot be read or written, or belongs to another run."""


@dataclass
class Seen:
    """What a run last wrote or took up, as the file system tells files apart.

    Attributes:
        identity: of the file, None if it has done neither.
    """

    identity: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Run:
    """What makes a run itself.

    Attributes:
        kind: of the outer loop.
        variables: name, shape, dtype and starting value of every tensor.
        settings: all else that decides where the run goes, as text.
        values: of the objectives and of their gradients, at the start and beside it; NaN where
            they are undefined.
        at: the same, where tensors of theta and phi are given; none if there are no objectives.
        file: what this run knows of its file.
    """

    kind: str
    variables: Mapping[str, Tensor]
    settings: Mapping[str, str]
    values: Mapping[str, Tensor]
    at: At = field(default=_nothing, compare=False, repr=False)
    file: Seen = field(default_factory=Seen, compare=False, repr=False)

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
        values: dict[str, Tensor] = {}
        for k, move in enumerate(MOVES):
            where = f"point {k} beside it" if k else "the start"
            # each moved by itself: what depends on theta - phi alone would not see a common shift
            generator = torch.Generator().manual_seed(k)
            point = [_moved(leaves, *move, generator) for leaves in (theta, phi)]
            for name, objective in objectives.items():
                values |= _values(name, where, objective, *point)

        def at(inner: Sequence[Tensor], outer: Sequence[Tensor]) -> Mapping[str, Tensor]:
            point = theta.replaced(inner), phi.replaced(outer)
            found: dict[str, Tensor] = {}
            for name, objective in objectives.items():
                found |= _values(name, "the point it has come to", objective, *point)
            return found

        detached = {name: t.detach().clone() for name, t in variables.items()}
        device = {"the device": str(theta.tensors[0].device)}
        return cls(kind, detached, device | dict(settings), values, at)

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
                kept, here = _beside(kept, here)
                return f"{name} is {kept} there, {here} here"
        return self.other_problem(self.values, other.values)

    def other_problem(
        self, values: Mapping[str, Tensor], others: Mapping[str, Tensor]
    ) -> str | None:
        """Say which value that was written down differs from another by more than rounding."""
        dtype = next(iter(self.variables.values())).dtype
        for name in {**values, **others}:
            if name not in values or name not in others:
                return f"{name} is known of one run only: the problem is another"
            apart = _apart(values[name], others[name], dtype)
            if apart is not None:
                kept, here = apart
                return f"{name} is {kept:.17g} there, {here:.17g} here: the problem is another"
        return None


def optimiser_settings(
    optimiser: torch.optim.Optimizer, tensors: Sequence[Tensor]
) -> dict[str, str]:
    """Return the class of an optimiser and its options, group by group, as text.

    Each group is also told by which of the tensors it holds: its state is kept by their place.
    """
    places = {id(t): k for k, t in enumerate(tensors)}
    settings = {"the optimiser": described(type(optimiser))}
    common = vars(torch.optim.SGD([torch.zeros(())]))
    if not known(type(optimiser)):  # whose options may stand beside the groups
        own = {name: part for name, part in vars(optimiser).items() if name not in common}
        settings |= {f"the optimiser's {name}": described(part) for name, part in own.items()}
    for k, group in enumerate(optimiser.param_groups):
        where = f" of group {k}" if k else ""
        for name, value in group.items():
            if name == "params":
                held = [places.get(id(t)) for t in value]
                settings[f"the places of the optimiser's tensors{where}"] = repr(held)
            else:
                plain = value.tolist() if isinstance(value, Tensor) else value
                settings[f"the optimiser's {name}{where}"] = described(plain)
    return settings


def generator_settings(generator: torch.Generator | None) -> dict[str, str]:
    """Return where a generator starts, as text."""
    if generator is None:
        return {"the generator": "None"}
    state = hashlib.sha256(generator.get_state().numpy().tobytes()).hexdigest()
    return {"the generator": f"one in the state {state[:12]}"}


def check_path(path: Path | str) -> Path:
    """Return the path that a link leads to, or itself, if a checkpoint can be written there.

    Raises:
        CheckpointError: it is a folder or another thing that is no file, no file can have this
            name, or its folder cannot be written to.
    """
    try:
        found = Path(os.path.realpath(path))
        found.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot make the folder of checkpoint {str(path)!r}: {error}"
        ) from error
    try:
        mode = os.lstat(found).st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} can be no file: {error.strerror}; pass another path"
        ) from error
    else:
        if stat.S_ISDIR(mode):
            raise CheckpointError(f"checkpoint {path} is a folder: pass a file in it")
        if not stat.S_ISREG(mode):
            raise CheckpointError(f"checkpoint {path} is no file: pass the path of one")
    try:  # really writing is the only test that holds for every user and file system
        with tempfile.TemporaryFile(dir=found.parent):
            pass
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path}: its folder cannot be written to ({error.strerror}); pass another"
        ) from error
    return found


def write(path: Path, run: Run, state: Mapping[str, Any]) -> None:
    """Write a state of tensors, numbers, texts, lists and dicts, `theta` and `phi` among them.

    Raises:
        CheckpointError: the system refuses, or the file is not the one that this run last wrote or
            took up: another one is running on it.
    """
    kept = io.BytesIO()
    reached = run.at(state["theta"], state["phi"])
    torch.save({"run": _plain(run), "state": dict(state), "reached": reached}, kept)
    temporary = path.with_name(f".checkpoint.{uuid.uuid4().hex}.tmp")
    try:
        try:
            temporary.write_bytes(_headed(kept.getvalue()))
            written = _identity(temporary)
            if not path.exists():
                _place(temporary, path)
            elif _identity(path) == run.file.identity:
                os.replace(temporary, path)
            else:
                raise FileExistsError
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise CheckpointError(
            f"another run has written {path} since this one began, or last did: pass each its own "
            "checkpoint file; this one is left as it is"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint {path}: {error}") from error
    run.file.identity = written


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
        with path.open("rb") as file:
            run.file.identity = _identity(file.fileno())
            found = file.read()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    head, _, kept = found.partition(b"\n")
    name, _, digest = head.decode("ascii", "replace").rpartition(" ")
    if digest != _digest(kept) or not re.fullmatch(rf"{NAME} \d+", name):
        # before any of it is made an object
        raise CheckpointError(
            f"{path} is no checkpoint, or is cut off, damaged, or of an early version of the "
            f"package: {remedy}"
        )
    if name != FORMAT:
        raise CheckpointError(
            f"{path} is a {name}, this version of the package reads and writes {FORMAT}: go on "
            f"with the version that wrote it, or {remedy}"
        )
    # on the CPU, as its device may not be here; then, of a run on the same one, to where it was
    content = torch.load(io.BytesIO(kept), weights_only=True, map_location="cpu")
    before, reached = Run(**content["run"]), content["reached"]
    difference = before.difference(run)
    state: dict[str, Any] = {}
    if difference is None:
        state |= torch.load(io.BytesIO(kept), weights_only=True)["state"]
        here = run.at(state["theta"], state["phi"])
        difference = before.other_problem(reached, here)
    if difference is not None:
        raise CheckpointError(f"{path} belongs to another run: {difference}; {remedy}")
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
    return f"{FORMAT} {_digest(kept)}\n".encode() + kept


def _digest(kept: bytes) -> str:
    return hashlib.sha256(kept).hexdigest()


def _plain(run: Run) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "variables": dict(run.variables),
        "settings": dict(run.settings),
        "values": dict(run.values),
    }


def _beside(kept: str, here: str) -> tuple[str, str]:
    """Return two texts, of long ones what surrounds their first difference."""
    if max(len(kept), len(here)) <= SHOWN:
        return kept, here
    pairs = enumerate(zip(kept, here, strict=False))
    first = next((k for k, (one, other) in pairs if one != other), min(len(kept), len(here)))
    begin, end = max(first - SHOWN // 2, 0), first + SHOWN // 2

    def cut(text: str) -> str:
        return f"{'...' * (begin > 0)}{text[begin:end]}{'...' * (end < len(text))}"

    return cut(kept), cut(here)


def _identity(file: Path | int) -> tuple[int, ...]:
    """Return what tells a file from all that ever take its name."""
    status = os.stat(file)
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _place(temporary: Path, path: Path) -> None:
    """Give a file its name, which no file may have yet.

    Raises:
        FileExistsError: one has it.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.touch(exist_ok=False)
        os.replace(temporary, path)


def _moved(leaves: Leaves, absolute: float, relative: float, generator: torch.Generator) -> Leaves:
    """Return a point that no problem singles out, as 0 or an optimum would be.

    Args:
        leaves: the start.
        absolute: size of the move.
        relative: the same in units of each number, of 1 where it is 0; a small one keeps the signs
            of numbers that must be positive, however small they are.
        generator: of the move.
    """

    def shift(t: Tensor) -> Tensor:
        drawn = torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t)
        own = torch.where(t == 0, 1.0, t.abs()).detach()
        return (absolute + relative * own) * drawn

    return leaves.moved([shift(t) for t in leaves.tensors], 1.0)


def _values(
    name: str, where: str, objective: Callable[[Any, Any], Tensor], theta: Leaves, phi: Leaves
) -> dict[str, Tensor]:
    """Return value and gradients of an objective at a point; NaN where it is undefined."""
    names, leaves = theta.names + phi.names, theta.tensors + phi.tensors
    try:
        value = number(name, objective(theta.tree(), phi.tree()))
        found_slopes = slopes(value, leaves) if value.requires_grad else [0 * t for t in leaves]
    except (ValueError, ArithmeticError, RuntimeError, AssertionError):  # outside its domain
        value = torch.tensor(torch.nan)
        found_slopes = [torch.full_like(leaf, torch.nan) for leaf in leaves]
    found = {f"{name} at {where}": value.detach().double().cpu().reshape(1)}
    for leaf, slope in zip(names, found_slopes, strict=True):
        found[f"the gradient of {name} in {leaf} at {where}"] = _folded(slope)
    return found


def _folded(slope: Tensor) -> Tensor:
    """Return the entries of a gradient, or of a long one sums with random signs."""
    entries = slope.detach().double().cpu().reshape(-1)
    if len(entries) <= WIDE:
        return entries.clone()
    drawn = torch.randint(2, entries.shape, generator=torch.Generator().manual_seed(0))
    sums = torch.zeros(WIDE, dtype=entries.dtype)
    return sums.index_add_(0, torch.arange(len(entries)) % WIDE, entries * (2 * drawn - 1))


def _apart(kept: Tensor, here: Tensor, dtype: torch.dtype) -> tuple[float, float] | None:
    """Return the first two entries that differ by more than rounding, None if there are none."""
    largest = torch.maximum(kept.abs(), here.abs())
    if not len(largest):
        return None
    # what is not finite says nothing of the size of the rest
    allowed = digits(SAME, dtype) * largest + digits(FLOOR, dtype) * largest.nan_to_num(0, 0).amax()
    same = (kept == here) | (kept.isnan() & here.isnan()) | ((kept - here).abs() <= allowed)
    if bool(same.all()):
        return None
    place = int((~same).nonzero()[0])
    return kept[place].item(), here[place].item()
