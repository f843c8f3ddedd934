"""What is no real number is refused by name; what is one is taken, whatever its type."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
import torch

from analysis import categorical, estimators, gaussian
from analysis.calculus.symbols import symbol
from analysis.errors import ArgumentError, ArgumentNameError

REFUSED: list[tuple[Any, str]] = [
    (np.array([[2.0, 0.5j], [-0.5j, 1.0]]), "complex128; pass X.real"),
    (np.eye(2, dtype=complex), "complex128; pass X.real"),
    ([[1 + 0j, 0], [0, 1]], "complex128; pass X.real"),
    (torch.eye(2, dtype=torch.complex64), "complex64; pass X.real"),
    (np.ma.array(np.eye(2), mask=[[True, False], [False, False]]), "a masked array; fill"),
    ([np.ma.array([1.0, 0.0], mask=[False, True]), [0.0, 1.0]], "a masked array; fill"),
    ([[1.0, np.ma.masked], [0.0, 1.0]], "a masked array; fill"),
    (torch.eye(2, requires_grad=True), "pass t.detach"),
    ([[torch.tensor(1.0, requires_grad=True), 0.0], [0.0, 1.0]], "pass t.detach"),
    (torch.eye(2, dtype=torch.bfloat16), "does not convert"),
    (torch.eye(2).to_sparse(), "does not convert"),
    ("identity", "'identity'"),
    ("1.0", "'1.0'"),
    (b"1.0", "b'1.0'"),
    ([["1", "0"], ["0", "1"]], "from <U1 to float yourself"),
    (None, "None"),
    ([[1.0, None], [None, 1.0]], "with None in it"),
    ([[1.0], [0.0, 1.0]], "does not convert"),
    (True, "True, or with it in it; pass 1.0"),
    ([[1.0, False], [False, 1.0]], "False, or with it in it; pass 1.0"),
    (np.eye(2, dtype=bool), "from bool to float"),
    (np.array([[1.0, False], [False, 1.0]], dtype=object), "with False in it"),
    (sp.Symbol("x"), "x"),
    (sp.pi, "pi"),
    (sp.eye(2) * sp.Symbol("x"), "with x in it"),
    (sp.sqrt(2) * sp.eye(2), r"with sqrt\(2\) in it"),
    (object(), "<object object"),
    ({1.0}, r"\{1.0\}"),
    ({"a": 1.0}, "{'a': 1.0}"),
    (np.array(["2020-01-01"], dtype="datetime64[D]"), "from datetime64"),
    (pd.DataFrame({"a": [1.0, 0.0], "b": ["x", "y"]}), "with 'x' in it"),
    (pd.DataFrame({"a": [1, None], "b": [0, 1]}, dtype="Int64"), "with <NA> in it"),
    (float, "<class 'float'>"),
]


@pytest.mark.parametrize(("value", "words"), REFUSED, ids=[words for _, words in REFUSED])
@pytest.mark.parametrize("n", [2, 5, None])
def test_what_is_no_real_number_is_refused_by_name(value, words, n):
    message = f"U must be a float or an array of floats, not .*{words}"
    with pytest.raises(ArgumentNameError, match="(?s)" + message):
        gaussian.inner.solution("full", n).at(U=value, lam=1.0)


@pytest.mark.parametrize(
    "value", [1j, "1", None, True, torch.tensor(1.0, requires_grad=True), sp.Symbol("x")]
)
def test_scalars_are_refused_alike(value):
    with pytest.raises(ArgumentNameError, match="lam must be a float"):
        gaussian.inner.solution("full", 1).at(U=1.0, lam=value)
    with pytest.raises(ArgumentNameError, match="pi must be a float"):
        categorical.scalar.heuristic_scale(2).at(pi=[0.5, value], lam=1.0)
    with pytest.raises(ArgumentNameError, match="generations must be a float"):
        estimators.groups.minimum_planar(value)


REAL: list[Any] = [
    [[2, 1], [1, 2]],
    ((2.0, 1.0), (1.0, 2.0)),
    np.array([[2, 1], [1, 2]], dtype=np.int8),
    np.array([[2, 1], [1, 2]], dtype=np.uint64),
    np.array([[2, 1], [1, 2]], dtype=np.float16),
    np.array([[2, 1], [1, 2]], dtype=np.longdouble),
    np.ma.array([[2.0, 1.0], [1.0, 2.0]], mask=False),
    np.asfortranarray([[2.0, 1.0], [1.0, 2.0]])[::-1, ::-1],
    torch.tensor([[2.0, 1.0], [1.0, 2.0]]),
    torch.tensor([[2, 1], [1, 2]]),
    [torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0])],
    pd.DataFrame({"a": [2, 1], "b": [1.0, 2.0]}),
    pd.DataFrame({"a": [2, 1], "b": [1, 2]}, dtype="Int64"),
    [[Fraction(2), Fraction(1)], [Decimal(1), 2]],
    sp.Matrix([[2, 1], [1, 2]]),
]


@pytest.mark.parametrize("value", REAL, ids=[type(value).__name__ for value in REAL])
@pytest.mark.parametrize("n", [2, None])
def test_real_numbers_of_every_type_are_taken(value, n):
    expected = np.array([[2.0, -1.0], [-1.0, 2.0]]) / 6
    for lam in (1, 1.0, Fraction(1), Decimal("1.0"), np.float32(1), torch.tensor(1.0), [1.0]):
        found = gaussian.inner.solution("full", n).at(U=value, lam=lam)
        np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_numbers_beyond_floats_are_refused():
    solution = gaussian.inner.solution("full", 1)
    for value in (10**400, Fraction(10**400)):
        with pytest.raises(ArgumentError, match="lam has an entry beyond the range of floats"):
            solution.at(U=1.0, lam=value)
    for value in (Decimal("1e400"), np.inf, Decimal("NaN")):
        with pytest.raises(ArgumentError, match="lam has an entry that is not finite"):
            solution.at(U=1.0, lam=value)


def test_a_wrong_choice_is_named():
    for build in (
        estimators.score_function.score_gradient,
        estimators.score_function.minimal_variance,
    ):
        with pytest.raises(ArgumentError, match="data = 'averagd' is unknown; pass one of"):
            build("averagd")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="parameter = 'L' is unknown"):
        estimators.baselines.matrix("L", 2)  # pyright: ignore[reportArgumentType]


def test_the_value_of_the_example():
    U = torch.eye(2, requires_grad=True)
    found = gaussian.outer.hypergradient("full", 2).at(
        U=U.detach().numpy(), Sigma=np.eye(2), lam=1.0
    )
    np.testing.assert_array_equal(found, -np.eye(2) / 2)


def test_a_symbol_is_of_one_dimension_unless_it_is_told():
    for name in ("U", "mu", "Sigma"):
        assert symbol(name) == symbol(name, 1)
        assert symbol(name).shape == (1, 1)
