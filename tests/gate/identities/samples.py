"""Identities of finite samples: what the solvers learn from N rows, and what that loses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

import solvers as so
from analysis import gaussian, samples
from paper_checks.conformance.derived import derived, square
from paper_checks.conformance.strategies import Problem, make_problem
from paper_checks.conformance.tolerances import agree, agree_on_average, closed_form
from solvers.data import TwoMoments
from solvers.families.gaussian import Structure
from solvers.rewards import mahalanobis
from solvers.training import inner
from tests.draws import F64
from tests.gate.identities.bilevel import KINDS

INPUTS, ROWS, OTHERS = 2, 12, 9  # distinct, so that rows of one part cannot pass for the other's
DRAWS = 4000
SPARE = 8  # degrees of freedom beyond n
PLANE = replace(  # moderate, as whole outer loops are run on it
    make_problem(2, 7), lam=0.7, Sigma=np.array([[1.0, 0.5], [0.5, 2.0]])
)


def _generator(problem: Problem) -> torch.Generator:
    return torch.Generator().manual_seed(int(problem.Sigma.view(np.uint64)[0, 0] % 2**63))


def _rows(problem: Problem, *shape: int, generator: torch.Generator) -> Tensor:
    """Gaussian rows of covariance Σ and mean 0."""
    L = torch.linalg.cholesky(problem.tensors()["Sigma"])
    return torch.randn(*shape, problem.n, generator=generator, dtype=F64) @ L.mT


def _linear(problem: Problem, rows: int, generator: torch.Generator) -> so.Dataset:
    """Rows with a linear mean of coefficients 1, 0."""
    x = torch.randn(rows, INPUTS, generator=generator, dtype=F64)
    mean = x[:, :1].expand(rows, problem.n)
    return so.Dataset.pairs(x, mean + _rows(problem, rows, generator=generator))


def _design(data: so.Dataset) -> np.ndarray:
    return np.column_stack([data.x.numpy(), np.ones(len(data.x))])


def learned_reward(problem: Problem, structure: Structure, held_out: bool) -> None:
    """The outer loop learns the derived `U*` at S: of residuals, or of errors on held-out rows.

    `S` is that of a fit by NumPy, which the solvers never see; on held-out rows it estimates
    `Σ + E e eᵀ`.
    """
    generator = _generator(problem)
    data = _linear(problem, ROWS, generator)
    other = _linear(problem, OTHERS, generator) if held_out else None
    likelihood = so.maximum_likelihood(
        so.GaussianPolicy(INPUTS, problem.n, structure),
        so.ConstantReward(problem.n, KINDS[structure]),
        data,
        lam=problem.lam,
        held_out=other,
    )
    found = so.solve(likelihood, seed=0, tolerance=1e-6)
    name = f"U learned from {'held-out' if held_out else 'the same'} rows, {structure}"
    if not found.converged:
        raise AssertionError(f"{name} fails to converge: {found.reason}\n  inputs   {problem}")
    fit = np.linalg.lstsq(_design(data), data.mean.numpy(), rcond=None)[0]
    seen = data if other is None else other
    errors = seen.mean.numpy() - _design(seen) @ fit
    S = errors.T @ errors / len(errors)
    sample = replace(problem, Sigma=(S + S.T) / 2)
    want = square(derived(gaussian.outer.optimal_reward, structure, sample, "Sigma"), problem.n)
    agree(name, found.reward.U, want, rtol=1e-4, inputs=problem)


def _lost(problem: Problem, S: Tensor, mean: Tensor, structure: Structure) -> Tensor:
    """Nats lost on new rows by the policy of `U*(S)` against the best of its structure."""
    zero, Sigma = torch.zeros_like(mean), problem.tensors()["Sigma"].expand_as(S)

    def loss(S: Tensor, mean: Tensor) -> Tensor:
        reward = mahalanobis.optimal_reward(S, problem.lam, structure)
        law = inner.closed_form(reward, problem.lam, mean, structure).value
        return law.cross_entropy(TwoMoments(zero, Sigma))

    return loss(S, mean) - loss(Sigma, zero)


def excess(problem: Problem, structure: Structure) -> None:
    """What rewards learned from ν rows lose on average is the derived excess (z-test)."""
    n, nu = problem.n, problem.n + SPARE
    if structure == "isotropic":  # its derivation is for Σ ∝ I
        problem = replace(problem, Sigma=problem.Sigma[0, 0] * np.eye(n))
    rows = _rows(problem, DRAWS, nu, generator=_generator(problem))
    lost = _lost(problem, rows.mT @ rows / nu, torch.zeros(DRAWS, n, dtype=F64), structure)
    want = samples.excess.expected(structure, n).at("derived", freedom=nu)
    agree_on_average(f"expected excess, {structure}", lost, want, inputs=problem)


def plug_in(problem: Problem) -> None:
    """What mean and covariance of N rows lose on average is the derived E KL (z-test)."""
    n, N = problem.n, problem.n + 1 + SPARE
    rows = _rows(problem, DRAWS, N, generator=_generator(problem))
    mean = rows.mean(-2)
    centred = rows - mean.unsqueeze(-2)
    lost = _lost(problem, centred.mT @ centred / N, mean, "full")
    want = samples.excess.plug_in(n).at("derived", rows=N)
    agree_on_average("E KL(true ‖ plug-in)", lost, want, inputs=problem)


def scaled(problem: Problem) -> None:
    """The derived scale of a learned reward gains the derived nats on average (z-test)."""
    n, nu = problem.n, problem.n + SPARE
    rows = _rows(problem, DRAWS, nu, generator=_generator(problem))
    S, zero = rows.mT @ rows / nu, torch.zeros(DRAWS, n, dtype=F64)
    k = samples.excess.best_scale(n).at("derived", freedom=nu)
    gain = _lost(problem, S, zero, "full") - _lost(problem, S / k, zero, "full")
    want = samples.excess.gain_of_scaling(n).at("derived", freedom=nu)
    agree_on_average("gain of the best scale", gain, want, inputs=problem)


def optimal_reward_of_a_sample(problem: Problem, structure: Structure) -> None:
    """Training on `U*(S)` gives S of that structure back, and no more: `P*(U*(S))`."""
    rows = _rows(problem, ROWS, generator=_generator(problem))
    S = rows.mT @ rows / ROWS
    lam = problem.tensors()["lam"]
    reward = mahalanobis.optimal_reward(S, lam, structure)
    P = inner.closed_form(reward, lam, torch.zeros_like(S[0]), structure).value.covariance
    variances = S.diagonal()
    want = {
        "full": S,
        "diagonal": torch.diag(variances),
        "isotropic": variances.mean() * torch.eye(problem.n, dtype=F64),
    }[structure]
    agree(f"P*(U*(S)) = S, {structure}", P, want, rtol=closed_form(S), inputs=problem)
