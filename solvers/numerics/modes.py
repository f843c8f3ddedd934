"""Gradient modes: functions that differentiate work whatever mode their caller has set."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

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
    """Return `value` with copies of tensors made under `inference_mode`, which none can record."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if type(value) is dict:
        return {key: _ordinary(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_ordinary(part) for part in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    parts = {f.name: getattr(value, f.name) for f in fields(value)}
    changed = {name: new for name, part in parts.items() if (new := _ordinary(part)) is not part}
    if not changed:
        return value
    again = copy.copy(value)
    for name, part in changed.items():
        object.__setattr__(again, name, part)
    return again
