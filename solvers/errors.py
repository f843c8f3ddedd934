"""Input errors of the solvers, and the checks that raise them.

Every message gives the offending value and what to pass instead. The checks run before any
work starts and never repair their argument.
"""

from __future__ import annotations

import inspect
import math
import numbers
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Number = float | int | np.floating | np.integer
"""A real number where a scalar is meant; it takes dtype and device of the tensors it meets."""

PRECISIONS = (torch.float32, torch.float64)
MOST = 2**31 - 1  # of anything that is counted: more fit into no memory


PACKAGE = f"{Path(__file__).parent}{os.sep}"


class SolverError(Exception):
    """What the solvers refuse on purpose; each kind is one of Python's own errors, too."""


class MissingExtraError(SolverError, ImportError):
    """A package is needed that only an optional extra installs."""


class InputError(SolverError, ValueError):
    """An argument lies outside the domain of the problem."""


class NotPositiveDefiniteError(InputError):
    """A matrix that must be symmetric positive definite is not."""


class NonFiniteError(InputError):
    """Data hold NaN or infinity."""


class ShapeError(InputError):
    """Shapes or outcome dimensions do not fit together."""


def as_tensor(name: str, value: object, like: object = None) -> Tensor:
    """Return a real number, or a tensor of them, as a tensor of the dtype and device of `like`.

    Args:
        name: of the argument, for messages.
        value: a Python or NumPy number, or a tensor of any shape.
        like: a tensor, whose dtype and device it takes. Without one, a tensor of floating-point
            numbers keeps its own (half precision aside), and anything else becomes float64, which
            is exact.

    Raises:
        InputError: `value` is no real number (text, None, a truth value, complex, an array), or
            `like` has no room for it.
        ShapeError: a tensor without entries.
        NonFiniteError: NaN or infinity.
    """
    if isinstance(value, bool) or not isinstance(value, Tensor | numbers.Real):
        raise InputError(
            f"{name} is {shown(value)}: pass a number or a tensor, as in {name}=0.5 or "
            f"{name}=torch.tensor(0.5)"
        )
    if isinstance(value, Tensor):
        if value.dtype == torch.bool or value.is_complex():
            raise InputError(f"{name} has dtype {value.dtype}: pass real numbers")
        check_dense(name, value)
        if not value.numel():
            raise ShapeError(f"{name} is empty, of shape {tuple(value.shape)}: pass a number each")
        given = value if value.dtype in PRECISIONS else value.double()
    else:
        given = torch.tensor(_as_float(name, value), dtype=torch.float64)
    check_finite(name, given)
    if not isinstance(like, Tensor):
        return given
    found = given.to(like)
    if found.dtype != given.dtype:
        lost = ~torch.isfinite(found) | ((found == 0) & (given != 0))
        if bool(lost.any()):
            raise InputError(
                f"{name} is {given[lost][0].item():.6g}, beyond {like.dtype}: pass float64 tensors"
            )
    return found


def as_positive(name: str, value: object, like: object = None) -> Tensor:
    """Return `as_tensor(name, value, like)`, after checking that every entry is positive."""
    found = as_tensor(name, value, like)
    check_positive(name, found)
    return found


def precedent(*values: object) -> Tensor | None:
    """Return the tensor whose dtype and device the others take, as torch promotes them.

    One with dimensions goes before single numbers, then double precision before single.
    """
    tensors = [v for v in values if isinstance(v, Tensor) and v.dtype in PRECISIONS]
    return max(tensors, key=lambda v: (v.ndim > 0, v.dtype == torch.float64), default=None)


def as_number(name: str, value: object, like: object = None) -> Tensor:
    """Return `as_positive(name, value, like)`, after checking that it is a single number."""
    found = as_positive(name, value, like)
    if found.ndim:
        raise ShapeError(f"{name} has shape {tuple(found.shape)}: pass one number")
    return found


