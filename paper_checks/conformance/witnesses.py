"""Third witnesses: the definitions, evaluated without any of the closed forms under test.

Expectations of quadratics over a law with given moments are sums over `2n` cubature points, exact
for polynomials of degree 3; densities are those of `torch.distributions`; derivatives are
autograd's; maxima are found by SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import optimize
from torch import Tensor
from torch.distributions import MultivariateNormal


def cubature(mean: Tensor, factor: Tensor) -> Tensor:
    """Return `2n` equally weighted points `mean ± sqrt(n) * columns of factor`."""
    n = mean.shape[-1]
    steps = math.sqrt(n) * factor.mT
    return torch.cat([mean + steps, mean - steps])


def reward(generation: Tensor, y: Tensor, U: Tensor) -> Tensor:
    """Return `-(ŷ - y)ᵀU(ŷ - y)`, entry by entry."""
    error = generation - y
    return -torch.einsum("...i,ij,...j->...", error, U, error)


def inner_objective(
    m: Tensor, L: Tensor, U: Tensor, mu: Tensor, Sigma: Tensor, lam: Tensor
) -> Tensor:
    """Return `J = E_y E_ŷ r(ŷ, y) + λ H` for `ŷ ~ N(m, LLᵀ)`, from the definition."""
    generations = cubature(m, L)
    y = cubature(mu, torch.linalg.cholesky(Sigma))
    expected_reward = reward(generations[:, None], y[None], U).mean()
    entropy = -MultivariateNormal(m, scale_tril=L).log_prob(generations).mean()
    return expected_reward + lam * entropy


def log_likelihood(m: Tensor, L: Tensor, mu: Tensor, Sigma: Tensor) -> Tensor:
    """Return `E_y log N(y; m, LLᵀ)`, from the density."""
    y = cubature(mu, torch.linalg.cholesky(Sigma))
    return MultivariateNormal(m, scale_tril=L).log_prob(y).mean()


def maximise(J: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return the maximiser of `J` found by SciPy's BFGS, then polished by Newton steps."""

    def negative(x: np.ndarray) -> tuple[float, np.ndarray]:
        theta = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = -J(theta)
        (slope,) = torch.autograd.grad(value, theta)
        return float(value.detach()), slope.numpy()

    found = optimize.minimize(negative, start.numpy(), jac=True, method="BFGS").x
    theta = torch.tensor(found, dtype=torch.float64)
    for _ in range(4):
        slope = torch.autograd.functional.jacobian(J, theta)
        hessian = torch.autograd.functional.hessian(J, theta)
        assert isinstance(slope, Tensor)
        assert isinstance(hessian, Tensor)
        theta = theta - torch.linalg.solve(hessian, slope)
    return theta


def unpack(theta: Tensor, n: int, structure: str) -> tuple[Tensor, Tensor]:
    """Read mean and Cholesky factor (log diagonal) from a vector of free parameters."""
    m, raw = theta[:n], theta[n:]
    if structure == "isotropic":
        return m, raw.exp() * torch.eye(n, dtype=theta.dtype)
    if structure == "diagonal":
        return m, torch.diag(raw.exp())
    L = torch.zeros(n, n, dtype=theta.dtype)
    rows, columns = np.tril_indices(n)
    L = L.index_put((torch.as_tensor(rows), torch.as_tensor(columns)), raw)
    return m, L.tril(-1) + torch.diag(L.diagonal().exp())


def free_parameters(n: int, structure: str) -> int:
    """Length of the vector that `unpack` reads."""
    return n + {"isotropic": 1, "diagonal": n, "full": n * (n + 1) // 2}[structure]


def solve_inner(
    U: Tensor, mu: Tensor, Sigma: Tensor, lam: Tensor, structure: str
) -> tuple[Tensor, Tensor]:
    """Return `(m*, L*)` by numerical maximisation of the definition."""
    n = len(mu)
    start = torch.zeros(free_parameters(n, structure), dtype=torch.float64)
    theta = maximise(lambda t: inner_objective(*unpack(t, n, structure), U, mu, Sigma, lam), start)
    return unpack(theta, n, structure)


def central_difference(f: Callable[[np.ndarray], float], U: np.ndarray, step: float) -> np.ndarray:
    """Return the symmetric gradient `G`, `dF = Tr(G dU)`, by central differences on SPD `U`."""
    n = len(U)
    G = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            H = np.zeros((n, n))
            H[i, j] = H[j, i] = 1.0
            slope = (f(U + step * H) - f(U - step * H)) / (2 * step)
            G[i, j] = G[j, i] = slope if i == j else slope / 2
    return G


def gauss_hermite_grid(dimensions: int, nodes: int = 3) -> tuple[Tensor, Tensor]:
    """Return the product grid for `ε ~ N(0, I)`: nodes `(K, dimensions)`, weights `(K,)`.

    Three nodes are exact to degree 5 in each coordinate.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.stack(np.meshgrid(*[points] * dimensions, indexing="ij"), -1).reshape(-1, dimensions)
    product = np.stack(np.meshgrid(*[weights / weights.sum()] * dimensions, indexing="ij"), -1)
    return torch.as_tensor(grid), torch.as_tensor(product.reshape(-1, dimensions).prod(-1))


def noise_rule(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes `(K, n)` and weights `(K,)`, exact for `ε ~ N(0, I)` to degree 5, n <= 3.

    The corners of a segment, a hexagon or an icosahedron, turned at random, are exact on the
    sphere; two radii with `E ‖ε‖² = n` and `E ‖ε‖⁴ = n(n + 2)` make them so in space. The outer one
    is drawn, up to `sqrt(n + 20)`, and the inner one follows. No coordinate of a node is 0.
    """
    beyond = rng.uniform(2.5, 20)
    outer, inner = n + beyond, n - 2 * n / beyond  # squares of the radii
    far = (n - inner) / (outer - inner)  # share of the outer one
    turn, _ = np.linalg.qr(rng.standard_normal((n, n)))
    corners = np.asarray(_CORNERS[n]) @ turn
    corners /= np.linalg.norm(corners[0])
    nodes = np.concatenate([np.sqrt(inner) * corners, np.sqrt(outer) * corners])
    return nodes, np.repeat([1 - far, far], len(corners)) / len(corners)


_GOLDEN = (1 + math.sqrt(5)) / 2
_CORNERS = {
    1: [[1], [-1]],
    2: [[math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)] for k in range(6)],
    3: [
        corner
        for a in (1, -1)
        for b in (_GOLDEN, -_GOLDEN)
        for corner in ([0, a, b], [a, b, 0], [b, 0, a])
    ],
}


class FixedNoise:
    """A noise source that hands out given noise, such as the nodes of a quadrature."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return the given noise, whose trailing shape must be the one asked for."""
        assert tuple(self.noise.shape[-len(shape) :]) == tuple(shape), (self.noise.shape, shape)
        return self.noise.to(dtype)


def reinforce(
    mean: Tensor,
    scale: Tensor,
    generations: Tensor,
    advantages: Tensor,
) -> Sequence[Tensor]:
    """Return the score-function gradient in (mean, scale) by autograd on the log-density.

    Generations are `(N, S, M, n)`, advantages `(N, S, M)`; the sum over `N` of means over `S, M`.
    """
    law = MultivariateNormal(mean[:, None, None], scale_tril=scale[:, None, None])
    weighted = (advantages * law.log_prob(generations)).mean((-2, -1)).sum()
    return torch.autograd.grad(weighted, [mean, scale])
