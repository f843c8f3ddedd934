"""Gradient modes: functions that differentiate work whatever mode their caller has set."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def recording(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with gradients recorded, also under `no_grad` and `inference_mode`.

    Tensors that the caller made under `inference_mode` and that an objective reads are refused by
    torch itself, by that name: they can never take part in a derivative.
    """

    @wraps(function)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return recorded
