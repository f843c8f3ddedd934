"""Linear solves: what they say of themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.numerics import linear_solve
from tests.draws import F64

A = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.5]], dtype=F64)
B = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
EYE = torch.eye(3, dtype=F64)


@pytest.mark.parametrize("kwargs", [{}, {"step": 0.4}, {"max_iterations": 3}])
def test_a_neumann_series_counts_its_products(kwargs: dict[str, Any]) -> None:
    calls = 0

    def product(v: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return A @ v

    found = linear_solve.neumann(product, B, tolerance=1e-8, **kwargs)
    assert found.iterations == calls
    if "max_iterations" not in kwargs:
        torch.testing.assert_close(A @ found.x, B, rtol=1e-7, atol=1e-7)


def test_a_nystrom_approximation_inverts_what_it_approximates() -> None:
    """`(V diag(w) Vᵀ + shift I)⁻¹ r`, against the dense matrix, and of full rank that of `A`."""
    V = torch.linalg.qr(torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]], dtype=F64)).Q
    w = torch.tensor([5.0, 0.5], dtype=F64)
    low = linear_solve.Nystrom(V, w, 0)
    dense = V @ torch.diag(w) @ V.T + 0.3 * EYE
    torch.testing.assert_close(low.inverse(B, 0.3), torch.linalg.solve(dense, B))
    beyond = V @ torch.diag(w) @ V.T + w[-1] * (EYE - V @ V.T)
    torch.testing.assert_close(low.precondition(B), torch.linalg.solve(beyond, B))
    whole = linear_solve.nystrom(lambda v: A @ v, B, 3, torch.Generator().manual_seed(0))
    wanted = torch.linalg.solve(A + 0.3 * EYE, B)
    torch.testing.assert_close(whole.inverse(B, 0.3), wanted)


def test_the_largest_eigenvalue_is_bounded_and_its_products_are_counted() -> None:
    calls = 0

    def product(v: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return A @ v

    value, products = linear_solve.largest_eigenvalue(product, B)
    largest = float(torch.linalg.eigvalsh(A)[-1])
    assert largest < value < 1.1 * largest
    assert products == calls
    assert linear_solve.largest_eigenvalue(lambda v: 0 * v, B) == (1.0, 1)
