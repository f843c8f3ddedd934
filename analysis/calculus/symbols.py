"""The one registry of symbols: Python name, domain, meaning.

A symbol exists in three forms: a scalar, an explicit matrix of entry symbols (n = 1, 2, 3, ...), or
a `MatrixSymbol` of general size n (`n=None`).
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from typing import Any, Literal

import sympy as sp

from ..errors import ArgumentError, ArgumentNameError, SlowDerivationWarning, StructureError

Domain = Literal[
    "positive",
    "probability",
    "share",
    "real",
    "count",
    "group",
    "vector",
    "probabilities",
    "bits",
    "symmetric",
    "spd",
    "triangular",
]
Structure = Literal["isotropic", "diagonal", "full"]
STRUCTURES: tuple[Structure, ...] = ("isotropic", "diagonal", "full")
DIMENSION = sp.Symbol("n", positive=True, integer=True)
EXPLICIT = 3  # results are written out in entries up to this n
_PRINTED = {  # one to one, together with the names of all other quantities
    "lam": "lambda",
    "lam_a": "lambda_a",
    "lam_b": "lambda_b",
    "power": "beta_0",
    "generations": "M",
    "steps": "K",
    "earlier": "K_0",
    "last": "K_1",
    "weight": "varsigma",
    "offset": "k_0",
    "baseline": "b_0",
    "freedom": "nu_S",
    "rows": "N",
    "features": "d_x",
    "held": "K_h",
    "kurtosis": "kappa_4",
}


@dataclass(frozen=True)
class Quantity:
    """One symbol of the paper: its Python name, its domain and what it means."""

    name: str
    domain: Domain
    meaning: str


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("lam", "positive", "entropy weight λ"),
        Quantity("U", "spd", "weight matrix of the Mahalanobis reward"),
        Quantity("M", "spd", "direction of a ray of rewards, U = cM"),
        Quantity("Sigma", "spd", "covariance of the data"),
        Quantity("S", "spd", "a covariance used in place of Sigma, or of y_hat - y"),
        Quantity("P", "spd", "covariance of the policy"),
        Quantity("P0", "spd", "covariance of the policy at time 0, or of the reference policy"),
        Quantity("H", "symmetric", "direction of a second differential"),
        Quantity("mu", "vector", "mean of the data"),
        Quantity("m", "vector", "mean of the policy"),
        Quantity("m0", "vector", "mean of the policy at time 0, or of the reference policy"),
        Quantity("h", "vector", "direction of a second differential, mean part"),
        Quantity("y", "vector", "a data point"),
        Quantity("y_hat", "vector", "a generation"),
        Quantity("c", "positive", "scale on a ray of rewards"),
        Quantity("k", "positive", "factor by which the best scale is missed"),
        Quantity("t", "positive", "time"),
        Quantity("zeta", "share", "share of the way from the base to the data"),
        Quantity("w", "probability", "probability of the first of two inputs x"),
        Quantity("w_held", "probability", "probability of that input in the outer problem"),
        Quantity("mu_a", "vector", "mean of the data at the first input"),
        Quantity("mu_b", "vector", "mean of the data at the second input"),
        Quantity("Sigma_a", "spd", "covariance of the data at the first input"),
        Quantity("Sigma_b", "spd", "covariance of the data at the second input"),
        Quantity("U_a", "spd", "weight matrix of the reward at the first input"),
        Quantity("U_b", "spd", "weight matrix of the reward at the second input"),
        Quantity("lam_a", "positive", "entropy weight at the first input"),
        Quantity("lam_b", "positive", "entropy weight at the second input"),
        Quantity("P_a", "spd", "covariance of the policy at the first input"),
        Quantity("P_b", "spd", "covariance of the policy at the second input"),
        Quantity("power", "positive", "power β_0 of the variance in the entropy weight"),
        Quantity("e_a", "vector", "mean error at the first input"),
        Quantity("e_b", "vector", "mean error at the second input"),
        Quantity("a", "vector", "feature of the restricted mean at the first input; P0⁻¹(m0 - mu)"),
        Quantity("b", "vector", "feature of the restricted mean at the second input"),
        Quantity("n", "count", "outcome dimension, where no array shows it"),
        Quantity("u", "positive", "weight of the Mahalanobis reward, U = uI"),
        Quantity("s", "positive", "standard deviation of a scalar policy; variance in P = sI"),
        Quantity("sigma", "positive", "standard deviation of scalar data"),
        Quantity("delta", "real", "mean error m - mu of a scalar policy"),
        Quantity("delta_0", "positive", "size of its mean error at time 0"),
        Quantity("delta_t", "positive", "size of its mean error at time t"),
        Quantity("v_0", "positive", "variance of a scalar policy at time 0"),
        Quantity("v_t", "positive", "variance of a scalar policy at time t"),
        Quantity("L", "triangular", "lower triangular factor of the policy's covariance"),
        Quantity("baseline", "real", "constant b_0 that is subtracted from rewards"),
        Quantity("generations", "group", "number M of generations per data point"),
        Quantity("maximum", "positive", "expected maximum of M chi-squared variables"),
        Quantity("freedom", "positive", "degrees of freedom ν of the covariance of a sample"),
        Quantity("rows", "count", "number N of rows of a sample"),
        Quantity("features", "count", "number d of coefficients of a linear mean, per outcome"),
        Quantity("held", "count", "number K of rows held out for the outer level"),
        Quantity("leverage", "positive", "leverage of a new row in the fit of a linear mean"),
        Quantity("ratio", "positive", "covariance of errors on new rows over that of residuals"),
        Quantity("gap", "positive", "nats by which a larger covariance structure fits better"),
        Quantity("kurtosis", "positive", "fourth moment of standardised residuals"),
        Quantity("W", "spd", "weight matrix of the bounded reward"),
        Quantity("omega", "positive", "width of the bounded reward, W = I/omega"),
        Quantity("beta", "positive", "standard deviation of isotropic data"),
        Quantity("q", "probability", "entropy weight as a fraction of the critical one"),
        Quantity("kappa", "positive", "curvature of a scalar quadratic inner objective"),
        Quantity("gamma", "real", "coupling of inner and outer variable in it"),
        Quantity("nu", "positive", "curvature of a scalar quadratic outer objective"),
        Quantity("tau", "real", "inner variable that maximises it"),
        Quantity("d", "real", "its slope in the outer variable"),
        Quantity("phi", "real", "scalar outer variable"),
        Quantity("theta_0", "real", "start of the inner optimiser"),
        Quantity("eta", "positive", "step size of the inner optimiser"),
        Quantity("steps", "count", "number K of inner steps"),
        Quantity("earlier", "count", "number K_0 of inner steps before those differentiated"),
        Quantity("last", "count", "number K_1 of inner steps differentiated"),
        Quantity("weight", "positive", "weight ς of the inner objective in a penalty"),
        Quantity("pi", "probabilities", "probabilities of the classes in the data"),
        Quantity("p", "probabilities", "probabilities of the classes under the policy"),
        Quantity("p0", "probabilities", "probabilities of the classes under the base"),
        Quantity("tie", "positive", "e^{-z_2} - e^{-z_1} of two equally rewarded classes"),
        Quantity("old", "probability", "weight of the old one of two modes"),
        Quantity("r", "vector", "rewards of the classes"),
        Quantity("rho", "bits", "probabilities that bits of the data are 1"),
        Quantity("psi", "bits", "probabilities that bits of the policy are 1"),
        Quantity("offset", "real", "free constant k_0 of a diagonal reward that reproduces pi"),
    )
}


def dimension(n: int | None) -> Any:
    """The outcome dimension n as a SymPy number, or the symbol n in general."""
    return DIMENSION if n is None else sp.Integer(check_dimension(n))


def check_dimension(n: int) -> int:
    """Return n, or raise StructureError if it is not a positive integer."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise StructureError(f"n = {n!r} is not a dimension; pass a positive integer or None")
    return int(n)


