"""What `derive` is asked about: outcomes, a family of policies, a regulariser, what data are known.

Everything here is a small frozen description. Numbers, SymPy expressions and matrices of them are
taken where a symbol would stand by default; strings are not, because SymPy would evaluate them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from ..calculus import gate, printing
from ..calculus.factors import factored
from ..calculus.ldl import to_coordinates
from ..calculus.symbols import (
    STRUCTURES,
    Structure,
    check_classes,
    check_dimension,
    check_explicit,
    symbol,
)
from ..errors import RewardError, RewardTypeError, StructureError
from ..result import SIZES

ROUNDING = 1e-9  # by which probabilities may miss a sum of 1
DOUBLE = 53  # binary digits
LARGEST = 100  # powers of ten: of larger numbers SymPy looks for factors in vain
OUTCOME = re.compile(r"^(y_hat|yhat|ŷ|y)(_?\d+)?$")
WHY = "its moments are written out in entries; a reward that is a sum over coordinates needs one"


def outcome(n: int = 1) -> tuple[Any, Any]:
    """The symbols ŷ and y of outcomes in R^n: two scalars for n = 1, else two columns.

    Args:
        n: 1, 2 or 3.
    Raises:
        StructureError: unless n = 1, 2, 3.
    """
    check_explicit("outcome", n, SIZES, WHY)
    pair = symbol("y_hat", n), symbol("y", n)
    return (pair[0][0], pair[1][0]) if n == 1 else pair


@dataclass(frozen=True)
class Gaussian:
    """Gaussian policies N(m, P) on R^n.

    Args:
        n: 1, 2 or 3.
        structure: of P; "isotropic" is P = sI. For n = 1 all structures are one.
    Raises:
        StructureError: for another n or structure.
    """

    n: int = 1
    structure: Structure = "full"

    def __post_init__(self) -> None:
        check_explicit("Gaussian", self.n, SIZES, WHY)
        if not isinstance(self.structure, str) or self.structure not in STRUCTURES:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StructureError(
                f"unknown structure {self.structure!r}; pass one of {STRUCTURES}, "
                "as in Gaussian(2, 'full')"
            )


@dataclass(frozen=True)
class Classes:
    """Categorical policies over n classes, which the rewards' table lists.

    Args:
        n: number of classes, 2 or more.
    Raises:
        StructureError: if n is not an integer >= 2.
    """

    n: int

    def __post_init__(self) -> None:
        check_classes(self.n)


@dataclass(frozen=True)
class Bits:
    """Policies of n independent bits, ψ_i = P(ŷ_i = 1).

    Args:
        n: number of bits: 1, 2 or 3.
    Raises:
        StructureError: unless n = 1, 2, 3.
    """

    n: int = 1

    def __post_init__(self) -> None:
        check_dimension(self.n)
        check_explicit("Bits", self.n, SIZES, WHY)


@dataclass(frozen=True)
class Entropy:
    """The regulariser λH(p).

    Args:
        lam: a positive symbol or number; the symbol λ if not given.
    """

    lam: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", weight(self.lam))


@dataclass(frozen=True)
class KL:
    """The regulariser -λ KL(p ‖ p₀) to a reference policy p₀, of RLHF's form.

    Args:
        lam: a positive symbol or number; the symbol λ if not given.
        mean: of a Gaussian reference, (n,); the symbol m0 if not given.
        covariance: of a Gaussian reference, (n, n); the symbol P0 if not given.
        probabilities: of classes or bits, (n,), in (0, 1), those of classes with sum 1; the symbols
            p0_1, p0_2, ... if not given, which are arguments one by one.
    """

    lam: Any = None
    mean: Any = None
    covariance: Any = None
    probabilities: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", weight(self.lam))


@dataclass(frozen=True)
class Moments:
    """Data of any law, by the moments that the reward needs: μ, Σ and higher central ones.

    Central moments of order k > 2 are the symbols mu_k (n = 1), or mu_ijk... by their indices.

    Args:
        mean: in place of the symbol mu; of bits, in place of rho, in (0, 1).
        covariance: in place of the symbol Sigma; not of bits.
        symmetric: whether y - μ and μ - y have one law: its moments of odd order are 0.
    """

    mean: Any = None
    covariance: Any = None
    symmetric: bool = False

    def __post_init__(self) -> None:
        check_truth("symmetric", self.symmetric)


@dataclass(frozen=True)
class Normal:
    """Gaussian data N(μ, Σ), which an exponential of y needs; all moments follow from μ and Σ.

    Args:
        mean: in place of the symbol mu.
        covariance: in place of the symbol Sigma.
    """

    mean: Any = None
    covariance: Any = None


Family = Gaussian | Classes | Bits
Regulariser = Entropy | KL
Data = Moments | Normal


def weight(lam: Any) -> Any:
    """λ > 0 as an expression: the symbol if None.

    Raises:
        RewardError: if it is not known to be positive.
        RewardTypeError: if it is no expression.
    """
    value = symbol("lam") if lam is None else constant(lam, "lam")
    if value.is_positive is not True:
        raise RewardError(
            f"lam = {value} is not known to be positive; pass a number > 0, or "
            "sp.Symbol('lam', positive=True)"
        )
    return value


def positive(lam: Any) -> tuple[str, ...]:
    """That the weight is positive, where that is an assumption: of a symbol."""
    return (f"{printing.terminal(lam)} > 0",) if lam.is_Symbol else ()


def check_truth(name: str, value: object) -> None:
    """Raise `RewardTypeError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise RewardTypeError(
            f"{name} is {value!r} of type {type(value).__name__}; pass True or False"
        )


def exact(value: Any, what: str) -> Any:
    """An expression with its decimal numbers as fractions, so that residuals can be exactly 0.

    Raises:
        RewardTypeError: for a string, or what is no SymPy expression or number.
        RewardError: for a number that is complex or not finite.
    """
    found = gate.expression(value, what)
    general = found.atoms(sp.MatrixSymbol) if isinstance(found, sp.Basic) else ()
    of_any_n = sorted(x.name for x in general if OUTCOME.match(x.name))
    if of_any_n:
        raise RewardTypeError(
            f"{what} has {' and '.join(of_any_n)} of any size n; take them from outcome(n) first: "
            "y_hat, y = outcome(1)"
        )
    if not isinstance(found, sp.Expr) or isinstance(found, sp.MatrixExpr):
        raise RewardTypeError(
            f"{what} is of type {type(value).__name__}; pass a scalar SymPy expression in entries, "
            "such as (d.T * U * d)[0] of explicit matrices"
        )
    if found.has(sp.I, sp.oo, -sp.oo, sp.zoo, sp.nan):
        raise RewardError(
            f"{what} = {found} is not real and finite; pass a real expression, sp.re(...) of it "
            "if that is what you mean"
        )
    far = [x for x in found.atoms(sp.Number) if x and abs(sp.log(abs(x), 10).n(5)) > LARGEST]
    if far:
        raise RewardError(
            f"{what} has the number {sp.N(far[0], 3)}; pass numbers within 10^±{LARGEST}, in other "
            "units, or a symbol for it"
        )
    return found.xreplace({x: sp.Rational(_shortest(x)) for x in found.atoms(sp.Float)})


def _shortest(x: Any) -> str:
    """The shortest decimal that is read back as x: 0.1 is 1/10, and 1/3 loses no digit."""
    is_double = x._prec == DOUBLE
    return repr(float(x)) if is_double else str(x)


def constant(value: Any, what: str) -> Any:
    """An `exact` expression of λ, the data or the reference: real, and without outcomes.

    Raises:
        RewardTypeError: for a string, or what is no SymPy expression or number.
        RewardError: for what is not known to be real and finite, and for ŷ and y.
    """
    found = exact(value, what)
    for x in sorted(found.free_symbols, key=str):
        check_symbol(x, f"the symbol {x} of {what}")
        if OUTCOME.match(x.name):
            raise RewardError(
                f"{what} = {found} has the outcome {x}; pass an expression without outcomes: "
                "averages over the data are the symbols of Moments()"
            )
    check_real(found, what)
    return found


def exact_matrix(
    value: Any, shape: tuple[int, int], what: str, entry: Callable[[Any, str], Any] = constant
) -> Any:
    """An explicit matrix of this shape, every entry `constant`, or else `entry`.

    A row stands for a column.

    Raises:
        RewardTypeError: if it is no matrix or nested list.
        RewardError: if it is of another shape.
    """
    listed = isinstance(value, (sp.MatrixBase, list, tuple))
    if shape == (1, 1) and not listed and getattr(value, "shape", ()) == ():
        return sp.ImmutableMatrix([[entry(value, what)]])
    X = gate.matrix(value, what)
    if X.shape != shape and shape[1] == 1 and X.shape == (1, shape[0]):
        X = X.T
    if X.shape != shape:
        raise RewardError(f"{what} has shape {X.shape}; pass one of shape {shape}")
    return sp.ImmutableMatrix(*shape, [entry(x, f"an entry of {what}") for x in X])


def improper(what: str, p: Any, *, whole: bool) -> str | None:
    """Why a column of numbers or expressions is known to be no probabilities, None if it is not.

    Args:
        what: for messages.
        p: the column.
        whole: whether they are of classes: numbers must sum to 1.
    """
    for i, x in enumerate(p):
        if x.is_positive is False or (1 - x).is_positive is False:
            return f"{what}[{i}] = {x} does not lie in (0, 1); pass a probability"
    total = sp.Add(*p)
    if whole and p and total.is_number and abs(float(total) - 1) > ROUNDING:
        return (
            f"{what} = {list(p)} sum to {float(total):.12g}, not 1; divide them by their sum if "
            "that is what you mean"
        )
    return None


def check_symbol(x: Any, what: str) -> None:
    """Raise unless a free symbol is a scalar that is declared real, and of a sign at most."""
    if isinstance(x, sp.MatrixSymbol):
        raise RewardTypeError(f"{x} is a MatrixSymbol; pass entries, such as symbol('U', 2)")
    if not isinstance(x, sp.Symbol) or x.is_real is not True:
        raise RewardError(
            f"{what} is not declared real; make it sp.Symbol({str(x)!r}, positive=True) or "
            "sp.Symbol(..., real=True)"
        )
    narrower = sorted(
        x.assumptions0.items() - _facts_of_signs(), key=lambda fact: (not fact[1], fact[0])
    )
    if narrower:
        facts = ", ".join(f"{name}={holds}" for name, holds in narrower if holds >= narrower[0][1])
        raise RewardError(
            f"{what} is declared with {facts}, but numbers of it may be any of its sign; "
            f"declare it real=True, positive=True, negative=True or nonzero=True alone, or put a "
            "number in its place"
        )


@cache
def _facts_of_signs() -> set[tuple[str, bool]]:
    """What SymPy concludes of symbols that are declared real and of a sign."""
    signs = ("positive", "negative", "nonnegative", "nonpositive", "nonzero")
    return {
        fact for s in signs for fact in sp.Symbol("x", real=True, **{s: True}).assumptions0.items()
    }


def check_real(f: Any, what: str, outcomes: Collection[Any] = ()) -> None:
    """Raise `RewardError` unless f, scalar or matrix, follows to be real from its symbols.

    Of what has outcomes only the coefficients are looked at: its form is judged elsewhere.
    """
    for part in f if isinstance(f, sp.MatrixBase) else [f]:
        unknown = sorted(part.atoms(AppliedUndef), key=str)
        if unknown:
            raise RewardError(
                f"{what} has the function {unknown[0]}, which has no value; pass a function of "
                f"SymPy, or a symbol for it: sp.Symbol({unknown[0].func.__name__!r}, real=True)"
            )
        found = _not_real(part, set(outcomes))
        if found is not None:
            raise RewardError(
                f"{what} has {found}, which is not known to be real; declare its symbols "
                "positive=True or real=True, or pass another expression: sp.real_root(...) of a "
                "negative number, sp.Abs(...) under a root or a logarithm"
            )


def _not_real(f: Any, outcomes: set[Any]) -> Any:
    """The innermost part of f without outcomes that makes it not known to be real, or None.

    Where minors of an SPD symbol stand under a root or a logarithm, their signs are known in its
    LDL coordinates.
    """
    if not isinstance(f, sp.Expr) or f.is_extended_real:
        return None
    beside = f.free_symbols & outcomes
    if not beside and factored(to_coordinates(f), deep=True).is_extended_real:
        return None
    inner = next((found for arg in f.args if (found := _not_real(arg, outcomes)) is not None), None)
    return f if inner is None and not beside else inner
