"""What can be known of a value, as text: the same in every process, another for another value.

A checkpoint keeps such texts of what decides where a run goes, a user's own functions among them.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import inspect
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

PLAIN = (int, float, complex, str, bytes, PurePath, torch.dtype, torch.device, np.generic)
KNOWN = {__name__.partition(".")[0], "torch", "numpy", "scipy", *sys.stdlib_module_names}
INSTALLED = {"site-packages", "dist-packages"}  # folders of code that is told by its address
COLLECTING = {"append", "appendleft", "extend", "add", "update", "insert", "write"}
LONG = 1000  # characters of a container, or of a text, beyond which it is told by a digest
PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"


def described(value: Any) -> str:
    """Return what tells a value from others, as text.

    - Numbers, texts, dtypes, devices, paths and None are told by their value; tensors and arrays by
      their numbers, dtype and device; generators by their state; containers by what they hold,
      dicts and sets in any order, as `==` has it.
    - A function is told by its address, its code, and what this reads from outside: defaults,
      closures, attributes of its own, and the globals of its module, whatever they are; of a module
      of the user's own the names that are read of it. Functions among these are entered in turn.
    - A class of the user's own is told by its methods and attributes, and those of its parents.
    - Any other object is told by its class and its attributes, in `__dict__` and in `__slots__`;
      one of a library, which may keep what it is in C, by what pickle keeps of it.

    What code changes itself, by assigning it or by calling a method of it that collects
    (`seen.append(...)`), is its memory, and left out: names outside that a function changes, and
    attributes that methods change which a call of the object reaches. So is what a cached property
    keeps. Functions and classes of this package and of installed ones go by their address.

    Not seen are files, the environment, what a function imports itself or finds by a name made up
    at run time (`getattr(module, name)`, `globals()`, `eval`), versions of libraries, and what
    objects keep in C and pickle refuses. A memory is not restored either: a run of a method whose
    own memory decides where it goes cannot be taken up. Code is that of one minor version of
    Python.
    """
    return _Reader([], {}).text(value)


class _Reader:
    """Describes one value; enters no function or class twice, and no object inside itself."""

    def __init__(self, above: list[Any], entered: dict[int, Any]) -> None:
        self.above = above
        self.entered = entered  # functions and classes, by their id

    def text(self, value: Any) -> str:
        """Return the text of a value."""
        if value is None or value is Ellipsis or (isinstance(value, PLAIN) and known(type(value))):
            return _short(repr(value))
        if any(value is other for other in self.above):
            return f"{_address(type(value))} around this"
        self.above.append(value)
        try:
            return self._inside(value)
        finally:
            self.above.pop()

    def _inside(self, value: Any) -> str:
        if isinstance(value, Tensor):
            return _of_tensor(value)
        if type(value) is np.ndarray and not value.dtype.hasobject:
            digest = _digest(np.ascontiguousarray(value).tobytes())
            return f"{value.dtype} of shape {value.shape} ({digest})"
        if isinstance(value, torch.Generator):
            digest = _digest(value.get_state().numpy().tobytes())
            return f"Generator({value.device}, {digest})"
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            owner = self._object(value.__self__, value.__func__.__name__)
            return f"{self.text(value.__func__)} of {owner}"
        if isinstance(value, functools.partial):
            parts = [*map(self.text, (value.func, *value.args)), *self._named(value.keywords)]
            return f"partial({', '.join(parts)})"
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, ModuleType):
            return _address(value)
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            bound = owner is not None and not isinstance(owner, (ModuleType, type))
            return f"{_address(value)} of {self.text(owner)}" if bound else _address(value)
        return self._object(value)

    def _object(self, value: Any, *called: str) -> str:
        """Return the text of an object of which methods are called, by name."""
        if isinstance(value, type):  # of a class method
            return self._class(value)
        kind = type(value)
        memory = _memory(_members(kind), called)
        held = {k: part for k, part in _attributes(value).items() if k not in memory}
        content = self._content(value)
        if content is None:
            content, reduced = [], _reduced(value)
            if reduced is not None:
                content = [self.text(part) for part in reduced]
                held = {} if known(kind) else held  # which is part of it
        return f"{self._class(kind, memory)}({', '.join([*content, *self._named(held)])})"

    def _content(self, value: Any) -> list[str] | None:
        """Return what a number, a text or a container holds, None for what is neither."""
        if isinstance(value, OrderedDict):
            pairs = cast(Mapping[Any, Any], value).items()
            parts = [f"{self.text(key)}: {self.text(part)}" for key, part in pairs]
        elif isinstance(value, Mapping):
            keys = {k: self._apart(k) for k in cast(Mapping[Any, Any], value)}
            parts = [
                f"{keys[k]}: {self.text(value[k])}" for k in sorted(keys, key=keys.__getitem__)
            ]
        elif isinstance(value, Set):
            parts = sorted(map(self._apart, cast(Set[Any], value)))
        elif isinstance(value, (list, tuple)):
            parts = list(map(self.text, cast(list[Any], value)))
        else:
            bases: Any = [base for base in PLAIN if isinstance(value, base)]
            return [base.__repr__(value) for base in bases] or None
        return [_short(", ".join(parts))]

    def _apart(self, value: Any) -> str:
        """Return the text of one of several things that have no order."""
        return _Reader(self.above, dict(self.entered)).text(value)

    def _named(self, parts: Mapping[str, Any]) -> list[str]:
        return [f"{name}={self.text(parts[name])}" for name in sorted(parts)]

    def _class(self, kind: type, memory: Set[str] = frozenset()) -> str:
        if known(kind) or id(kind) in self.entered:
            return _address(kind)
        self.entered[id(kind)] = kind
        members = {
            name: part
            for name, part in _members(kind).items()
            if name.rpartition(".")[2] not in memory
        }
        return f"{_address(kind)}{{{', '.join(self._named(members))}}}"

    def _function(self, function: FunctionType) -> str:
        if id(function) in self.entered or (known(function) and _found(function)):
            return _address(function)
        self.entered[id(function)] = function
        code, outside = function.__code__, dict(function.__dict__)
        given = code.co_varnames[: code.co_argcount]
        defaults = function.__defaults__ or ()
        arguments = dict(zip(given[len(given) - len(defaults) :], defaults, strict=True))
        arguments |= function.__kwdefaults__ or {}
        closure: dict[str, Any] = {}
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                closure[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        found = [(outside, "ATTR"), (arguments, "FAST"), (closure, "DEREF")]
        text = []
        if not _installed(function.__globals__.get("__name__")):  # where the code is from
            found.append((_globals(function), "GLOBAL"))
            text.append(self._code(code))
        for parts, kind in found:
            changed = _changed(code, kind)
            text += self._named({name: parts[name] for name in parts if name not in changed})
        return f"{_address(function)}({', '.join(text)})"

    def _code(self, code: CodeType) -> str:
        constants = [self.text(part) for part in code.co_consts]
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        shape = code.co_flags, code.co_posonlyargcount, code.co_argcount, names
        inside = (code.co_names, code.co_freevars, code.co_cellvars, shape, code.co_exceptiontable)
        digest = _digest(f"{code.co_code.hex()} {inside} {constants}".encode())
        return f"code {digest} of {PYTHON}"


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an object keeps in `__dict__` and `__slots__`, without cached properties."""
    state: Any = object.__getstate__(value)
    found: dict[str, Any] = {}
    for part in state if isinstance(state, tuple) else (state,):
        found |= part or {}
    return {name: part for name, part in found.items() if not _cached(type(value), name)}