def check_classes(n: int) -> int:
    """Return n, or raise StructureError if it is not an integer >= 2."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 2:
        raise StructureError(f"n = {n!r} is no number of classes; pass an integer >= 2")
    return int(n)


def check_explicit(function: str, n: int | None, sizes: Collection[int | None], why: str) -> None:
    """Raise StructureError unless n is a size of which SymPy finds the entries within seconds.

    Args:
        function: what is asked for.
        n: the size.
        sizes: those that there are; None among them stands for any n.
        why: what grows with n, and what to use instead.
    """
    if (n if n is None else check_dimension(n)) not in sizes:
        listed = ", ".join(str(size) for size in sizes if size)
        raise StructureError(f"{function} has n = {listed}, not n = {n}: {why}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ArgumentError unless the value is one of the choices."""
    if value not in choices:
        raise ArgumentError(f"{name} = {value!r} is unknown; pass one of {choices}")


def warn_if_slow(asked: str, size: int, quick: int, instead: str, stacklevel: int = 3) -> None:
    """Warn of a derivation that takes longer than five seconds, before it starts.

    Args:
        asked: what is asked for.
        size: its size.
        quick: the largest size that takes less.
        instead: what to ask for instead.
        stacklevel: of the caller that asked.
    """
    if size > quick:
        warnings.warn(
            f"{asked} takes longer than five seconds, and the longer the larger; up to {quick} is "
            f"quick. Ctrl-C stops it. {instead}",
            SlowDerivationWarning,
            stacklevel=stacklevel,
        )


