"""Identities of the functional hypergradient and of the differentiable inner solution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import gaussian, hypergradients
from paper_checks.conformance import identities, witnesses
from paper_checks.conformance.derived import EXPLICIT, square
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.data import Dataset, TwoMoments
from solvers.families.gaussian import Gaussian, GaussianPolicy, Structure
from solvers.hypergradients import functional
from solvers.hypergradients.differentiable import inner_solution
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training import inner
from tests.gate.identities.common import data_with_moments


def reward_of(U: Tensor) -> MahalanobisReward:
    """Return the reward of a symmetric `U`, whose gradient is then the symmetric one."""
    return MahalanobisReward(torch.linalg.cholesky(U))


def policy_at(law: Gaussian, structure: Structure) -> tuple[GaussianPolicy, dict[str, Tensor]]:
    """Return a policy with this law at the input 0: the biases say it all."""
    n = law.n
    policy = GaussianPolicy(1, n, structure)
    S = law.scale if law.full else torch.diag_embed(law.scale)
    L = S.tril(-1) + torch.diag_embed(S.diagonal(dim1=-2, dim2=-1).log())
    rows, columns = torch.tril_indices(n, n).unbind()
    raw = {
        "isotropic": L[:1, 0],
        "diagonal": L.diagonal(),
        "full": L[rows, columns],
    }[structure]
    mean = {"mean.weight0": torch.zeros(1, n, dtype=S.dtype), "mean.bias0": law.mean}
    return policy, {**mean, "scale.raw": raw}


def outputs(problem: Problem, structure: Structure) -> Gaussian:
    """Return the policy `(m, P)` of the problem, its covariance restricted to the structure."""
    t = problem.tensors()
    if structure == "full":
        return Gaussian(t["m"], torch.linalg.cholesky(t["P"]))
    variances = t["P"].diagonal()
    if structure == "isotropic":
        variances = variances.mean().expand_as(variances)
    return Gaussian(t["m"], variances.sqrt())


def slope(problem: Problem, law: Gaussian, structure: Structure) -> np.ndarray:
    """Return the functional `∇_U F` at a law, by the solver."""
    policy, params = policy_at(law, structure)
    data, t = data_with_moments(problem), problem.tensors()
    found = functional.functional(
        policy, params, reward_of, t["U"], problem.lam, data, distance=float("inf")
    )
    return found.value.numpy()


def at_any_outputs(problem: Problem, structure: Structure) -> None:
    """The functional `∇_U F` of a policy that misses the inner solution: the derivation, n <= 3."""
    law = outputs(problem, structure)
    n = problem.n
    values = problem.pick("m", "mu", "Sigma", "U") | {"lam": problem.lam}
    factor = law.covariance.sqrt().numpy() if structure == "diagonal" else problem.P
    if structure == "isotropic":
        values["s"] = float(law.scale[0] ** 2)
    else:
        name = "L" if structure == "diagonal" else "P"
        values[name] = factor if n > 1 else float(factor[0, 0])
    want = square(
        hypergradients.functional.hypergradient(structure, n).at(side="derived", **values), n
    )
    # the terms that cancel: P⁻¹ and U⁻¹ with the error of the mean, Σ/λ
    e, P = problem.m - problem.mu, law.covariance.numpy()
    scale = float(np.linalg.norm(np.linalg.inv(problem.U) @ np.linalg.inv(P)) * (e @ e))
    scale += float(np.linalg.norm(problem.Sigma) + e @ e + np.linalg.norm(P)) / problem.lam
    rtol = closed_form(problem.U, P)
    got = slope(problem, law, structure)
    name = f"functional ∇_U F at (m, P), {structure}"
    agree(name, got, want, rtol=rtol, scale=scale, inputs=problem)


def at_solution(problem: Problem, structure: Structure) -> None:
    """At the inner solution it is the hypergradient: derived directly, and in functional form."""

    def solved(U: np.ndarray, Sigma: np.ndarray, lam: float, structure: Structure) -> np.ndarray:
        here = replace(problem, U=U, Sigma=Sigma, lam=lam)
        t = here.tensors()
        law = inner.closed_form(reward_of(t["U"]), t["lam"], t["mu"], structure).value
        return slope(here, law, structure)

    identities.SLOPE_IS_DERIVED(solved, problem, structure)
    if problem.n <= EXPLICIT:
        identities.SLOPE_IS_IMPLICIT(solved, problem, structure)
        values = problem.pick("U", "Sigma", "lam")
        form = hypergradients.functional.at_solution(structure, problem.n).at(
            side="derived", **values
        )
        got = solved(problem.U, problem.Sigma, problem.lam, structure)
        scale = float(np.linalg.norm(problem.Sigma)) / problem.lam
        name = f"functional ∇_U F at the inner solution, {structure}"
        want, rtol = square(form, problem.n), closed_form(problem.U)
        agree(name, got, want, rtol=rtol, scale=scale, inputs=problem)


def adjoints(problem: Problem, structure: Structure) -> None:
    """`(a, A)`: the solver's closed form against the derivation, n <= 3."""
    law, t, n = outputs(problem, structure), problem.tensors(), problem.n
    P = law.covariance
    free = {"isotropic": P[:1, 0], "diagonal": P.diagonal(), "full": P}[structure]
    m, free = law.mean.clone().requires_grad_(), free.clone().requires_grad_()
    L = torch.linalg.cholesky(free) if structure == "full" else torch.diag(free.sqrt().expand(n))
    F = witnesses.log_likelihood(m, L, t["mu"], t["Sigma"])
    in_mean, in_spread = torch.autograd.grad(F, [m, free])
    policy = GaussianPolicy(1, n, structure)
    a = functional.mean_adjoint(t["U"][None], in_mean[None])[0]
    A = functional.covariance_adjoint(free.detach()[None], in_spread[None], t["lam"], policy)[0]
    values: dict[str, Any] = problem.pick("m", "mu", "Sigma") | {"lam": problem.lam}
    factor = P.sqrt() if structure == "diagonal" else P
    value = factor.numpy() if n > 1 else float(factor[0, 0])
    values["L" if structure == "diagonal" else "P"] = value
    if structure == "isotropic":
        values["s"] = float(values.pop("P") if n == 1 else P[0, 0])
        values.pop("P", None)
    want = square(
        hypergradients.functional.covariance_adjoint(structure, n).at(side="derived", **values), n
    )
    full = A if structure == "full" else torch.diag(A.expand(n))
    e = problem.m - problem.mu
    scale = float(np.linalg.norm(problem.Sigma) + e @ e + P.norm()) / problem.lam
    rtol = closed_form(P.numpy())
    agree(f"A, {structure}", full, want, rtol=rtol, scale=scale, inputs=problem)
    dense = P.numpy() if n > 1 else float(P[0, 0])
    at = {**problem.pick("m", "mu", "U"), "P": dense}
    want = np.atleast_1d(hypergradients.functional.mean_adjoint(n).at(side="derived", **at))
    rtol = closed_form(P.numpy(), problem.U)
    agree(f"a, {structure}", a, want, rtol=rtol, inputs=problem)


