"""What a call with a spoilt argument may end in: a typed error, or a result without surprises."""

from __future__ import annotations

import math
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import analysis
from paper_checks.conformance import signatures
from solvers.errors import SolverError
from solvers.training.ensemble import DivergenceWarning
from tests import limits
from tests.fuzz.spoiling import Change, changed, own

OURS = str(Path(__file__).parents[1])  # functions that a call is given are the caller's own
CALLERS = ("takes no arguments", 'missing the required "forward" function')  # and so are these
HUGE = 1e150  # beyond it squares over- or underflow, and their difference may be NaN
LARGE = 1e25  # and beyond it, or below its inverse, what two such numbers make of each other
SECONDS = 10.0  # of processor time that a call may take
TYPED = (
    SolverError,
    analysis.DerivationError,
    analysis.MomentError,
    analysis.ArgumentError,
    analysis.ArgumentNameError,
    analysis.StructureError,
    analysis.FormError,
    analysis.RuleError,
    analysis.RewardError,
    analysis.RewardTypeError,
    analysis.NoMaximumError,
    analysis.UnknownResultError,
    signatures.UnknownSignature,
)


class BadEnd(AssertionError):
    """A call ended in something else than a typed error or a documented result."""


def all_end_well(
    label: str,
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    attempts: Iterable[Iterable[Change]],
) -> None:
    """Call the function with each set of changes.

    Raises:
        BadEnd: some calls end badly; it lists them all.
    """
    bad: list[str] = []
    for changes in attempts:
        try:
            tried(label, function, arguments, *changes)
        except BadEnd as error:
            bad.append(str(error))
    if bad:
        raise BadEnd("\n".join([f"{len(bad)} calls end badly:", *bad]))


def drawn_end_well(
    label: str,
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    changes: st.SearchStrategy[tuple[Change, ...]],
    attempts: int,
) -> None:
    """Call the function with sets of changes that Hypothesis draws.

    Raises:
        BadEnd: a call ends badly.
    """

    @settings(max_examples=attempts)
    @given(changes)
    def ends_well(drawn: tuple[Change, ...]) -> None:
        tried(label, function, arguments, *drawn)

    ends_well()


def tried(
    label: str,
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *changes: Change,
) -> str:
    """Call the function with arguments spoilt, judge how it ends, and say so.

    Raises:
        BadEnd: an error of another kind, a message without what is wrong, NaN out of finite
            numbers without a warning, another result for another layout.
    """
    place = f"{label}: " + " and ".join(f"{'.'.join(map(str, p))} {by.name}" for p, by in changes)
    arguments = own(arguments)
    same = all(by.same for _, by in changes)
    with (
        warnings.catch_warnings(record=True) as warned,
        limits.processor_time(SECONDS, place),
    ):
        warnings.simplefilter("always")
        before = function(**own(arguments)) if same else None
        warned.clear()
        try:
            spoilt = arguments
            for path, by in changes:
                spoilt = changed(spoilt, path, by.apply)
            found = function(**spoilt)
        except TYPED as error:
            return said(place, error)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            if OURS in where.filename or any(word in str(error) for word in CALLERS):
                return "an error of the caller's own function"
            at = f"{where.filename}:{where.lineno}"
            raise BadEnd(f"{place}: {type(error).__name__}: {str(error)[:200]} ({at})") from error
    if same and not agree(before, found):
        raise BadEnd(f"{place}: another result for the same numbers in another layout")
    if any(issubclass(w.category, DivergenceWarning) for w in warned):
        return "a warning that what was trained is not finite"
    plain = all(by.finite for _, by in changes)
    least, most = (0.0, HUGE) if len(changes) == 1 else (1 / LARGE, LARGE)
    if all(ordinary(value, least, most) for value in numbers(spoilt)):
        for value in numbers(found):
            if undefined(value) or (plain and isinstance(value, Tensor) and not finite(value)):
                raise BadEnd(f"{place}: {value} from finite numbers")
    return "a result"


def said(place: str, error: Exception) -> str:
    """Return how the call ended, after checking that its message says what to look at."""
    message = str(error)
    if len(message) < 15 or not re.search(r"\w", message):
        raise BadEnd(f"{place}: {type(error).__name__} says only {message!r}")
    return type(error).__name__


def numbers(value: Any, depth: int = 6) -> Iterator[Any]:
    """Yield tensors and floats inside a value."""
    if isinstance(value, (Tensor, float, np.ndarray, np.floating)):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from numbers(part, depth - 1)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from numbers(part, depth - 1)
    elif is_dataclass(value) and not isinstance(value, type) and depth:
        for field in fields(value):
            yield from numbers(getattr(value, field.name, None), depth - 1)


def _array(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach()
        return value.to_dense() if value.layout != torch.strided else value
    return value


def finite(value: Any) -> bool:
    """Whether all numbers of a value are finite."""
    value = _array(value)
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())
    return math.isfinite(value)


def ordinary(value: Any, least: float, most: float) -> bool:
    """Whether the sizes of all numbers are 0, or between these."""
    value = _array(value)
    if isinstance(value, Tensor):
        value = value.to(torch.complex128 if value.is_complex() else torch.float64).numpy()
    sizes = np.asarray(value)
    if sizes.dtype.kind not in "fc":
        return True
    sizes = np.abs(sizes).astype(np.float64)
    return bool(((sizes < most) & ((sizes == 0) | (sizes > least))).all())


def undefined(value: Any) -> bool:
    """Whether some number of a value is NaN."""
    value = _array(value)
    if isinstance(value, Tensor):
        return bool(torch.isnan(value).any())
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fc" and bool(np.isnan(value).any())
    return math.isnan(value)


def agree(one: Any, other: Any) -> bool:
    """Whether two results hold the same numbers, up to the order of sums."""
    pairs = zip(numbers(one), numbers(other), strict=True)
    return all(
        np.allclose(
            np.asarray(_array(a)), np.asarray(_array(b)), rtol=1e-6, atol=1e-9, equal_nan=True
        )
        for a, b in pairs
    )
