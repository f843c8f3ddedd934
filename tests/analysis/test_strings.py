"""No string is evaluated, wherever it stands: every entrance of `analysis` that takes values.

SymPy evaluates strings as Python code. Each string here would leave a mark, and none may.
"""

from __future__ import annotations

import os
from collections import UserList, UserString, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis import (
    KL,
    Bits,
    Classes,
    Condition,
    Entropy,
    Gaussian,
    Moments,
    Normal,
    derive,
    gaussian,
    outcome,
)
from paper_checks.user_reward import torch_reference, torch_reward
from tests.fuzz.oracle import TYPED

MARK = "EVALUATED"
CODE = f"__import__('os').environ.__setitem__({MARK!r}, '1')"
u = sp.Symbol("u", positive=True)
y_hat, y = outcome(1)
Y_hat, Y = outcome(2)
SQUARE = -u * (y_hat - y) ** 2
PLANE = -u * ((Y_hat - Y).T * (Y_hat - Y))[0]
FOUND = derive(SQUARE, Gaussian(1), KL())
IN_PLANE = derive(PLANE, Gaussian(2))
OF_CLASSES = derive(u * sp.eye(2), Classes(2))
LAW = {"mu": 0.1, "Sigma": 0.5, "m0": 0.0, "P0": 1.0, "lam": 0.5}


class Text(str):
    """A string that is said to be an expression."""

    def _sympy_(self) -> str:
        return CODE


class Object:
    """An object that shows itself as code."""

    def __str__(self) -> str:
        return CODE

    __repr__ = __str__


class Converting(Object):
    """One with SymPy's own hook."""

    def _sympy_(self) -> str:
        return CODE


class Listed(list[Any]):
    """A list of a class of its own."""


def held(value: Any) -> Any:
    """An array without axes, which holds an object."""
    found = np.empty((), dtype=object)
    found[()] = value
    return found


FORMS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda s: s,
    "of a class of its own": Text,
    "of NumPy": np.str_,
    "bytes": lambda s: s.encode(),
    "of collections": UserString,
    "an object": lambda s: Object(),
    "with SymPy's hook": lambda s: Converting(),
    "in a list": lambda s: [s],
    "in a list of a class of its own": lambda s: Listed([s, s]),
    "in rows": lambda s: [[s, "0"], ["0", s]],
    "in a row beside numbers": lambda s: [1, s],
    "in a tuple": lambda s: (s, s),
    "in tuples": lambda s: ((s,),),
    "in a set": lambda s: {s},
    "in a frozen set": lambda s: frozenset({s}),
    "in a dict": lambda s: {s: s},
    "in a deque": lambda s: deque([s, s]),
    "in a list of collections": lambda s: UserList([s, s]),
    "in a generator": lambda s: (x for x in (s, s)),
    "in an array": lambda s: np.array([s, s]),
    "in an array of objects": lambda s: np.array([[s, 0], [0, s]], dtype=object),
    "in an array without axes": held,
    "in a tuple in an array without axes": lambda s: held((s,)),
    "in a dict in an array without axes": lambda s: held({s: s}),
    "in an array in a list": lambda s: [np.array([s, "1"]), np.array(["1", s])],
    "in a tuple in a list": lambda s: [[(s,), 0], [0, 1]],
    "in a dict in a list": lambda s: [{s: s}, 1],
    "in a set in a list": lambda s: [{s}, 1],
    "slice": lambda s: slice(s, s),
}

