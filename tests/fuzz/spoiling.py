"""Ways to spoil one value inside the arguments of a valid call."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from torch import Tensor

from solvers.data import Dataset, LabelledData

Place = tuple[str | int, ...]
"""Where a value stands: a parameter's name, then fields, keys and places inside it."""

Places = Sequence[tuple[Place, Any]]
"""The values of a call, and where they stand."""


class Odd(torch.nn.Module):
    """A module with attributes that none of ours has, and nothing to call."""

    def __init__(self) -> None:
        super().__init__()
        self.n = self.classes = self.x = "odd"
        self.mean = None


def nothing(*_: Any, **__: Any) -> None:
    """A callable that takes anything and returns None."""


@dataclass(frozen=True)
class Spoiler:
    """A change of one value.

    Attributes:
        name: for messages.
        apply: from the value to another.
        finite: whether the result may hold no NaN and no infinity: the value is an ordinary number.
        same: whether the result must be that of the unspoilt call: another layout in memory.
    """

    name: str
    apply: Callable[[Any], Any]
    finite: bool = False
    same: bool = False


Change = tuple[Place, Spoiler]


def put(value: float, place: int | None) -> Callable[[Tensor], Tensor]:
    """Return a change of one entry, or of all."""

    def change(t: Tensor) -> Tensor:
        found = t.detach().clone().contiguous()
        flat = found.view(-1)
        if place is None:
            flat.fill_(value)
        elif flat.numel():
            flat[place] = value
        return found

    return change


def strided(t: Tensor) -> Tensor:
    """The same numbers, every other one in memory."""
    return torch.stack([t, torch.full_like(t, 7)], -1)[..., 0]


def backwards(t: Tensor) -> Tensor:
    """The same numbers, the first dimension last in memory."""
    order = list(range(t.ndim))[::-1]
    return t.permute(order).contiguous().permute(order)


TYPES = [
    Spoiler(repr(value)[:20], lambda _, value=value: value)
    for value in (None, "text", [], {}, (), [1.0], 3, 0.5, True, 1j, object, np.ones(2), b"b")
] + [
    Spoiler("a generator", lambda _: torch.Generator()),
    Spoiler("a module", lambda _: Odd()),
    Spoiler("an object", lambda _: object()),
    Spoiler("a callable", lambda _: nothing),
    Spoiler("a tensor", lambda _: torch.ones(2, dtype=torch.float64)),
    Spoiler("a table", lambda _: np.ones((2, 2))),
]

LAYOUTS = [Spoiler(f.__name__, f, same=True) for f in (strided, backwards)]

SHAPES = [
    Spoiler("an axis in front", lambda t: t[None]),
    Spoiler("two axes in front", lambda t: t[None, None]),
    Spoiler("an axis behind", lambda t: t[..., None]),
    Spoiler("an axis before the last", lambda t: t.unsqueeze(-2) if t.ndim else t[None]),
    Spoiler("first row alone", lambda t: t[0] if t.ndim else t[None, None, None]),
    Spoiler("first column alone", lambda t: t[..., 0] if t.ndim else t[None]),
    Spoiler("one row", lambda t: t[:1] if t.ndim else t[None]),
    Spoiler("one column", lambda t: t[..., :1] if t.ndim else t[None]),
    Spoiler("a row less", lambda t: t[:-1] if t.ndim else t[None]),
    Spoiler("a column less", lambda t: t[..., :-1] if t.ndim else t[None]),
    Spoiler("no row", lambda t: t[:0] if t.ndim else t[None][:0]),
    Spoiler("no column", lambda t: t[..., :0] if t.ndim else t[None][:0]),
    Spoiler("twice the rows", lambda t: torch.cat([t, t]) if t.ndim else torch.stack([t, t])),
    Spoiler(
        "a column more", lambda t: torch.cat([t, t[..., :1]], -1) if t.ndim else t.expand(3).clone()
    ),
    Spoiler("flat", lambda t: t.reshape(-1)),
    Spoiler("transposed", lambda t: t.mT if t.ndim > 1 else t[None]),
    Spoiler("expanded", lambda t: t.expand(3, *t.shape)),
    Spoiler("many", lambda t: t.expand(1000, *t.shape)),
    Spoiler("one number", lambda t: t.reshape(-1)[0] if t.numel() else t),
]

