"""What a call with a spoilt argument may end in: a typed error, or a result without surprises."""

from __future__ import annotations

import math
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import analysis
from paper_checks.conformance import signatures
from solvers.errors import InputError
from solvers.hypergradients.implicit import HypergradientError
from tests import limits
from tests.fuzz.spoiling import Place, Spoiler, changed, own

OURS = str(Path(__file__).parents[1])  # functions that a call is given are the caller's own
CALLERS = ("takes no arguments", 'missing the required "forward" function')  # and so are these
HUGE = 1e150  # beyond it squares over- or underflow, and their difference may be NaN
SECONDS = 10.0  # of processor time that a call may take
TYPED = (
    InputError,
    HypergradientError,
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


def tried(
    label: str, function: Callable[..., Any], arguments: Mapping[str, Any], path: Place, by: Spoiler
) -> str:
    """Call the function with one argument spoilt, judge how it ends, and say so.

    Raises:
        BadEnd: an error of another kind, a message without what is wrong, NaN out of finite
            numbers, another result for another layout.
    """
    place = f"{label}: {'.'.join(map(str, path))} {by.name}"
    arguments = own(arguments)
    with warnings.catch_warnings(), limits.processor_time(SECONDS, place):
        warnings.simplefilter("ignore")
        before = function(**own(arguments)) if by.same else None
        try:
            spoilt = changed(arguments, path, by.apply)
            found = function(**spoilt)
        except TYPED as error:
            return said(place, path, error)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            if OURS in where.filename or any(word in str(error) for word in CALLERS):
                return "an error of the caller's own function"
            at = f"{where.filename}:{where.lineno}"
            raise BadEnd(f"{place}: {type(error).__name__}: {str(error)[:200]} ({at})") from error
    if by.same and not agree(before, found):
        raise BadEnd(f"{place}: another result for the same numbers in another layout")
    spread = list(numbers(spoilt))
    if all(map(ordinary, spread)):
        for value in numbers(found):
            if undefined(value) or (by.finite and isinstance(value, Tensor) and not finite(value)):
                raise BadEnd(f"{place}: {value} from finite numbers")
    return "a result"


def said(place: str, path: Place, error: Exception) -> str:
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


def ordinary(value: Any) -> bool:
    """Whether all numbers are finite, and so are their squares, in double precision."""
    value = _array(value)
    if isinstance(value, Tensor):
        value = value.to(torch.complex128 if value.is_complex() else torch.float64)
        return not value.numel() or bool((value.abs() < HUGE).all())
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "fc" or bool((np.abs(value) < HUGE).all())
    return abs(float(value)) < HUGE


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
