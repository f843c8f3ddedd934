"""Ridge regression by `implicit` and by jaxopt, hypergradients: `python -m benchmarks.ridge 100`.

One weight per parameter, on a logarithmic scale:

    w*(h) = argmin_w ‖Aw - b‖²/(2N) + ½ Σ_i exp(h_i) w_i²,    F(h) = ‖A'w* - b'‖²/(2M)

with `(A, b)` for training and `(A', b')` for validation. In closed form

    dF/dh_i = -exp(h_i) w*_i v_i,    (AᵀA/N + diag exp(h)) v = A'ᵀ(A'w* - b')/M.

Both sides get the same numbers and the same exact `w*`, and return `dF/dh` from them: building
what they differentiate is part of a call, compiling is not.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from solvers.hypergradients.implicit import implicit

F64 = torch.float64
TOLERANCE = 1e-10  # on the relative residual, of both sides
ROUNDS, SECONDS = (5, 301), 10.0  # calls of each side: as many as fit, within these limits


@dataclass(frozen=True)
class Ridge:
    """The problem at one `h`, with the inner solution and the hypergradient.

    Attributes:
        A: training inputs, as many rows as columns.
        b: training outcomes.
        A_held_out: validation inputs, as many rows.
        b_held_out: validation outcomes.
        h: logarithms of the weights.
        w: the inner solution.
        exact: `dF/dh`.
    """

    A: Tensor
    b: Tensor
    A_held_out: Tensor
    b_held_out: Tensor
    h: Tensor
    w: Tensor
    exact: Tensor


@dataclass(frozen=True)
class Comparison:
    """What was measured: medians in seconds, relative errors; None without jaxopt.

    Attributes:
        ours: time of `implicit`.
        error: of `implicit`.
        products: Hessian-vector products `implicit` took, 0 for the dense method.
        rounds: calls of each side.
        theirs: time of jaxopt.
        their_error: of jaxopt.
    """

    ours: float
    error: float
    products: int
    rounds: int
    theirs: float | None
    their_error: float | None


def draw(size: int) -> Ridge:
    """Return a random problem with `size` parameters; the same one each time."""
    generator = torch.Generator().manual_seed(size)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F64)

    A, A_held_out, truth = normal(size, size), normal(size, size), normal(size)
    b, b_held_out = A @ truth + normal(size), A_held_out @ truth + normal(size)
    h = -1 + normal(size) / 2
    H = A.T @ A / size
    H.diagonal().add_(h.exp())
    factor = torch.linalg.cholesky(H)
    w = _solve(factor, A.T @ b / size)
    w = w + _solve(factor, A.T @ (b - A @ w) / size - h.exp() * w)  # to the last digits
    v = _solve(factor, A_held_out.T @ (A_held_out @ w - b_held_out) / size)
    return Ridge(A, b, A_held_out, b_held_out, h, w, -h.exp() * w * v)


def ours(problem: Ridge) -> tuple[Callable[[], Tensor], Callable[[], int]]:
    """Return a call of `implicit` for `dF/dh`, and one for the products it takes."""
    p = problem

    def J(w: Tensor, h: Tensor) -> Tensor:
        return -0.5 * ((p.A @ w - p.b).square().mean() + (h.exp() * w.square()).sum())

    def F(w: Tensor, h: Tensor) -> Tensor:
        return 0.5 * (p.A_held_out @ w - p.b_held_out).square().mean()

    def call() -> Any:
        return implicit(J, F, p.w, p.h, tolerance=TOLERANCE, strict=True)

    return lambda: call().value, lambda: call().iterations


def theirs(problem: Ridge) -> Callable[[], Any] | None:
    """Return a compiled call of jaxopt for `dF/dh`; None where it is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("jax", "jaxopt")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # jaxopt is no longer maintained
        jax: Any = importlib.import_module("jax")
        jaxopt: Any = importlib.import_module("jaxopt")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    limit = 10 * len(problem.w)

    def cg(product: Any, right: Any) -> Any:
        return jaxopt.linear_solve.solve_cg(product, right, tol=TOLERANCE, maxiter=limit)

    def objective(w: Any, h: Any, A: Any, b: Any) -> Any:
        return 0.5 * (((A @ w - b) ** 2).mean() + (jax.numpy.exp(h) * w**2).sum())

    @jaxopt.implicit_diff.custom_root(jax.grad(objective), solve=cg)
    def solution(start: Any, h: Any, A: Any, b: Any) -> Any:
        return start  # it is the exact one

    @jax.jit
    def hypergradient(h: Any, w: Any, A: Any, b: Any, A_held_out: Any, b_held_out: Any) -> Any:
        def outer(h: Any) -> Any:
            return 0.5 * ((A_held_out @ solution(w, h, A, b) - b_held_out) ** 2).mean()

        return jax.grad(outer)(h)

    p = problem
    tensors = (p.h, p.w, p.A, p.b, p.A_held_out, p.b_held_out)
    arrays = [jax.numpy.asarray(t.numpy()) for t in tensors]
    return lambda: hypergradient(*arrays).block_until_ready()


def compare(problem: Ridge) -> Comparison:
    """Return times and errors of both sides, called in turns."""
    mine, products = ours(problem)
    peer = theirs(problem)
    sides: list[Callable[[], Any]] = [mine] if peer is None else [mine, peer]
    errors = [_error(torch.as_tensor(side()), problem.exact) for side in sides]  # and warm up
    times: list[list[float]] = [[] for _ in sides]
    least, most = ROUNDS
    until = time.perf_counter() + SECONDS
    while len(times[0]) < least or (len(times[0]) < most and time.perf_counter() < until):
        for side, spent in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            spent.append(time.perf_counter() - start)
    medians = [statistics.median(spent) for spent in times]
    none = [None] if peer is None else []
    return Comparison(
        medians[0],
        errors[0],
        products(),
        len(times[0]),
        *(medians[1:] + none),
        *(errors[1:] + none),
    )


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right[:, None], factor)[:, 0]


def _error(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())


def main(size: int) -> None:
    """Print the comparison as JSON. One processor: XLA has no other way to be held to a thread."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(json.dumps(asdict(compare(draw(size)))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