def _cached(kind: type, name: str) -> bool:
    """Whether an attribute keeps what a property of the class has computed."""
    member = inspect.getattr_static(kind, name, None)
    has = [hasattr(member, special) for special in ("__get__", "__set__")]
    return has == [True, False] and not isinstance(member, FunctionType)


def _reduced(value: Any) -> list[Any] | None:
    """Return what pickle keeps of an object of a library; None where this is its attributes."""
    kind = type(value)
    reduce = copyreg.dispatch_table.get(kind)
    own = [getattr(kind, name) for name in ("__reduce_ex__", "__reduce__", "__getstate__")]
    users = any(isinstance(method, FunctionType) and not known(method) for method in own)
    default = own == [object.__reduce_ex__, object.__reduce__, object.__getstate__]
    if reduce is None and (users or default):
        return None
    try:
        found: Any = value.__reduce_ex__(2) if reduce is None else reduce(value)
    except (TypeError, ValueError, AttributeError, RuntimeError, pickle.PicklingError):
        return None
    if isinstance(found, str):
        return [found]
    return [[*part] if isinstance(part, Iterator) else part for part in found]


def _members(kind: type) -> dict[str, Any]:
    """Return methods and attributes of a class and its parents of the user's own."""
    found: dict[str, Any] = {}
    for parent in kind.__mro__:
        for name, member in {} if known(parent) else vars(parent).items():
            inside = getattr(member, "__func__", member)  # of a class method, or a static one
            special = name.startswith("__") and name.endswith("__") and not callable(inside)
            if isinstance(inside, property):
                inside = [inside.fget, inside.fset]
            if not special and not isinstance(inside, MemberDescriptorType):
                found[f"{parent.__qualname__}.{name}"] = inside
    return found


