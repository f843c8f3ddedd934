"""Linear solves: what they say of themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.errors import NotPositiveDefiniteError
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
    for shift in (0.0, 0.3):  # up to the factor by which it is the identity beyond V
        wanted = (w[-1] + shift) * torch.linalg.solve(beyond + shift * EYE, B)
        torch.testing.assert_close(low.precondition(B, shift), wanted)
    whole = linear_solve.nystrom(lambda v: A @ v, B, 3, torch.Generator().manual_seed(0))
    wanted = torch.linalg.solve(A + 0.3 * EYE, B)
    torch.testing.assert_close(whole.inverse(B, 0.3), wanted)


@pytest.mark.parametrize("shift", [0.0, 1e-2])
def test_a_preconditioner_spares_products_of_the_system_it_is_handed(shift: float) -> None:
    """Of `A + shift I`: one that knows `A` alone makes the spectrum worse than it was."""
    generator = torch.Generator().manual_seed(0)
    V = torch.linalg.qr(torch.randn(300, 300, generator=generator, dtype=F64)).Q
    w = torch.logspace(0, -10, 300, dtype=F64) + (1e-4 if shift == 0 else 0)
    b = V @ torch.ones(300, dtype=F64)
    calls = 0

    def product(v: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return V @ (w * (V.T @ v)) + shift * v

    plain = linear_solve.cg(product, b, tolerance=1e-8)
    sketch = linear_solve.nystrom(lambda v: product(v) - shift * v, b, 200, generator)
    calls = 0
    found = linear_solve.cg(
        product, b, tolerance=1e-8, precondition=lambda r: sketch.precondition(r, shift)
    )
    assert found.residual <= 1e-8
    assert found.iterations == calls
    assert found.iterations < plain.iterations / 4


def test_a_sketch_of_an_indefinite_matrix_is_refused_and_of_0_is_empty() -> None:
    with pytest.raises(NotPositiveDefiniteError, match="use another method"):
        linear_solve.nystrom(lambda v: A @ v - 10 * v, B, 3, torch.Generator().manual_seed(0))
    nothing = linear_solve.nystrom(lambda v: 0 * v, B, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(nothing.inverse(B, 0.5), 2 * B)
    torch.testing.assert_close(nothing.precondition(B, 0.5), B)


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
