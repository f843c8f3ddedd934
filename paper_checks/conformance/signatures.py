"""The signatures that `conform` knows, and calling a function of one of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .foreign import where


@dataclass(frozen=True)
class Signature:
    """What a function of one kind takes and returns.

    Attributes:
        kind: what it computes.
        required: names of the parameters it must have.
        optional: parameters that are passed if it has them.
        returns: names of the results.
        text: how it is written.
    """

    kind: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    returns: tuple[str, ...]
    text: str

    @property
    def known(self) -> frozenset[str]:
        """Names of all parameters that are passed."""
        return frozenset((*self.required, *self.optional))


INNER = Signature(
    "inner solution",
    ("U", "lam"),
    ("structure",),
    ("P",),
    "f(U, lam, [structure]) -> P",
)
HYPERGRADIENT = Signature(
    "hypergradient",
    ("U", "Sigma", "lam"),
    ("structure",),
    ("G",),
    "f(U, Sigma, lam, [structure]) -> G",
)
ESTIMATOR = Signature(
    "policy-gradient estimator",
    ("m", "L", "U", "y", "epsilon"),
    ("lam",),
    ("g_m", "g_L"),
    "f(m, L, U, y, [lam], epsilon) -> (g_m, g_L)",
)
BITS_INNER = Signature(
    "inner solution of bits",
    ("u", "rho", "lam"),
    (),
    ("z",),
    "f(u, rho, lam) -> z",
)
BITS_HYPERGRADIENT = Signature(
    "hypergradient of bits",
    ("u", "rho", "lam", "z"),
    (),
    ("g",),
    "f(u, rho, lam, z) -> g",
)
BITS_OPTIMAL = Signature(
    "optimal reward of bits",
    ("rho", "lam"),
    (),
    ("u",),
    "f(rho, lam) -> u",
)
BITS = (BITS_HYPERGRADIENT, BITS_INNER, BITS_OPTIMAL)
SIGNATURES = (*BITS, ESTIMATOR, HYPERGRADIENT, INNER)

VECTORS = ("g_m", "z", "g", "u")

DETERMINISTIC = "make it deterministic (an estimator gets its noise as epsilon)"


class UnknownSignature(TypeError):
    """The parameters are those of none of the signatures."""


class Unusable(AssertionError):
    """The function under test raised, or returned what cannot be compared."""


@dataclass(frozen=True)
class Target:
    """A function under test: takes arrays and floats by name, returns checked float64 arrays.

    Attributes:
        function: somebody's.
        signature: what it was taken for.
        takes: names of the inputs that are passed to it.
        because: why it was taken for that, as a sentence.
    """

    function: Callable[..., Any]
    signature: Signature
    takes: frozenset[str]
    because: str

    def __call__(self, **inputs: Any) -> tuple[np.ndarray, ...]:
        """Return the function's results at the inputs it takes.

        Raises:
            Unusable: it raised, or a result has the wrong type, dtype or shape, or is not finite.
        """
        given = {name: value for name, value in inputs.items() if name in self.takes}
        # It gets copies: what it does to its inputs must not change what it is compared with.
        copies = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in given.items()}
        try:
            results = self.function(**copies)
        except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises
            raise Unusable(
                f"{self.signature.kind} raised {type(error).__name__}: {error}\n"
                f"{where(error)}\n  inputs   {show(given)}"
            ) from error
        problem = self._problem(results, len(inputs[self.signature.required[0]]))
        if problem:
            raise Unusable(f"{self.signature.kind} {problem}\n  inputs   {show(given)}")
        found = results if len(self.signature.returns) > 1 else (results,)
        # Copies again: the next call may return the same arrays, filled anew.
        return tuple(np.array(value) for value in found)

    def deterministic(self, **inputs: Any) -> None:
        """Call twice.

        Raises:
            Unusable: as a single call, or the results differ by more than rounding.
        """
        for name, one, other in zip(
            self.signature.returns, self(**inputs), self(**inputs), strict=True
        ):
            if np.abs(one - other).max() > 1e-9 * np.abs(one).max():
                given = {key: value for key, value in inputs.items() if key in self.takes}
                raise Unusable(
                    f"{self.signature.kind} returned {name} = {one.tolist()}, then "
                    f"{other.tolist()} for the same inputs: {DETERMINISTIC}\n"
                    f"  inputs   {show(given)}"
                )

    def _problem(self, results: Any, n: int) -> str | None:
        """Say what is wrong with the results, if anything is."""
        names = self.signature.returns
        if len(names) == 1:
            return _fault(names[0], results, n)
        if not isinstance(results, (tuple, list)) or len(results) != len(names):
            return f"returned {type(results).__name__}: return the pair ({', '.join(names)})"
        return next(
            (fault for pair in zip(names, results, strict=True) if (fault := _fault(*pair, n))),
            None,
        )


def _fault(name: str, value: Any, n: int) -> str | None:
    """Say what is wrong with one result, if anything is."""
    if not isinstance(value, np.ndarray):
        return f"returned {type(value).__name__} for {name}: return a NumPy array"
    value = np.asarray(value)  # no mask, which would hide what is not finite
    shape = (n,) if name in VECTORS else (n, n)
    if value.shape != shape:
        return f"returned {name} of shape {value.shape}: return shape {shape}"
    if value.dtype != np.float64:
        return (
            f"returned {name} of dtype {value.dtype}: compute in float64 and return it, "
            "the tolerances are finer than float32"
        )
    if not np.all(np.isfinite(value)):
        return f"returned {name} = {value.tolist()}: every entry must be finite"
    if name == "g_L" and np.any(np.triu(value, 1)):
        return f"returned g_L = {value.tolist()}: return its lower triangle, np.tril(g_L)"
    return None


def show(inputs: dict[str, Any]) -> str:
    """Return inputs as `name = value`, to be pasted back into Python."""
    values = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    return ", ".join(f"{name} = {value!r}" for name, value in values.items())


def recognise(function: Callable[..., Any]) -> Target:
    """Return the function as one of the kinds, by the names of its parameters.

    Those without a default choose, and a kind must know them all. Of several kinds that fit it is
    the one that needs fewest names: an extra input with a default makes no other function.

    Raises:
        UnknownSignature: it is none of them, or one as well as another, or some parameter is
            positional-only.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:  # some builtins have none
        raise UnknownSignature(_advice(function, "has no readable signature")) from error
    named = {
        name: parameter.default is not parameter.empty
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    positional = any(p.kind is p.POSITIONAL_ONLY for p in parameters.values())
    must = {name for name, has_default in named.items() if not has_default}
    fit = [
        signature
        for signature in SIGNATURES
        if not positional and named.keys() >= set(signature.required) and must <= signature.known
    ]
    fewest = min((len(signature.required) for signature in fit), default=0)
    chosen = [signature for signature in fit if len(signature.required) == fewest]
    if len(chosen) != 1:
        several = ", which fits several kinds" if chosen else ""
        raise UnknownSignature(_advice(function, f"takes ({', '.join(parameters)}){several}"))
    takes = frozenset(chosen[0].known & named.keys())
    return Target(function, chosen[0], takes, _because(chosen[0], named, takes))


def _because(signature: Signature, named: dict[str, bool], takes: frozenset[str]) -> str:
    """Say what a function was taken for, and by which names."""
    chose = ", ".join(name for name in named if name in signature.required)
    kept = ", ".join(name for name in named if name not in takes)
    text = f"taken for the {signature.kind} {signature.text}: it has the parameters {chose}"
    return f"{text}; left at the default: {kept}" if kept else text


def _advice(function: Callable[..., Any], what: str) -> str:
    lines = [f"  {signature.text:<44}{signature.kind}" for signature in reversed(SIGNATURES)]
    head = f"{name_of(function)} {what}: give it parameters of one of these names"
    return "\n".join([head, *lines])


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, or of the class of another callable."""
    return str(getattr(function, "__name__", type(function).__name__))
