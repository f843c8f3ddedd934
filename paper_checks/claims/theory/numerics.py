"""Both levels of the problem solved numerically from their definitions, without a closed form.

Inner solutions are searched for, likelihoods evaluated on them, the slope of the likelihood comes
from autograd and the implicit function theorem, the best reward from a search along that slope.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import optimize
from torch import Tensor

from ...conformance import witnesses
from ...conformance.strategies import Problem

FOUND = 1e-6  # distance of a maximum, see `maximise`


class SearchError(RuntimeError):
    """A numerical search did not converge; the message says where it stopped."""


def relative_error(got: ArrayLike, want: ArrayLike, scale: float = 0.0) -> float:
    """Return the largest `|got - want|` relative to the largest `|want|`, or to `scale` if larger.

    Args:
        got: the formula's value.
        want: the witness's value, of the same shape.
        scale: size of the terms that cancel in `want`, where they do.
    """
    computed, expected = np.asarray(got, float), np.asarray(want, float)
    if computed.shape != expected.shape:
        raise ValueError(f"formula and witness differ in shape: {computed.shape}, {expected.shape}")
    error = np.abs(computed - expected).max() / max(np.abs(expected).max(), scale)
    return float(error) if np.isfinite(error) else float("inf")


def tensor(X: ArrayLike) -> Tensor:
    """Return a float64 tensor."""
    return torch.as_tensor(X, dtype=torch.float64)


def square(value: Any, n: int) -> np.ndarray:
    """Return what `Derivation.at` gave as an n x n array: it is a float where n = 1."""
    return np.asarray(value, float).reshape(n, n)


def product(L: Tensor) -> np.ndarray:
    """Return `LLᵀ`."""
    return (L @ L.mT).detach().numpy()


def search(
    problem: Problem, U: np.ndarray, structure: str = "full", start: Tensor | None = None
) -> Tensor:
    """Return the argmax θ* of J as `witnesses.unpack` reads it."""
    t = problem.tensors()
    weight = tensor(U)

    def J(theta: Tensor) -> Tensor:
        m, L = witnesses.unpack(theta, problem.n, structure)
        return witnesses.inner_objective(m, L, weight, t["mu"], t["Sigma"], t["lam"])

    return climb(J, problem.n, structure, start)


def climb(
    f: Callable[[Tensor], Tensor], n: int, structure: str = "full", start: Tensor | None = None
) -> Tensor:
    """Return the argmax of a function of θ, from the best of `start` and a grid of scales."""
    starts = [_isotropic(n, log_scale, structure) for log_scale in range(-8, 9, 2)]
    starts += [] if start is None else [start]
    return maximise(f, max(starts, key=lambda theta: float(f(theta))))


def maximise(f: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return the argmax of a function of θ by `witnesses.maximise`, if it is one.

    The Newton step `s` from there says how far the maximum is: `‖s‖` relative to the larger of
    `‖θ‖` and the way from the start, `‖x‖² = xᵀ(-∂²f)x`, whatever the units of f and θ.

    Raises:
        SearchError: it is farther than `FOUND`, and f would tell; or f is not concave there.
    """
    theta = witnesses.maximise(f, start)
    slope = torch.autograd.functional.jacobian(f, theta)
    hessian = torch.autograd.functional.hessian(f, theta)
    assert isinstance(slope, Tensor)
    assert isinstance(hessian, Tensor)
    found = bool(torch.isfinite(slope).all()) and bool((torch.linalg.eigvalsh(hessian) < 0).all())
    if found:
        gain = -float(slope @ torch.linalg.solve(hessian, slope))  # ‖s‖²
        size = max(-float(x @ hessian @ x) for x in (theta, theta - start))
        rounding = torch.finfo(theta.dtype).eps * abs(float(f(theta)))
        found = gain <= max(FOUND**2 * size, rounding)
    if not found:
        raise SearchError(f"the search for a maximum stopped at {theta.tolist()}")
    return theta


