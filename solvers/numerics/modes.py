"""Gradient modes: functions that differentiate work whatever mode their caller has set."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import MethodType
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def recording(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return `function` run with gradients recorded, also under `no_grad` and `inference_mode`."""

    @functools.wraps(function)
    def recorded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.inference_mode(False), torch.enable_grad():
            args, kwargs = _ordinary(args), _ordinary(kwargs)
            return function(*args, **kwargs)

    return recorded


def _ordinary(value: Any) -> Any:
    """Return `value` with copies of tensors made under `inference_mode`, which none can record.

    Copied are those in containers, dataclasses, their methods and modules; not those in the closure
    of a function.
    """
    if type(value) in pytree.SUPPORTED_NODES:  # dict, list, tuple and the like
        return pytree.tree_map(_ordinary, value)
    if isinstance(value, Tensor):
        return _copied(value) if value.is_inference() else value
    if isinstance(value, torch.nn.Module):
        held = itertools.chain(value.parameters(), value.buffers())
        return copy.deepcopy(value) if any(t.is_inference() for t in held) else value
    if isinstance(value, MethodType):
        owner = _ordinary(value.__self__)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if isinstance(value, Mapping):
        parts = dict(cast(Mapping[Any, Any], value))
        changed = _changes(parts)
        return parts | changed if changed else value
    if not is_dataclass(value) or isinstance(value, type):
        return value
    # what a cached property keeps stands beside the fields
    names = {f.name for f in fields(value)} | getattr(value, "__dict__", {}).keys()
    changed = _changes({name: getattr(value, name) for name in names if hasattr(value, name)})
    if not changed:
        return value
    again = copy.copy(value)
    for name, part in changed.items():
        object.__setattr__(again, name, part)
    return again


def _changes(parts: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return what `_ordinary` makes of the parts that it changes."""
    made = {name: _ordinary(part) for name, part in parts.items()}
    return {name: part for name, part in made.items() if part is not parts[name]}


def _copied(tensor: Tensor) -> Tensor:
    """Return the same leaf, a `Parameter` or not, with or without gradients."""
    plain = tensor.detach().clone()
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(plain, requires_grad=tensor.requires_grad)
    return plain.requires_grad_(tensor.requires_grad)
