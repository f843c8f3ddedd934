"""What can be known of a value, as text: the same in every process, another for another value.

A checkpoint keeps such texts of what decides where a run goes, a user's own functions among them.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

PLAIN = (int, float, complex, str, bytes, PurePath, torch.dtype, torch.device, np.generic)
KNOWN = {__name__.partition(".")[0], "torch", "numpy", "scipy", *sys.stdlib_module_names}
BEFORE = ("__new__", "__init__", "__post_init__", "__setstate__")  # what they assign is no memory


def described(value: Any) -> str:
    """Return what tells a value from others, as text.

    Numbers, texts, dtypes, paths and None are told by their value, tensors and arrays by their
    numbers, generators by their state, containers and dataclasses by what they hold, a `partial` by
    its function and arguments. A function is told by its address, code and defaults, and by what it
    reads from outside: closures, and of its module numbers, texts, tuples, tensors, dataclasses,
    partials, and other functions, by their code in turn. An object of a class of the user's own is
    told by its methods and by what they read of it. What functions assign themselves, outside or to
    attributes, is their memory, and left out. Functions and classes of this package, of torch,
    NumPy, SciPy and Python go by their address.

    What nothing is known of goes by its class alone. Code is that of one minor version of Python.
    """
    return _Reader().text(value)


class _Reader:
    """Describes one value; enters no function twice, and no object inside itself."""

    def __init__(self) -> None:
        self.above: list[Any] = []
        self.functions: dict[int, FunctionType] = {}

    def text(self, value: Any) -> str:
        """Return the text of a value."""
        if value is None or value is Ellipsis or isinstance(value, PLAIN):
            return repr(value)
        if any(value is other for other in self.above):
            return f"{_address(type(value))} around this"
        self.above.append(value)
        try:
            return self._entered(value)
        finally:
            self.above.pop()

    def _entered(self, value: Any) -> str:
        if isinstance(value, Tensor):
            return _of_tensor(value)
        if isinstance(value, np.ndarray):
            digest = _digest(np.ascontiguousarray(value).tobytes())
            return f"{value.dtype} of shape {value.shape} ({digest})"
        if isinstance(value, torch.Generator):
            return f"Generator({_digest(value.get_state().numpy().tobytes())})"
        if isinstance(value, Mapping):
            pairs = cast(Mapping[Any, Any], value).items()
            return f"{{{', '.join(f'{self.text(k)}: {self.text(part)}' for k, part in pairs)}}}"
        if isinstance(value, (list, tuple)):
            parts = [*map(self.text, cast(list[Any], value))]
            return f"{type(value).__name__}({', '.join(parts)})"
        if isinstance(value, Set):  # their own order is another in every process
            parts = sorted(map(self.text, cast(Set[Any], value)))
            return f"{type(value).__name__}({', '.join(parts)})"
        if isinstance(value, functools.partial):
            return self._called("partial", [value.func, *value.args], value.keywords)
        if isinstance(value, MethodType):
            return f"{self.text(value.__func__)} of {self.text(value.__self__)}"
        if isinstance(value, FunctionType):
            return self._of_function(value)
        if isinstance(value, CodeType):
            constants = ", ".join(map(self.text, value.co_consts))
            return f"{value.co_code.hex()} of {value.co_names} and {constants}"
        if isinstance(value, type):
            return self._class(value, _members(value))
        if isinstance(value, (BuiltinFunctionType, ModuleType)):
            return _address(value)
        members = _members(type(value))
        held = dict(getattr(value, "__dict__", {}))
        if is_dataclass(value):
            held = {f.name: getattr(value, f.name) for f in fields(value) if hasattr(value, f.name)}
        memory = _memory(members)
        settings = {name: part for name, part in held.items() if name not in memory}
        return self._called(self._class(type(value), members), [], settings)

    def _called(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> str:
        given = [f"{key}={self.text(part)}" for key, part in named.items()]
        return f"{name}({', '.join([*map(self.text, positional), *given])})"

    def _class(self, kind: type, members: Mapping[str, Any]) -> str:
        code = f", code {_digest(self.text(members).encode())}" if members else ""
        return f"{_address(kind)}{code}"

    def _of_function(self, function: FunctionType) -> str:
        if _known(function) or id(function) in self.functions:
            return _address(function)
        self.functions[id(function)] = function
        code = function.__code__
        named: dict[str, Any] = dict(function.__kwdefaults__ or {})
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name not in _names(code, "STORE_DEREF"):
                try:
                    named[name] = cell.cell_contents
                except ValueError:  # not assigned yet
                    continue
        for name in sorted(_names(code, "LOAD_GLOBAL") - _names(code, "STORE_GLOBAL")):
            found = function.__globals__.get(name)
            if isinstance(found, FunctionType):
                if found.__module__ == function.__module__:
                    named[name] = found
            elif isinstance(found, (*PLAIN, tuple, Tensor, functools.partial)) or (
                is_dataclass(found) and not isinstance(found, type)
            ):
                named[name] = found
        text = f"{_address(function)}, code {_digest(self.text(code).encode())}"
        return self._called(text, list(function.__defaults__ or ()), named)


def _members(kind: type) -> dict[str, Any]:
    """Return the functions and plain attributes of a class and its parents of the user's own."""
    found: dict[str, Any] = {}
    for parent in reversed(kind.__mro__):
        if _known(parent):
            continue
        for name, member in vars(parent).items():
            inside = getattr(member, "fget", getattr(member, "__func__", member))
            special = name.startswith("__")
            if isinstance(inside, FunctionType) or (isinstance(inside, PLAIN) and not special):
                found[f"{parent.__qualname__}.{name}"] = inside
    return found


def _memory(members: Mapping[str, Any]) -> set[str]:
    """Return the attributes that methods assign once an object is made."""
    return {
        attribute
        for name, member in members.items()
        if isinstance(member, FunctionType) and name.rpartition(".")[2] not in BEFORE
        for attribute in _names(member.__code__, "STORE_ATTR")
    }


def _names(code: CodeType, operation: str) -> set[str]:
    """Return the names that code, or a function made in it, gives to an operation."""
    return {
        step.argval
        for part in _codes(code)
        for step in dis.get_instructions(part)
        if step.opname == operation
    }


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield code and that of the functions made in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _of_tensor(value: Tensor) -> str:
    plain = value.detach().cpu()
    plain = plain if plain.layout is torch.strided else plain.to_dense()
    if plain.ndim == 0:
        return f"{plain.dtype} {plain.item()!r}"
    entries = plain.resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)
    return f"{plain.dtype} of shape {tuple(plain.shape)} ({_digest(entries.numpy().tobytes())})"


def _known(thing: Callable[..., Any] | type) -> bool:
    """Whether an address says all there is to know."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] in KNOWN


def _address(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return thing.__name__
    return f"{getattr(thing, '__module__', None)}.{thing.__qualname__}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
