"""Bilevel problems whose inner solutions and hypergradients have closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.gaussian import outer
from solvers.bilevel import likelihood
from solvers.data import Dataset
from solvers.families.gaussian import GaussianPolicy
from solvers.hypergradients.implicit import Hypergradient, Level, first_derivatives
from solvers.numerics.trees import Leaves, Tree, flat
from solvers.rewards.learnable import ConstantReward
from solvers.training import streams

from .affine import coefficients

F64, N = torch.float64, 2
GAUSSIAN = "Gaussian policy"


@dataclass(frozen=True)
class Case:
    """A bilevel problem with known inner solution and hypergradient.

    Attributes:
        name: of the problem.
        label: the same in a word, for a legend.
        J: inner objective.
        F: outer objective.
        theta: inner solution.
        cold: another inner point, from which nothing is known.
        phi: outer variables.
        exact: the hypergradient, flat.
        A: `-∂²_{θθ}J` at the solution.
        B: `∂²_{θφ}J` there.
        pull: `∂_θF` there.
        bend: `-∂²_{θθ}F` where both objectives are quadratic, else None.
    """

    name: str
    label: str
    J: Level
    F: Level
    theta: Tree
    cold: Tree
    phi: Tree
    exact: Tensor
    A: Tensor
    B: Tensor
    pull: Tensor
    bend: Tensor | None

    @property
    def rate(self) -> float:
        """Step size `η`, 1 over the largest curvature."""
        return 1 / float(torch.linalg.eigvalsh(self.A)[-1])

    @property
    def condition(self) -> float:
        """Largest over smallest curvature."""
        curvatures = torch.linalg.eigvalsh(self.A)
        return float(curvatures[-1] / curvatures[0])

    def off(self, distance: float, generator: torch.Generator, steps: int = 0) -> Tree:
        """Return a point at a distance from the solution, relative to its norm.

        The direction is random; with steps, it is what gradient ascent would leave of a random
        one, in the linear approximation: the more steps, the more it is that of least curvature.
        """
        leaves = Leaves.of("theta", self.theta)
        curvatures, Q = torch.linalg.eigh(self.A)
        direction = torch.randn(len(self.pull), generator=generator, dtype=F64)
        direction = Q @ ((1 - self.rate * curvatures) ** steps * (Q.T @ direction))
        direction = direction / direction.norm() * flat(leaves.tensors).norm()
        return leaves.moved(leaves.split(direction), distance).detached()

    def error(self, found: Hypergradient) -> float:
        """Return the relative error of a hypergradient."""
        value = flat(Leaves.of("value", found.value).tensors)
        return float((value - self.exact).norm() / self.exact.norm())

    def chebyshev(self, iterations: int) -> float:
        """Return a bound on the error of CG.

        `‖v_k - v‖_A ≤ 2 ((√κ-1)/(√κ+1))^k ‖v‖_A`, and `‖Bᵀe‖ ≤ ‖BᵀA^{-1/2}‖ ‖e‖_A`.
        """
        curvatures, Q = torch.linalg.eigh(self.A)
        root = math.sqrt(self.condition)
        spread = torch.linalg.matrix_norm(self.B.T @ Q / curvatures.sqrt(), 2)
        size = (Q.T @ self.pull / curvatures.sqrt()).norm()  # ‖v‖_A, v = A⁻¹ ∂_θF
        factor = 2 * ((root - 1) / (root + 1)) ** iterations
        return factor * float(spread * size / self.exact.norm())

    def slowest(self, steps: int, start: Tree) -> float:
        """Return the part of the error of unrolled steps that decays most slowly.

        It is that in the direction of least curvature `μ` (of those that matter: along others
        the hypergradient has no part), and decays as `(1 - ημ)^k`. Two things do: what is left of
        the pull `∂_θF`, and the error of the pull, taken where the steps end.
        """
        curvatures, Q = torch.linalg.eigh(self.A)
        solution = flat(Leaves.of("theta", self.theta).tensors)
        away = flat(Leaves.of("start", start).tensors) - solution
        pull = self.pull if self.bend is None else self.pull + self.bend @ away
        parts = (self.B.T @ Q).norm(dim=0) * (Q.T @ pull).abs() / curvatures
        matters = parts > 1e-9 * parts.max()
        part, mu = parts[matters][0], curvatures[matters][0]  # in order of curvature
        return float((1 - self.rate * mu) ** steps * part / self.exact.norm())

    def first_order(self, weight: float) -> float:
        """Return the leading term `‖BᵀA⁻¹(-∂²F)A⁻¹∂_θF‖/σ` of the penalty's bias."""
        if self.bend is None:
            return math.nan
        v = torch.linalg.solve(self.A, self.pull)
        bias = self.B.T @ torch.linalg.solve(self.A, self.bend @ v)
        return float(bias.norm() / self.exact.norm()) / weight


