"""Bilevel problems whose hypergradient is known in closed form, written once for torch and JAX.

    θ*(φ) = argmin_θ inner(θ, φ),    wanted: d outer(θ*(φ), φ)/dφ

The losses take the module `xp` (`torch` or `jax.numpy`) whose functions they call, `θ` as a tuple
of arrays, `φ`, and a tuple of data: what compiles gets its numbers as arguments. The closed forms
are derived by hand and use no solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

F64 = torch.float64
Loss = Callable[[Any, tuple[Any, ...], Any, tuple[Any, ...]], Any]
"""`loss(xp, θ, φ, data)`, a number to be minimised."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A bilevel problem at one `φ`.

    Attributes:
        name: of the problem.
        inner: minimised by `θ`.
        outer: whose total derivative in `φ` is wanted.
        theta: the inner solution; where `steps` are given, the start.
        phi: outer variables, a vector.
        data: what the losses need besides.
        exact: the hypergradient.
        steps: of gradient descent on `inner`, through which to differentiate; None asks for the
            hypergradient of the solution.
        rate: step size of these.
        product: the matrix products, and no more, that one product with the Hessian takes.
    """

    name: str
    inner: Loss
    outer: Loss
    theta: tuple[Tensor, ...]
    phi: Tensor
    data: tuple[Tensor, ...]
    exact: Tensor
    steps: int | None = None
    rate: float = 0.0
    product: Callable[[], Tensor] | None = None

    @property
    def size(self) -> int:
        """Number of inner variables."""
        return sum(leaf.numel() for leaf in self.theta)

    def in_torch(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        """Return both losses as functions `(θ, φ)` of tensors."""
        return (
            lambda theta, phi: self.inner(torch, theta, phi, self.data),
            lambda theta, phi: self.outer(torch, theta, phi, self.data),
        )

    def error(self, value: Any) -> float:
        """Return the relative error of a hypergradient."""
        got = torch.as_tensor(value, dtype=F64)
        if got.shape != self.exact.shape:
            raise ValueError(f"shape {tuple(got.shape)}, not {tuple(self.exact.shape)}")
        return float((got - self.exact).norm() / self.exact.norm())


def ridge(size: int) -> Problem:
    """Return ridge regression with `size` parameters and one weight for each, `exp φ_i`.

        w* = argmin_w ‖Aw - b‖²/(2N) + ½ Σ_i exp(φ_i) w_i²,    F = ‖A'w* - b'‖²/(2M)

    with `(A, b)` for training and `(A', b')` for validation,

        dF/dφ_i = -exp(φ_i) w*_i v_i,    (AᵀA/N + diag exp(φ)) v = A'ᵀ(A'w* - b')/M
    """
    generator = torch.Generator().manual_seed(size)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F64)

    A, A_held_out, truth = normal(size, size), normal(size, size), normal(size)
    b, b_held_out = A @ truth + normal(size), A_held_out @ truth + normal(size)
    phi = -1 + normal(size) / 2
    H = A.T @ A / size
    H.diagonal().add_(phi.exp())
    factor = torch.linalg.cholesky(H)

    def solve(right: Tensor) -> Tensor:
        return torch.cholesky_solve(right[:, None], factor)[:, 0]

    w = solve(A.T @ b / size)
    w = w + solve(A.T @ (b - A @ w) / size - phi.exp() * w)  # to the last digits
    v = solve(A_held_out.T @ (A_held_out @ w - b_held_out) / size)

    def inner(xp: Any, theta: tuple[Any, ...], phi: Any, data: tuple[Any, ...]) -> Any:
        (w,), (A, b, *_) = theta, data
        return 0.5 * (((A @ w - b) ** 2).mean() + (xp.exp(phi) * w**2).sum())

    def outer(xp: Any, theta: tuple[Any, ...], phi: Any, data: tuple[Any, ...]) -> Any:
        (w,), (*_, A, b) = theta, data
        return 0.5 * ((A @ w - b) ** 2).mean()

    exact, data = -phi.exp() * w * v, (A, b, A_held_out, b_held_out)
    return Problem("ridge", inner, outer, (w,), phi, data, exact, product=lambda: A.T @ (A @ w))


def gaussian(n: int, lam: float = 0.5) -> Problem:
    """Return a Gaussian policy `N(m, CCᵀ)` of `n` outcomes under the reward `-(y-ŷ)ᵀU(y-ŷ)`.

    `U = Q diag(exp φ) Qᵀ`, `C` lower triangular. With second moment `M` of the held-out outcomes
    about the mean of the inner ones,

        m* = ȳ,    C*C*ᵀ = (λ/2) U⁻¹,    dF/dφ_i = ½ - exp(φ_i) q_iᵀ M q_i / λ

    for the expected log-likelihood `F`; the outer loss is `-F`.
    """
    generator = torch.Generator().manual_seed(n)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F64)

    Q, _ = torch.linalg.qr(normal(n, n))
    phi, mean, other = normal(n) / 4, normal(n), normal(n)
    root = normal(n, n) / n**0.5
    spread = root @ root.T + 0.5 * torch.eye(n, dtype=F64)
    M = spread + torch.outer(mean - other, mean - other)
    rows, columns = torch.tril_indices(n, n)
    fill = torch.zeros(n * n, len(rows), dtype=F64)  # entries of C to the matrix
    fill[rows * n + columns, torch.arange(len(rows))] = 1
    on_diagonal = torch.eye(n, dtype=F64).reshape(-1) @ fill  # 1 where the entry is of the diagonal
    U = (Q * phi.exp()) @ Q.T
    C = torch.linalg.cholesky(lam / 2 * torch.linalg.inv(U))
    lam_ = torch.tensor(lam, dtype=F64)

    def inner(xp: Any, theta: tuple[Any, ...], phi: Any, data: tuple[Any, ...]) -> Any:
        (m, c), (Q, mean, _, _, fill, on_diagonal, lam) = theta, data
        C = (fill @ c).reshape(Q.shape)
        bent = xp.exp(phi) @ ((Q.T @ (m - mean)) ** 2 + ((Q.T @ C) ** 2).sum(-1))
        # off the diagonal the logarithm is that of 1
        return bent - lam * (xp.log(on_diagonal * c + (1 - on_diagonal))).sum()

    def outer(xp: Any, theta: tuple[Any, ...], phi: Any, data: tuple[Any, ...]) -> Any:
        (m, c), (Q, _, other, spread, fill, on_diagonal, _) = theta, data
        inverse = xp.linalg.inv((fill @ c).reshape(Q.shape))
        white = inverse @ (m - other)
        quadratic = white @ white + ((inverse @ spread) * inverse).sum()
        return 0.5 * quadratic + (xp.log(on_diagonal * c + (1 - on_diagonal))).sum()

    exact = (phi.exp() * ((Q.T @ M) * Q.T).sum(-1)) / lam - 0.5
    data = (Q, mean, other, spread, fill, on_diagonal, lam_)
    return Problem("Gaussian policy", inner, outer, (mean, C[rows, columns]), phi, data, exact)


def categorical(size: int) -> Problem:
    """Return a categorical policy with logits `(0, θ)` under rewards `φ`, one for each class.

        θ*_k = (φ_k - φ_0)/λ,    dF/dφ = (y - π)/λ

    for the expected log-likelihood `F` of held-out frequencies `y`; the outer loss is `-F`.
    """
    generator, lam = torch.Generator().manual_seed(size), 0.5
    phi = lam * torch.randn(size + 1, generator=generator, dtype=F64) / 2
    y = torch.rand(size + 1, generator=generator, dtype=F64)
    y = y / y.sum()
    theta = (phi[1:] - phi[0]) / lam

    def log_sum(xp: Any, theta: Any) -> Any:
        return xp.log(1 + xp.exp(theta).sum())

    def inner(xp: Any, theta: tuple[Any, ...], phi: Any, data: tuple[Any, ...]) -> Any:
        (logits,), (_, lam) = theta, data
        total = log_sum(xp, logits)
        pi = xp.exp(logits - total)
        reward = pi @ phi[1:] + xp.exp(-total) * phi[0]
        return -(reward + lam * (total - pi @ logits))

    def outer(xp: Any, theta: tuple[Any, ...], phi: Any, data: tuple[Any, ...]) -> Any:
        (logits,), (y, _) = theta, data
        return log_sum(xp, logits) - y[1:] @ logits

    exact = (torch.softmax(phi / lam, -1) - y) / lam
    data = (y, torch.tensor(lam, dtype=F64))
    return Problem("categorical", inner, outer, (theta,), phi, data, exact)


def steps(size: int, count: int = 20) -> Problem:
    """Return `K` steps of gradient descent from 0 on `½θᵀHθ - θᵀBφ`, outer loss `½‖θ - t‖²`.

    θ_K = S Bφ,    d/dφ = BᵀS(θ_K - t),    S = (I - (I - ηH)^K) H⁻¹
    """
    generator = torch.Generator().manual_seed(size)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F64)

    Q, _ = torch.linalg.qr(normal(size, size))
    w = torch.logspace(-2, 0, size, dtype=F64)
    H, B, t, phi, rate = (Q * w) @ Q.T, normal(size, size), normal(size), normal(size), 0.9
    S = (Q * ((1 - (1 - rate * w) ** count) / w)) @ Q.T

    def inner(xp: Any, theta: tuple[Any, ...], phi: Any, data: tuple[Any, ...]) -> Any:
        (x,), (H, B, _) = theta, data
        return 0.5 * x @ (H @ x) - x @ (B @ phi)

    def outer(xp: Any, theta: tuple[Any, ...], phi: Any, data: tuple[Any, ...]) -> Any:
        (x,), (*_, t) = theta, data
        return 0.5 * ((x - t) ** 2).sum()

    exact = B.T @ (S @ (S @ (B @ phi) - t))
    start = (torch.zeros(size, dtype=F64),)
    name = f"{count} steps"
    return Problem(name, inner, outer, start, phi, ((H + H.T) / 2, B, t), exact, count, rate)


ALL: dict[str, Callable[[], Problem]] = {
    "ridge-100": lambda: ridge(100),
    "ridge-1000": lambda: ridge(1000),
    "ridge-5000": lambda: ridge(5000),
    "gaussian-104": lambda: gaussian(13),
    "gaussian-1034": lambda: gaussian(44),
    "categorical-100": lambda: categorical(100),
    "categorical-1000": lambda: categorical(1000),
    "steps-100": lambda: steps(100),
}
