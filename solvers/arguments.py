"""Arguments are what the annotations of a public function say: checked where it is entered.

`@checked` reads the annotations once, and refuses by name what is of another kind, precision or
number of dimensions, is empty, or gives two sizes to one letter of the shapes. It never looks at
the entries of a tensor: values are for the function itself, which knows its domain. Where a kind
has a check of its own, with the better message, it is part of the annotation,
`Annotated[kind, check]`.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
import torch
from torch import Tensor

from .errors import (
    PRECISIONS,
    InputError,
    ShapeError,
    check_broadcast,
    check_choice,
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
    parameters = list(inspect.signature(function).parameters.values())
    if all(p.name == "self" or p.annotation in ANYTHING for p in parameters):
        return function
    by_place: list[tuple[int, str, Check]] = []
    by_name: dict[str, Check] = {}
    unread = True

    @functools.wraps(function)
    def entered(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        nonlocal unread
        if unread:  # not before all names that annotations use are defined
            by_name.update(_checks_of(function, parameters))
            by_place[:] = [
                (place, p.name, by_name[p.name])
                for place, p in enumerate(parameters)
                if p.name in by_name and p.kind is not p.KEYWORD_ONLY
            ]
            unread = False
        sizes: Sizes = {}
        given = len(args)
        for place, name, check in by_place:
            if place >= given:
                break
            check(name, args[place], sizes)
        for name, value in kwargs.items():
            if name in by_name:
                by_name[name](name, value, sizes)
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


def _checks_of(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> dict[str, Check]:
    """Return the checks of the parameters that have one, by name."""
    hints = get_type_hints(function, include_extras=True)
    named = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL and p.name in hints]
    letters = Counter(letter for name in named for letter in _letters(hints[name]))
    shared = {letter for letter, times in letters.items() if times > 1}
    checks = {name: _check_of(hints[name], shared) for name in named}
    return {name: check for name, check in checks.items() if check is not None}


def _letters(hint: Any) -> list[str]:
    """Return the letters of all shapes in an annotation; those of a container's parts twice."""
    if isinstance(hint, type) and hasattr(hint, "dim_str"):
        return cast(Any, hint).dim_str.replace("#", "").split()
    inside = [letter for part in get_args(hint) for letter in _letters(part)]
    return inside if get_origin(hint) in (Union, types.UnionType) else 2 * inside


