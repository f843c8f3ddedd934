"""Gradient modes: functions that differentiate work whatever mode their caller has set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def recording(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return `function` run with gradients recorded, also under `no_grad` and `inference_mode`."""

    @functools.wraps(function)
    def recorded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return recorded
