"""Identities of a reference policy in place of the entropy: solvers, derivations, definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from analysis import reference as theory
from paper_checks.conformance import witnesses
from paper_checks.conformance.derived import square
from paper_checks.conformance.strategies import Problem
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.families.bernoulli import Bernoulli
from solvers.families.categorical import Categorical
from solvers.families.gaussian import Gaussian
from solvers.hypergradients import functional
from solvers.hypergradients.implicit import implicit
from solvers.rewards import with_reference
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training.objectives import NLL, PolicyGradient
from tests.gate.identities.common import data_with_moments, policy_law
from tests.gate.identities.functional import policy_at, reward_of
from tests.gate.identities.hypergradients import law_of

F64 = torch.float64


def base(problem: Problem) -> Gaussian:
    """Return `p₀ = N(m₀, P₀)`: of about the data's place and size."""
    t = problem.tensors()
    m0, P0 = t["mu"] + (t["m"] - t["mu"]) / 4, t["M"] + t["Sigma"]
    return Gaussian(m0, torch.linalg.cholesky(P0))


def at_one_input(law: Gaussian) -> Any:
    """Return the function of inputs that has this law at the one input there is."""
    return lambda x: Gaussian(law.mean[None], law.scale[None])


def values(problem: Problem, *names: str, **others: Any) -> dict[str, Any]:
    """Return arguments of a derivation: of the problem, of the reference, and others."""
    p0 = base(problem)
    P0 = p0.covariance.numpy()
    m0, mu = p0.mean.numpy(), problem.mu
    known = {"m0": m0, "P0": P0, "a": np.linalg.solve(P0, m0 - mu), **others}
    given = problem.pick(*(name for name in names if name not in known))
    given |= {k: known[k] for k in [*(name for name in names if name in known), *others]}
    if problem.n > 1:
        return given
    return {k: float(np.asarray(v).reshape(())) for k, v in given.items()}


def conditioned(problem: Problem) -> float:
    """Return the relative tolerance of closed forms of this problem."""
    return closed_form(problem.U, problem.Sigma, problem.P, base(problem).covariance)


def objective(problem: Problem) -> None:
    """`J`: training objective, derivation, and the definition by cubature of densities."""
    t, p0 = problem.tensors(), base(problem)
    reward = MahalanobisReward.full(t["U"])
    by_solver = PolicyGradient(reward, t["lam"], reference=at_one_input(p0))
    J = -float(by_solver(policy_law(problem), data_with_moments(problem)))
    names = ("m", "P", "mu", "Sigma", "U", "m0", "P0", "lam")
    want = theory.inner.objective(problem.n).at("derived", **values(problem, *names))
    rtol, scale = conditioned(problem), 1 + abs(want)
    agree("J = E r - λ KL(p ‖ p₀)", J, want, rtol=rtol, scale=scale, inputs=problem)
    L = torch.linalg.cholesky(t["P"])
    density = MultivariateNormal(p0.mean, scale_tril=p0.scale)
    defined = witnesses.inner_objective(t["m"], L, t["U"], t["mu"], t["Sigma"], t["lam"])
    defined = defined + t["lam"] * density.log_prob(witnesses.cubature(t["m"], L)).mean()
    agree("J by cubature", J, defined, rtol=rtol, scale=scale, inputs=problem)


def inner_solution(problem: Problem) -> None:
    """`N(m*, P*)` of the solver is the derived one, and stationary for the training objective."""
    t, p0, n = problem.tensors(), base(problem), problem.n
    reward = MahalanobisReward.full(t["U"])
    found = with_reference.inner_solution(reward, t["lam"], t["mu"], p0)
    P = found.covariance.numpy()
    precision = theory.inner.precision(n).at("derived", **values(problem, "U", "P0", "lam"))
    rtol, unit = conditioned(problem), np.linalg.cond(P) * np.eye(n)
    got = P @ square(precision, n)
    agree("P* (P₀⁻¹ + (2/λ)U) = I", got + unit, unit + np.eye(n), rtol=rtol, inputs=problem)
    m = theory.inner.mean(n).at("derived", **values(problem, "P0", "m0", "mu", P=P))
    scale = float(np.abs(problem.m).max() + np.abs(problem.mu).max())
    agree("m*", found.mean, np.atleast_1d(m), rtol=rtol, scale=scale, inputs=problem)
    mean, S = (x[None].clone().requires_grad_() for x in (found.mean, found.scale))
    by_solver = PolicyGradient(reward, t["lam"], reference=at_one_input(p0))
    loss = by_solver(Gaussian(mean, S), data_with_moments(problem))
    in_m, in_S = torch.autograd.grad(loss, [mean, S])
    size = problem.lam / found.scale.diagonal().min()  # of the entropy's slope in S
    slopes = torch.cat([in_m.flatten(), in_S.tril().flatten()])
    zeros = torch.zeros_like(slopes)
    agree("∂J = 0 there", slopes, zeros, rtol=rtol, scale=float(size), inputs=problem)


