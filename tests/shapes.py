"""Shape checks of the solvers under test: switched on once, off where they would be in the way.

They take a third of the time of a training loop.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import CodeType, FunctionType
from typing import Any

import jaxtyping
from jaxtyping import _decorator, _import_hook


def check_shapes(room: str) -> None:
    """Check what functions of `room` take and return against their annotations, from now on.

    As `jaxtyping.install_import_hook` does, with `checked` above every definition.
    """
    _decorator._tb_flag = False  # or its first use imports jax, for seconds, to cut tracebacks
    finder = _import_hook._JaxtypingFinder([room], PathFinder, _Decorator(f"{__name__}.checked"))
    sys.meta_path.insert(0, finder)


@contextmanager
def unchecked() -> Generator[None]:
    """Run without the shape checks of `conftest.py`, as users do.

    Also for tables that are made to be looked at, where a shorter run of the same code has had the
    checks: a loop only repeats the shapes of its first steps.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


class _Decorator(_import_hook.Typechecker):
    def get_ast(self) -> ast.expr:
        """Return what is set above a definition: of `jaxtyped(typechecker=...)` the last part."""
        return super().get_ast().keywords[0].value


def checked(definition: Any) -> Any:
    """Return a function or class that checks its arguments and results, shapes included.

    `jaxtyped` does so too, but looks at every argument once more for the result, and at the
    signature at every call, which takes longer than the checks. And it makes the checks of a
    function inside another anew at every call of that, as it is defined: a millisecond or two.
    """
    if inspect.isclass(definition):
        if dataclasses.is_dataclass(definition) and "__init__" in vars(definition):
            definition.__init__ = checked(definition.__init__)
        return definition
    key = definition.__module__, inspect.unwrap(definition).__code__
    checks = _CHECKS.setdefault(key, _Checks(definition))

    @functools.wraps(definition)
    def entered(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return definition(*args, **kwargs)
        with jaxtyping.jaxtyped("context"):  # in which a letter stands for one size
            return checks.made(*args, __beartype_func=definition, **kwargs)

    return entered


class _Checks:
    """The checks of all functions that one definition makes, by beartype."""

    def __init__(self, definition: FunctionType) -> None:
        self.definition = definition

    @functools.cached_property
    def made(self) -> Callable[..., Any]:
        """What checks, and calls the function that it is given as `__beartype_func`.

        Made at the first call: until then names that annotations use may be undefined.
        """
        from beartype import BeartypeConf, beartype

        self.definition.__annotations__ = {
            name: _type_of(annotation, self.definition)
            for name, annotation in self.definition.__annotations__.items()
        }
        conf = BeartypeConf(violation_type=jaxtyping.TypeCheckError)
        made = beartype(conf=conf)(self.definition)
        return _unchecked if made is self.definition else made


_CHECKS: dict[tuple[str, CodeType], _Checks] = {}
"""By module and code of the definition."""


def _unchecked(*args: Any, __beartype_func: Callable[..., Any], **kwargs: Any) -> Any:
    return __beartype_func(*args, **kwargs)


def _type_of(annotation: Any, definition: FunctionType) -> Any:
    """Return the type that an annotation names; Any for one imported for type checkers alone."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, definition.__globals__)
    except NameError:
        return Any
