"""Reading and checking the numbers given to `Derivation.at`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from analysis.errors import ArgumentError, ArgumentNameError
from analysis.symbols import QUANTITIES


def read_arguments(
    owner: str, arguments: Mapping[str, Any], values: Mapping[str, Any]
) -> list[Any]:
    """Check every value against its symbol and return them in order (general n: n comes first).

    Raises:
        ArgumentNameError: if a name is missing or unknown, or a value is not numeric.
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
    n = _dimension(arguments, numbers)
    general = any(isinstance(shape, sp.MatrixSymbol) for shape in arguments.values())
    checked = [_checked(name, arguments[name], numbers[name], n) for name in arguments]
    return [n, *checked] if general else checked


def read_scalar(name: str, value: Any) -> float:
    """The value of one scalar argument, checked against the domain of its symbol.

    Raises:
        ArgumentNameError: if it is not numeric.
        ArgumentError: if it is not one number, or lies outside its domain.
    """
    return _checked_scalar(name, _numeric(name, value))


def _numeric(name: str, value: Any) -> Any:
    import numpy as np

    try:
        if value is None:
            raise TypeError("None is not a number")
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise ArgumentNameError(
            f"{name} must be a float or an array of floats, not {value!r}"
        ) from error


def _dimension(arguments: Mapping[str, Any], numbers: Mapping[str, Any]) -> int:
    for name, shape in arguments.items():
        if isinstance(shape, sp.MatrixBase):
            return int(shape.rows)
        if isinstance(shape, sp.MatrixSymbol):
            return numbers[name].shape[0] if numbers[name].ndim else 1
    return 1


def _checked(name: str, shape: Any, value: Any, n: int) -> Any:
    if not isinstance(shape, (sp.MatrixBase, sp.MatrixSymbol)):
        return _checked_scalar(name, value)
    _check_finite(name, value)
    domain = QUANTITIES[name].domain
    is_vector = domain in ("vector", "probabilities")
    wanted = (n,) if is_vector else (n, n)
    column = is_vector and value.shape == (n, 1)
    if value.shape != wanted and not column and not (n == 1 and value.size == 1):
        raise ArgumentError(f"{name} has shape {value.shape}; pass an array of shape {wanted}")
    matrix = value.reshape((n, 1) if is_vector else (n, n))
    if domain == "triangular":
        _check_triangular(name, matrix)
    elif domain == "probabilities":
        _check_probabilities(name, matrix)
    elif not is_vector:
        _check_symmetric(name, matrix, spd=domain == "spd")
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
    if domain == "weight" and not 0 < number < 1:
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


def _check_probabilities(name: str, x: Any) -> None:
    least, total = float(x.min()), float(x.sum())
    if least <= 0:
        raise ArgumentError(
            f"{name} has the entry {least:.6g}, which is not positive; "
            "leave out the classes that do not occur"
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


def _check_symmetric(name: str, X: Any, spd: bool) -> None:
    import numpy as np

    gap = float(np.max(np.abs(X - X.T)))
    if gap > 1e-9 * max(1e-300, float(np.max(np.abs(X)))):
        raise ArgumentError(
            f"{name} is not symmetric: largest |{name}_ij - {name}_ji| = {gap:.3g}; "
            f"pass ({name} + {name}.T) / 2 if that is what you mean"
        )
    if spd:
        smallest = float(np.linalg.eigvalsh(X)[0])
        if smallest <= 0:
            raise ArgumentError(
                f"{name} is not positive definite: its smallest eigenvalue is {smallest:.6g}; "
                "pass a symmetric matrix with positive eigenvalues"
            )
