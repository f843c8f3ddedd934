"""Identities of a reference policy in place of the entropy: solvers, derivations, definitions."""

from __future__ import annotations

import math
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
from solvers.hypergradients.penalty import penalty
from solvers.hypergradients.unrolled import SGD, unrolled
from solvers.numerics.trees import Leaves, flat
from solvers.rewards import with_reference
from solvers.rewards.mahalanobis import MahalanobisReward
from solvers.training.objectives import NLL, PolicyGradient
from tests.draws import F64
from tests.gate.identities.common import data_with_moments, policy_law
from tests.gate.identities.functional import policy_at, reward_of
from tests.gate.identities.hypergradients import law_of


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


def levels(problem: Problem) -> tuple[Any, Any, dict[str, Tensor]]:
    """Return `J`, `F` of a law and of `U`, and the inner solution, as a tree of several tensors."""
    t, data = problem.tensors(), data_with_moments(problem)
    reference, law = at_one_input(base(problem)), solved(problem)

    def J(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        U = (phi["U"] + phi["U"].T) / 2
        objective = PolicyGradient(reward_of(U), t["lam"], reference=reference)
        idle = theta["lower"].triu().square().sum()  # no parameters: hold them at 0
        return -objective(law_of(theta, "full"), data) - idle

    def F(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        return -NLL()(law_of(theta, "full"), data)

    S = law.scale[0]
    return J, F, {"m": law.mean[0], "log_s": S.diagonal().log(), "lower": S.tril(-1)}


def derived_hypergradient(problem: Problem) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the derived `∇_U F` at the inner solution, and how near a solver's must be."""
    at = values(problem, "Sigma", "a", "lam", S=solved(problem).covariance[0].numpy())
    want = square(theory.outer.hypergradient(problem.n).at("derived", **at), problem.n)
    scale = float(np.linalg.norm(problem.Sigma) / problem.lam)
    return want, {"rtol": max(1e-9, conditioned(problem)), "scale": scale, "inputs": problem}


def hypergradient(problem: Problem) -> None:
    """`∇_U F` implicitly through the training objectives, and in outputs, is the derived one."""
    t, data, law = problem.tensors(), data_with_moments(problem), solved(problem)
    J, F, theta = levels(problem)
    by_parameters = implicit(J, F, theta, {"U": t["U"]}, method="dense", distance=1e-3).value["U"]
    policy, params = policy_at(Gaussian(law.mean[0], law.scale[0]), "full")
    by_outputs = functional.functional(
        policy, params, lambda phi: reward_of(phi["U"]), {"U": t["U"]}, t["lam"], data,
        reference=at_one_input(base(problem)), distance=1e-3,
    ).value["U"]  # fmt: skip
    want, near = derived_hypergradient(problem)
    for name, found in (("implicit", by_parameters), ("functional", by_outputs)):
        agree(f"∇_U F, {name}", (found + found.mT) / 2, want, **near)


def whitened(problem: Problem) -> tuple[Any, Any, Tensor]:
    """Return both levels in coordinates in which `∂²J/∂z² = -I` at the inner solution, and that."""
    J, F, theta = levels(problem)
    leaves, U = Leaves.of("theta", theta), {"U": problem.tensors()["U"]}
    centre = flat(leaves.tensors)

    def tree(x: Tensor) -> Any:
        return leaves.tree(leaves.split(x))

    bend = torch.autograd.functional.hessian(lambda x: -J(tree(x), U), centre)
    assert isinstance(bend, Tensor)
    root = torch.linalg.cholesky(bend).mT
    factor = torch.linalg.inv(root)

    def at(level: Any) -> Any:
        return lambda z, phi: level(tree(factor @ z), phi)

    return at(J), at(F), root @ centre


def unrolled_hypergradient(problem: Problem, rate: float, steps: int) -> None:
    """`K` steps of size η give `1 - (1-η)^K` of the derived `∇_U F`, and in the end all of it.

    Args:
        problem: of the reference.
        rate: `η < 1`, in coordinates in which every curvature of `J` is 1.
        steps: `K`.
    """
    (J, F, still), U = whitened(problem), {"U": problem.tensors()["U"]}
    want, near = derived_hypergradient(problem)
    moved = still + 0.05 / len(still) ** 0.5
    long = math.ceil(math.log(1e-11) / math.log(1 - rate))
    for name, start, K in (
        (f"{steps} steps", still, steps),
        ("from the solution", still, long),
        ("from beside it", moved, 2 * long),
    ):
        found = unrolled(
            J, F, start, U, optimiser=SGD(rate), steps=K, tolerance=math.inf, distance=math.inf
        ).value["U"]
        share = 1 - (1 - rate) ** K
        agree(f"∇_U F unrolled, {name}", (found + found.mT) / 2, share * want, **near)


def penalised_hypergradient(problem: Problem, weight: float) -> None:
    """The penalty's bias is `O(1/ς)`: at 2ς it is half of that at ς, up to `O(1/ς²)`.

    Args:
        problem: of the reference.
        weight: σ, in units of the largest curvature of `F` where those of `J` are 1.
    """
    (J, F, best), U = whitened(problem), {"U": problem.tensors()["U"]}
    want, near = derived_hypergradient(problem)
    bend = torch.autograd.functional.hessian(lambda z: F(z, U), best)
    pull = torch.autograd.functional.jacobian(lambda z: F(z, U), best)
    assert isinstance(bend, Tensor)
    assert isinstance(pull, Tensor)
    # of F, and of J by the way that the pull moves the solution
    sigma = weight * float(torch.linalg.eigvalsh(bend).abs().max() + pull.norm())
    one, two = (
        (found + found.mT) / 2
        for found in (
            penalty(J, F, best, U, weight=k * sigma, tolerance=2.0).value["U"] for k in (1, 2)
        )
    )
    scale = {**near, "scale": near["scale"] + float(np.abs(want).max())}
    agree("∇_U F by a penalty", one, want, **{**scale, "rtol": 1 / weight})
    agree("its bias is O(1/ς)", 2 * two - one, want, **{**scale, "rtol": 2 / weight**2 + 1e-9})


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


def projection(problem: Problem, width: float) -> None:
    """The best `U ⪰ 0`: `∇_U F`, as derived, is `⪯ 0` there and 0 along `U`; `U*` where that is.

    Args:
        problem: of the reference.
        width: of its deviations, to be outside the cone as well as inside.
    """
    t, p0, n = problem.tensors(), base(problem), problem.n
    reference = Gaussian(p0.mean, width * p0.scale)
    found = with_reference.projected_reward(t["Sigma"], t["lam"], t["mu"], reference)
    S, U = found.law.covariance, found.U
    at = values(problem, "Sigma", "lam", "mu", S=S.numpy(), m=found.law.mean.numpy())
    slope = torch.as_tensor(square(theory.outer.of_error(n).at("derived", **at), n))
    whitening = torch.linalg.inv(reference.scale)
    terms = (S + t["Sigma"]) / t["lam"]  # that cancel in the slope
    steep, size = (whitening @ x @ whitening.mT for x in (slope, terms))
    rtol = closed_form(problem.Sigma, reference.covariance)
    zero, scale = torch.zeros((), dtype=F64), float(size.norm())
    P0 = reference.covariance.numpy()
    m = theory.inner.mean(n).at("derived", **values(problem, "m0", "mu", P=S.numpy(), P0=P0))
    far = float(np.abs(problem.m).max() + np.abs(problem.mu).max())
    agree("m*", found.law.mean, np.atleast_1d(m), rtol=rtol, scale=far, inputs=problem)
    rising = torch.linalg.eigvalsh(steep)[-1].clamp_min(0)
    agree("∇_U F ⪯ 0", rising, zero, rtol=rtol, scale=scale, inputs=problem)
    along, total = (U * slope).sum(), float((U * terms).sum()) + problem.lam * scale
    agree("Tr(U ∇_U F) = 0", along, zero, rtol=rtol, scale=total, inputs=problem)
    try:
        best = with_reference.optimal_reward(t["Sigma"], t["lam"], t["mu"], reference)
    except with_reference.OutsideConeError:
        if not float(torch.linalg.eigvalsh(U)[0]) <= rtol * float(U.norm()):
            raise AssertionError(f"U fails to be singular: {U}\n  inputs   {problem}") from None
    else:
        agree("U = U*", U, best.U, rtol=rtol, scale=float(U.norm()), inputs=problem)
        law = with_reference.inner_solution(best, t["lam"], t["mu"], reference)
        agree("its law", found.law.mean, law.mean, rtol=rtol, scale=1.0, inputs=problem)


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
