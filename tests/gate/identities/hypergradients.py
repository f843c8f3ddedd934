"""Identities of the implicit hypergradient: derivations, closed forms, invariances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import gaussian
from paper_checks.conformance.derived import derived, square
from paper_checks.conformance.strategies import Problem, spd
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.data import Dataset
from solvers.families.gaussian import Gaussian, Structure
from solvers.hypergradients.implicit import Method, implicit
from solvers.numerics import linear_solve
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import inner
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import F64
from tests.gate.identities.common import data_with_moments

HYPERGRADIENT = 1e-9  # relative, promised for every variant of the implicit form


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def law_of(theta: dict[str, Tensor], structure: Structure) -> Gaussian:
    """Return `N(m, SSᵀ)` at one input, from separate tensors of mean and scale."""
    mean = theta["m"][None]
    if structure == "full":
        S = theta["lower"].tril(-1) + torch.diag_embed(theta["log_s"].exp())
        return Gaussian(mean, S[None])
    return Gaussian(mean, theta["log_s"].exp().expand_as(theta["m"])[None])


def inner_point(problem: Problem, structure: Structure) -> dict[str, Tensor]:
    """Return the inner solution as a tree of several tensors; log s is a scalar if isotropic."""
    t = problem.tensors()
    law = inner.closed_form(MahalanobisReward.full(t["U"]), t["lam"], t["mu"], structure).value
    if structure == "full":
        diagonal = law.scale.diagonal().log()
        return {"m": law.mean, "log_s": diagonal, "lower": law.scale.tril(-1)}
    return {"m": law.mean, "log_s": law.scale[0].log() if structure == "isotropic"
            else law.scale.log()}  # fmt: skip


def objectives(problem: Problem, structure: Structure) -> tuple[Any, Any]:
    """Return `J(θ, φ)` and `F(θ, φ)` built from the project's policies, rewards and losses."""
    t = problem.tensors()
    data: Dataset = data_with_moments(problem)

    def J(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        U = (phi["U"] + phi["U"].T) / 2
        objective = PolicyGradient(MahalanobisReward(torch.linalg.cholesky(U)), t["lam"])
        # entries of a full factor above its diagonal are no parameters: hold them at 0
        idle = theta["lower"].triu().square().sum() if structure == "full" else 0.0
        return -objective(law_of(theta, structure), data) - idle

    def F(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        return -NLL()(law_of(theta, structure), data)

    return J, F


def gaussian_hypergradient(problem: Problem, structure: Structure, method: Method) -> None:
    """`implicit` on the Gaussian problem is the derived `∇_U F`, for every covariance structure."""
    J, F = objectives(problem, structure)
    theta, phi = inner_point(problem, structure), {"U": problem.tensors()["U"]}
    found = implicit(
        J, F, theta, phi, method=method, tolerance=1e-13, max_iterations=4000, rank=40,
        generator=generator(), distance=1e-3,
    )  # fmt: skip
    want = square(
        derived(gaussian.outer.hypergradient, structure, problem, "U", "Sigma"), problem.n
    )
    got = (found.value["U"] + found.value["U"].T) / 2
    scale = float(np.linalg.norm(problem.Sigma) / problem.lam)
    rtol = max(HYPERGRADIENT, closed_form(problem.U, problem.Sigma))
    name = f"∇_U F by implicit differentiation, {structure}, {method}"
    agree(name, got, want, rtol=rtol, scale=scale, inputs=problem)


@dataclass(frozen=True, eq=False)
class Quadratic:
    """`J = -½θᵀAθ + θᵀ(Bφ + c)`, `F = -½‖θ - t‖² + dᵀφ`; `θ* = A⁻¹(Bφ + c)`."""

    A: Tensor
    B: Tensor
    c: Tensor
    t: Tensor
    d: Tensor
    phi: Tensor

    def theta(self) -> Tensor:
        return torch.linalg.solve(self.A, self.B @ self.phi + self.c)

    def exact(self) -> Tensor:
        """`d + Bᵀ A⁻¹ (t - θ*)`."""
        return self.d + self.B.T @ torch.linalg.solve(self.A, self.t - self.theta())

    def __repr__(self) -> str:
        return ", ".join(f"{k}={v.tolist()}" for k, v in vars(self).items())


def make_quadratic(size: int, outer_size: int, seed: int) -> Quadratic:
    rng = np.random.default_rng([size, outer_size, seed])

    def normal(*shape: int) -> Tensor:
        return torch.as_tensor(rng.standard_normal(shape))

    return Quadratic(
        torch.as_tensor(spd(rng, size)),
        normal(size, outer_size),
        normal(size),
        normal(size),
        normal(outer_size),
        normal(outer_size),
    )


def quadratic_objectives(problem: Quadratic) -> tuple[Any, Any]:
    """Return `J`, `F` on a tree of coupled inner tensors: a scalar and two vectors or fewer."""

    def join(tree: list[Tensor]) -> Tensor:
        return torch.cat([leaf.reshape(-1) for leaf in tree])

    def J(theta: list[Tensor], phi: Tensor) -> Tensor:
        x = join(theta)
        return -0.5 * x @ problem.A @ x + x @ (problem.B @ phi + problem.c)

    def F(theta: list[Tensor], phi: Tensor) -> Tensor:
        return -0.5 * (join(theta) - problem.t).square().sum() + problem.d @ phi

    return J, F


def as_tree(theta: Tensor) -> list[Tensor]:
    """Cut a vector into a scalar, a vector of at most two entries, and the rest."""
    parts = [theta[0], theta[1:3], theta[3:]]
    return [part for part in parts if part.numel()]


def coupled_tensors(problem: Quadratic, method: Method) -> None:
    """Off-diagonal blocks count, and a scalar inner variable has a gradient."""
    J, F = quadratic_objectives(problem)
    found = implicit(
        J, F, as_tree(problem.theta()), problem.phi, method=method, tolerance=1e-12,
        max_iterations=100_000, rank=3, generator=generator(),
    )  # fmt: skip
    rtol = max(HYPERGRADIENT, closed_form(problem.A))
    name, want = f"hypergradient of a quadratic, {method}", problem.exact()
    scale = float(problem.d.abs().max())
    agree(name, found.value, want, rtol=rtol, scale=scale, inputs=problem)
    assert found.residual is not None
    if not found.residual <= 1e-12:
        raise AssertionError(f"{name} fails: residual {found.residual}\n  inputs   {problem}")


def cg_is_exact(problem: Quadratic) -> None:
    """CG needs at most `dim θ` products, and each iterate minimises the error on its Krylov space.

    So no iterate, the last one least of all, may be dropped.
    """
    A, b = problem.A, problem.t
    size = len(b)
    krylov = [b]
    for _ in range(size - 1):
        krylov.append(A @ krylov[-1] / krylov[-1].norm())
    for k in range(1, size + 1):
        Q, _ = torch.linalg.qr(torch.stack(krylov[:k], 1))
        want = Q @ torch.linalg.solve(Q.T @ A @ Q, Q.T @ b)
        found = linear_solve.cg(lambda v: A @ v, b, tolerance=0.0, max_iterations=k)
        # Krylov bases of an ill-conditioned matrix are ill-conditioned themselves
        rtol = 1e-7 * float(torch.linalg.cond(A)) ** 0.5
        scale = float(torch.linalg.solve(A, b).abs().max())
        agree(f"CG iterate {k}", found.x, want, rtol=rtol, scale=scale, inputs=problem)
    solved = linear_solve.cg(lambda v: A @ v, b, tolerance=1e-12, max_iterations=3 * size)
    error = torch.linalg.solve(A, b)
    rtol = closed_form(A)
    agree("CG solution", solved.x, error, rtol=rtol, inputs=problem)


def scale_free(problem: Quadratic, method: Method, factor: float) -> None:
    """Scaling `F`, down to 1e-13, scales the hypergradient; scaling `J` leaves it as it is."""
    J, F = quadratic_objectives(problem)
    theta = as_tree(problem.theta())

    def value(j: float, f: float) -> Tensor:
        return implicit(
            lambda t, p: j * J(t, p), lambda t, p: f * F(t, p), theta, problem.phi,
            method=method, tolerance=1e-12, max_iterations=100_000, rank=3,
            generator=generator(),
        ).value  # fmt: skip

    want, rtol = value(1, 1), max(HYPERGRADIENT, closed_form(problem.A))
    scale = float(problem.d.abs().max())
    agree(f"{method}, F scaled by {factor}", value(1, factor) / factor, want, rtol=rtol,
          scale=scale, inputs=problem)  # fmt: skip
    power = 2.0 ** round(math.log2(factor))  # exact, so that only the algorithm can differ
    agree(f"{method}, J scaled by {power}", value(power, 1), want, rtol=rtol, scale=scale,
          inputs=problem)  # fmt: skip


def damping_is_exact(problem: Quadratic, damping: float) -> None:
    """The damped result is the closed form with `A + damping I`; every method agrees."""
    J, F = quadratic_objectives(problem)
    damped = problem.A + damping * torch.eye(len(problem.A), dtype=F64)
    want = problem.d + problem.B.T @ torch.linalg.solve(damped, problem.t - problem.theta())
    methods: tuple[Method, ...] = ("dense", "cg", "nystrom-cg")
    for method in methods:
        found = implicit(
            J, F, as_tree(problem.theta()), problem.phi, method=method, tolerance=1e-12,
            max_iterations=100_000, damping=damping, rank=2, generator=generator(),
        )  # fmt: skip
        rtol, scale = max(HYPERGRADIENT, closed_form(problem.A)), float(problem.d.abs().max())
        name = f"damped hypergradient, {method}"
        agree(name, found.value, want, rtol=rtol, scale=scale, inputs=problem)
        if found.damping != damping:
            raise AssertionError(f"{name} fails to report its damping: {found.damping}")
    full = implicit(
        J, F, as_tree(problem.theta()), problem.phi, method="nystrom", damping=damping,
        rank=len(problem.A), tolerance=1e-6, generator=generator(),
    )  # fmt: skip
    agree("Nyström of full rank", full.value, want, rtol=1e-6, scale=1.0, inputs=problem)
