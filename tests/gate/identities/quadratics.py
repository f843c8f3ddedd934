"""Quadratic inner and outer problems, and scalar derivations applied to their coordinates.

Gradient ascent on a quadratic separates in the eigenvectors of its Hessian, a penalty in a basis
that makes both Hessians diagonal: there the scalar derivations apply to every coordinate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paper_checks.conformance import strategies
from solvers.numerics.trees import Tree


@dataclass(frozen=True)
class Quadratic:
    """J = -½θᵀAθ + θᵀCφ, F = -½(θ-τ)ᵀB(θ-τ) + dᵀφ, and a start.

    θ is a tree: a scalar, and the rest as a row; φ a pair of one entry and the rest.
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    tau: np.ndarray
    d: np.ndarray
    phi: np.ndarray
    start: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """θ*."""
        return np.linalg.solve(self.A, self.C @ self.phi)

    def J(self, theta: Tree, phi: Tree) -> Tensor:
        """Inner objective."""
        t, f = joined(theta), torch.cat(phi)
        return -t @ torch.as_tensor(self.A) @ t / 2 + t @ torch.as_tensor(self.C) @ f

    def F(self, theta: Tree, phi: Tree) -> Tensor:
        """Outer objective."""
        gap, f = joined(theta) - torch.as_tensor(self.tau), torch.cat(phi)
        return -gap @ torch.as_tensor(self.B) @ gap / 2 + torch.as_tensor(self.d) @ f

    def trees(self, theta: np.ndarray) -> tuple[Tree, Tree]:
        """A point and φ as trees."""
        t, f = torch.tensor(theta), torch.tensor(self.phi)
        return {"scalar": t[0], "rest": t[None, 1:]}, (f[:1], f[1:])

    def implicit(self) -> np.ndarray:
        """d + CᵀA⁻¹B(τ - θ*)."""
        return self.d + self.C.T @ np.linalg.solve(self.A, self.B @ (self.tau - self.best))

    def __repr__(self) -> str:
        return ", ".join(f"{k}={v.tolist()}" for k, v in vars(self).items())


def joined(theta: Tree) -> Tensor:
    return torch.cat([theta["scalar"].reshape(1), theta["rest"].reshape(-1)])


def make_quadratic(
    n: int, seed: int, *, condition: float = 1e3, round_outer: bool = True
) -> Quadratic:
    """The problem of a seed; `B` a multiple of the identity where `round_outer`."""
    rng = np.random.default_rng([n, seed])
    A, B = strategies.spd(rng, n), strategies.spd(rng, n)
    values, Q = np.linalg.eigh(A)
    A = (Q * np.maximum(values, values[-1] / condition)) @ Q.T
    if round_outer:
        B = B[0, 0] * np.eye(n)
    p = int(rng.integers(2, 4))
    C, tau = rng.standard_normal((n, p)), rng.normal(0, 2, n)
    d, phi, start = (rng.standard_normal(size) for size in (p, p, n))
    return Quadratic((A + A.T) / 2, B, C, tau, d, phi, start)


def value_of(result: Any) -> np.ndarray:
    """The hypergradient as a vector."""
    return torch.cat(result.value).numpy()


def by_coordinates(q: Quadratic, formula: Callable[..., float], V: np.ndarray, **more: Any) -> Any:
    """d + CᵀVh, h_j a scalar derivation's value in the coordinates θ = Vz, with VᵀBV = νI."""
    W = np.linalg.inv(V)
    kappa, nu = np.diag(V.T @ q.A @ V), np.diag(V.T @ q.B @ V)
    pulls, target, start = V.T @ q.C @ q.phi, W @ q.tau, W @ q.start
    h = []
    for j in range(len(kappa)):
        at = {"kappa": kappa[j], "gamma": 1.0, "nu": nu[j], "phi": pulls[j], "tau": target[j]}
        extra = {k: start[j] if k == "theta_0" else v for k, v in more.items()}
        h.append(formula("derived", **at, d=0.0, **extra))
    return q.d + q.C.T @ V @ np.array(h)