DTYPES = [
    Spoiler(str(dtype).removeprefix("torch."), lambda t, dtype=dtype: t.to(dtype))
    for dtype in (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.int64,
        torch.int8,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.complex128,
    )
] + [
    Spoiler("requires_grad", lambda t: t.detach().clone().requires_grad_()),
    Spoiler("frozen", lambda t: torch.nn.Parameter(t.detach().clone(), requires_grad=False)),
    Spoiler("sparse", lambda t: t.detach().to_sparse()),
    Spoiler("list", lambda t: t.tolist()),
    Spoiler("numpy", lambda t: t.detach().numpy()),
]

VALUES = [
    Spoiler(f"{value:g} at {place}", put(value, place), finite=1e-3 < abs(value) < 1e3)
    for value in (math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 2.0, 1e300, -1e300, 1e-300, 1e30)
    for place in (0, -1, None)
] + [
    Spoiler("negated", lambda t: -t, finite=True),
    Spoiler("large", lambda t: t * 1e12),
    Spoiler("small", lambda t: t * 1e-12),
]

TENSORS = [*TYPES, *LAYOUTS, *SHAPES, *DTYPES, *VALUES]

NUMBERS = TYPES + [
    Spoiler(repr(value), lambda _, value=value: value, finite=finite)
    for value, finite in (
        (0, True),
        (-1, True),
        (1, True),
        (2, True),
        (50, True),
        (2.5, True),
        (1e-12, True),
        (0.0, False),
        (-0.0, False),
        (math.nan, False),
        (math.inf, False),
        (-math.inf, False),
        (1e300, False),
        (1e-300, False),
        (10**400, False),
        (10**19, False),
        (-(10**19), False),
        (np.int64(2), True),
        (np.float32(0.5), True),
        (np.float64(0.5), True),
        (np.array(1.0), True),
        (Fraction(1, 2), True),
        (torch.tensor(2), True),
        (torch.tensor(0.5), True),
        (torch.tensor([2.0, 3.0]), True),
        (torch.tensor(math.nan), False),
    )
]
WORDS = TYPES + [Spoiler(repr(w), lambda _, w=w: w) for w in ("", "nonsense", "ful", "NaN", "é∂")]
DTYPE = TYPES + [
    Spoiler(repr(d), lambda _, d=d: d)
    for d in (torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, "float64")
]


