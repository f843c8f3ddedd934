"""Descriptions: one text for one value in every process, another text for another value."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import solvers as so
from solvers.hypergradients.implicit import implicit
from solvers.numerics.described import described

F64 = torch.float64
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
    ],
    ids=["of a module", "of a closure", "of an object"],
)
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
        return "dict", *((key, form(part)) for key, part in value.items())
    if isinstance(value, Setting):
        return "Setting", repr(value.damping), form(value.inside)
    if callable(value):
        kept: Any = value()
        return "closed", form(kept[0])
    return type(value).__name__, repr(value)


@given(values, values)
def test_texts_differ_where_values_do(one: Any, other: Any) -> None:
    assert (described(one) == described(other)) == (form(one) == form(other))