def check_number(
    name: str,
    value: object,
    least: float = -math.inf,
    *,
    positive: bool = False,
    infinite: bool = False,
    instead: str = "",
) -> float:
    """Return a real number as a float, or raise `InputError` unless it is at least `least`.

    For settings that are no part of the mathematics, such as learning rates and tolerances: no
    tensors, no truth values, but any kind of number, such as a fraction, which torch does not take.

    Args:
        name: of the argument, for messages.
        value: of it.
        least: the smallest number allowed.
        positive: whether only numbers above 0 are.
        infinite: whether infinity is, a limit that nothing exceeds.
        instead: what else may be passed, for the message.
    """
    other = f", or {instead}" if instead else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} is {shown(value)}: pass a number{other}")
    given = _as_float(name, value)
    within = given > 0 if positive else given >= least  # not NaN
    if not within or (given == math.inf and not infinite):
        bound = "a finite number" if least == -math.inf else f"a number >= {least:g}"
        raise InputError(f"{name} is {value}: pass {'a number > 0' if positive else bound}{other}")
    return given


def check_limit(name: str, value: object) -> None:
    """Raise `InputError` unless `value` is a number >= 0, infinity or None, for the default."""
    if value is not None:
        check_number(name, value, 0.0, infinite=True)


def _as_float(name: str, value: numbers.Real) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(f"{name} is an integer beyond float64: pass a smaller one") from error


def check_count(name: str, value: object, least: int = 1, most: int | float = MOST) -> None:
    """Raise `InputError` unless `value` is a whole number in this range, of type int."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name} is {shown(value)}: pass an int >= {least}")
    if value < least:
        raise InputError(f"{name} is {value}: pass at least {least}")
    if value > most:
        raise InputError(f"{name} is {shown(value)}: pass at most {most}")


def check_seed(seed: object) -> None:
    """Raise `InputError` unless both torch and NumPy take `seed`: a whole number below 2**64."""
    check_count("seed", seed, 0, 2**64 - 1)


def warn(message: str, category: type[Warning]) -> None:
    """Warn as the line, outside this package, that called whatever calls this."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise `InputError` unless `value` is one of the choices."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{name} is {shown(value)}: pass one of {', '.join(map(repr, known))}")


def check_instance(name: str, value: object, kind: type, remedy: str) -> None:
    """Raise `InputError` unless `value` is of this kind; the message says what to pass."""
    if not isinstance(value, kind):
        raise InputError(f"{name} is {shown(value)}: pass {remedy}")


def check_index(name: str, value: Tensor, remedy: str) -> None:
    """Raise `InputError` unless `value` is a tensor of whole numbers."""
    check_instance(name, value, Tensor, remedy)
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise InputError(f"{name} is {value.dtype}: pass {remedy}")
    check_dense(name, value)


def check_dtype(name: str, value: object) -> None:
    """Raise `InputError` unless `value` is a tensor of single or double precision."""
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name} is {shown(value)}: pass a tensor, torch.as_tensor(numpy.asarray({name}))"
        )
    check_precision(name, value.dtype)
    check_dense(name, value)


def check_dense(name: str, value: Tensor) -> None:
    """Raise `InputError` unless a tensor is stored entry by entry."""
    if value.layout != torch.strided:
        raise InputError(f"{name} is {value.layout}: pass a dense tensor, {name}.to_dense()")


def check_offers(name: str, value: object, attributes: Iterable[str], remedy: str) -> None:
    """Raise `InputError` unless `value` has these attributes; the message says what to pass."""
    for attribute in attributes:
        if not hasattr(value, attribute):
            raise InputError(
                f"{name} is a {type(value).__name__}, without {attribute}: pass {remedy}"
            )


def check_precision(name: str, dtype: torch.dtype) -> None:
    """Raise `InputError` unless `dtype` is single or double precision."""
    if dtype not in PRECISIONS:
        raise InputError(
            f"{name} is {dtype}: pass float32 or float64, as {name}.double() is of a tensor"
        )