def restricted_mean(problem: Problem) -> None:
    """Two inputs with errors `e` and `-e'` of the mean: what the functional form adds, n <= 3."""
    t, n = problem.tensors(), problem.n
    errors = torch.stack([t["m"], t["mu"]])
    law = inner.closed_form(reward_of(t["U"]), t["lam"], t["mu"]).value
    policy, params = policy_at(law, "full")
    spread = witnesses.cubature(torch.zeros_like(t["mu"]), torch.linalg.cholesky(t["Sigma"]))
    y = t["mu"] - errors[:, None] + spread
    data = Dataset.of(torch.tensor([[0.0], [1.0]], dtype=torch.float64), y)
    found = functional.functional(
        policy, params, reward_of, t["U"], problem.lam, data, distance=float("inf")
    )
    e = {"e_a": problem.m, "e_b": problem.mu}
    V = problem.Sigma + (np.outer(e["e_a"], e["e_a"]) + np.outer(e["e_b"], e["e_b"])) / 2
    at = {"U": problem.U, "Sigma": V}
    values = at if n > 1 else {k: float(v[0, 0]) for k, v in at.items()}
    parametric = gaussian.outer.hypergradient("full", n).at(
        side="derived", **values, lam=problem.lam
    )
    given: dict[str, Any] = {**e, "w": 0.5, "lam": problem.lam}
    gap = square(hypergradients.functional.restricted_mean_gap(n).at(side="derived", **given), n)
    scale = float(np.linalg.norm(V)) / problem.lam
    name, rtol = "functional - parametric = (2/λ) E eeᵀ", closed_form(problem.U)
    got = found.value.numpy() - square(parametric, n)
    agree(name, got, gap, rtol=rtol, scale=scale, inputs=problem)


def differentiable(problem: Problem, structure: Structure) -> None:
    """`∇_U F(θ*(U))` through the differentiable inner solution is the derived hypergradient."""
    n = problem.n

    def through(U: np.ndarray, Sigma: np.ndarray, lam: float, structure: Structure) -> np.ndarray:
        t = replace(problem, Sigma=Sigma, lam=lam).tensors()
        variable = torch.tensor(U, requires_grad=True)

        def J(theta: Tensor, weights: Tensor) -> Tensor:
            m, L = unpacked(theta, n, structure)
            law = Gaussian(m, L)
            reward = MahalanobisReward(torch.linalg.cholesky(weights))
            # in units of λ the curvature of the scale is of order 1
            expected = reward.expected(law, TwoMoments(t["mu"], t["Sigma"]))
            return (expected + t["lam"] * law.entropy()) / t["lam"]

        start = torch.zeros(witnesses.free_parameters(n, structure), dtype=torch.float64)
        theta = inner_solution(J, start, variable, tolerance=1e-6)
        m, L = unpacked(theta, n, structure)
        F = -Gaussian(m, L).cross_entropy(TwoMoments(t["mu"], t["Sigma"]))
        (G,) = torch.autograd.grad(F, variable)
        return G.numpy()

    identities.SLOPE_IS_DERIVED(through, problem, structure)


def unpacked(theta: Tensor, n: int, structure: Structure) -> tuple[Tensor, Tensor]:
    """Return `(m, L)` of a vector, by operations that `torch.func` can follow."""
    m, raw = theta[:n], theta[n:]
    if structure != "full":
        return m, torch.diag(raw.exp().expand(n))
    rows, columns = torch.tril_indices(n, n).unbind()
    place = torch.zeros(len(raw), n, n, dtype=theta.dtype)
    place[torch.arange(len(raw)), rows, columns] = 1
    L = (raw[:, None, None] * place).sum(0)
    return m, L.tril(-1) + torch.diag(L.diagonal().exp())
