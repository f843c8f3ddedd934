"""The differentiable inner solution: derivatives of first and second order, maps, and errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from solvers.errors import InputError, NonFiniteError, ShapeError
from solvers.hypergradients.differentiable import InnerSolutionError, inner_solution
from solvers.numerics import minimise
from tests.draws import normal

N = 3


A, B = normal(0, N, N), normal(1, 4, N)
START = {"x": torch.zeros(N, dtype=torch.float64), "y": torch.zeros(1, 2, dtype=torch.float64)}


def objective(theta: Any, phi: Any) -> Tensor:
    """Concave in two tensors that interact, not quadratic."""
    x, y = theta["x"], theta["y"]
    A, b = phi
    curved = x @ (A @ A.mT + torch.eye(N, dtype=x.dtype)) @ x / 2 + 0.1 * x.pow(4).sum()
    return b @ x - curved - (y - b.sum() * x[0]).square().sum() + 0.1 * y.sin().sum()


def solve(A: Tensor, b: Tensor) -> Tensor:
    found = inner_solution(objective, START, (A, b))
    assert found["y"].shape == (1, 2)
    return torch.cat([found["x"], found["y"][0]])


def score(b: Tensor) -> Tensor:
    return solve(A, b).sin().sum()


def test_first_and_second_derivatives() -> None:
    inputs = (A.clone().requires_grad_(), B[0].clone().requires_grad_())
    assert torch.autograd.gradcheck(solve, inputs, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(solve, inputs)


def test_a_wide_tolerance_ends_at_the_exact_solution() -> None:
    """θ + θ³ = b: derivatives are those of the exact solution, so the search goes on to it."""
    want = torch.tensor([0.3, -0.8], dtype=torch.float64)
    b = want + want**3

    def J(theta: Tensor, b: Tensor) -> Tensor:
        return b @ theta - theta.square().sum() / 2 - theta.pow(4).sum() / 4

    found = inner_solution(J, torch.zeros_like(b), b, tolerance=0.3)
    torch.testing.assert_close(found, want, rtol=1e-14, atol=0)


def test_a_quadratic_in_closed_form() -> None:
    """θ* = H⁻¹b, its Jacobian H⁻¹, to rounding; by every method of search."""
    H = A @ A.mT + torch.eye(N, dtype=torch.float64)
    for method in (minimise.lbfgs, minimise.trust_region):

        def argmax(b: Tensor, method: minimise.Method = method) -> Tensor:
            def J(theta: Tensor, b: Tensor) -> Tensor:
                return b @ theta - theta @ H @ theta / 2

            return inner_solution(J, torch.zeros_like(b), b, methods=[method])

        inverse = torch.linalg.inv(H)
        assert torch.allclose(argmax(B[0]), inverse @ B[0], rtol=1e-12, atol=1e-13)
        jacobian = torch.func.jacrev(argmax)(B[0])
        assert torch.allclose(jacobian, inverse, rtol=1e-12, atol=1e-13)


def test_vmap_is_a_loop() -> None:
    mapped = torch.func.vmap(solve, (None, 0))(A, B)
    assert torch.equal(mapped, torch.stack([solve(A, b) for b in B]))
    slopes = torch.func.vmap(torch.func.grad(score))(B)
    leaves = B.clone().requires_grad_()
    (through,) = torch.autograd.grad(
        torch.func.vmap(solve, (None, 0))(A, leaves).sin().sum(), leaves
    )
    for k, b in enumerate(B):
        leaf = b.clone().requires_grad_()
        (slope,) = torch.autograd.grad(score(leaf), leaf)
        assert torch.allclose(slopes[k], slope, rtol=1e-12, atol=1e-14)
        assert torch.allclose(through[k], slope, rtol=1e-12, atol=1e-14)
    nested = torch.func.vmap(torch.func.vmap(solve, (None, 0)), (0, None))(A[None], B)
    assert torch.equal(nested[0], mapped)
    starts = normal(2, 4, N)
    peak = torch.func.vmap(lambda z: inner_solution(peaked, z, B[0]))(starts)
    assert torch.allclose(peak, B[0].expand(4, N), atol=1e-12)


def peaked(theta: Tensor, phi: Tensor) -> Tensor:
    return -(theta - phi).square().sum()


def test_jacobians_and_hessians_of_torch_func() -> None:
    want = torch.autograd.functional.jacobian(lambda b: solve(A, b), B[0])
    assert isinstance(want, Tensor)
    assert torch.allclose(torch.func.jacrev(solve, argnums=1)(A, B[0]), want, rtol=1e-12)
    hessian = torch.autograd.functional.hessian(score, B[0])
    assert isinstance(hessian, Tensor)
    found = torch.func.jacrev(torch.func.jacrev(score))(B[0])
    assert torch.allclose(found, hessian, rtol=1e-10, atol=1e-12)
    mapped = torch.func.vmap(torch.func.jacrev(torch.func.jacrev(score)))(B)
    assert torch.allclose(mapped[0], hessian, rtol=1e-10, atol=1e-12)


def test_where_gradients_are_not_asked_for() -> None:
    with torch.no_grad():
        assert not solve(A, B[0].clone().requires_grad_()).requires_grad
    start = torch.ones(N, dtype=torch.float64, requires_grad=True)
    leaf = B[0].clone().requires_grad_()
    inner_solution(peaked, start, leaf).sum().backward()
    assert start.grad is None or not start.grad.any()
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, torch.ones(N, dtype=torch.float64))


def with_extra(extra: Tensor) -> Tensor:
    return inner_solution(lambda t, p: -(t - p * extra).square().sum(), 0 * B[0], B[0]).sum()


# torch compiles rules of forward mode by a deprecated function of its own
FORWARD_MODE = pytest.mark.filterwarnings("ignore:.torch.jit.script. is dep:DeprecationWarning")


@FORWARD_MODE
@pytest.mark.parametrize(
    "use",
    [
        lambda extra: with_extra(extra.clone().requires_grad_()),
        torch.func.grad(with_extra),
        lambda extra: torch.func.vmap(with_extra)(extra[None]),
        lambda extra: torch.func.vmap(torch.func.grad(with_extra))(extra[None]),
        lambda extra: torch.func.jvp(with_extra, (extra,), (extra,)),
    ],
    ids=["autograd", "grad", "vmap", "vmap grad", "jvp"],
)
def test_a_dependence_outside_phi_is_refused(use) -> None:
    """Its gradient would be 0 without a word."""
    with pytest.raises(InputError, match=r"not in phi|in phi: its gradient would be lost"):
        use(B[1])


@FORWARD_MODE
def test_forward_mode_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(score, (B[0],), (B[1],))


@pytest.mark.parametrize(
    ("J", "change", "error", "words"),
    [
        (peaked, {"phi": B[0] * math.nan}, NonFiniteError, r"phi is nan|phi\[0\] is nan"),
        (peaked, {"theta0": B[0] * math.inf}, NonFiniteError, r"theta0\[0\] is"),
        (peaked, {"theta0": 1.0}, InputError, "theta0 is a float"),
        (peaked, {"phi": []}, InputError, "phi holds no tensor"),
        (peaked, {"phi": B[0].float()}, InputError, "use one dtype"),
        (peaked, {"phi": [B[0], B[0].float()]}, InputError, "use one dtype"),
        (peaked, {"phi": torch.arange(3)}, InputError, "floating-point"),
        (lambda t, p: t - p, {}, ShapeError, r"J has shape \(3,\)"),
        (lambda t, p: (p @ p).log() + 0 * p[0], {}, InputError, "not depend on theta"),
        (lambda t, p: (t * math.nan).sum(), {}, NonFiniteError, "J is nan"),
        (lambda t, p: (t * p).sum(), {}, (NonFiniteError, InnerSolutionError), "J"),
        (lambda t, p: -(t[0] - p[0]).square(), {}, InnerSolutionError, "eigenvalue"),
        (lambda t, p: -(t - p).pow(4).sum(), {"max_iterations": 3}, InnerSolutionError, "gradient"),
        (
            lambda t, p: (t - p).square().sum(),
            {"theta0": B[0]},
            InnerSolutionError,
            "saddle of curvature -2",
        ),
    ],
)
def test_what_has_no_answer_raises(J, change, error, words) -> None:
    given: dict[str, Any] = {"theta0": torch.zeros(N, dtype=torch.float64), "phi": B[0]}
    with pytest.raises(error, match=words):
        inner_solution(J, **{**given, **change})
