"""Identities of independent bits: solvers against derivations, and against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from analysis import bernoulli as theory
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree
from solvers.data import Dataset
from solvers.families import bernoulli
from solvers.hypergradients.implicit import implicit
from solvers.rewards.mahalanobis import MahalanobisReward, optimal_weights
from solvers.training.objectives import NLL, PolicyGradient

EXPLICIT = 3
CLOSED = 1e-10


def probabilities(problem: Problem) -> Tensor:
    """ρ of the data: fractions of 16, which 16 outcomes can have exactly, never ½."""
    rho = torch.sigmoid(problem.tensors()["mu"])
    sixteenths = (rho * 16).round().clamp(1, 15)
    return torch.where(sixteenths == 8, 9.0, sixteenths) / 16


def data_of(rho: Tensor) -> Dataset:
    """16 outcomes at one input, of mean ρ."""
    ranks = torch.arange(16, dtype=torch.float64)[:, None]
    return Dataset.of(torch.ones(1, 1, dtype=torch.float64), (ranks < 16 * rho).double()[None])


def objective(problem: Problem) -> None:
    """`J`: training objective, derivation, and a sum over all outcomes."""
    t, rho = problem.tensors(), probabilities(problem)
    data, z = data_of(rho), t["m"]
    law = bernoulli.Bernoulli(z[None])
    J = -float(PolicyGradient(MahalanobisReward.full(t["U"]), t["lam"])(law, data))
    points = torch.tensor(list(product((0.0, 1.0), repeat=problem.n)), dtype=torch.float64)
    p = torch.where(points == 1, z.sigmoid(), (-z).sigmoid()).prod(-1)
    e = points[:, None] - data.y[0]
    reward = -((e @ t["U"]) * e).sum(-1).mean(-1)
    want = float((p * (reward - t["lam"] * p.log())).sum())
    agree("J of bits, by enumeration", J, want, rtol=CLOSED, scale=1.0, inputs=problem)
    if problem.n <= EXPLICIT:
        derived = theory.inner.objective(problem.n).at(
            side="derived",
            psi=z.sigmoid().numpy(),
            rho=rho.numpy(),
            Sigma=data.covariance[0].numpy() + 1e-12 * np.eye(problem.n),
            U=problem.U,
            lam=problem.lam,
        )
        agree("J of bits", J, derived, rtol=1e-9, scale=1.0, inputs=problem)


def moderate(problem: Problem) -> Tensor:
    """Weights u of about λ, at which no bit is all but certain."""
    weights = problem.tensors()["U"].diagonal()
    return problem.lam * weights / (1 + weights)


def inner_solution(problem: Problem) -> None:
    """`z* = u(2ρ - 1)/λ`: stationary for the training objective, and as derived."""
    rho, u = probabilities(problem), moderate(problem)
    U, lam = torch.diag(u), problem.tensors()["lam"]
    z = bernoulli.inner_solution(U, lam, rho).logits.clone().requires_grad_()
    loss = PolicyGradient(MahalanobisReward.full(U), lam)
    slope = torch.autograd.grad(loss(bernoulli.Bernoulli(z[None]), data_of(rho)), z)[0]
    scale = problem.lam
    agree("∂J/∂z at z*", slope, torch.zeros_like(z), rtol=CLOSED, scale=scale, inputs=problem)
    if problem.n <= EXPLICIT:
        at = {"U": U.numpy(), "rho": rho.numpy(), "lam": problem.lam}
        want = theory.inner.solution(problem.n).at(side="derived", **at)
        agree("z* of bits", z.detach(), np.ravel(want), rtol=CLOSED, scale=1.0, inputs=problem)


def hypergradient(problem: Problem) -> None:
    """`∂F/∂u` by implicit differentiation of the training objectives, and as derived."""
    rho, u = probabilities(problem), moderate(problem)
    lam, data = problem.tensors()["lam"], data_of(rho)

    def J(z: Tensor, u: Tensor) -> Tensor:
        reward = MahalanobisReward(torch.diag_embed(u.sqrt()))
        return -PolicyGradient(reward, lam)(bernoulli.Bernoulli(z[None]), data)

    def F(z: Tensor, u: Tensor) -> Tensor:
        return -NLL()(bernoulli.Bernoulli(z[None]), data)

    z = bernoulli.inner_solution(torch.diag(u), lam, rho).logits
    found = implicit(J, F, z, u, method="dense", strict=True).value
    assert isinstance(found, Tensor)
    if problem.n <= EXPLICIT:
        at = {"psi": z.sigmoid().numpy(), "rho": rho.numpy(), "lam": problem.lam}
        want = np.ravel(theory.outer.hypergradient(problem.n).at(side="derived", **at))
        agree("∂F/∂u of bits", found, want, rtol=1e-8, scale=1 / problem.lam, inputs=problem)


def optimal_reward(problem: Problem) -> None:
    """`u*` is as derived, and with it the inner solution has the mean of the data."""
    rho = probabilities(problem)
    u = optimal_weights(rho, problem.lam)
    if problem.n <= EXPLICIT:
        at = {"rho": rho.numpy(), "lam": problem.lam}
        want = np.ravel(theory.outer.optimal_reward(problem.n).at(side="derived", **at))
        agree("u* of bits", u, want, rtol=CLOSED, inputs=problem)
    law = bernoulli.inner_solution(torch.diag(u), problem.lam, rho)
    agree("ψ*(u*) = ρ", law.mean, rho, rtol=CLOSED, inputs=problem)