ENTRANCES: dict[str, Callable[[Any], Any]] = {
    "reward": lambda v: derive(v, Gaussian(1)),
    "reward in the plane": lambda v: derive(v, Gaussian(2)),
    "table": lambda v: derive(v, Classes(2)),
    "reward of bits": lambda v: derive(v, Bits(2)),
    "family": lambda v: derive(SQUARE, v),
    "regulariser": lambda v: derive(SQUARE, Gaussian(1), v),
    "data": lambda v: derive(SQUARE, Gaussian(1), data=v),
    "local": lambda v: derive(SQUARE, Gaussian(1), local=v),
    "Entropy": Entropy,
    "KL": KL,
    "m0": lambda v: derive(SQUARE, Gaussian(1), KL(mean=v)),
    "m0 in the plane": lambda v: derive(PLANE, Gaussian(2), KL(mean=v)),
    "P0": lambda v: derive(SQUARE, Gaussian(1), KL(covariance=v)),
    "P0 in the plane": lambda v: derive(PLANE, Gaussian(2), KL(covariance=v)),
    "p0": lambda v: derive(u * sp.eye(2), Classes(2), KL(probabilities=v)),
    "p0 of bits": lambda v: derive(u * y_hat * y, Bits(1), KL(probabilities=v)),
    "p0 of two bits": lambda v: derive(u * Y_hat[0] * Y[0], Bits(2), KL(probabilities=v)),
    "p0 beside a Gaussian": lambda v: derive(SQUARE, Gaussian(1), KL(probabilities=v)),
    "mean": lambda v: derive(SQUARE, Gaussian(1), data=Moments(mean=v)),
    "mean in the plane": lambda v: derive(PLANE, Gaussian(2), data=Moments(mean=v)),
    "mean of bits": lambda v: derive(u * Y_hat[0] * Y[0], Bits(2), data=Moments(mean=v)),
    "covariance": lambda v: derive(SQUARE, Gaussian(1), data=Moments(covariance=v)),
    "covariance in the plane": lambda v: derive(PLANE, Gaussian(2), data=Moments(covariance=v)),
    "covariance of bits": lambda v: derive(u * y_hat * y, Bits(1), data=Moments(covariance=v)),
    "Normal mean": lambda v: derive(SQUARE, Gaussian(1), data=Normal(mean=v)),
    "Normal covariance": lambda v: derive(PLANE, Gaussian(2), data=Normal(covariance=v)),
    "symmetric": lambda v: Moments(symmetric=v),
    "outcome": outcome,
    "Gaussian": Gaussian,
    "structure": lambda v: Gaussian(2, v),
    "Classes": Classes,
    "Bits": Bits,
    "at, quantity": FOUND.at,
    "at": lambda v: FOUND.at("solution", **{**LAW, "u": v}),
    "at, data": lambda v: IN_PLANE.at("optimum", Sigma=v, lam=0.5),
    "at, classes": lambda v: OF_CLASSES.at("solution", pi=v, u=1.0, lam=1.0),
    "solve": lambda v: FOUND.solve(**{**LAW, "u": v}),
    "solve, λ": lambda v: FOUND.solve(**{**LAW, "u": 1.0, "lam": v}),
    "slopes": lambda v: FOUND.slopes(**{**LAW, "mu": v, "u": 1.0}),
    "best": lambda v: FOUND.best(**{**LAW, "Sigma": v}),
    "best, start": lambda v: FOUND.best(**LAW, u=v),
    "result": lambda v: gaussian.inner.solution("full", n=1).at(U=v, lam=1.0),
    "result, matrix": lambda v: gaussian.inner.solution("full", n=2).at(U=v, lam=1.0),
    "result, side": lambda v: gaussian.inner.solution("full", n=1).at(v, U=1.0, lam=1.0),
    "condition": lambda v: Condition("none", "zero", v).holds(),
    "torch_reward": lambda v: torch_reward(FOUND, u=v),
    "torch_reference": lambda v: torch_reference(FOUND, None, m0=v, P0=1.0),
}


@given(entrance=st.sampled_from(sorted(ENTRANCES)), form=st.sampled_from(sorted(FORMS)))
def test_no_string_is_evaluated(entrance: str, form: str) -> None:
    ends_in_an_error(entrance, form)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_no_string_at_any_entrance(entrance: str) -> None:
    """All forms at once: what the property draws from, in whole."""
    for form in FORMS:
        ends_in_an_error(entrance, form)


def test_every_public_class_and_function_of_values_is_entered() -> None:
    """Names and words are strings by right; the rest is above."""
    texts = {"explain", "listing", "show", "catalogue"}
    built = {"Derivation", "Derived", "Entry", "Key", "Result", "Step"}  # by results and derive
    public = {
        name
        for name in analysis.__all__
        if callable(getattr(analysis, name)) and not is_error(getattr(analysis, name))
    }
    entered = {"derive", "outcome", "Condition", "Gaussian", "Classes", "Bits"}
    assert public == texts | built | entered | {"Entropy", "KL", "Moments", "Normal"}
    os.environ.pop(MARK, None)
    for name in ("explain", "listing", "show"):
        with pytest.raises(analysis.UnknownResultError):
            getattr(analysis, name)(CODE)
    with pytest.raises(analysis.StructureError):
        analysis.show("gaussian.mean_field.cost", CODE)  # pyright: ignore[reportArgumentType]
    assert MARK not in os.environ


def is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, (Exception, Warning))


def ends_in_an_error(entrance: str, form: str) -> None:
    os.environ.pop(MARK, None)
    try:
        ENTRANCES[entrance](FORMS[form](CODE))
    except TYPED:
        pass
    else:
        raise AssertionError(f"{entrance} takes a string {form}")
    assert MARK not in os.environ, f"{entrance} evaluates a string {form}"
