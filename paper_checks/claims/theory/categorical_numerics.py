"""Both levels of the categorical problem solved numerically from their definitions.

Classes are one-hot vectors, expectations sums over the classes. Policies are searched for among
all probability vectors; the Gibbs law that they turn out to be is used nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import optimize
from torch import Tensor
from torch.distributions import MultivariateNormal

from ...conformance import witnesses
from . import numerics
from .numerics import SearchError, tensor

ROUNDS = 300  # of Newton's method: a probability shrinks to a tenth at most in each
CONVERGED = 1e-8  # relative size of the last Newton step, which leaves an error of its square
MOVE = 1e-4  # relative step of central differences
NEAR = 0.002  # from the uniform law, and twice that: limits are extrapolated from there to 1e-9


def rewards(pi: Tensor, U: Tensor) -> Tensor:
    """Return `E_y r(e_c, y)` of every class c, y = e_k with probability π_k."""
    one = torch.eye(len(pi), dtype=pi.dtype)
    return witnesses.reward(one[:, None], one[None], U) @ pi


def objective(p: Tensor, pi: Tensor, U: Tensor, lam: float) -> Tensor:
    """Return `J = E_c E_y r + λH(p)`."""
    return p @ rewards(pi, U) + lam * torch.special.entr(p).sum()


def log_likelihood(p: Tensor, pi: Tensor) -> Tensor:
    """Return `E_{c~π} log p_c`."""
    return pi @ p.log()


def _bordered(f: Callable[[Tensor], Tensor], p: Tensor) -> tuple[Tensor, Tensor]:
    """The slopes of f, and its Hessian in relative steps bordered by Σp = 1."""
    n = len(p)
    slope = torch.autograd.functional.jacobian(f, p)
    hessian = torch.autograd.functional.hessian(f, p)
    assert isinstance(slope, Tensor)
    assert isinstance(hessian, Tensor)
    matrix = torch.zeros(n + 1, n + 1, dtype=p.dtype)
    matrix[:n, :n], matrix[:n, n], matrix[n, :n] = hessian * p, 1.0, p
    return slope, matrix


def maximise(f: Callable[[Tensor], Tensor], n: int) -> Tensor:
    """Return the argmax of a concave function of n probabilities, by damped Newton steps.

    Steps are relative to p: probabilities of 1e-17 come out as accurately as others.

    Raises:
        SearchError: if the steps do not converge.
    """
    p = torch.full((n,), 1 / n, dtype=torch.float64)
    for _ in range(ROUNDS):
        slope, matrix = _bordered(f, p)
        move = torch.linalg.solve(matrix, torch.cat([-slope, 1 - p.sum()[None]]))[:n]
        p = p * (1 + move * min(1.0, 0.9 / max(float(-move.min()), 1e-300)))
        if float(move.abs().max()) < CONVERGED:
            return p
    raise SearchError(f"the search for a policy stopped at {p.tolist()}")


def policy(pi: np.ndarray, U: np.ndarray, lam: float) -> Tensor:
    """Return the argmax of J over all policies."""
    data, weight = tensor(pi), tensor(U)
    return maximise(lambda p: objective(p, data, weight, lam), len(pi))


def likelihood(pi: np.ndarray, U: np.ndarray, lam: float) -> float:
    """Return F(U) at the policy found by search."""
    return float(log_likelihood(policy(pi, U, lam), tensor(pi)))


def ceiling(pi: np.ndarray) -> float:
    """Return the largest likelihood of any policy."""
    data = tensor(pi)
    return float(log_likelihood(maximise(lambda p: log_likelihood(p, data), len(pi)), data))


def slope(pi: np.ndarray, U: np.ndarray, lam: float) -> np.ndarray:
    """Return `-(∂²_{Up}J)(∂²_{pp}J)⁻¹ ∂_pF` within Σp = 1, all derivatives by autograd."""
    data, weight = tensor(pi), tensor(U).clone().requires_grad_()
    p = policy(pi, U, lam).requires_grad_()
    (pull,) = torch.autograd.grad(log_likelihood(p, data), p)
    fixed = weight.detach()
    _, matrix = _bordered(lambda p: objective(p, data, fixed, lam), p.detach())
    relative = torch.cat([p.detach() * pull, torch.zeros(1, dtype=p.dtype)])
    adjoint = torch.linalg.solve(matrix.mT, relative)[:-1]
    (first,) = torch.autograd.grad(objective(p, data, weight, lam), p, create_graph=True)
    (G,) = torch.autograd.grad(-(first @ adjoint), weight)
    return ((G + G.mT) / 2).numpy()


def scalar(u: float, n: int) -> np.ndarray:
    """Return `uI`."""
    return u * np.eye(n)


def best_scalar(pi: np.ndarray, lam: float) -> float:
    """Return the u where F(uI) is stationary."""
    return _root(lambda u: float(np.trace(slope(pi, scalar(u, len(pi)), lam))), lam)


def best_gaussian_scalar(pi: np.ndarray, lam: float) -> float:
    """Return the u that is best for an isotropic Gaussian policy on the same one-hot outcomes.

    The published scale is derived for such policies. Its F comes from a search for mean and
    variance, the slope of F from central differences.
    """
    n, data = len(pi), tensor(pi)
    y = torch.eye(n, dtype=torch.float64)

    def law(theta: Tensor) -> tuple[Tensor, MultivariateNormal]:
        m, L = witnesses.unpack(theta, n, "isotropic")
        return witnesses.cubature(m, L), MultivariateNormal(m, scale_tril=L)

    def F(u: float) -> float:
        def J(theta: Tensor) -> Tensor:
            generations, density = law(theta)
            r = witnesses.reward(generations[:, None], y[None], u * y) @ data
            return r.mean() - lam * density.log_prob(generations).mean()

        return float(data @ law(numerics.climb(J, n, "isotropic"))[1].log_prob(y))

    return _root(lambda u: F(u * (1 + MOVE)) - F(u * (1 - MOVE)), lam)


def _root(f: Callable[[float], float], scale: float) -> float:
    """The root of a function that falls from positive to negative values, near `scale`."""
    low, high = np.log(scale) - 1, np.log(scale) + 1
    while f(float(np.exp(low))) < 0:
        low -= 1
    while f(float(np.exp(high))) > 0:
        high += 1
    found = optimize.brentq(lambda log_u: f(float(np.exp(log_u))), low, high, xtol=1e-13)
    return float(np.exp(found))


def limit_at_uniform(f: Callable[[np.ndarray], float], end: np.ndarray) -> float:
    """Return lim f(π) as π → 1/C on the line from another π, extrapolated.

    The mean of both sides is even in the distance: two distances leave an error of fourth order.
    """
    n, direction = len(end), end - 1 / len(end)
    unit = direction / np.abs(direction).max()

    def even(distance: float) -> float:
        return (f(1 / n + distance * unit) + f(1 / n - distance * unit)) / 2

    return (4 * even(NEAR) - even(2 * NEAR)) / 3