def _memory(members: Mapping[str, Any], called: Sequence[str]) -> set[str]:
    """Return the attributes that methods change which a call of an object, or of these, reaches."""
    codes: dict[str, list[CodeType]] = {}
    for name, member in members.items():
        for part in member if isinstance(member, list) else [member]:
            if isinstance(part, FunctionType):
                codes.setdefault(name.rpartition(".")[2], []).append(part.__code__)
    reached, left = set[str](), ["__call__", "forward", *called]
    while left:
        name = left.pop()
        if name in codes and name not in reached:
            reached.add(name)
            left += [other for code in codes[name] for other in _loaded(code, "ATTR", "METHOD")]
    return {name for method in reached for code in codes[method] for name in _changed(code, "ATTR")}


def _globals(function: FunctionType) -> dict[str, Any]:
    """Return what a function reads of its module, and of other modules of the user's own."""
    code, found = function.__code__, dict[str, Any]()
    names = _loaded(code, "GLOBAL", "NAME", "FROM_DICT_OR_GLOBALS")
    spaces = [("", function.__globals__, names)]
    entered: list[ModuleType] = []
    while spaces:
        prefix, space, names = spaces.pop()
        for name in names & space.keys():
            value = space[name]
            if not isinstance(value, ModuleType) or _installed(value.__name__):
                found[prefix + name] = value
            elif value not in entered:
                entered.append(value)
                spaces.append((f"{prefix}{name}.", vars(value), _loaded(code, "ATTR", "METHOD")))
    return found


def _steps(code: CodeType) -> Iterator[tuple[dis.Instruction, str]]:
    """Yield the instructions of code, and of functions made in it, with the method called next."""
    steps = [*dis.get_instructions(code)]
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        called = after is not None and after.opname in ("LOAD_METHOD", "LOAD_ATTR")
        yield step, after.argval if called and after is not None else ""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _steps(constant)


def _loaded(code: CodeType, *kinds: str) -> set[str]:
    """Return the names that code reads: of globals, attributes and so on."""
    operations = {f"LOAD_{kind}" for kind in kinds}
    return {step.argval for step, _ in _steps(code) if step.opname in operations}


def _changed(code: CodeType, kind: str) -> set[str]:
    """Return the names that code assigns, or calls a method of that collects.

    An argument that is assigned is another thing from then on, and as it was before.
    """
    return {
        step.argval
        for step, called in _steps(code)
        if (step.opname == f"STORE_{kind}" and kind != "FAST")
        or (step.opname.startswith(f"LOAD_{kind}") and called in COLLECTING)
    }


def _of_tensor(value: Tensor) -> str:
    plain = value.detach()
    head = f"{plain.dtype} on {plain.device}{', with gradients' if value.requires_grad else ''}"
    if plain.is_meta:
        return f"{head} of shape {tuple(plain.shape)}"
    plain = plain.cpu() if plain.layout is torch.strided else plain.cpu().to_dense()
    if plain.ndim == 0:
        return f"{head} {plain.item()!r}"
    entries = plain.resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)
    return f"{head} of shape {tuple(plain.shape)} ({_digest(entries.numpy().tobytes())})"


def known(thing: Any) -> bool:
    """Whether the address of a class or function says all there is to know."""
    return _installed(getattr(thing, "__module__", None))


def _found(function: FunctionType) -> bool:
    """Whether a function is what its address leads to: a wrapper takes the one of another."""
    place: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        place = inspect.getattr_static(place, name, None)
    return getattr(place, "__func__", place) is function


def _installed(module: str | None) -> bool:
    """Whether a module is of this package or of a library."""
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return (module or "").partition(".")[0] in KNOWN or not INSTALLED.isdisjoint(Path(file).parts)


def _address(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return thing.__name__
    module = getattr(thing, "__module__", None)
    return thing.__qualname__ if module == "builtins" else f"{module}.{thing.__qualname__}"


def _short(text: str) -> str:
    return (
        text
        if len(text) <= LONG
        else f"{text[:20]}... ({len(text)} characters, {_digest(text.encode())})"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
