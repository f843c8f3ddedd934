"""Solvers of `A x = b` for a symmetric positive definite `A` known by its products.

Every solver returns what it found with its *true* residual, computed anew from the last iterate,
and the smallest curvature `dᵀAd/dᵀd` it met; none repairs an `A` that is not positive definite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import NotPositiveDefiniteError, check_count, check_number
from .norms import norm

Product = Callable[[Tensor], Tensor]
Vector = Float[Tensor, "d"]


@dataclass(frozen=True)
class Solve:
    """An approximate solution of `A x = b`.

    Attributes:
        x: the solution.
        residual: `‖b - Ax‖ / ‖b‖`, 0 where `b` is 0.
        iterations: products with `A` (dense: 0, its products are made at once).
        curvature: smallest `dᵀAd/dᵀd` met; not positive where `A` is not positive definite.
        largest: largest of them met; infinite where none was.
    """

    x: Vector
    residual: float
    iterations: int
    curvature: float
    largest: float = math.inf


def cg(
    product: Product,
    b: Vector,
    *,
    tolerance: float,
    max_iterations: int | None = None,
    precondition: Product | None = None,
) -> Solve:
    """Return the solution by (preconditioned) conjugate gradients.

    Exact arithmetic ends within `d` iterations; rounding may need more, hence the limit of `10 d`
    by default. Stops at a direction of negative curvature and keeps what it has.

    Args:
        product: `v -> Av`; it must not keep `v`, which is overwritten.
        b: right-hand side; any size down to the smallest numbers, the method is scale-free.
        tolerance: on the relative residual.
        max_iterations: products with `A`.
        precondition: `r -> M⁻¹r`, symmetric positive definite; it must not keep `r`.

    Raises:
        InputError: `tolerance` is no number >= 0, or `max_iterations` no int >= 0.
    """
    _check_limits(tolerance, max_iterations)
    limit = 10 * len(b) if max_iterations is None else max_iterations
    size = norm(b)
    x, iterations, curvature = torch.zeros_like(b), 0, float("inf")
    if size == 0:
        return Solve(x, 0.0, 0, curvature)
    unit = b / size  # so that squares neither underflow nor overflow
    residual = unit.clone()
    scale = 1.0  # of A, where it is too large or too small for products of products
    if precondition is not None:
        scale = _size(product(unit))

    def preconditioned(r: Vector) -> Vector:
        if precondition is None:
            return r
        return precondition(r) if scale == 1 else precondition(r) * scale

    z = preconditioned(residual)
    direction = z.clone()
    rho = float(residual @ z)
    left, largest = 1.0, -math.inf  # norm of the residual
    # half the tolerance: the residual carried along differs from the true one by rounding
    while iterations < limit and left > tolerance / 2 and rho > 0:
        Ad = product(direction)
        if iterations == 0 and precondition is None:
            scale = _size(Ad)
        Ad = Ad if scale == 1 else Ad / scale
        iterations += 1
        bend = float(direction @ Ad)
        rayleigh = bend / float(direction @ direction) * scale
        curvature, largest = min(curvature, rayleigh), max(largest, rayleigh)
        if not bend > 0:
            break
        step = rho / bend
        x.add_(direction, alpha=step)
        residual.sub_(Ad, alpha=step)
        z = preconditioned(residual)
        previous, rho = rho, float(residual @ z)
        left = math.sqrt(rho) if precondition is None else float(residual.norm())
        direction.mul_(rho / previous).add_(z)
    x = x if scale == 1 else x / scale
    products = iterations + (1 if precondition is None else 2)  # of A's size, and of the residual
    return Solve(x * size, _relative(product, x, unit), products, curvature, largest)


def neumann(
    product: Product,
    b: Vector,
    *,
    tolerance: float,
    max_iterations: int | None = None,
    step: float | None = None,
) -> Solve:
    """Return the solution by the Neumann series `x = η Σ_k (I - ηA)^k b`.

    Args:
        product: `v -> Av`.
        b: right-hand side.
        tolerance: on the relative residual.
        max_iterations: terms of the series, 1000 by default.
        step: `η < 2/‖A‖`; by default 1 over the largest eigenvalue, found by power iteration.

    Raises:
        InputError: `tolerance` is no number >= 0, `max_iterations` no int >= 0, or `step` not > 0.
    """
    _check_limits(tolerance, max_iterations)
    if step is not None:
        check_number("step", step, positive=True)
    limit = 1000 if max_iterations is None else max_iterations
    size = norm(b)
    if size == 0:
        return Solve(torch.zeros_like(b), 0.0, 0, float("inf"))
    unit, spent = b / size, 0
    if step is None:
        largest, spent = largest_eigenvalue(product, unit)
        step = 1 / largest
    step = float(step)
    x, residual, curvature, iterations = torch.zeros_like(b), unit, float("inf"), 0
    while iterations < limit and tolerance / 2 < residual.norm() < float("inf"):
        x = x + step * residual
        Ar = step * product(residual)
        iterations += 1
        curvature = min(curvature, float(residual @ Ar / (residual @ residual)) / step)
        residual = residual - Ar
    return Solve(x * size, _relative(product, x, unit), iterations + spent + 1, curvature)


def units(A: Float[Tensor, "d d"]) -> Vector:
    """Return `d`, the roots of `|A_ii|`: in these units every curvature along an axis is 1.

    Whether a symmetric matrix is definite does not depend on the units of its rows, but its
    eigenvalues do: `A_ij/(d_i d_j)` has none. An axis without curvature takes the largest unit.
    """
    d = A.diagonal().abs().sqrt()
    largest = d.amax()
    return torch.where(d > 0, d, torch.where(largest > 0, largest, 1.0))


def scaled(A: Float[Tensor, "d d"]) -> tuple[Float[Tensor, "d d"], Vector]:
    """Return `A` in its `units`, `A_ij/(d_i d_j)`, and these; no gradient flows through them."""
    d = units(A.detach())
    return A / d / d.unsqueeze(1), d


def resolution(A: Float[Tensor, "d d"]) -> float:
    """Return what rounding may make of an eigenvalue 0 of `A`, relative to the largest one."""
    return 10 * len(A) * torch.finfo(A.dtype).eps


def dense(matrix: Float[Tensor, "d d"], b: Vector) -> Solve:
    """Return the solution by Cholesky's factorisation, refined once.

    The system is solved, and its residual measured, in the `units` of the matrix. Where that is
    not positive definite, but for rounding, the solution of the symmetric system is returned with
    the smallest eigenvalue as its curvature, which says so.
    """
    A, d = scaled(matrix)
    b = b / d
    size = norm(b)
    unit = b / size if size > 0 else b
    factor, failed = torch.linalg.cholesky_ex(A)
    if bool(failed):
        curvature = float(torch.linalg.eigvalsh(matrix)[0])
        x, singular = torch.linalg.solve_ex(A, unit)
        x = torch.full_like(b, float("nan")) if bool(singular) else x
        residual = _relative(lambda v: A @ v, x, unit)
        return Solve((x * size if size > 0 else x) / d, residual, 0, min(curvature, 0.0))

    def solve(v: Tensor) -> Tensor:
        return torch.cholesky_solve(v.unsqueeze(-1), factor)[..., 0]

    curvature = _smallest(matrix, lambda v: solve(v / d) / d)
    if _smallest(A, solve) <= resolution(A):
        curvature = min(curvature, 0.0)
    if size == 0:
        return Solve(torch.zeros_like(b), 0.0, 0, curvature)
    x = solve(unit)
    x = x + solve(unit - A @ x)
    return Solve(x * size / d, _relative(lambda v: A @ v, x, unit), 0, curvature)


@dataclass(frozen=True)
class Nystrom:
    """`A ≈ V diag(w) Vᵀ` of low rank, from products with a random sketch.

    Attributes:
        V: orthonormal columns, `(d, k)`.
        w: eigenvalues, largest first, `(k,)`.
        products: with `A`, spent on the sketch.
    """

    V: Float[Tensor, "d k"]
    w: Float[Tensor, "k"]
    products: int

    def inverse(self, r: Vector, shift: float) -> Vector:
        """Return `(V diag(w) Vᵀ + shift I)⁻¹ r`."""
        inside = self.V.T @ r
        return self.V @ (inside / (self.w + shift)) + (r - self.V @ inside) / shift

    def precondition(self, r: Vector, shift: float) -> Vector:
        """Return `M⁻¹r` for `A + shift I`, up to a factor: its inverse on the range of `V`.

        Beyond that range, where eigenvalues are taken for the smallest one known, the identity.
        """
        if not len(self.w):
            return r.clone()
        inside = self.V.T @ r
        known = inside * (self.w[-1] + shift) / (self.w + shift)
        return self.V @ known + (r - self.V @ inside)


def nystrom(product: Product, like: Vector, rank: int, generator: torch.Generator) -> Nystrom:
    """Return a Nyström approximation of rank at most `rank` (Frangella, Tropp, Udell, 2023).

    Raises:
        InputError: `rank` is no int >= 1.
        NotPositiveDefiniteError: `A` has a negative eigenvalue, which the sketch has met.
    """
    check_count("rank", rank)
    d = len(like)
    rank = min(rank, d)
    sketch = torch.randn(d, rank, generator=generator, dtype=torch.float64).to(like)
    Omega, _ = torch.linalg.qr(sketch)
    Y = torch.stack([product(column) for column in Omega.T], 1)
    # a shift of the size of rounding keeps the small factor positive definite; taken off again
    shift = torch.finfo(like.dtype).eps * d**0.5 * norm(Y)
    if shift == 0:
        return Nystrom(Omega[:, :0], like[:0], rank)
    Y = Y + shift * Omega
    middle = Omega.T @ Y
    factor, failed = torch.linalg.cholesky_ex((middle + middle.T) / 2)
    if bool(failed):
        lowest = float(torch.linalg.eigvalsh((middle + middle.T) / 2)[0]) - shift
        raise NotPositiveDefiniteError(
            f"the matrix has an eigenvalue of {lowest:.3g} or less, and a Nyström approximation "
            f"none below 0: use another method"
        )
    B = torch.linalg.solve_triangular(factor, Y.T, upper=False).T
    V, singular, _ = torch.linalg.svd(B, full_matrices=False)
    w = singular.square() - shift
    kept = w > shift
    return Nystrom(V[:, kept], w[kept], rank)


def _check_limits(tolerance: float, max_iterations: int | None) -> None:
    check_number("tolerance", tolerance, 0.0, infinite=True)
    if max_iterations is not None:
        check_count("max_iterations", max_iterations, 0)


def _relative(product: Product, x: Vector, unit: Vector) -> float:
    """Return `‖b - Ax‖/‖b‖` for a `b` of norm 1, or 0."""
    return float((unit - product(x)).norm()) if bool(unit.any()) else 0.0


def _size(v: Vector) -> float:
    """Return 1, or the power of two next to the norm where squares may under- or overflow."""
    exponent = math.frexp(norm(v))[1]
    safe = abs(exponent) < 32 or not math.isfinite(norm(v))
    return 1.0 if safe else math.ldexp(1.0, exponent)


def _smallest(matrix: Tensor, solve: Product) -> float:
    """Estimate the smallest eigenvalue by a few inverse iterations.

    They start from a vector that no problem singles out: the solution itself may lack just the
    direction in which the matrix is nearly singular.
    """
    v = torch.arange(1, len(matrix) + 1, dtype=matrix.dtype, device=matrix.device).cos()
    for _ in range(5):
        v = solve(v / norm(v))
    v = v / norm(v)
    return float(v @ matrix @ v / (v @ v))


def largest_eigenvalue(product: Product, start: Vector) -> tuple[float, int]:
    """Return an upper estimate of the largest eigenvalue and the products it took."""
    v, products, value = start / norm(start), 0, 0.0
    while products < 50:
        Av = product(v)
        products += 1
        previous, value = value, norm(Av)
        if value == 0:
            return 1.0, products
        v = Av / value
        if abs(value - previous) <= 1e-3 * value:
            break
    return 1.05 * value, products
