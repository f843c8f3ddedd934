"""A machine with another device, as far as one without can tell: `meta`, which has no values."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

MAKERS = (torch.eye, torch.zeros, torch.ones, torch.empty, torch.full, torch.arange)


class Elsewhere(TorchFunctionMode):
    """Inside some modules, where a new tensor goes if nothing says where: to another device.

    There it mixes with nothing. And what NumPy shall have must have been brought back.
    """

    def __init__(self, *modules: str) -> None:
        super().__init__()
        self.modules, self.brought = modules, list[Any]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        caller = inspect.currentframe()
        assert caller is not None
        assert caller.f_back is not None
        inside = caller.f_back.f_globals["__name__"].startswith(self.modules)
        if func is torch.Tensor.numpy and inside:
            assert any(args[0] is one for one in self.brought), "not on the CPU: call .cpu()"
        made = func(*args, **(kwargs or {}))
        if func is torch.Tensor.cpu:
            self.brought.append(made)
        # a number that is a tensor of no dimensions goes with tensors of any device
        new = func in MAKERS or (func is torch.tensor and made.ndim)
        return made.to("meta") if new and inside and "device" not in (kwargs or {}) else made
