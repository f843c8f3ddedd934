"""Descriptions: one text for one value in every process, another text for another value."""

import enum
import functools
import logging
import operator
import os
import random
import re
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import solvers as so
from solvers.hypergradients.implicit import implicit
from solvers.numerics.described import described
from tests.draws import F64

FACTOR = 2.0


def helper(x: float) -> float:
    return FACTOR * x


def closed(value: Any) -> Callable[..., Any]:
    return lambda *given: (value, given)


def made(source: str, **names: Any) -> Any:
    """Return the function `f` of a module of its own."""
    space: dict[str, Any] = {"__name__": "users", **names}
    exec(compile(source, "users.py", "exec"), space)
    return space["f"]


@dataclass(frozen=True)
class Setting:
    damping: float
    inside: Any = None

    def __call__(self, x: float) -> float:
        return self.damping * x


class Plain:
    factor = 3.0

    def __init__(self, a: Any) -> None:
        self.a, self.calls = a, 0

    def __call__(self, x: float) -> float:
        self.calls += 1
        return helper(x) * self.factor


class Other(Plain):
    factor = 4.0


class Slots:
    __slots__ = ("__hidden", "a", "unset")

    def __init__(self, a: Any, hidden: Any = None) -> None:
        self.a, self.__hidden = a, hidden

    def __call__(self, x: float) -> Any:
        return self.a, self.__hidden


class Below(Slots):
    """Slots of a parent, and a `__dict__`."""


class Half:
    """A property, a class attribute that is no number, methods of the class, and a cache."""

    table: ClassVar = {"a": [1.0]}

    def __init__(self, a: float) -> None:
        self.a = a

    @property
    def b(self) -> float:
        return self.a / 2

    @functools.cached_property
    def kept(self) -> float:
        return self.b

    @classmethod
    def of(cls) -> Any:
        return cls.table

    @staticmethod
    def f(x: float) -> float:
        return FACTOR * x


class Quarter(Half):
    @property
    def b(self) -> float:
        return self.a / 4


class Longer(list[float]):
    """A container with an attribute."""

    name = "a"


class Length(float):
    """A number with an attribute."""

    unit = "m"


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


def with_attributes(value: Any, **given: Any) -> Any:
    for name, part in given.items():
        setattr(value, name, part)
    return value


def module(**names: Any) -> ModuleType:
    return with_attributes(ModuleType("users_module"), **names)


def trained(value: torch.nn.Module, training: bool) -> torch.nn.Module:
    return value.train(training)


def buffered(value: float) -> torch.nn.Module:
    net = torch.nn.BatchNorm1d(2)
    assert net.running_mean is not None
    net.running_mean.fill_(value)
    return net


SETTER = """
class A:
    def to(self, a): self.a = a
    def __call__(self): return self.a
f = A()
"""
READ = "def f(x): return a"
GLOBALS: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"damping": 1.0},
    "dict 2": lambda: {"damping": 2.0},
    "dict in a dict": lambda: {"damping": {"x": 1.0}},
    "dict in a dict 2": lambda: {"damping": {"x": 2.0}},
    "list": lambda: [1.0],
    "list 2": lambda: [2.0],
    "set": lambda: {"a", "b"},
    "set 2": lambda: {"a", "c"},
    "tensor": lambda: torch.ones(2),
    "tensor 2": lambda: torch.zeros(2),
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "array": lambda: np.ones(2),
    "array 2": lambda: np.zeros(2),
    "array of objects": lambda: np.array([None, "a"], dtype=object),
    "array of objects 2": lambda: np.array([None, "b"], dtype=object),
    "masked": lambda: np.ma.array([1.0, 2.0], mask=[True, False]),
    "masked 2": lambda: np.ma.array([1.0, 2.0], mask=[False, True]),
    "dataclass": lambda: Setting(1.0),
    "dataclass 2": lambda: Setting(2.0),
    "object": lambda: Plain(1.0),
    "object 2": lambda: Plain(2.0),
    "namespace": lambda: SimpleNamespace(a=1.0),
    "namespace 2": lambda: SimpleNamespace(a=2.0),
    "class": lambda: Half,
    "class 2": lambda: Quarter,
    "lambda": lambda: lambda x: x,
    "lambda 2": lambda: lambda x: 2 * x,
    "module": lambda: Net(1.0),
    "module 2": lambda: Net(2.0),
    "network": lambda: trained(torch.nn.Dropout(0.5), True),
    "network 2": lambda: trained(torch.nn.Dropout(0.5), False),
    "network 3": lambda: trained(torch.nn.Dropout(0.25), True),
    "buffers": lambda: buffered(1.0),
    "buffers 2": lambda: buffered(2.0),
    "device": lambda: torch.device("cpu"),
    "device 2": lambda: torch.device("meta"),
    "dtype": lambda: torch.float16,
    "random": lambda: random.Random(1),
    "random 2": lambda: random.Random(2),
    "NumPy's": lambda: np.random.default_rng(1),
    "NumPy's 2": lambda: np.random.default_rng(2),
    "range": lambda: range(3),
    "range 2": lambda: range(4),
    "deque": lambda: deque([1.0]),
    "deque 2": lambda: deque([2.0]),
    "fraction": lambda: Fraction(1, 3),
    "fraction 2": lambda: Fraction(2, 3),
    "decimal": lambda: Decimal("0.1"),
    "pattern": lambda: re.compile("a"),
    "pattern 2": lambda: re.compile("b"),
    "pattern 3": lambda: re.compile("b", re.IGNORECASE),
    "item": lambda: operator.itemgetter(1),
    "item 2": lambda: operator.itemgetter(2),
    "enum": lambda: Colour.RED,
    "enum 2": lambda: Colour.GREEN,
    "distribution": lambda: torch.distributions.Normal(0.0, 1.0),
    "distribution 2": lambda: torch.distributions.Normal(0.0, 2.0),
    "ordered": lambda: OrderedDict(a=1, b=2),
    "ordered 2": lambda: OrderedDict(b=2, a=1),
    "tuple with a name": lambda: Point(1.0, 2.0),
    "tuple with a name 2": lambda: Point(1.0, 3.0),
    "logger": lambda: logging.getLogger("one"),
    "logger 2": lambda: logging.getLogger("other"),
    "without gradients": lambda: torch.no_grad()(closed(1.0)),
    "without gradients 2": lambda: torch.no_grad()(closed(2.0)),
}  # fmt: skip


