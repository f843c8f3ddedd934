"""Reading and checking the numbers given to `Derivation.at`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import sympy as sp

from ..errors import ArgumentError, ArgumentNameError
from .compiled import scaled
from .symbols import QUANTITIES

_ROUNDING = 1e-9  # by how much X_ij and X_ji may differ, relative to √(X_ii X_jj)


def read_arguments(
    owner: str,
    arguments: Mapping[str, Any],
    values: Mapping[str, Any],
    size: int | None = None,
    closed: Collection[str] = (),
) -> list[Any]:
    """Check every value against its symbol and return them in order (general n: n comes first).

    Args:
        owner: what takes the arguments.
        arguments: name -> symbol.
        values: name -> number or array.
        size: the dimension, where the symbols leave it open but the owner does not.
        closed: names of probabilities that may be 0.
    Raises:
        ArgumentNameError: if a name is missing or unknown, or a value is no real number.
        ArgumentError: if a value has the wrong shape or lies outside its domain.
    """
    expected = ", ".join(arguments)
    for name in values:
        if name not in arguments:
            raise ArgumentNameError(f"{owner} has no argument {name!r}; it takes {expected}")
    for name in arguments:
        if name not in values:
            raise ArgumentNameError(f"{owner} needs {name!r}; it takes {expected}")
    numbers = {name: _numeric(name, values[name]) for name in arguments}
    n = _dimension(arguments, numbers) if size is None else size
    general = any(isinstance(shape, sp.MatrixSymbol) for shape in arguments.values())
    checked = [
        _checked(name, arguments[name], numbers[name], n, name in closed) for name in arguments
    ]
    return [n, *checked] if general else checked


def read_scalar(name: str, value: Any) -> float:
    """The value of one scalar argument, checked against the domain of its symbol.

    Raises:
        ArgumentNameError: if it is no real number.
        ArgumentError: if it is not one number, or lies outside its domain.
    """
    return _checked_scalar(name, _numeric(name, value))


def read_number(name: str, symbol: Any, value: Any) -> float:
    """The value of a symbol that is not of the registry, checked against its assumptions.

    Raises:
        ArgumentNameError: if it is no real number.
        ArgumentError: if it is not one finite number, or of the wrong sign.
    """
    array = _numeric(name, value)
    if array.size != 1:
        raise ArgumentError(f"{name} has shape {array.shape}; pass one number")
    _check_finite(name, array)
    number = float(array.reshape(()))
    for holds, says in (
        (symbol.is_positive is True and number <= 0, "> 0"),
        (symbol.is_negative is True and number >= 0, "< 0"),
        (symbol.is_nonnegative is True and number < 0, ">= 0"),
        (symbol.is_nonpositive is True and number > 0, "<= 0"),
        (symbol.is_nonzero is True and number == 0, "other than 0"),
    ):
        if holds:
            raise ArgumentError(f"{name} = {number} must be {says}, as its symbol is declared")
    return number


def _numeric(name: str, value: Any) -> Any:
    """The value as an array of floats; nothing is dropped or guessed on the way."""
    import numpy as np

    for part in _parts(value):
        if np.ma.is_masked(part):
            raise _no_number(name, "a masked array", "fill or leave out the masked entries")
        if isinstance(part, (bool, np.bool)):
            raise _no_number(name, f"{part!r}, or with it in it", "pass 1.0 or 0.0")
        if getattr(part, "requires_grad", False) is True:
            raise _no_number(name, "a tensor that requires grad", "pass t.detach().numpy()")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, or of a foreign library
        raise _no_number(name, repr(value), f"it does not convert to an array: {error}") from error
    if array.dtype.kind == "c":
        raise _no_number(name, f"of dtype {array.dtype}", "pass X.real if that is what you mean")
    if array.dtype.kind == "O":
        return _from_objects(name, value, array)
    if array.dtype.kind not in "iuf":
        raise _no_number(name, repr(value), f"convert it from {array.dtype} to float yourself")
    return array.astype(float)


def _parts(value: Any) -> Iterator[Any]:
    """The value, and what its lists and tuples hold."""
    yield value
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item)


def _from_objects(name: str, value: Any, array: Any) -> Any:
    """An array of Python integers, fractions, decimals and other real numbers, as floats."""
    import numpy as np

    for item in array.flat:
        if isinstance(item, bool) or not isinstance(item, (Real, Decimal)):
            shown = repr(value) if item is value else f"{value!r}, with {item!r} in it"
            raise _no_number(name, shown, "convert it to float yourself")
    try:
        return np.reshape([float(item) for item in array.flat], array.shape)
    except OverflowError as error:
        raise ArgumentError(f"{name} has an entry beyond the range of floats: {error}") from error


def _no_number(name: str, what: str, remedy: str) -> ArgumentNameError:
    return ArgumentNameError(f"{name} must be a float or an array of floats, not {what}; {remedy}")


def _dimension(arguments: Mapping[str, Any], numbers: Mapping[str, Any]) -> int:
    for name, shape in arguments.items():
        if isinstance(shape, sp.MatrixBase):
            return int(shape.rows)
        if isinstance(shape, sp.MatrixSymbol):
            return numbers[name].shape[0] if numbers[name].ndim else 1
    return 1


def _checked(name: str, shape: Any, value: Any, n: int, closed: bool) -> Any:
    import numpy as np

    if not isinstance(shape, (sp.MatrixBase, sp.MatrixSymbol)):
        return _checked_scalar(name, value)
    _check_finite(name, value)
    domain = QUANTITIES[name].domain
    is_vector = domain in ("vector", "probabilities", "bits")
    wanted = (n,) if is_vector else (n, n)
    column = is_vector and value.shape == (n, 1)
    if value.shape != wanted and not column and not (n == 1 and value.size == 1):
        raise ArgumentError(f"{name} has shape {value.shape}; pass an array of shape {wanted}")
    matrix = value.reshape((n, 1) if is_vector else (n, n))
    if domain == "triangular":
        _check_triangular(name, matrix)
    elif domain == "probabilities":
        _check_probabilities(name, matrix, closed)
    elif domain == "bits":
        _check_bits(name, matrix)
    elif domain == "spd":
        return _positive_definite(name, matrix)
    elif not is_vector:
        return _symmetric(name, matrix, largest=np.max(np.abs(matrix)))
    return matrix


def _checked_scalar(name: str, value: Any) -> float:
    if value.size != 1:
        raise ArgumentError(f"{name} has shape {value.shape}; pass one number")
    number, domain = float(value.reshape(())), QUANTITIES[name].domain
    if domain in ("count", "group"):
        _check_count(name, number, least=1 if domain == "count" else 2)
    _check_finite(name, value)
    if domain == "positive" and number <= 0:
        raise ArgumentError(f"{name} = {number} must be > 0; pass a positive number")
    if domain == "share" and not 0 <= number <= 1:
        raise ArgumentError(f"{name} = {number} must lie in [0, 1]; pass a share")
    if domain == "probability" and not 0 < number < 1:
        raise ArgumentError(f"{name} = {number} must lie in (0, 1); pass a probability")
    return number


def _check_finite(name: str, value: Any) -> None:
    import numpy as np

    if not np.all(np.isfinite(value)):
        raise ArgumentError(f"{name} has an entry that is not finite: {value}; pass finite numbers")


def _check_count(name: str, number: float, least: int) -> None:
    if number < least or not number.is_integer():
        shown = int(number) if number.is_integer() else number
        raise ArgumentError(f"{name} = {shown} is not an integer >= {least}; pass one")


def _check_bits(name: str, x: Any) -> None:
    for i, value in enumerate(x.ravel().tolist()):
        if not 0 < value < 1:
            raise ArgumentError(
                f"{name}[{i}] = {value} must lie in (0, 1); pass the probability that the bit is 1"
            )


def _check_probabilities(name: str, x: Any, closed: bool) -> None:
    least, total = float(x.min()), float(x.sum())
    if closed and least < 0:
        raise ArgumentError(f"{name} has the entry {least:.6g}; pass probabilities, 0 or more")
    if least <= 0 and not closed:
        raise ArgumentError(
            f"{name} has the entry {least:.6g}, which is not positive; leave out the classes that "
            "do not occur; of sequences, which are all there, give each some probability"
        )
    if abs(total - 1) > 1e-9:
        raise ArgumentError(
            f"{name} sums to {total:.12g}, not 1; pass {name} / {name}.sum() "
            "if that is what you mean"
        )


def _check_triangular(name: str, X: Any) -> None:
    import numpy as np

    above = float(np.max(np.abs(np.triu(X, 1))))
    if above > 0:
        raise ArgumentError(
            f"{name} is not lower triangular: largest entry above the diagonal is {above:.6g}; "
            "pass a Cholesky factor"
        )
    smallest = float(np.min(np.diagonal(X)))
    if smallest <= 0:
        raise ArgumentError(
            f"{name} has {smallest:.6g} on its diagonal; pass a factor with a positive diagonal"
        )


def _symmetric(name: str, X: Any, largest: Any) -> Any:
    """The symmetric part of X, if what it leaves out is rounding."""
    import numpy as np

    with np.errstate(over="ignore"):
        gaps = np.abs(X - X.T)
    if np.any(gaps > _ROUNDING * largest):
        raise ArgumentError(
            f"{name} is not symmetric: largest |{name}_ij - {name}_ji| = {np.max(gaps):.3g}; "
            f"pass ({name} + {name}.T) / 2 if that is what you mean"
        )
    return np.where(gaps == 0, X, X / 2 + X.T / 2)


def _positive_definite(name: str, X: Any) -> Any:
    """The symmetric part of X, if it is positive definite.

    That is decided by eigenvalues where rounding cannot change their signs, else exactly: on the
    matrix scaled by powers of 2 to a diagonal near 1, whose largest eigenvalue is at most 2n.
    """
    import numpy as np

    n, diagonal = len(X), np.diagonal(X)
    if np.min(diagonal) > 0:
        roots = np.sqrt(diagonal)
        X = _symmetric(name, X, largest=roots[:, None] * roots)
        S, _ = scaled(X)
        if n == 1:
            return X
        if np.max(np.abs(S)) < 2:  # as |X_ij| < √(X_ii X_jj) of every SPD matrix implies
            smallest = float(np.linalg.eigvalsh(S)[0])
            margin = 16 * n**2 * np.finfo(float).eps
            if smallest > margin or (smallest > -margin and _has_positive_minors(X)):
                return X
    else:
        _symmetric(name, X, largest=np.max(np.abs(X)))
    smallest = float(np.linalg.eigvalsh(X)[0])
    found = f"{smallest:.6g}" if smallest < 0 else "0 or below, by less than rounding"
    raise ArgumentError(
        f"{name} is not positive definite: its smallest eigenvalue is {found}; "
        "pass a symmetric matrix with positive eigenvalues"
    )


def _has_positive_minors(X: Any) -> bool:
    """Sylvester's criterion in integers: Bareiss' elimination has the leading minors as pivots."""
    fractions = [[Fraction(x) for x in row] for row in X.tolist()]
    common = max(x.denominator for row in fractions for x in row)  # all are powers of 2
    rows = [[int(x * common) for x in row] for row in fractions]
    before = 1
    for k, above in enumerate(rows):
        if above[k] <= 0:
            return False
        for row in rows[k + 1 :]:
            lead = row[k]
            row[k:] = [
                (x * above[k] - lead * y) // before for x, y in zip(row[k:], above[k:], strict=True)
            ]
        before = above[k]
    return True
