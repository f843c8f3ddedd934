"""Linear solves: what they say of themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.numerics import linear_solve

F64 = torch.float64
A = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.5]], dtype=F64)
B = torch.tensor([1.0, -2.0, 0.5], dtype=F64)


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