@cache
def symbol(name: str, n: int | None = 1) -> Any:
    """The registered symbol of this name: scalar, explicit n-vector or n x n matrix, or general.

    Args:
        name: in `QUANTITIES`, such as "Sigma".
        n: the size of a vector or matrix; None for one of any size. Scalars have none.
    Raises:
        ArgumentNameError: if there is no such name; it proposes the nearest.
        StructureError: if n is no size, or probabilities are asked for with any n.
    """
    domain = _quantity(name).domain
    if domain in ("positive", "probability", "share"):  # what is shown inside holds at both ends
        return sp.Symbol(_PRINTED.get(name, name), positive=True)
    if domain in ("count", "group"):
        return sp.Symbol(_PRINTED.get(name, name), positive=True, integer=True)
    if domain == "real":
        return sp.Symbol(_PRINTED.get(name, name), real=True)
    if domain in ("probabilities", "bits") and n is None:
        raise StructureError(f"general n has no vector of probabilities {name}; pass n=1, 2, 3")
    is_vector = domain in ("vector", "probabilities", "bits")
    columns = 1 if is_vector else n
    if n is None:
        size: Any = DIMENSION
        return sp.MatrixSymbol(name, size, 1 if is_vector else size)
    size = check_dimension(n)
    if is_vector:
        return sp.ImmutableMatrix(size, columns, lambda i, _: _entry(name, n, i))
    if domain == "triangular":
        return sp.ImmutableMatrix(size, size, lambda i, j: _entry(name, n, i, j) if i >= j else 0)
    return sp.ImmutableMatrix(size, size, lambda i, j: _entry(name, n, min(i, j), max(i, j)))


def _quantity(name: str) -> Quantity:
    if isinstance(name, str) and name in QUANTITIES:  # pyright: ignore[reportUnnecessaryIsInstance]
        return QUANTITIES[name]
    nearest = difflib.get_close_matches(str(name), QUANTITIES, n=5, cutoff=0.5)
    raise ArgumentNameError(
        f"{name!r} is no symbol; "
        + (
            f"the nearest are {', '.join(nearest)}"
            if nearest
            else f"pass one of {', '.join(QUANTITIES)}"
        )
    )


def symbols(names: str, n: int | None = 1) -> tuple[Any, ...]:
    """`symbol` for several space-separated names."""
    return tuple(symbol(name, n) for name in names.split())


def named(names: str, n: int | None = 1) -> dict[str, Any]:
    """`symbols` by name, as a derivation takes its arguments."""
    return {name: symbol(name, n) for name in names.split()}


def _entry(name: str, n: int, i: int, j: int | None = None) -> sp.Symbol:
    domain = QUANTITIES[name].domain
    between = "" if n < 10 else "_"  # two digits: row 1, column 12 is not row 11, column 2
    indices = str(i + 1) if j is None else f"{i + 1}{between}{j + 1}"
    bare = n == 1 and name not in ("pi", *_PRINTED.values())  # M and π are something else
    entry = name if bare else f"{name}_{indices}"
    is_pivot = domain in ("spd", "triangular") and i == j
    is_positive = is_pivot or domain in ("probabilities", "bits")
    return sp.Symbol(entry, positive=True) if is_positive else sp.Symbol(entry, real=True)
