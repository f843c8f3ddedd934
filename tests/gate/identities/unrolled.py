"""Identities of unrolled and penalised hypergradients: quadratics, and the Gaussian setting."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from analysis import hypergradients
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import FINITE_DIFFERENCE, agree
from solvers.families.gaussian import GaussianPolicy
from solvers.hypergradients import penalty, unrolled
from solvers.hypergradients.implicit import implicit
from solvers.numerics.optimisers import SGD, Adam, Optimiser
from solvers.numerics.trees import Tree
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training.objectives import NLL, PolicyGradient
from tests.gate.identities.common import data_with_moments
from tests.gate.identities.quadratics import Quadratic, by_coordinates, joined, value_of

TIGHT = 1e-9  # relative to the terms that cancel
# asks for the problem of K steps itself
FREE: dict[str, Any] = {"tolerance": float("inf"), "distance": float("inf")}


def steps_of_gradient_ascent(q: Quadratic, share: float, steps: int, last: int | None) -> None:
    """`K` unrolled steps, all or the last `k`: derived, and by forward sensitivities."""
    eta = 2 * share / np.linalg.eigvalsh(q.A)[-1]
    theta, phi = q.trees(q.start)
    inputs = f"{q}, {eta=}, {steps=}, {last=}"
    got = value_of(
        unrolled.unrolled(q.J, q.F, theta, phi, optimiser=SGD(eta), steps=steps, last=last, **FREE)
    )
    at, moving = q.start, np.zeros_like(q.C)
    for step in range(steps):
        at = at + eta * (q.C @ q.phi - q.A @ at)
        if step >= steps - (last or steps):
            moving = moving + eta * (q.C - q.A @ moving)
    want = q.d + moving.T @ q.B @ (q.tau - at)
    scale = float(np.abs(moving).max() * np.abs(q.B).max() * (np.abs(q.tau) + np.abs(at)).max())
    agree("dF(θ_K)/dφ, forward", got, want, rtol=TIGHT, scale=scale, inputs=inputs)
    _, V = np.linalg.eigh(q.A)
    if last is None or last == steps:
        formula, counts = hypergradients.unrolled.hypergradient().at, {"steps": steps}
    else:
        formula, counts = (
            hypergradients.unrolled.truncated().at,
            {"earlier": steps - last, "last": last},
        )
    want = by_coordinates(q, formula, V, theta_0=True, eta=eta, **counts)
    agree("dF(θ_K)/dφ, derived", got, want, rtol=TIGHT, scale=scale, inputs=inputs)


def one_step_from_the_solution(q: Quadratic, share: float) -> None:
    """One step from θ*: derived, and ηκ of the exact indirect part in every eigenvector."""
    values, V = np.linalg.eigh(q.A)
    eta = 2 * share / values[-1]
    theta, phi = q.trees(q.best)
    got = value_of(unrolled.one_step(q.J, q.F, theta, phi, optimiser=SGD(eta), **FREE))
    want = q.d + eta * q.C.T @ q.B @ (q.tau - q.best)
    scale = float(eta * np.abs(q.C).max() * np.abs(q.B).max() * np.abs(q.tau - q.best).max())
    agree("one step from θ*", got, want, rtol=TIGHT, scale=scale, inputs=q)
    theta, phi = q.trees(q.start)
    got = value_of(unrolled.one_step(q.J, q.F, theta, phi, optimiser=SGD(eta), **FREE))
    want = by_coordinates(q, hypergradients.unrolled.one_step().at, V, theta_0=True, eta=eta)
    scale = float(np.abs(want).max() + np.abs(q.d).max())
    agree("one step, derived", got, want, rtol=TIGHT, scale=scale, inputs=q)


def converged(q: Quadratic, optimiser: Optimiser, steps: int, rtol: float) -> None:
    """Unrolled to convergence: `implicit` at θ*, and the closed form; nothing to warn of."""
    theta, phi = q.trees(q.start)
    found = unrolled.unrolled(q.J, q.F, theta, phi, optimiser=optimiser, steps=steps, strict=True)
    best, _ = q.trees(q.best)
    exact = implicit(q.J, q.F, best, phi, strict=True)
    scale = float(np.abs(q.C).max() * np.abs(np.linalg.solve(q.A, q.B @ (q.tau - q.best))).max())
    agree("unrolled = implicit", value_of(found), value_of(exact), rtol=rtol, scale=scale, inputs=q)
    agree("unrolled = closed form", value_of(found), q.implicit(), rtol=rtol, scale=scale, inputs=q)


def decay(q: Quadratic, rho: float, steps: int) -> None:
    """The measured bias of a scalar problem: derived, and from θ* shrinking by ρ at each step."""
    kappa, gamma = float(q.A[0, 0]), float(q.C[0, 0])
    eta = (1 - rho) / kappa
    at = {"kappa": kappa, "gamma": gamma, "nu": float(q.B[0, 0]), "tau": float(q.tau[0])}
    at |= {"phi": float(q.C[0] @ q.phi) / gamma, "eta": eta}
    _, phi = q.trees(q.best)
    exact = value_of(implicit(q.J, q.F, q.trees(q.best)[0], phi))[0]
    size = abs(exact) + abs(q.d[0]) + at["nu"] * gamma**2 / kappa

    def measured(start: np.ndarray, count: int) -> float:
        found = unrolled.unrolled(
            q.J, q.F, q.trees(start)[0], phi, optimiser=SGD(eta), steps=count, **FREE
        )
        return float(value_of(found)[0]) - exact

    for count in (steps, steps + 1):
        want = hypergradients.unrolled.bias().at(
            "derived", theta_0=float(q.start[0]), steps=count, **at
        )
        name = f"bias after {count} steps"
        agree(name, measured(q.start, count), want, rtol=1e-8, scale=1e-3 * size, inputs=(q, rho))
    first, second = measured(q.best, steps), measured(q.best, steps + 1)
    agree("bias shrinks by ρ", second, rho * first, rtol=1e-8, scale=1e-3 * size, inputs=(q, rho))


def gaussian(problem: Problem, structure: str, share: float, steps: int, extra: int) -> None:
    """`K` steps in `(m, log s)` from the inner optimum: the exact ∇_U F times 1 - (1 - 2ηλ)^K.

    With the policy, the rewards and the objectives of the solvers; `extra` steps before the
    differentiated ones change nothing, since the optimum does not move.
    """
    n, lam, t = problem.n, problem.lam, problem.tensors()
    data = data_with_moments(problem)
    eta = share / (lam * n)  # ηλ < 1 in every structure, the limit of stability
    U = t["U"]
    if structure == "diagonal":
        raw = (lam / (2 * U.diagonal())).log() / 2
    else:
        raw = (lam * n / (2 * U.trace())).log().reshape(1) / 2
    policy = GaussianPolicy(1, n, structure)  # pyright: ignore[reportArgumentType]
    theta = {
        "mean.weight0": torch.zeros(1, n, dtype=torch.float64),
        "mean.bias0": t["mu"].clone(),
        "scale.raw": raw,
    }

    def J(params: Tree, chol: Tree) -> Tensor:
        return -PolicyGradient(MahalanobisReward(chol.tril()), t["lam"])(
            policy(params, data.x), data
        )

    def F(params: Tree, chol: Tree) -> Tensor:
        return -NLL()(policy(params, data.x), data)

    step = min(eta, 0.9 / float(torch.linalg.eigvalsh(U)[-1]))  # the mean must not diverge
    found = unrolled.unrolled(
        J,
        F,
        theta,
        torch.linalg.cholesky(U),
        optimiser=SGD(step),
        steps=steps + extra,
        last=steps,
        **FREE,
    )
    formula = hypergradients.unrolled_gaussian.hypergradient(structure, n)  # pyright: ignore[reportArgumentType]
    G = formula.at("derived", **problem.pick("U", "Sigma", "lam"), eta=step, steps=steps)
    # dF = Tr(G dU) with U = LLᵀ
    want = np.tril(2 * np.reshape(G, (n, n)) @ torch.linalg.cholesky(U).numpy())
    L = torch.linalg.cholesky(U)
    terms = (torch.linalg.inv(U).diagonal().amax() + t["Sigma"].abs().amax() / lam) * L.abs().amax()
    inputs = f"{problem}, {structure}, eta={step}, {steps=}, {extra=}"
    name = "∇F (1 - (1 - 2ηλ)^K)"
    agree(name, found.value, want, rtol=TIGHT, scale=float(terms) * step * lam, inputs=inputs)


def penalised(q: Quadratic, weight: float) -> None:
    """The penalty, its weight in units of ν/κ at the least κ: derived; the bias is O(1/ς)."""
    kappa, V = scipy.linalg.eigh(q.A, q.B)  # VᵀAV = diag(κ), VᵀBV = I
    varsigma = weight / kappa[0]
    theta, phi = q.trees(q.best)
    found = value_of(penalty.penalty(q.J, q.F, theta, phi, weight=varsigma, tolerance=2.0))
    want = by_coordinates(q, hypergradients.penalty.hypergradient().at, V, weight=varsigma)
    scale, inputs = float(np.abs(q.implicit() - q.d).max()), f"{q}, {varsigma=}"
    agree("∇F_ς, derived", found, want, rtol=1e-7, scale=scale, inputs=inputs)
    pulls, target = V.T @ q.C @ q.phi, np.linalg.solve(V, q.tau)
    limits = [
        hypergradients.penalty.bias_limit().at(
            "derived", kappa=kappa[j], gamma=1.0, nu=1.0, phi=pulls[j], tau=target[j]
        )
        for j in range(len(kappa))
    ]
    # what is missing at a finite weight is ν/(ν + ςκ) of the limit in each coordinate
    size = float((np.abs(q.C.T @ V) @ np.abs(limits)).max())
    bias, limit = varsigma * (found - q.implicit()), q.C.T @ V @ limits
    agree("ς bias → limit", bias, limit, rtol=1.01 / weight, scale=size, inputs=inputs)


def adam_by_differences(q: Quadratic, optimiser: Adam, steps: int) -> None:
    """Unrolled Adam against central differences of as many steps of `torch.optim.Adam`."""

    def J(theta: Tree, phi: Tree) -> Tensor:
        return q.J(theta, phi) - 0.1 * joined(theta).pow(4).sum()

    def reached(f: np.ndarray) -> float:
        shifted = Quadratic(**{**vars(q), "phi": f})
        theta, phi = shifted.trees(q.start)
        leaves = {name: t.clone().requires_grad_() for name, t in theta.items()}
        adam = torch.optim.Adam(
            list(leaves.values()),
            lr=optimiser.learning_rate,
            betas=optimiser.betas,
            eps=optimiser.eps,
            maximize=True,
        )
        for _ in range(steps):
            adam.zero_grad()
            J(leaves, phi).backward()
            adam.step()
        return float(q.F(leaves, phi).detach())

    theta, phi = q.trees(q.start)
    found = value_of(
        unrolled.unrolled(J, q.F, theta, phi, optimiser=optimiser, steps=steps, **FREE)
    )
    h = 1e-5
    moves = h * np.eye(len(q.phi))
    want = [(reached(q.phi + e) - reached(q.phi - e)) / (2 * h) for e in moves]
    scale = 1 + abs(reached(q.phi))
    name = f"{steps} steps of Adam"
    agree(name, found, want, rtol=FINITE_DIFFERENCE, scale=scale, inputs=(q, optimiser))


def scales_with_the_outer_objective(q: Quadratic, factor: float) -> None:
    """`F` times a factor, and the penalty's weight with it: the value times the factor."""
    eta = 1 / np.linalg.eigvalsh(q.A)[-1]
    theta, phi = q.trees(q.best)

    def small(theta: Tree, phi: Tree) -> Tensor:
        return factor * q.F(theta, phi)

    for optimiser in (SGD(eta), Adam(eta, eps=1.0)):
        first, second = (
            value_of(unrolled.unrolled(q.J, F, theta, phi, optimiser=optimiser, steps=3, **FREE))
            for F in (q.F, small)
        )
        agree("unrolled, F scaled", second, factor * first, rtol=1e-12, inputs=(q, factor))
    first, second = (
        value_of(penalty.penalty(q.J, F, theta, phi, weight=weight, tolerance=2.0))
        for F, weight in ((q.F, 100.0), (small, 100.0 * factor))
    )
    agree("penalty, F and ς scaled", second, factor * first, rtol=1e-9, inputs=(q, factor))