class Point(NamedTuple):
    x: float
    y: float


class Net(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((2,), value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


# Every one is different from every other.
VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "1": lambda: 1,
    "1.0": lambda: 1.0,
    "True": lambda: True,
    "text": lambda: "1",
    "bytes": lambda: b"1",
    "path": lambda: Path("1"),
    "dtype": lambda: F64,
    "list": lambda: [1.0, 2.0],
    "tuple": lambda: (1.0, 2.0),
    "set": lambda: {"a", "b", "c", "d"},
    "dict": lambda: {"a": 1.0},
    "dict 2": lambda: {"a": 2.0},
    "tensor": lambda: torch.ones(3, dtype=F64),
    "tensor 2": lambda: torch.ones(3, dtype=F64).index_fill(0, torch.tensor(1), 1 + 1e-15),
    "single": lambda: torch.ones(3),
    "half": lambda: torch.ones(3, dtype=torch.bfloat16),
    "number": lambda: torch.tensor(1.0),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "array": lambda: np.ones(3),
    "generator": lambda: so.generator(0),
    "generator 2": lambda: so.generator(1),
    "method": lambda: so.Implicit(damping=1.0),
    "method 2": lambda: so.Implicit(damping=2.0),
    "method 3": lambda: so.Implicit(so.CG(tolerance=1e-3), damping=1.0),
    "unrolled": lambda: so.Unrolled(so.SGD(0.1), steps=3),
    "unrolled 2": lambda: so.Unrolled(so.SGD(0.2), steps=3),
    "partial": lambda: functools.partial(implicit, damping=1.0),
    "partial 2": lambda: functools.partial(implicit, damping=2.0),
    "partial 3": lambda: functools.partial(helper, 1.0),
    "function": lambda: helper,
    "builtin": lambda: len,
    "class": lambda: Plain,
    "class 2": lambda: Other,
    "lambda": lambda: lambda x: x + 1.0,
    "lambda 2": lambda: lambda x: x + 2.0,
    "default": lambda: lambda x, y=1.0: x + y,
    "default 2": lambda: lambda x, y=2.0: x + y,
    "default 3": lambda: made("def f(x, y=1.0):\n y = 2 * y\n return y"),
    "default 4": lambda: made("def f(x, y=2.0):\n y = 2 * y\n return y"),
    "keyword": lambda: lambda x, *, y=1.0: x + y,
    "keyword 2": lambda: lambda x, *, y=2.0: x + y,
    "closure": lambda: closed(1.0),
    "closure 2": lambda: closed(2.0),
    "closure 3": lambda: closed({"damping": 1.0}),
    "closure 4": lambda: closed(torch.ones(2)),
    "closure 5": lambda: closed(torch.zeros(2)),
    "closure 6": lambda: closed(closed(1.0)),
    "closure 7": lambda: closed(closed(2.0)),
    "global": lambda: made("def f(x): return a * x", a=1.0),
    "global 2": lambda: made("def f(x): return a * x", a=2.0),
    "global 3": lambda: made("def f(x): return (lambda y: a * y)(x)", a=(1.0,)),
    "global 4": lambda: made("def f(x): return (lambda y: a * y)(x)", a=(2.0,)),
    "global 5": lambda: made("def f(x): return a(x)", a=Setting(1.0)),
    "global 6": lambda: made("def f(x): return a(x)", a=Setting(2.0)),
    "helper": lambda: made("def g(x): return x\ndef f(x): return g(x)"),
    "helper 2": lambda: made("def g(x): return 2 * x\ndef f(x): return g(x)"),
    "recursive": lambda: made("def f(x): return f(x - 1)"),
    "each other": lambda: made("def g(x): return f(x)\ndef f(x): return g(x) + 1"),
    "wrapped": lambda: functools.wraps(helper)(closed(1.0)),
    "wrapped 2": lambda: functools.lru_cache(closed(3.0)),
    "setting": lambda: Setting(1.0),
    "setting 2": lambda: Setting(2.0),
    "setting 3": lambda: Setting(1.0, closed(4.0)),
    "setting 4": lambda: Setting(1.0, closed(5.0)),
    "object": lambda: Plain(1.0),
    "object 2": lambda: Plain(2.0),
    "object 3": lambda: Other(1.0),
    "bound": lambda: Plain(1.0).__call__,
    "bound 2": lambda: Plain(2.0).__call__,
    "module": lambda: Net(1.0),
    "module 2": lambda: Net(2.0),
    **{f"global {name}": lambda a=a: made(READ, a=a()) for name, a in GLOBALS.items()},
    **{f"slot {name}": lambda a=a: Slots(a()) for name, a in GLOBALS.items()},
    "slots hidden": lambda: Slots(1.0, 1.0),
    "slots hidden 2": lambda: Slots(1.0, 2.0),
    "slots below": lambda: Below(1.0),
    "slots below 2": lambda: Below(2.0),
    "slots below 3": lambda: with_attributes(Below(2.0), more=1),
    "method of slots": lambda: Slots(1.0).__call__,
    "method of slots 2": lambda: Slots(2.0).__call__,
    "property": lambda: Half(1.0),
    "property 2": lambda: Half(2.0),
    "property 3": lambda: Quarter(1.0),
    "class method": lambda: Half.of,
    "class method 2": lambda: Quarter.of,
    "longer": lambda: Longer([1.0]),
    "longer 2": lambda: Longer([2.0]),
    "longer 3": lambda: with_attributes(Longer([1.0]), name="b"),
    "length": lambda: Length(1.0),
    "length 2": lambda: Length(2.0),
    "length 3": lambda: with_attributes(Length(1.0), unit="km"),
    "attribute": lambda: with_attributes(made("def f(x): return f.a"), a=1.0),
    "attribute 2": lambda: with_attributes(made("def f(x): return f.a"), a=2.0),
    "of a module": lambda: made("def f(x): return m.a", m=module(a=[1.0])),
    "of a module 2": lambda: made("def f(x): return m.a", m=module(a=[2.0])),
    "of a module's module": lambda: made("def f(x): return m.n.a", m=module(n=module(a=1))),
    "of a module's module 2": lambda: made("def f(x): return m.n.a", m=module(n=module(a=2))),
    "in a class inside": lambda: made("def f(x):\n class A:\n  y = a\n return A", a={"b": 1}),
    "in a class inside 2": lambda: made("def f(x):\n class A:\n  y = a\n return A", a={"b": 2}),
    "through another": lambda: made("def g(x): return a\ndef f(x): return g(x)", a=[1]),
    "through another 2": lambda: made("def g(x): return a\ndef f(x): return g(x)", a=[2]),
    "through a method": lambda: made(
        "class A:\n def g(self): return a\ndef f(x): return A().g()", a=[1]
    ),
    "through a method 2": lambda: made(
        "class A:\n def g(self): return a\ndef f(x): return A().g()", a=[2]
    ),
    "set later": lambda: made(SETTER + "f.to(1.0)"),
    "set later 2": lambda: made(SETTER + "f.to(2.0)"),
    "wrapped by a library": lambda: functools.wraps(implicit)(closed(1.0)),
    "wrapped by a library 2": lambda: functools.wraps(implicit)(closed(2.0)),
    "order of arguments": lambda: lambda a, b: a,
    "order of arguments 2": lambda: lambda b, a: b,
    "raised": lambda: made("def f(x):\n try: return g(x)\n except ValueError: return 1"),
    "raised 2": lambda: made("def f(x):\n try: return g(x)\n except TypeError: return 1"),
    "gradients": lambda: torch.ones(3, dtype=F64, requires_grad=True),
    "bound of a builtin": lambda: [1.0].count,
    "bound of a builtin 2": lambda: [2.0].count,
    "of objects": lambda: {Slots, Plain, Other, helper},
    "of objects 2": lambda: {Slots, Plain, Other, Half},
    "long": lambda: [*range(10000)],
    "long 2": lambda: [*range(9999), 0],
    "inside itself": lambda: around([1.0]),
}


def around(value: list[Any]) -> list[Any]:
    value.append(value)
    return value


def test_one_text_for_one_value_and_another_for_another() -> None:
    texts = {name: described(make()) for name, make in VALUES.items()}
    assert {name: described(make()) for name, make in VALUES.items()} == texts
    alike = [(a, b) for a in texts for b in texts if a < b and texts[a] == texts[b]]
    assert alike == []
    assert not any(" at 0x" in text for text in texts.values())


SAY = "from tests.solvers.test_described import *; print([described(v()) for v in VALUES.values()])"


def test_the_same_text_in_another_process() -> None:
    root = Path(__file__).parents[2]
    here = str([described(make()) for make in VALUES.values()])
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "1"}
    said = subprocess.run(
        [sys.executable, "-c", SAY], cwd=root, env=environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert said.stdout.strip() == here


@pytest.mark.parametrize(
    "source",
    [
        "a = 0\ndef f(x):\n global a\n a += 1\n return a",
        "def g(a):\n def f(x):\n  nonlocal a\n  a += 1\n  return a\n return f\nf = g(0)",
        "class M:\n def __init__(self): self.a = 0\n def __call__(self, x): self.a += 1\nf = M()",
        "class M:\n a = 0\n def g(self): self.a += 1\n def __call__(self, x): self.g()\nf = M()",
        "class M:\n a = 0\n def g(self, x): self.a += 1\nf = M().g",
        "class M:\n a = []\n def __call__(self, x): self.a.append(x)\nf = M()",
        "class M:\n __slots__ = ('a',)\n def __call__(self, x): self.a = x\nf = M()",
        "def f(x, a=[]): a.append(x)",
        "def g(a):\n def f(x): a.append(x)\n return f\nf = g([])",
        "def f(x): f.a = x",
        "import functools\nclass M:\n @functools.cached_property\n def a(self): return 1\n"
        " def __call__(self, x): return self.a\nf = M()",
    ],
    ids=["of a module", "of a closure", "of an object", "of a method it calls", "of a method",
         "of a class", "of a slot", "of a default", "of a list in a closure", "of a function",
         "of a property"],
)  # fmt: skip
def test_a_memory_is_no_setting(source: str) -> None:
    f = made(source)
    before = described(f)
    f(1.0)
    assert described(f) == before


def test_what_a_module_collects_is_no_setting() -> None:
    seen: list[int] = []
    f = made("def f(x): seen.append(x)", seen=seen)
    before = described(f)
    f(1)
    assert described(f) == before


def test_dicts_and_sets_in_any_order() -> None:
    """Of sets the order is another in every process, and so is that of dicts made from them."""
    parts: list[Any] = [closed(1.0), closed(2.0), helper, Plain, Other, (1, "a"), "b", Setting(1.0)]
    pairs = {key: [key] for key in parts}
    turned = {key: [key] for key in reversed(parts)}
    assert described(pairs) == described(turned)
    assert described({*parts}) == described({*reversed(parts)})
    assert described(made(READ, a=pairs)) == described(made(READ, a=turned))


def test_what_a_function_does_not_read_is_no_setting() -> None:
    one, other = (made("def f(x): return m.b + x.a", a=k, m=module(c=k, b=1)) for k in (1, 2))
    assert described(one) == described(other)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    plain,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.text(max_size=3), inside, max_size=3)
        | st.builds(Setting, st.floats(allow_nan=False), inside)
        | st.builds(closed, inside)
        | inside.map(lambda value: functools.partial(helper, value))
        | inside.map(lambda value: functools.partial(helper, x=value))
    ),
    max_leaves=6,
)


def form(value: Any) -> Any:
    """The same value without anything callable, to be compared."""
    if isinstance(value, functools.partial):
        return "partial", form(value.args), form(value.keywords)
    if isinstance(value, (list, tuple)):
        return type(value).__name__, *map(form, value)
    if isinstance(value, dict):
        return "dict", *sorted((key, form(part)) for key, part in value.items())
    if isinstance(value, Setting):
        return "Setting", repr(value.damping), form(value.inside)
    if callable(value):
        kept: Any = value()
        return "closed", form(kept[0])
    return type(value).__name__, repr(value)


@given(values, values)
def test_texts_differ_where_values_do(one: Any, other: Any) -> None:
    assert (described(one) == described(other)) == (form(one) == form(other))