def throughout(change: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    """Return the change of all tensors of floating-point numbers inside a value."""

    def whole(value: Any) -> Any:
        if isinstance(value, Tensor):
            return change(value) if value.is_floating_point() else value
        return rebuilt(value, {name: whole(part) for name, part in parts(value)})

    return whole


# Of a tensor, a law, data, parameters: what several arguments may disagree in.
WHOLE = [
    Spoiler("in single precision", throughout(lambda t: t.float())),
    Spoiler("of two members", throughout(lambda t: t.expand(2, *t.shape))),
    Spoiler("of three members", throughout(lambda t: t.expand(3, *t.shape))),
]
CONTAINERS = [
    *TYPES,
    Spoiler("one more", lambda v: {**v, "more": 1} if isinstance(v, Mapping) else (*v, *v[:1])),
    Spoiler("one less", lambda v: dict(list(v.items())[1:]) if isinstance(v, Mapping) else v[1:]),
    Spoiler("empty", lambda v: type(v)()),
]


SYMBOL = sympy.Symbol("z")
EXPRESSIONS = TYPES + [
    Spoiler(name, change)
    for name, change in (
        ("negated", lambda e: -e),
        ("imaginary", lambda e: sympy.I * e),
        ("with a symbol more", lambda e: e + SYMBOL * _one(e)),
        ("with a name of the theory", lambda e: sympy.Symbol("Sigma") * e),
        ("infinite", lambda e: sympy.oo * e),
        ("undefined", lambda e: sympy.nan * e),
        ("0", lambda e: 0 * e),
        ("a constant", lambda e: sympy.Integer(3)),
        ("a text", str),
        ("an equation", lambda e: sympy.Eq(SYMBOL, 1)),
        ("a truth value", lambda e: sympy.true),
        ("an unknown function", lambda e: e.applyfunc(sympy.Function("f")) if _table(e) else
            sympy.Function("f")(e)),
        ("an integral", lambda e: sympy.Integral(SYMBOL, (SYMBOL, 0, 1)) * e),
        ("non-commuting", lambda e: sympy.Symbol("c", commutative=False) * e),
        ("a matrix", lambda e: sympy.Matrix([[1, 2, 3]])),
        ("a matrix without size", lambda e: sympy.MatrixSymbol("A", 2, 2)),
        ("huge", lambda e: 10**400 * e),
        ("with doubles", lambda e: 0.1 * e),
        ("with NaN of NumPy", lambda e: np.float64("nan") * e),
    )
]  # fmt: skip


def _table(value: Any) -> bool:
    return isinstance(value, sympy.MatrixBase)


def _one(value: Any) -> Any:
    """Return ones of the form of an expression."""
    return sympy.ones(*value.shape) if _table(value) else sympy.Integer(1)


def spoilers(value: Any) -> list[Spoiler]:
    """Return the ways to spoil a value of this kind."""
    if isinstance(value, (sympy.Basic, sympy.MatrixBase)):
        return EXPRESSIONS
    if isinstance(value, Tensor):
        ordinary = value.is_floating_point()
        return TENSORS if ordinary else [*TYPES, *LAYOUTS, *SHAPES, *DTYPES, *INDICES]
    if isinstance(value, bool) or not isinstance(value, (int, float, str, dict, list, tuple)):
        if is_dataclass(value) and not isinstance(value, type):
            return [*TYPES, *WHOLE]
        return DTYPE if isinstance(value, torch.dtype) else TYPES
    if isinstance(value, (int, float)):
        return NUMBERS
    if isinstance(value, str):
        return WORDS
    return [*CONTAINERS, *WHOLE] if isinstance(value, Mapping) else CONTAINERS


INDICES = [
    Spoiler(f"index {v}", lambda t, v=v: torch.full_like(t, v)) for v in (-1, -100, 1, 5, 100)
]


BUILT: dict[type, tuple[str, ...]] = {Dataset: ("x", "y"), LabelledData: ("x", "pi")}


def parts(value: Any) -> Iterator[tuple[str | int, Any]]:
    """Yield what a value is built of, with the names to find it by."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            if (
                field.init
                and field.name in BUILT.get(type(value), (field.name,))
                and hasattr(value, field.name)
            ):
                yield field.name, getattr(value, field.name)


def paths(value: Any, depth: int = 4) -> Iterator[tuple[Place, Any]]:
    """Yield every value inside `value`, and its place."""
    for name, part in parts(value):
        yield (name,), part
        if depth > 1:
            for path, leaf in paths(part, depth - 1):
                yield (name, *path), leaf


def has_tensors(value: Any) -> bool:
    """Whether a value is a tensor, or holds one."""
    return isinstance(value, Tensor) or any(isinstance(part, Tensor) for _, part in paths(value))


def single_changes(places: Places) -> list[tuple[Change]]:
    """Return every way to spoil one of these values."""
    return [((place, spoiler),) for place, value in places for spoiler in spoilers(value)]


def double_changes(places: Places) -> st.SearchStrategy[tuple[Change, ...]]:
    """Draw ways to spoil two of these values, neither of them inside the other."""

    def changes(pair: Places) -> st.SearchStrategy[tuple[Change, ...]]:
        return st.tuples(*(st.tuples(st.just(p), st.sampled_from(spoilers(v))) for p, v in pair))

    apart = [
        pair
        for pair in combinations(places, 2)
        if any(a != b for a, b in zip(pair[0][0], pair[1][0], strict=False))
    ]
    return st.sampled_from(apart).flatmap(changes) if apart else st.nothing()


def changed(value: Any, path: Place, change: Callable[[Any], Any]) -> Any:
    """Return a copy of `value` with the value at `path` changed."""
    if not path:
        return change(value)
    name, *rest = path
    return rebuilt(value, {name: changed(dict(parts(value))[name], tuple(rest), change)})


def rebuilt(value: Any, new: Mapping[str | int, Any]) -> Any:
    """Return a copy of `value` with other parts; dataclasses are built anew."""
    if not new:
        return value
    if isinstance(value, dict):
        return {**value, **new}
    if isinstance(value, (list, tuple)):
        return type(value)(new.get(place, part) for place, part in enumerate(value))
    named = {str(name): part for name, part in new.items()}
    if isinstance(value, (Dataset, LabelledData)):  # built as documented: moments follow
        built = [named.get(name, getattr(value, name)) for name in BUILT[type(value)]]
        return Dataset.of(*built) if isinstance(value, Dataset) else LabelledData.soft(*built)
    return replace(value, **named)


def own(value: Any) -> Any:
    """Return a copy whose generators and tensors are its own."""
    return copy.deepcopy(value)
