"""One point at which derivations meet their witnesses, and a quadrature."""

import numpy as np


def quadrature(f, n: int) -> float:
    """E f(z) for z ~ N(0, I_n) by a tensor Gauss-Hermite rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    grid = np.stack(np.meshgrid(*[nodes] * n, indexing="ij"), -1).reshape(-1, n)
    mass = np.prod(np.stack(np.meshgrid(*[weights] * n, indexing="ij"), -1).reshape(-1, n), -1)
    return float(np.sum(mass * np.array([f(z) for z in grid])) / np.sum(mass))


U = np.array([[1.5, 0.4], [0.4, 0.8]])
SIGMA = np.array([[0.9, -0.3], [-0.3, 0.5]])
P = np.array([[0.7, 0.2], [0.2, 0.6]])
MU, M = np.array([0.3, -0.8]), np.array([-0.5, 0.4])
LAM = 0.7
