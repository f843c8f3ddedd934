"""Identities of forgetting: the training objectives' gradients against the derived paths."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical as Choice
from torch.distributions import MixtureSameFamily, Normal

from analysis import forgetting as theory
from analysis.forgetting.paths import Method
from paper_checks.conformance import witnesses
from paper_checks.conformance.class_problems import ClassProblem
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import FINITE_DIFFERENCE, agree
from solvers.data import Dataset, LabelledData
from solvers.families.categorical import Categorical
from solvers.families.gaussian import Gaussian
from solvers.families.module import policy
from solvers.rewards.between_classes import ClassReward
from solvers.rewards.mahalanobis import optimal_reward
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import F64
from tests.gate.identities.common import data_with_moments

STEP = 1e-5  # of central differences in ζ, of which the paths are polynomials
HALF = 0.5  # ζ
FAR = 24.0  # distance of modes without overlap in double precision


def data_of(mean: Tensor, covariance: Tensor) -> Dataset:
    """Data at a single input with these moments."""
    y = witnesses.cubature(mean, torch.linalg.cholesky(covariance))
    return Dataset.of(torch.zeros(1, 1, dtype=F64), y[None])


def natural_gradient(problem: Problem, method: Method) -> None:
    """Fisher-preconditioned gradients of the objectives move the policy along the derived path."""
    n, t = problem.n, problem.tensors()
    names = {"m0": problem.m, "P0": problem.P, "mu": problem.mu, "Sigma": problem.Sigma}

    def along(zeta: float) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for result in (theory.paths.mean, theory.paths.covariance):
            d = result(method, None)
            values = names | {"zeta": zeta}
            at = d.at("derived", **{name: values[name] for name in d.arguments})
            found.append(np.asarray(at))
        return found[0].reshape(n), found[1].reshape(n, n)

    first, second = along(HALF)
    before, after = along(HALF - STEP), along(HALF + STEP)
    m, P = first, second
    if method == "PG":
        m, P = np.linalg.solve(second, first), np.linalg.inv(second)
    here = torch.as_tensor(np.concatenate([m, P[np.tril_indices(n)]]))

    def law(theta: Tensor) -> Gaussian:
        mean, covariance = unpacked(theta, n)
        return Gaussian(mean[None], torch.linalg.cholesky(covariance)[None])

    data, own = data_with_moments(problem), data_of(*unpacked(here, n))
    lam = t["lam"]
    objective = NLL() if method == "NLL" else PolicyGradient(optimal_reward(t["Sigma"], lam), lam)
    slope = -torch.autograd.functional.jacobian(lambda x: objective(law(x), data), here)
    F = torch.autograd.functional.hessian(lambda x: NLL()(law(x), own), here)
    speed = torch.linalg.solve(F, slope) / HALF / (1.0 if method == "NLL" else lam)
    v, V = (part.numpy() for part in unpacked(speed, n))
    if method == "PG":
        v, V = second @ v - second @ V @ first, -second @ V @ second
    for name, got, index in (("mean", v, 0), ("covariance", V, 1)):
        want = (after[index] - before[index]) / (2 * STEP)
        scale = float(np.abs((first, second)[index]).max())
        identity = f"velocity of the {name}, {method}"
        agree(identity, got, want, rtol=FINITE_DIFFERENCE, scale=scale, inputs=problem)


def unpacked(theta: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance from its lower triangle."""
    rows, columns = (torch.as_tensor(index) for index in np.tril_indices(n))
    lower = torch.zeros(n, n, dtype=F64).index_put((rows, columns), theta[n:])
    return theta[:n], lower + lower.tril(-1).mT


def ties(problem: ClassProblem) -> None:
    """The slopes of the objective in the logits give the derived rates of e^{-z}."""
    t = problem.tensors()
    data = LabelledData.soft(torch.zeros(1, 1, dtype=F64), t["pi"][None])
    reward = ClassReward(t["r"][None, :, None])

    def slope(lam: float) -> Tensor:
        z = t["p"].log().requires_grad_()
        loss = PolicyGradient(reward, lam)(Categorical(z[None]), data)
        return -torch.autograd.grad(loss, z)[0]

    flow = 2 * slope(1.0) - slope(2.0)  # without the entropy, whose weight is positive
    want = theory.ties.conserved(problem.C).at("derived", p=problem.p, r=problem.r)
    agree("rates of e^{-z}", -flow / t["p"], want, rtol=1e-10, scale=1.0, inputs=problem)


class TwoModes(torch.nn.Module):
    """Unit modes at -δ and 0, whose weights have one logit."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = torch.nn.Parameter(torch.tensor(logit, dtype=F64))

    def forward(self, x: Tensor) -> MixtureSameFamily:
        logits = torch.stack([self.logit, torch.zeros_like(self.logit)]).expand(len(x), 2)
        centres = torch.tensor([-FAR, 0.0], dtype=F64).expand(len(x), 2)
        return MixtureSameFamily(Choice(logits=logits), Normal(centres, torch.ones_like(centres)))


def old_mode(problem: Problem) -> None:
    """Likelihood of new data moves the logit of the old mode by -w."""
    logit = float(problem.m[0]) / 4
    model = policy(TwoModes(logit))
    theta = model.start()
    data = data_of(torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
    (slope,) = torch.autograd.grad(NLL()(model(theta, data.x), data), theta["logit"])
    want = theory.modes.likelihood().at("derived", old=1 / (1 + np.exp(-logit)))
    agree("logit of the old mode", -slope, want, rtol=1e-10, inputs=problem)