def _check_of(hint: Any, shared: Set[str]) -> Check | None:
    """Return the check that an annotation asks for; None where anything goes.

    Args:
        hint: the annotation.
        shared: letters that stand in more than one place of the annotations of a function.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        return _own(get_args(hint)[1])
    if origin in (Union, types.UnionType):
        return _any_of(get_args(hint), shared)
    if origin is Literal:
        return _literal(get_args(hint))
    if isinstance(hint, type) and hasattr(hint, "dim_str"):
        return _array(hint, shared)
    if origin is tuple:
        return _tuple(get_args(hint), shared)
    if origin is Callable:
        return _callable
    if isinstance(origin, type) and issubclass(origin, (Mapping, Sequence)):
        return _container(origin, get_args(hint)[-1], shared)
    kind = hint if origin is None else origin
    if kind in (Any, object) or not isinstance(kind, type):
        return None
    if _is_protocol(kind):
        return _protocol(kind)
    return PLAIN.get(kind) or _instance(kind)


def _own(refuse: Callable[[str, Any], None]) -> Check:
    """Return the check that an annotation brings along, `Annotated[kind, refuse]`."""

    def check(name: str, value: Any, sizes: Sizes) -> None:
        refuse(name, value)

    return check


def _any_of(hints: tuple[Any, ...], shared: Set[str]) -> Check | None:
    """Return the check of a union; numbers and tensors are for `errors.as_tensor` to read."""
    checks = [_check_of(hint, shared) for hint in hints if hint is not types.NoneType]
    tensors = any(hint is Tensor or hasattr(hint, "dim_str") for hint in hints)
    if None in checks or (float in hints and tensors):
        return None
    optional = types.NoneType in hints
    if len(checks) == 1:
        return _unless_none(cast(Check, checks[0]))
    kinds = [_kind(hint) for hint in hints if hint is not types.NoneType]
    remedy = _joined([part for hint in hints for part in _remedies(hint)])

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if optional and value is None:
            return
        near: list[InputError] = []
        for kind, one in zip(kinds, checks, strict=True):
            try:
                return one(name, value, sizes)  # pyright: ignore[reportOptionalCall]
            except InputError as error:
                if isinstance(value, kind) and (kind is str or not isinstance(value, str | bytes)):
                    near.append(error)  # of this kind, but not as it should be
        if isinstance(value, type) and any(k and issubclass(value, k) for k in kinds):
            _refuse_class(name, value)
        if near:
            raise next((error for error in near if isinstance(error, ShapeError)), near[0])
        raise InputError(f"{name} is {shown(value)}: pass {remedy}")

    return check


def _kind(hint: Any) -> type | tuple[type, ...]:
    """Return the class whose instances an annotation speaks of; none where only the check knows."""
    if hasattr(hint, "dim_str"):
        return Tensor
    kind = get_origin(hint) or hint
    return kind if isinstance(kind, type) and not _is_protocol(kind) else ()


def _is_protocol(kind: Any) -> bool:
    return getattr(kind, "_is_protocol", False)


def _remedies(hint: Any) -> list[str]:
    """Return what to pass to satisfy an annotation: several things where it is a choice."""
    origin = get_origin(hint)
    if hint is types.NoneType:
        return ["None"]
    if origin is Literal:
        return [repr(choice) for choice in get_args(hint)]
    if hasattr(hint, "dim_str"):
        return [f"a tensor {_written(hint.dim_str.split())}"]
    if origin is Callable:
        return ["a function"]
    if origin is tuple:
        return [f"a tuple of {_named(get_args(hint)[0])}"]
    if isinstance(origin, type) and issubclass(origin, (Mapping, Sequence)):
        kind = "dict" if issubclass(origin, Mapping) else "list"
        return [f"a {kind} of {_named(get_args(hint)[-1])}"]
    return ["a number" if hint is float else _with_article(_named(hint))]


def _joined(parts: Sequence[str]) -> str:
    """Return `a, b or c`."""
    *before, last = parts
    return f"{', '.join(before)} or {last}" if before else last


def _with_article(name: str) -> str:
    spelt = name[:2].isupper() and name[0] in "FHLMNRSX"  # as in "an MLP"
    return f"{'an' if spelt or name[0] in 'AEIOaeio' else 'a'} {name}"


def _literal(choices: tuple[str, ...]) -> Check:
    def check(name: str, value: Any, sizes: Sizes) -> None:
        if type(value) is not str or value not in choices:
            check_choice(name, value, choices)

    return check


def _unless_none(one: Check) -> Check:
    def check(name: str, value: Any, sizes: Sizes) -> None:
        if value is not None:
            one(name, value, sizes)

    return check


def _array(hint: Any, shared: Set[str]) -> Check:
    """Return the check of a tensor of numbers: precision, dimensions, letters of its shape."""
    written: list[str] = hint.dim_str.split()
    batch = [letter for letter in written if letter.startswith(("*", "..."))]
    own, any_shape = len(written) - len(batch), len(batch) > 1 or batch == ["..."]
    group = batch[0].replace("#", "") if batch else ""
    group = group if group in shared else ""
    # Counted from the last dimension, so that a batch before them moves none.
    named = [
        (place - own, letter)
        for place, letter in enumerate(written[len(batch) :])
        if letter.isidentifier() and not letter.startswith("_")
    ]
    compared = [(place, letter) for place, letter in named if letter in shared]
    dtypes = PRECISIONS if "float32" in hint.dtypes else WHOLE

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if not (
            isinstance(value, Tensor) and value.dtype in dtypes and value.layout is torch.strided
        ):
            _refuse(name, value, dtypes)
        if any_shape:
            return
        shape = tuple(value.shape)
        before = len(shape) - own
        if before < 0 or (before and not batch):
            raise ShapeError(f"{name} has shape {shape}: pass {_written(written)}")
        if group:
            members = shape[:before]
            other, known = sizes.setdefault(group, (name, members))
            if members != known:
                check_broadcast(name, members, other, known)
        for place, letter in compared:
            size = shape[place]
            other, known = sizes.setdefault(letter, (name, size))
            if size != known:
                raise ShapeError(_misfit(name, shape, written, letter, size, other, known))
        if 0 in shape:
            for place, letter in named:
                if not shape[place]:
                    raise ShapeError(
                        f"{name} is empty, of shape {shape}: pass {_written(written)} with "
                        f"{letter} >= 1"
                    )

    return check


def _refuse(name: str, value: Any, dtypes: Sequence[torch.dtype]) -> None:
    """Raise `InputError` unless a tensor is dense and of one of these kinds of numbers."""
    if dtypes is PRECISIONS:
        check_dtype(name, value)
    else:
        check_index(name, value, "a tensor of integers")


def _misfit(
    name: str,
    shape: tuple[int, ...],
    written: list[str],
    letter: str,
    size: int,
    other: str,
    known: int,
) -> str:
    """Return what is wrong with a dimension that is not as long as its letter says."""
    if other == name:
        return f"{name} must be square, got shape {shape}: pass {_written(written)}"
    return (
        f"{name} has shape {shape}, of {letter} = {size}, and {other} has {letter} = {known}: "
        f"pass {_written(written)} with the same {letter}"
    )


def _written(letters: list[str]) -> str:
    """Return a shape as docstrings write it."""
    return f"({', '.join(letters).replace('#', '')}{',' if len(letters) == 1 else ''})"


def _tuple(hints: tuple[Any, ...], shared: Set[str]) -> Check:
    """Return the check of a tuple of one kind, or of a kind at each place."""
    kinds = [(hint, _check_of(hint, shared)) for hint in hints if hint is not Ellipsis]
    alike, remedy = Ellipsis in hints, f"a tuple of {_named(hints[0])}"

    def check(name: str, value: Any, sizes: Sizes) -> None:
        check_instance(name, value, tuple, remedy)
        if not alike and len(value) != len(kinds):
            raise InputError(f"{name} is {value!r}: pass {len(kinds)} values")
        for place, part in enumerate(value):
            hint, one = kinds[0 if alike else place]
            if one is not None and type(part) is not hint:
                one(f"{name}[{place}]", part, sizes)

    return check


def _container(kind: type, hint: Any, shared: Set[str]) -> Check:
    """Return the check of a mapping or sequence, whose values are all of one kind."""
    one = _check_of(hint, shared)
    mapping = issubclass(kind, Mapping)
    plain = (dict,) if mapping else (list, tuple)
    remedy = f"a {'dict' if mapping else 'list'} of {_named(hint)}"

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if type(value) not in plain and (
            not isinstance(value, kind) or isinstance(value, str | bytes)
        ):
            raise InputError(f"{name} is {shown(value)}: pass {remedy}")
        if one is not None:
            for key, part in value.items() if mapping else enumerate(value):
                if type(part) is not hint:  # a check of that kind would accept it
                    one(f"{name}[{key!r}]", part, sizes)

    return check


def _named(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint))


def _callable(name: str, value: Any, sizes: Sizes) -> None:
    if not callable(value):
        raise InputError(f"{name} is a {type(value).__name__}: pass a function")
    if isinstance(value, type) and any("__call__" in vars(kind) for kind in value.__mro__):
        _refuse_class(name, value)  # whose objects are the functions, not itself


def _refuse_class(name: str, kind: type) -> None:
    """Raise `InputError`: a class stands where an object of it is meant."""
    try:
        asked = [p for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
    except ValueError:  # of C, without a signature
        asked = []
    arguments = ", ".join(p.name for p in asked if p.kind is p.POSITIONAL_OR_KEYWORD)
    raise InputError(
        f"{name} is the class {kind.__name__}: pass an object of it, {kind.__name__}({arguments})"
    )


def _protocol(kind: type) -> Check:
    """Return the check that a value offers what a protocol asks for, once for each type."""
    asked = [m for m in vars(kind) if not m.startswith("_") or m == "__call__"]
    known: set[type] = set()
    said = (kind.__doc__ or "").partition("\n")[0].rstrip(".")
    remedy = _with_article(kind.__name__) + (f" ({said[0].lower()}{said[1:]})" if said else "")

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if type(value) in known:
            return
        if isinstance(value, type):
            _refuse_class(name, value)
        missing = [
            m for m in asked if not (callable(value) if m == "__call__" else hasattr(value, m))
        ]
        if missing:
            raise InputError(
                f"{name} is a {type(value).__name__}, without {', '.join(missing)}: pass {remedy}"
            )
        known.add(type(value))

    return check


def _instance(kind: type) -> Check:
    remedy = _with_article(kind.__name__)

    def check(name: str, value: Any, sizes: Sizes) -> None:
        if isinstance(value, type) and issubclass(value, kind):
            _refuse_class(name, value)
        if not isinstance(value, kind):
            check_instance(name, value, kind, remedy)

    return check


def _whole(name: str, value: Any, sizes: Sizes) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name} is {shown(value)}: pass an int")


def _real(name: str, value: Any, sizes: Sizes) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} is {shown(value)}: pass a number")


ANYTHING = ("Any", "object")
"""Annotations, as they are written, that exclude nothing."""

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""The kinds of whole numbers that need no second look."""

PLAIN: dict[type, Check] = {int: _whole, float: _real}
