"""Arguments are what the annotations of a public function say: checked where it is entered.

`@checked` reads the annotations once, and refuses by name what is of another kind, precision or
number of dimensions, is empty, or gives two sizes to one letter of the shapes. It never looks at
the entries of a tensor: values are for the function itself, which knows its domain.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor

from .errors import (
    InputError,
    ShapeError,
    check_broadcast,
    check_choice,
    check_dense,
    check_dtype,
    check_index,
    check_instance,
    shown,
)

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")
Class = TypeVar("Class", bound=type)

Sizes = dict[str, tuple[str, Any]]
"""What each letter of the shapes stands for in one call, and the argument that said so."""

Check = Callable[[str, Any, Sizes], None]
"""Raises unless an argument, of this name, is what its annotation says."""


def checked(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Return `function` with its arguments checked against its annotations.

    Raises:
        InputError: an argument of another kind or precision.
        ShapeError: another number of dimensions, nothing along one of them, or two sizes of one
            letter.
    """
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    checks: dict[str, Check] = {}
    unread = True

    @functools.wraps(function)
    def entered(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        nonlocal unread
        if unread:  # not before all names that annotations use are defined
            hints = get_type_hints(function)
            for name in names:
                if (check := _check_of(hints.get(name, Any))) is not None:
                    checks[name] = check
            unread = False
        sizes: Sizes = {}
        for name, value in zip(names, args, strict=False):
            if name in checks:
                checks[name](name, value, sizes)
        for name, value in kwargs.items():
            if name in checks:
                checks[name](name, value, sizes)
        return function(*args, **kwargs)

    return entered


def checked_class(kind: Class) -> Class:
    """Return a class whose public methods, and fields if it is a dataclass, are `checked`."""
    if "__init__" in vars(kind):
        setattr(kind, "__init__", checked(vars(kind)["__init__"]))  # noqa: B010
    for name, method in list(vars(kind).items()):
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(method, classmethod):
            setattr(kind, name, classmethod(checked(method.__func__)))
        elif inspect.isfunction(method):
            setattr(kind, name, checked(method))
    return kind


def _check_of(hint: Any) -> Check | None:
    """Return the check that an annotation asks for; None where anything goes."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _any_of(get_args(hint))
    if origin is Literal:
        return lambda name, value, _: check_choice(name, value, get_args(hint))
    if isinstance(hint, type) and hasattr(hint, "dim_str"):
        return _array(hint)
    if origin is tuple:
        return _tuple(get_args(hint))
    if origin is Callable:
        return _callable
    if isinstance(origin, type) and issubclass(origin, (Mapping, Sequence)):
        return _container(origin, get_args(hint)[-1])
    kind = hint if origin is None else origin
    if kind in (Any, object) or not isinstance(kind, type):
        return None
    if getattr(kind, "_is_protocol", False):
        return _protocol(kind)
    return PLAIN.get(kind) or _instance(kind)


def _any_of(hints: tuple[Any, ...]) -> Check | None:
    """Return the check of a union; numbers and tensors are for `errors.as_tensor` to read."""
    checks = [_check_of(hint) for hint in hints if hint is not types.NoneType]
    tensors = any(hint is Tensor or hasattr(hint, "dim_str") for hint in hints)
    if None in checks or (float in hints and tensors):
        return None
    optional = types.NoneType in hints

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if optional and value is None:
            return
        refused: InputError | None = None
        for one in checks:
            try:
                return one(name, value, sizes)  # pyright: ignore[reportOptionalCall]
            except InputError as error:
                refused = error
        if refused is not None:
            raise refused

    return check


def _array(hint: Any) -> Check:
    """Return the check of a tensor of numbers: precision, dimensions, letters of its shape."""
    letters: list[str] = hint.dim_str.split()
    variadic = [letter for letter in letters if letter.startswith(("*", "..."))]
    real = "float32" in hint.dtypes

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if real:
            check_dtype(name, value)
        else:
            check_index(name, value, "a tensor of integers")
        check_dense(name, value)
        if len(variadic) > 1 or variadic == ["..."]:
            return
        own = len(letters) - len(variadic)
        shape = value.shape
        if len(shape) < own or (not variadic and len(shape) > own):
            raise ShapeError(f"{name} has shape {tuple(shape)}: pass {_written(letters)}")
        if variadic:
            _batch(name, shape[: len(shape) - own], letters[0][1:], sizes)
        for letter, size in zip(letters[len(variadic) :], shape[len(shape) - own :], strict=True):
            if not letter.isidentifier() or letter.startswith("_"):
                continue
            other, before = sizes.setdefault(letter, (name, size))
            if size != before and other == name:
                raise ShapeError(
                    f"{name} must be square, got shape {tuple(shape)}: pass {_written(letters)}"
                )
            if size != before:
                raise ShapeError(
                    f"{name} has shape {tuple(shape)}, of {letter} = {size}, and {other} has "
                    f"{letter} = {before}: pass {_written(letters)} with the same {letter}"
                )
            if size == 0:
                raise ShapeError(
                    f"{name} is empty, of shape {tuple(shape)}: pass {_written(letters)} with "
                    f"{letter} >= 1"
                )

    return check


def _batch(name: str, batch: tuple[int, ...], letter: str, sizes: Sizes) -> None:
    """Raise unless batch dimensions of one letter broadcast."""
    letter = letter.removeprefix("#")
    other, before = sizes.setdefault(f"*{letter}", (name, batch))
    if batch != before:
        check_broadcast(name, batch, other, before)


def _written(letters: list[str]) -> str:
    """Return a shape as docstrings write it."""
    return f"({', '.join(letters).replace('#', '')}{',' if len(letters) == 1 else ''})"


def _tuple(hints: tuple[Any, ...]) -> Check:
    """Return the check of a tuple of one kind, or of a kind at each place."""
    checks = [_check_of(hint) for hint in hints if hint is not Ellipsis]

    def check(name: str, value: Any, sizes: Sizes) -> None:
        check_instance(name, value, tuple, f"a tuple of {_named(hints[0])}")
        if Ellipsis not in hints and len(value) != len(checks):
            raise InputError(f"{name} is {value!r}: pass {len(checks)} values")
        for place, part in enumerate(value):
            one = checks[0 if Ellipsis in hints else place]
            if one is not None:
                one(f"{name}[{place}]", part, sizes)

    return check


def _container(kind: type, hint: Any) -> Check:
    """Return the check of a mapping or sequence, whose values are all of one kind."""
    one = _check_of(hint)
    mapping = issubclass(kind, Mapping)
    remedy = f"a {'dict' if mapping else 'list'} of {_named(hint)}"

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if not isinstance(value, kind) or isinstance(value, str | bytes):
            raise InputError(f"{name} is {shown(value)}: pass {remedy}")
        if one is not None:
            for key, part in value.items() if mapping else enumerate(value):
                one(f"{name}[{key!r}]", part, sizes)

    return check


def _named(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint))


def _callable(name: str, value: Any, sizes: Sizes) -> None:
    if not callable(value):
        raise InputError(f"{name} is a {type(value).__name__}: pass a function")


def _protocol(kind: type) -> Check:
    """Return the check that a value offers what a protocol asks for, once for each type."""
    asked = [m for m in vars(kind) if not m.startswith("_") or m == "__call__"]
    known: set[type] = set()

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if type(value) in known:
            return
        missing = [
            m for m in asked if not (callable(value) if m == "__call__" else hasattr(value, m))
        ]
        if missing:
            raise InputError(
                f"{name} is a {type(value).__name__}, without {', '.join(missing)}: "
                f"pass a {kind.__name__.lower()}"
            )
        known.add(type(value))

    return check


def _instance(kind: type) -> Check:
    article = "an" if kind.__name__[0] in "AEIOM" else "a"
    return lambda name, value, _: check_instance(name, value, kind, f"{article} {kind.__name__}")


def _whole(name: str, value: Any, sizes: Sizes) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name} is {shown(value)}: pass an int")


def _real(name: str, value: Any, sizes: Sizes) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} is {shown(value)}: pass a number")


PLAIN: dict[type, Check] = {int: _whole, float: _real}