def shown(value: object) -> str:
    """Return a value with its type, cut short."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def check_finite(name: str, value: Tensor) -> None:
    """Raise `NonFiniteError` naming the first entry of `value` that is NaN or infinite."""
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        if value.ndim == 0:
            raise NonFiniteError(f"{name} is {value.item()}: pass a finite number")
        index = tuple(bad.nonzero()[0].tolist())
        raise NonFiniteError(
            f"{name}{list(index)} is {value[index].item()} ({int(bad.sum())} of {value.numel()} "
            f"entries are not finite): remove or impute those entries first"
        )


def check_positive(name: str, value: Tensor) -> None:
    """Raise `InputError` unless every entry of `value` is finite and positive."""
    check_finite(name, value)
    if bool((value <= 0).any()):
        raise InputError(f"{name} must be positive, got {value.min().item():.6g}: pass {name} > 0")


def check_same_n(name: str, n: int, other: str, other_n: int) -> None:
    """Raise `ShapeError` unless two things have the same outcome dimension."""
    if n != other_n:
        raise ShapeError(
            f"{name} has n = {n}, {other} n = {other_n}: build both for the same outcomes"
        )


def check_same_classes(name: str, C: int, other: str, other_C: int) -> None:
    """Raise `ShapeError` unless two things have the same number of classes."""
    if other_C != C:
        raise ShapeError(
            f"{name} has C = {C} classes, {other} {other_C}: build both for the same classes"
        )


def check_columns(x: Tensor, owner: str, inputs: int) -> None:
    """Raise `ShapeError` unless `x` has a row for each input and as many columns as it takes."""
    if x.ndim < 2 or x.shape[-1] != inputs:
        raise ShapeError(
            f"x has shape {tuple(x.shape)}, and {owner} takes {inputs} columns: pass x (*b, N, "
            f"{inputs}), or build {owner} with inputs={x.shape[-1] if x.ndim else 1}"
        )


def check_broadcast(
    name: str, shape: Sequence[int], other: str, other_shape: Sequence[int]
) -> None:
    """Raise `ShapeError` unless two batch shapes broadcast."""
    for one, two in zip(reversed(shape), reversed(other_shape), strict=False):
        if one != two and one != 1 and two != 1:
            raise ShapeError(
                f"{name} has batch shape {tuple(shape)}, {other} {tuple(other_shape)}, and they do "
                f"not broadcast: pass the same, or 1 where all share one"
            )


def check_batches(batches: Mapping[str, Sequence[int]]) -> None:
    """Raise `ShapeError` unless all batch shapes, by name, broadcast."""
    for (name, shape), (other, other_shape) in combinations(batches.items(), 2):
        check_broadcast(name, shape, other, other_shape)


def check_spd(name: str, matrix: Float[Tensor, "*b n n"]) -> None:
    """Raise unless every matrix of the batch is square, finite, symmetric, positive definite.

    Judged in units in which its diagonal is 1: of a covariance, by the correlations.
    """
    check_dtype(name, matrix)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise ShapeError(f"{name} must be square (*b, n, n), got shape {tuple(matrix.shape)}")
    check_finite(name, matrix)
    diagonal, largest = matrix.diagonal(dim1=-2, dim2=-1), matrix.abs().amax((-2, -1))
    unit = torch.where(diagonal > 0, diagonal, largest[..., None]).sqrt()
    asymmetry = (matrix - matrix.mT).abs()
    resolution = torch.finfo(matrix.dtype).eps * matrix.shape[-1]
    skewed = asymmetry > 8 * resolution * unit[..., None] * unit[..., None, :]
    if bool(skewed.any()):
        raise NotPositiveDefiniteError(
            f"{name} is not symmetric: max|{name} - {name}ᵀ| = {asymmetry[skewed].max():.6g}; "
            f"pass ({name} + {name}ᵀ)/2 if that is what you mean"
        )
    scaled = matrix / unit[..., None] / unit[..., None, :]
    scaled = torch.where(largest[..., None, None] > 0, scaled, matrix)
    w = torch.linalg.eigvalsh(scaled)
    if bool((w[..., 0] <= resolution * w[..., -1]).any()):
        worst = int(torch.argmin(w[..., 0] / w[..., -1].abs()))
        eigenvalues = torch.linalg.eigvalsh(matrix).reshape(-1, matrix.shape[-1])[worst]
        raise NotPositiveDefiniteError(
            f"{name} is not positive definite: smallest eigenvalue {eigenvalues[0].item():.6g}, "
            f"largest {eigenvalues[-1].item():.6g}; pass a matrix of full rank "
            f"(more rows than outcomes, or add a ridge you choose yourself)"
        )


def check_factor(name: str, factor: Float[Tensor, "*b n n"]) -> None:
    """Raise `InputError` unless a matrix is lower triangular, its diagonal positive."""
    check_finite(name, factor)
    check_positive(f"the diagonal of {name}", factor.diagonal(dim1=-2, dim2=-1))
    if bool(factor.triu(1).any()):
        raise InputError(
            f"{name} has an entry above the diagonal: pass torch.linalg.cholesky of the matrix"
        )