def quadratic(size: int, outer_size: int, condition: float, gap: float, seed: int) -> Case:
    """Return `J = -½θᵀAθ + θᵀ(Bφ + c)`, `F = -½‖θ - t‖² + dᵀφ`.

    Args:
        size: of `θ`.
        outer_size: of `φ`.
        condition: of `A`; the eigenvalues are log-spaced up to 1, but for the smallest.
        gap: ratio of the second smallest to the smallest.
        seed: of the eigenvectors and everything else; shared by all conditions.
    """
    generator = streams.generator(seed, "quadratic")

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=F64)

    Q, _ = torch.linalg.qr(normal(size, size))
    rest = np.geomspace(gap / condition, 1, size - 1)
    A = (Q * torch.as_tensor([1 / condition, *rest])) @ Q.T
    A = (A + A.T) / 2
    B, c, t = normal(size, outer_size), normal(size), normal(size)
    d, phi = normal(outer_size), normal(outer_size)
    theta = torch.linalg.solve(A, B @ phi + c)
    exact = d + B.T @ torch.linalg.solve(A, t - theta)

    def J(theta: Tensor, phi: Tensor) -> Tensor:
        return -0.5 * theta @ A @ theta + theta @ (B @ phi + c)

    def F(theta: Tensor, phi: Tensor) -> Tensor:
        return -0.5 * (theta - t).square().sum() + d @ phi

    label, cold = f"κ = {condition:g}", torch.zeros_like(theta)
    name = f"quadratic, {label}"
    bend = torch.eye(size, dtype=F64)
    return Case(name, label, J, F, theta, cold, phi, exact, A, B, t - theta, bend)


def gaussian(rows: int, lam: float, seed: int) -> Case:
    """Return the paper's problem, a linear mean and a full covariance, at a wrong reward.

    Args:
        rows: inputs, one outcome each.
        lam: entropy weight.
        seed: of the data, and of the policy at its cold start.
    """
    generator = streams.generator(seed, "gaussian")
    x = torch.randn(rows, 1, generator=generator, dtype=F64)
    noise = torch.randn(rows, 1, N, generator=generator, dtype=F64)
    root = torch.tensor([[1.0, 0.0], [0.5, 0.6]], dtype=F64)
    data = Dataset.of(x, (x * torch.tensor([1.0, -2.0])).unsqueeze(-2) + noise @ root.T)
    policy, reward = GaussianPolicy(1, N, "full"), ConstantReward(N)
    weight = torch.tensor(lam, dtype=F64)
    problem = likelihood.problem(policy, reward, weight, data)
    U = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=F64)
    line = coefficients(x, data.mean)
    S = torch.linalg.cholesky(weight / 2 * torch.linalg.inv(U))
    raw = torch.stack([S[0, 0].log(), S[1, 0], S[1, 1].log()])
    theta = {"mean.weight0": line[:1], "mean.bias0": line[1], "scale.raw": raw}
    Sigma = likelihood.second_moment(policy(theta, x).mean, data)
    G = outer.hypergradient("full", N).at(U=U.numpy(), Sigma=Sigma.numpy(), lam=lam)
    # dF = Tr(G dU) with U = CCᵀ, C = DL: each row of C in units of its diagonal, in logarithms
    C = torch.linalg.cholesky(U)
    slope = (2 * torch.as_tensor(G) @ C).tril()
    exact = torch.cat([(slope * C).sum(1), slope[1:, 0] * C.diagonal()[1:]])
    phi = reward.start(U)
    inner, outside = Leaves.of("theta", theta).fresh(), Leaves.of("phi", phi).fresh()
    gradient, pull, _ = first_derivatives(problem.J, problem.F, inner, outside)
    lines = [
        torch.autograd.grad(
            g, (*inner.tensors, *outside.tensors), retain_graph=True, materialize_grads=True
        )
        for g in gradient
    ]
    both = torch.stack([flat(row) for row in lines])
    A, B = -both[:, : len(pull)], both[:, len(pull) :]
    cold = policy.init([streams.generator(seed, "init")], dtype=F64)
    J, F = problem.J, problem.F
    return Case(GAUSSIAN, GAUSSIAN, J, F, theta, cold, phi, exact, (A + A.T) / 2, B, pull, None)