def solved(problem: Problem) -> Gaussian:
    """Return the inner solution at one input."""
    t = problem.tensors()
    reward = MahalanobisReward.full(t["U"])
    found = with_reference.inner_solution(reward, t["lam"], t["mu"], base(problem))
    return Gaussian(found.mean[None], found.scale[None])


def hypergradient(problem: Problem) -> None:
    """`∇_U F` implicitly through the training objectives, and in outputs, is the derived one."""
    t, data, n = problem.tensors(), data_with_moments(problem), problem.n
    reference, law = at_one_input(base(problem)), solved(problem)

    def J(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        U = (phi["U"] + phi["U"].T) / 2
        objective = PolicyGradient(reward_of(U), t["lam"], reference=reference)
        idle = theta["lower"].triu().square().sum()  # no parameters: hold them at 0
        return -objective(law_of(theta, "full"), data) - idle

    def F(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        return -NLL()(law_of(theta, "full"), data)

    S = law.scale[0]
    theta = {"m": law.mean[0], "log_s": S.diagonal().log(), "lower": S.tril(-1)}
    by_parameters = implicit(J, F, theta, {"U": t["U"]}, method="dense", distance=1e-3).value["U"]
    policy, params = policy_at(Gaussian(law.mean[0], S), "full")
    by_outputs = functional.functional(
        policy, params, lambda phi: reward_of(phi["U"]), {"U": t["U"]}, t["lam"], data,
        reference=reference, distance=1e-3,
    ).value["U"]  # fmt: skip
    at = values(problem, "Sigma", "a", "lam", S=law.covariance[0].numpy())
    want = square(theory.outer.hypergradient(n).at("derived", **at), n)
    scale = float(np.linalg.norm(problem.Sigma) / problem.lam)
    rtol = max(1e-9, conditioned(problem))
    for name, found in (("implicit", by_parameters), ("functional", by_outputs)):
        got = (found + found.mT) / 2
        agree(f"∇_U F, {name}", got, want, rtol=rtol, scale=scale, inputs=problem)


def optimal_reward(problem: Problem) -> None:
    """`U*` of the solver is the derived one, or refused where that is not positive definite."""
    t, p0, n = problem.tensors(), base(problem), problem.n
    want = theory.outer.optimal_reward(n).at(
        "derived", **values(problem, "Sigma", "P0", "a", "lam")
    )
    want, precision = square(want, n), np.linalg.inv(p0.covariance.numpy())
    # Σ⁻¹ and P₀⁻¹, whose difference it is
    scale = problem.lam * float(
        np.linalg.norm(precision) + 1 / np.linalg.eigvalsh(problem.Sigma)[0]
    )
    smallest = float(np.linalg.eigvalsh(want)[0])
    narrow = Gaussian(t["mu"], torch.linalg.cholesky(t["Sigma"]) * 0.9)  # S = Σ, no pull
    for reference, outside in ((p0, smallest <= 0), (narrow, True)):
        try:
            found = with_reference.optimal_reward(t["Sigma"], t["lam"], t["mu"], reference)
        except with_reference.OutsideConeError as error:
            said = f"smallest eigenvalue is {smallest:.6g};"
            if not outside or (reference is p0 and said not in str(error)):
                raise AssertionError(
                    f"U* fails to be found: {error}\n  inputs {problem}"
                ) from error
            continue
        if outside:
            raise AssertionError(f"U* fails to be refused: {found.U}\n  inputs   {problem}")
        agree("U*", found.U, want, rtol=conditioned(problem), scale=scale, inputs=problem)


def divergences(problem: Problem) -> None:
    """`KL(p ‖ p₀)` of every family is the sum over outcomes, or torch's."""
    t, p0, p = problem.tensors(), base(problem), policy_law(problem)
    gaussian = kl_divergence(
        MultivariateNormal(p.mean[0], scale_tril=p.scale[0]),
        MultivariateNormal(p0.mean, scale_tril=p0.scale),
    )
    scale = 1 + float(gaussian)
    rtol = conditioned(problem)
    agree("KL, Gaussian", p.kl(p0), gaussian[None], rtol=rtol, scale=scale, inputs=problem)
    z, z0 = t["m"], t["mu"]
    classes = Categorical(torch.cat([z, z0])[None])
    base_classes = Categorical(torch.cat([z0, 2 * z])[None])
    sums = (classes.p * (classes.p / base_classes.p).log()).sum(-1)
    agree("KL, classes", classes.kl(base_classes), sums, rtol=1e-10, scale=1.0, inputs=problem)
    one, other = z.sigmoid(), z0.sigmoid()
    bits = one * (one / other).log() + (1 - one) * ((1 - one) / (1 - other)).log()
    got = Bernoulli(z).kl(Bernoulli(z0))
    agree("KL, bits", got, bits.sum(), rtol=1e-10, scale=1.0, inputs=problem)
