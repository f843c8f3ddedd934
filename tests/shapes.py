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
from jaxtyping import _import_hook


def check_shapes(room: str) -> None:
    """Check what functions of `room` take and return against their annotations, from now on.

    As `jaxtyping.install_import_hook` does, with `checked` above every definition.
    """
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

    `jaxtyped` looks at every argument once more for the result, and at the signature at every
    call; both together take as long as the checks.
    """
    if inspect.isclass(definition):
        if dataclasses.is_dataclass(definition) and "__init__" in vars(definition):
            definition.__init__ = checked(definition.__init__)
        return definition
    if "<locals>" in definition.__qualname__:
        return _checked_inside(definition)
    # Not before a call: until then names that annotations use may be undefined.
    checks = functools.cache(lambda: _beartype(_annotated(definition)))

    @functools.wraps(definition)
    def entered(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return definition(*args, **kwargs)
        with jaxtyping.jaxtyped("context"):  # in which a letter stands for one size
            return checks()(*args, **kwargs)

    return entered


def _checked_inside(definition: FunctionType) -> Callable[..., Any]:
    """Return the same of a function inside another, which is defined at every call of that.

    Its checks are made once: to make them takes a millisecond or two, as long as some of the loops
    that such functions serve.
    """
    key = definition.__module__, definition.__code__
    if key not in _CHECKS:
        _CHECKS[key] = jaxtyping.jaxtyped(_caller(definition), typechecker=_beartype)
    checks = _CHECKS[key]

    @functools.wraps(definition)
    def entered(*args: Any, **kwargs: Any) -> Any:
        return checks(definition, *args, **kwargs)

    return entered


_CHECKS: dict[tuple[str, CodeType], Callable[..., Any]] = {}
"""By module and code of a function inside another: what checks, then calls the one it is given."""


def _beartype(function: Any) -> Any:
    from beartype import BeartypeConf, beartype

    return beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))(function)


def _annotated(definition: FunctionType) -> FunctionType:
    """Give a function types for annotations; Any for what is imported for type checkers alone."""
    for name, annotation in definition.__annotations__.items():
        if isinstance(annotation, str):
            try:
                hint = eval(annotation, definition.__globals__)
            except NameError:
                hint = Any
            definition.__annotations__ = definition.__annotations__ | {name: hint}
    return definition


def _caller(definition: FunctionType) -> FunctionType:
    """Return a function of a function and of its arguments, annotated as in `definition`."""

    def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    caller = FunctionType(call.__code__, definition.__globals__, definition.__name__)
    caller.__module__, caller.__qualname__ = definition.__module__, definition.__qualname__
    signature = inspect.signature(definition)
    given = inspect.Parameter("function", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [given, *signature.parameters.values()]
    caller.__signature__ = signature.replace(parameters=parameters)
    return caller
