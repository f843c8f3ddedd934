"""Identities of categorical policies: the Gibbs law, the outer objective and its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from analysis import categorical
from analysis.derivation import Derivation
from paper_checks.conformance import witnesses
from paper_checks.conformance.class_problems import ClassProblem
from paper_checks.conformance.tolerances import SEARCH, agree, closed_form
from solvers.data import LabelledData
from solvers.families.categorical import Categorical
from solvers.hypergradients.implicit import Method, implicit
from solvers.rewards import between_classes
from solvers.rewards.between_classes import ClassReward
from solvers.training.objectives import NLL, PolicyGradient
from tests.gate.identities.hypergradients import HYPERGRADIENT

Form = Literal["scalar", "diagonal", "full"]
LAWS = 6  # classes up to which p* is derived here; the gap and F, derived for all, contain it
EXPLICIT = 5  # classes up to which derivatives of F are derived here: beyond, SymPy takes seconds


def value(derivation: Derivation, problem: ClassProblem, **other: Any) -> np.ndarray:
    """Return the derived side at a problem, some of its arguments replaced."""
    known = vars(problem) | other
    numbers = {name: known[name] for name in derivation.arguments}
    return np.asarray(derivation.at(side="derived", **numbers))


def require(holds: object, claim: str, problem: ClassProblem) -> None:
    """Raise unless a claim that is no equation holds."""
    if not holds:
        raise AssertionError(f"{claim} fails\n  inputs   {problem}")


def data_of(*pi: Tensor) -> LabelledData:
    """Return data with these class probabilities, at inputs 0, 1, ..."""
    x = torch.arange(len(pi), dtype=torch.float64)
    return LabelledData.soft(x[:, None], torch.stack(pi))


def law_with(p: Tensor) -> Categorical:
    """Return the law with these probabilities; its logits have some constant added."""
    return Categorical(p.log()[None] + 0.7)


def weight(problem: ClassProblem, form: Form) -> Tensor:
    """Return `U` of this form."""
    t = problem.tensors()
    if form == "scalar":
        return t["u"] * torch.eye(problem.C, dtype=torch.float64)
    return torch.diag(t["U"].diagonal()) if form == "diagonal" else t["U"]


def reward_of(problem: ClassProblem, form: Form) -> ClassReward:
    """Return the reward of `weight`, by its own constructor."""
    t = problem.tensors()
    if form == "scalar":
        return ClassReward.scalar(t["u"], problem.C)
    if form == "diagonal":
        return ClassReward.diagonal(t["U"].diagonal()[None])
    return ClassReward.full(t["U"][None])


def enumerated(U: Tensor) -> Tensor:
    """Return the reward of every class against every outcome, from one-hot vectors."""
    e = torch.eye(len(U), dtype=torch.float64)
    return witnesses.reward(e[:, None], e[None], U)


def inner_objective(z: Tensor, table: Tensor, pi: Tensor, lam: Tensor) -> Tensor:
    """Return `J = Σ_c Σ_k p_c π_k r(c, k) + λH` at logits `z`, from the definition."""
    law = torch.distributions.Categorical(logits=z)
    return torch.einsum("c,k,ck->", law.probs, pi, table) + lam * law.entropy()


def with_last(z: Tensor) -> Tensor:
    """Return logits whose last one is 0."""
    return torch.cat([z, z.new_zeros(1)])


def maximiser(U: Tensor, pi: Tensor, lam: Tensor) -> Tensor:
    """Return the probabilities that maximise `J`, by a numerical search over logits."""
    table, start = enumerated(U), torch.zeros(len(pi) - 1, dtype=torch.float64)
    found = witnesses.maximise(lambda z: inner_objective(with_last(z), table, pi, lam), start)
    return with_last(found).softmax(-1)


def inner_solution(problem: ClassProblem, form: Form) -> None:
    """`gibbs` is the derived law, and maximises the enumerated `J`."""
    t, U, name = problem.tensors(), weight(problem, form), f"Gibbs law p*, {form}"
    p = between_classes.gibbs(reward_of(problem, form), t["lam"], t["pi"][None]).p[0]
    if problem.C <= LAWS:
        want = value(categorical.inner.solution(problem.C), problem, U=U.numpy())
        agree(name, p, want, rtol=closed_form(), inputs=problem)
    if form == "scalar" and problem.C <= LAWS:
        want = value(categorical.inner.scalar_solution(problem.C), problem)
        agree(f"{name}, from u", p, want, rtol=closed_form(), inputs=problem)
    if problem.C == 2:
        logit = value(categorical.inner.binary_logit(), problem, U=U.numpy())
        got = (p[0] / p[1]).log()
        agree(f"{name}, logit", got, logit, rtol=closed_form(), scale=1, inputs=problem)
    best = maximiser(U, t["pi"], t["lam"])
    agree(f"{name} = argmax J", p, best, rtol=SEARCH * closed_form(), inputs=problem)


def expected_reward(problem: ClassProblem) -> None:
    """`r̄(c) = Σ_k π_k r(c, k)` at two inputs, with a reward each; symmetric in classes, and not."""
    t, C = problem.tensors(), problem.C
    data, law = data_of(t["pi"], t["p"]), Categorical(torch.stack([t["r"], t["p"].log()]))
    weights = torch.stack([t["U"], weight(problem, "scalar")])
    tables = torch.stack([enumerated(U) for U in weights])
    lopsided = tables + t["r"][:, None]
    for name, reward, table in (
        ("r̄ of a Mahalanobis reward", ClassReward.full(weights), tables),
        ("r̄ of any reward", ClassReward(lopsided), lopsided),
    ):
        want = [
            [sum(float(data.pi[i, k] * table[i, c, k]) for k in range(C)) for c in range(C)]
            for i in range(2)
        ]
        agree(name, reward.by_class(data.pi), want, rtol=closed_form(), inputs=problem)
        got, mean = reward.expected(law, data), (law.logits.softmax(-1).numpy() * want).sum(-1)
        agree(f"E {name}", got, mean, rtol=closed_form(), inputs=problem)


def gibbs_gap(problem: ClassProblem, form: Form) -> None:
    """`J(p*) - J(p) = λ KL(p ‖ p*)`, all of it from solver objects, is the derived one."""
    t, reward, data = problem.tensors(), reward_of(problem, form), data_of(problem.tensors()["pi"])
    best = between_classes.gibbs(reward, t["lam"], data.pi)
    law, minus_J = law_with(t["p"]), PolicyGradient(reward, t["lam"])
    lowest, loss = minus_J(best, data), minus_J(law, data)
    want = value(categorical.inner.gibbs_gap(problem.C), problem, U=weight(problem, form).numpy())
    scale = float(loss.abs() + lowest.abs())  # two terms that cancel
    name, rtol = f"J(p*) - J(p), {form}", closed_form()
    agree(name, loss - lowest, want, rtol=rtol, scale=scale, inputs=problem)
    divergence = t["lam"] * (law.p * (law.log_p - best.log_p)).sum()
    agree(f"λ KL(p ‖ p*), {form}", divergence, want, rtol=rtol, scale=scale, inputs=problem)
    found = inner_objective(law.logits[0], enumerated(weight(problem, form)), t["pi"], t["lam"])
    agree(f"J(p), {form}", -loss, found, rtol=rtol, scale=problem.lam, inputs=problem)


def through_gibbs(problem: ClassProblem) -> Callable[[Tensor], Tensor]:
    """Return `F(U)`, the likelihood at the Gibbs law, of the symmetric part of `U`."""
    t = problem.tensors()
    data = data_of(t["pi"])

    def F(U: Tensor) -> Tensor:
        reward = ClassReward.mahalanobis(((U + U.T) / 2)[None])
        return -NLL()(between_classes.gibbs(reward, t["lam"], data.pi), data)

    return F


def outer_objective(problem: ClassProblem) -> None:
    """`F(U)` is the derived one, and the likelihood of the numerical maximiser of `J`."""
    t = problem.tensors()
    got, name = through_gibbs(problem)(t["U"]), "outer objective F(U)"
    want = value(categorical.outer.objective(problem.C), problem)
    agree(name, got, want, rtol=closed_form(), inputs=problem)
    best = maximiser(t["U"], t["pi"], t["lam"])
    want = (t["pi"] * best.log()).sum()
    agree(f"{name} at argmax J", got, want, rtol=SEARCH * closed_form(), inputs=problem)


def hypergradient(problem: ClassProblem, method: Method) -> None:
    """`∇_U F`: derived (twice), by autograd through the Gibbs law, by `implicit` on `J` and `F`.

    The inner variables are logits with the last one 0: all of them would leave a constant free,
    and the Hessian singular. Gradients are symmetric: `dF = Tr(G dU)`.
    """
    t, data = problem.tensors(), data_of(problem.tensors()["pi"])
    law = between_classes.gibbs(reward_of(problem, "full"), t["lam"], data.pi)

    def J(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        reward = ClassReward.mahalanobis(((phi["U"] + phi["U"].T) / 2)[None])
        return -PolicyGradient(reward, t["lam"])(at(theta), data)

    def F(theta: dict[str, Tensor], phi: dict[str, Tensor]) -> Tensor:
        return -NLL()(at(theta), data)

    def at(theta: dict[str, Tensor]) -> Categorical:
        return Categorical(with_last(theta["z"])[None])

    z = law.logits[0] - law.logits[0, -1]
    found = implicit(
        J, F, {"z": z[:-1]}, {"U": t["U"]}, method=method, tolerance=1e-13, max_iterations=4000
    )
    got = found.value["U"]
    U = t["U"].clone().requires_grad_()
    (G,) = torch.autograd.grad(through_gibbs(problem)(U), U)
    curvature = torch.diag(law.p[0]) - torch.outer(law.p[0], law.p[0])
    rtol = max(HYPERGRADIENT, closed_form(curvature[:-1, :-1]))
    scale, name = 1 / problem.lam, f"∇_U F by implicit differentiation, {method}"
    agree(f"{name}, and through the Gibbs law", got, G, rtol=rtol, scale=scale, inputs=problem)
    agree(f"{name}, is symmetric", got, got.T, rtol=rtol, scale=scale, inputs=problem)
    if problem.C <= EXPLICIT:
        for build in (categorical.outer.hypergradient, categorical.outer.implicit_hypergradient):
            want = value(build(problem.C), problem)
            agree(f"{name}: {build.name}", got, want, rtol=rtol, scale=scale, inputs=problem)


def concavity(problem: ClassProblem) -> None:
    """`d²F(U; H, H) <= 0`, derived and by differentiating twice; 0 along `H = a1ᵀ + 1aᵀ`."""
    t, F, lam = problem.tensors(), through_gibbs(problem), problem.lam
    idle = t["r"][:, None] + t["r"]
    moved = ClassReward.mahalanobis((t["U"] + idle)[None])
    still = between_classes.gibbs(moved, t["lam"], t["pi"][None])
    p = between_classes.gibbs(reward_of(problem, "full"), t["lam"], t["pi"][None]).p
    agree("p* of U + a1ᵀ + 1aᵀ is p*", still.p, p, rtol=closed_form(), inputs=problem)
    for name, H in (("d²F along H", t["H"]), ("d²F along a1ᵀ + 1aᵀ", idle)):
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(F(t["U"] + step * H), step, create_graph=True)
        (got,) = torch.autograd.grad(slope, step)
        scale = float(H.abs().max() / lam) ** 2
        require(got <= closed_form() * scale, f"{name} <= 0", problem)
        if H is idle:
            agree(f"{name} = 0", got, 0.0, rtol=closed_form(), scale=scale, inputs=problem)
        if problem.C <= EXPLICIT:
            want = value(categorical.outer.concavity(problem.C), problem, H=H.numpy())
            agree(name, got, want, rtol=closed_form(), scale=scale, inputs=problem)


def rank(problem: ClassProblem) -> None:
    """The Hessian of `F` in all of `U` is negative semi-definite, of rank `C - 1`."""
    U = problem.tensors()["U"]
    hessian = torch.autograd.functional.hessian(through_gibbs(problem), U)
    assert isinstance(hessian, Tensor)
    curvature = -torch.linalg.eigvalsh(hessian.reshape(U.numel(), U.numel()))
    size, inner, name = 1 / problem.lam**2, problem.C - 1, "curvature of F"
    require(curvature[-1] >= -closed_form() * size, f"{name} >= 0", problem)
    zeros = torch.zeros(U.numel() - inner, dtype=torch.float64)
    beyond = f"{name} beyond rank C - 1"
    agree(beyond, curvature[inner:], zeros, rtol=closed_form(), scale=size, inputs=problem)
    if problem.C > 2:  # of two classes, equally likely ones have no curvature at all
        require(curvature[inner - 1] > closed_form() * size, f"{name} of rank C - 1", problem)
