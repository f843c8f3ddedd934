"""Identities of training as a flow: what small steps follow, and which steps are too large."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.dynamics import inner_flow
from analysis.dynamics.inner_flow import Objective
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import CLOSED_FORM, agree
from solvers.families.gaussian import GaussianPolicy
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import ensemble
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import F64
from tests.gate.identities.common import data_with_moments

POLICY = GaussianPolicy(1, 1, "diagonal")
HORIZON, STEPS = 0.5, 60
HALVED = 0.1  # how far the error of half the step may be from half the error, relative to that, or
# to the step where it happens to vanish
NEAR = 1e-6  # of an optimum, in δ and in log s
FEW = 8  # steps that show whether it attracts
LINEAR = 1e-3  # relative: what is left of curvature there


def tame(problem: Problem) -> Problem:
    """Return a scalar problem whose flow neither stiffens nor crawls, m > μ."""
    gap = np.clip(np.abs(problem.m - problem.mu), 0.2, 1.5)
    return replace(
        problem,
        U=np.clip(problem.U, 0.3, 3),
        lam=float(np.clip(problem.lam, 0.3, 3)),
        Sigma=np.clip(problem.Sigma, 0.4, 2),
        P=np.clip(problem.P, 0.3, 4),
        m=problem.mu + gap,
    )


def train(
    problem: Problem, name: Objective, delta: Tensor, log_s: Tensor, eta: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return δ and log s of the package's training, of every member of a batch of starts."""
    t, data = problem.tensors(), data_with_moments(problem)
    reward = MahalanobisReward(torch.linalg.cholesky(t["U"]))
    objective = NLL() if name == "NLL" else PolicyGradient(reward, t["lam"])
    start = {
        "mean.weight0": torch.zeros(*delta.shape, 1, 1, dtype=F64),
        "mean.bias0": (t["mu"] + delta[..., None]),
        "scale.raw": log_s[..., None],
    }
    end = ensemble.gradient_descent(
        start,
        lambda theta, _: objective(POLICY(theta, data.x), data),
        steps=steps,
        learning_rate=eta,
        batch_ndim=delta.ndim,
    )
    return (end["mean.bias0"] - t["mu"])[..., 0].numpy(), end["scale.raw"][..., 0].numpy()


def numbers(problem: Problem) -> dict[str, float]:
    """The problem as the derivations name it."""
    return {
        "u": float(problem.U[0, 0]),
        "lam": problem.lam,
        "sigma": float(problem.Sigma[0, 0]) ** 0.5,
        "delta_0": float(problem.m[0] - problem.mu[0]),
        "v_0": float(problem.P[0, 0]),
    }


def at(derivation: Any, values: dict[str, float]) -> Any:
    """The derived side at those of the values that it takes."""
    return derivation.at("derived", **{name: values[name] for name in derivation.arguments})


def beginning(values: dict[str, float]) -> tuple[Tensor, Tensor]:
    """Return δ₀ and log s₀."""
    delta, v = (torch.tensor(values[name], dtype=F64) for name in ("delta_0", "v_0"))
    return delta, v.log() / 2


def follows(problem: Problem) -> None:
    """Small steps follow the derived flows, and half the step leaves half the error."""
    problem = tame(problem)
    values = numbers(problem) | {"t": HORIZON}
    start = beginning(values)
    names = ("δ of PG", "1/v of PG", "1/v of NLL", "t of NLL")
    errors: dict[str, list[float]] = {name: [] for name in names}
    for steps in (STEPS, 2 * STEPS):
        eta = HORIZON / steps
        delta, log_s = train(problem, "PG", *start, eta, steps)
        errors["δ of PG"].append(float(delta) - at(inner_flow.mean_error(), values))
        errors["1/v of PG"].append(float(np.exp(-2 * log_s)) - at(inner_flow.precision(), values))
        delta, log_s = train(problem, "NLL", *start, eta, steps)
        end = values | {"delta_t": float(delta), "v_t": float(np.exp(2 * log_s))}
        errors["1/v of NLL"].append(1 / end["v_t"] - at(inner_flow.orbit(), end))
        errors["t of NLL"].append(HORIZON - at(inner_flow.clock(), end))
    for name, (whole, half) in errors.items():
        identity = f"{name} follows the flow: half the step, half the error"
        agree(identity, half, whole / 2, rtol=HALVED, scale=HORIZON / STEPS, inputs=problem)


def large_steps(problem: Problem) -> None:
    """The mean of PG moves as derived, whatever the step; optima attract below the largest only."""
    problem = tame(problem)
    values = numbers(problem)
    rounding = abs(problem.mu[0]) + values["delta_0"]  # of the mean itself
    for share in (0.3, 0.9, 1.2):
        eta = share / values["u"]
        delta, _ = train(problem, "PG", *beginning(values), eta, FEW)
        want = at(inner_flow.mean_error_after(), values | {"eta": eta, "steps": FEW})
        identity = "δ_K = (1 - 2ηu)^K δ₀"
        agree(identity, delta, want, rtol=CLOSED_FORM, scale=rounding, inputs=problem)
    for name in inner_flow.BOTH:
        limits = at(inner_flow.largest_step(name), values).ravel()
        rates = np.diag(at(inner_flow.linearisation(name), values))
        v = problem.lam / (2 * values["u"]) if name == "PG" else values["sigma"] ** 2
        for k in (0, 1):
            for share in (0.8, 1.2):
                eta = share * limits[k]
                off = torch.eye(2, dtype=F64)[k] * NEAR
                delta, log_s = train(problem, name, off[0], off[1] + np.log(v) / 2, eta, FEW)
                reached = float((delta, log_s - np.log(v) / 2)[k])
                want = NEAR * (1 + eta * rates[k]) ** FEW
                agree(f"{name}, coordinate {k}, {share} of the largest step", reached, want,
                      rtol=LINEAR, inputs=problem)  # fmt: skip
                if (abs(reached) < NEAR) != (share < 1):
                    raise AssertionError(
                        f"{name}, coordinate {k}: {share} of the largest step fails to "
                        f"{'attract' if share < 1 else 'repel'}\n  inputs   {problem}"
                    )