def _isotropic(n: int, log_scale: float, structure: str) -> Tensor:
    """Return the parameters of mean 0 and `L = e^log_scale I`."""
    theta = torch.zeros(witnesses.free_parameters(n, structure), dtype=torch.float64)
    if structure == "full":  # the diagonal of a lower triangle, row by row
        theta[[n + i * (i + 3) // 2 for i in range(n)]] = log_scale
    else:
        theta[n:] = log_scale
    return theta


def inner_covariance(problem: Problem, U: np.ndarray, structure: str = "full") -> np.ndarray:
    """Return `P*(U)`, found by search."""
    return product(witnesses.unpack(search(problem, U, structure), problem.n, structure)[1])


def likelihood(problem: Problem, U: np.ndarray, structure: str = "full") -> float:
    """Return `F(U) = E_y log N(y; m*, P*)` at the inner solution found by search."""
    return float(_fit(problem, search(problem, U, structure), structure))


def _fit(problem: Problem, theta: Tensor, structure: str) -> Tensor:
    t = problem.tensors()
    m, L = witnesses.unpack(theta, problem.n, structure)
    return witnesses.log_likelihood(m, L, t["mu"], t["Sigma"])


def slope(problem: Problem, U: np.ndarray, structure: str = "full") -> np.ndarray:
    """Return `-(∂²_{Uθ}J)(∂²_{θθ}J)⁻¹ ∂_θF`, θ found by search, all derivatives by autograd."""
    return evaluate(problem, U, structure)[1]


def evaluate(
    problem: Problem, U: np.ndarray, structure: str = "full", start: Tensor | None = None
) -> tuple[float, np.ndarray, Tensor]:
    """Return F(U), its implicit slope in U, and θ*, also searched for from `start`."""
    t, n = problem.tensors(), problem.n
    weight = tensor(U).clone().requires_grad_()

    def J(theta: Tensor, U: Tensor) -> Tensor:
        m, L = witnesses.unpack(theta, n, structure)
        return witnesses.inner_objective(m, L, U, t["mu"], t["Sigma"], t["lam"])

    theta = search(problem, U, structure, start).requires_grad_()
    F = _fit(problem, theta, structure)
    (pull,) = torch.autograd.grad(F, theta)
    fixed = weight.detach()
    hessian = torch.autograd.functional.hessian(lambda theta: J(theta, fixed), theta)
    assert isinstance(hessian, Tensor)
    direction = torch.linalg.solve(hessian, pull)
    (inner_slope,) = torch.autograd.grad(J(theta, weight), theta, create_graph=True)
    (G,) = torch.autograd.grad(-(inner_slope @ direction), weight)
    return float(F.detach()), ((G + G.mT) / 2).numpy(), theta.detach()


@cache
def best_reward(problem: Problem, structure: str) -> np.ndarray:
    """Return a maximiser `U` of F over the SPD matrices, found by search along `slope`.

    Raises:
        SearchError: if the slope at the end is not small.
    """
    n = problem.n
    theta: Tensor | None = None  # every search for θ* may start where the one before ended

    def reward(raw: Tensor) -> Tensor:
        A = witnesses.unpack(torch.cat([torch.zeros_like(raw[:1]).expand(n), raw]), n, "full")[1]
        return A @ A.mT

    def downhill(raw: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal theta
        free = tensor(raw).clone().requires_grad_()
        U = reward(free)
        F, G, theta = evaluate(problem, U.detach().numpy(), structure, theta)
        (step,) = torch.autograd.grad((U * tensor(G)).sum(), free)
        return -F, -step.numpy()

    start = np.zeros(n * (n + 1) // 2)
    found = optimize.minimize(downhill, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    U = reward(tensor(found.x)).numpy()
    rest = float(np.linalg.norm(U @ slope(problem, U, structure)))
    if not rest <= 1e-6:
        raise SearchError(f"the search for the best reward stopped at slope {rest:.1e}: {problem}")
    return U


@cache
def best_scale(problem: Problem) -> float:
    """Return the `c` where F(cM) is stationary, found by bracketing and bisection in log c."""

    def along(log_c: float) -> float:
        U = np.exp(log_c) * problem.M
        return float(np.sum(slope(problem, U) * U))

    low, high = -1.0, 1.0
    while along(low) < 0:
        low -= 2
    while along(high) > 0:
        high += 2
    return float(np.exp(optimize.brentq(along, low, high, xtol=1e-12)))


@cache
def best_fit(problem: Problem, structure: str = "full") -> tuple[float, np.ndarray]:
    """Return the largest `E_y log N(y; m, P)` over m and P of a structure, and its P, by search."""
    theta = climb(lambda theta: _fit(problem, theta, structure), problem.n, structure)
    return float(_fit(problem, theta, structure)), product(
        witnesses.unpack(theta, problem.n, structure)[1]
    )
