"""Identities of scalar and diagonal rewards between classes: the best ones, and the heuristic."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from analysis import categorical
from paper_checks.conformance.class_problems import ClassProblem
from paper_checks.conformance.tolerances import agree, closed_form
from solvers.errors import InputError
from solvers.families.categorical import Categorical, CategoricalPolicy
from solvers.families.law import Params
from solvers.rewards import between_classes
from solvers.rewards.between_classes import ClassReward
from solvers.training import inner
from solvers.training.objectives import NLL, PolicyGradient
from tests.gate.identities.categorical import (
    EXPLICIT,
    LAWS,
    data_of,
    enumerated,
    law_with,
    require,
    value,
    with_last,
)


def scalar_law(problem: ClassProblem, u: Tensor) -> Categorical:
    """Return the Gibbs law of `U = uI`."""
    t = problem.tensors()
    return between_classes.gibbs(ClassReward.scalar(u, problem.C), t["lam"], t["pi"][None])


def divergence(problem: ClassProblem, law: Categorical) -> Tensor:
    """Return `KL(π ‖ p)`, from the laws of the solvers."""
    pi = problem.tensors()["pi"]
    return NLL()(law, data_of(pi)) - law_with(pi).entropy()[0]


def likelihood_of_scale(u: Tensor, lam: float, *data: Tensor) -> Tensor:
    """Return `Σ_x F(uI)` from enumerated rewards."""
    table = enumerated(u * torch.eye(len(data[0]), dtype=torch.float64))
    return torch.stack([pi @ (table @ pi / lam).log_softmax(-1) for pi in data]).sum()


def slope_and_bend(u: float, lam: float, *data: Tensor) -> tuple[float, float]:
    """Return first and second derivative of the likelihood in `u`, by autograd."""
    at = torch.tensor(u, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(likelihood_of_scale(at, lam, *data), at, create_graph=True)
    (bend,) = torch.autograd.grad(slope, at)
    return float(slope.detach()), float(bend)


def has_no_best_scale(problem: ClassProblem) -> bool:
    """Whether every `u` is as good as any other: π is uniform."""
    return bool(np.all(problem.pi == problem.pi[0]))


def best_scale(problem: ClassProblem) -> None:
    """`exact_scale` is a root of the derived `dF/du`, and the maximum; for two classes, derived.

    At one input and at two. Where `F` is flat, `u` is known to the tolerance over its curvature
    only; within that distance the likelihood turns from rising to falling.
    """
    t, lam = problem.tensors(), problem.lam
    for data in ((t["pi"],), (t["pi"], t["p"])):
        name = f"exact scale u*, inputs: {len(data)}"
        if len(data) == 1 and has_no_best_scale(problem):
            no_best_scale(problem)
            continue
        u = float(between_classes.exact_scale(torch.stack(data), t["lam"]))
        require(u > 0, f"{name}: u* > 0", problem)
        rtol, scale = closed_form(), 1 / lam  # of probabilities that cancel
        if problem.C <= EXPLICIT:
            slope = categorical.scalar.stationarity(problem.C)
            slopes = [value(slope, problem, pi=pi.numpy(), u=u) for pi in data]
            agree(f"{name}: dF/du = 0", sum(slopes), 0.0, rtol=rtol, scale=scale, inputs=problem)
        _, bend = slope_and_bend(u, lam, *data)
        step = closed_form() / (u**2 * -bend)
        rises, falls = (slope_and_bend(u * (1 + s * step), lam, *data)[0] for s in (-1, 1))
        require(rises > 0 > falls, f"{name}: F is largest there", problem)
        if problem.C == 2 and len(data) == 1:
            want = value(categorical.scalar.binary(), problem)
            agree(f"{name}, derived", u, want, rtol=step, inputs=problem)
            gap = divergence(problem, scalar_law(problem, torch.tensor(u, dtype=torch.float64)))
            agree(f"{name}: KL(π ‖ p*) = 0", gap, 0.0, rtol=rtol, scale=1, inputs=problem)


def no_best_scale(problem: ClassProblem) -> None:
    """Every `u` gives the uniform law, and `exact_scale` says that none is best."""
    t, scale = problem.tensors(), 1 / problem.lam
    if problem.C <= EXPLICIT:
        slope, name = (
            value(categorical.scalar.stationarity(problem.C), problem),
            "dF/du, π uniform, = 0",
        )
        agree(name, slope, 0.0, rtol=closed_form(), scale=scale, inputs=problem)
    try:
        u = between_classes.exact_scale(t["pi"][None], t["lam"])
    except InputError:
        return
    require(False, f"exact scale: refusal of a uniform π, for which it gave {float(u)},", problem)


def heuristic(problem: ClassProblem) -> None:
    """`β* = λC/(2 Tr Σ)`, the derived one, with `Σ` the covariance of one-hot outcomes."""
    t = problem.tensors()
    got, name = between_classes.heuristic_scale(t["pi"], t["lam"]), "heuristic scale β*"
    want = value(categorical.scalar.heuristic_scale(problem.C), problem)
    agree(name, got, want, rtol=closed_form(), inputs=problem)
    Sigma = np.cov(np.eye(problem.C), rowvar=False, bias=True, aweights=problem.pi)
    want = problem.lam * problem.C / (2 * np.trace(Sigma))
    agree(f"{name}, by covariance", got, want, rtol=closed_form(), inputs=problem)


def scalar_cost(problem: ClassProblem) -> None:
    """What `U = uI` and the heuristic cost is the divergence of solver laws from π, as derived."""
    t, C = problem.tensors(), problem.C
    beta = between_classes.heuristic_scale(t["pi"], t["lam"])
    for name, u in (("u", t["u"]), ("β*", beta), ("2β*", 2 * beta)):
        law, rtol = scalar_law(problem, u), closed_form()
        got, claim = divergence(problem, law), f"KL(π ‖ p*) at {name}"
        require(got >= -rtol, f"{claim} >= 0", problem)
        # of two entropies or more that cancel
        scale = 1 + float(law.log_p.abs().max())
        want = {"scalar_gap": value(categorical.costs.scalar_gap(C), problem, u=float(u))}
        want["of the enumerated likelihood"] = np.asarray(
            t["pi"] @ t["pi"].log() - likelihood_of_scale(u, problem.lam, t["pi"])
        )
        if C == 2:
            want["binary_gap"] = value(categorical.costs.binary_gap(), problem, u=float(u))
            if name != "u":
                k = 2.0 if name == "2β*" else 1.0
                want["heuristic_gap"] = value(categorical.costs.heuristic_gap(), problem, k=k)
        for source, number in want.items():
            agree(f"{claim}, {source}", got, number, rtol=rtol, scale=scale, inputs=problem)


def heuristic_is_twice_too_sharp(problem: ClassProblem) -> None:
    """For two classes `β* >= 2u*`, by the derived ratio; equal in the limit of π = ½ only."""
    if has_no_best_scale(problem):
        return no_best_scale(problem)
    t = problem.tensors()
    u = between_classes.exact_scale(t["pi"][None], t["lam"])
    beta = between_classes.heuristic_scale(t["pi"], t["lam"])
    _, bend = slope_and_bend(float(u), problem.lam, t["pi"])
    rtol = closed_form() / (float(u) ** 2 * -bend)
    want = value(categorical.scalar.heuristic_ratio(), problem)
    agree("u*/β*, two classes", u / beta, want, rtol=rtol, inputs=problem)
    return require(u / beta <= 0.5 + rtol, "u*/β* <= ½, two classes", problem)


def keeps_the_order(problem: ClassProblem) -> None:
    """Whatever `u > 0`, classes are as likely under `p*` as under π: in this order, with ties."""
    t, pi = problem.tensors(), problem.pi
    ahead = np.sign(pi[:, None] - pi)
    for u in (t["u"] / 100, t["u"], 100 * t["u"]):
        log_p = scalar_law(problem, u).log_p[0]
        got, name = log_p[:, None] - log_p, "log p*(a)/p*(b) of a scalar reward"
        want = value(categorical.inner.argmax_preserved(problem.C), problem, u=float(u))
        scale, rtol = float(u) / problem.lam, closed_form()
        agree(name, got, want, rtol=rtol, scale=scale, inputs=problem)
        same = np.where(np.abs(got.numpy()) <= rtol * scale, 0, np.sign(got.numpy()))
        agree(f"order by {name}", same, ahead, rtol=rtol, inputs=problem)


def diagonal_reaches_the_data(problem: ClassProblem) -> None:
    """`exact_diagonal` is positive, its law is π, and it is the derived one at its offset.

    The offset `2π_max - 1 - log π_max` is the derived `log 2` where a probability is ½, and leaves
    that entry free; there the derived formula holds for the others.
    """
    t, C, pi, name = problem.tensors(), problem.C, problem.pi, "diagonal reward u"
    u = between_classes.exact_diagonal(t["pi"], t["lam"])
    require((u > 0).all(), f"{name}: u > 0", problem)
    law = between_classes.gibbs(ClassReward.diagonal(u[None]), t["lam"], t["pi"][None])
    agree(f"{name}: p* = π", law.p[0], pi, rtol=closed_form(), inputs=problem)
    # F is largest, and as large as that of any policy, at p* = π only
    want = value(categorical.outer.objective(C), problem, U=np.diag(u.numpy()))
    agree(f"{name}: derived F = -H(π)", want, pi @ np.log(pi), rtol=closed_form(), inputs=problem)
    if C <= LAWS:
        want = value(categorical.inner.solution(C), problem, U=np.diag(u.numpy()))
        agree(f"{name}: derived p* = π", want, pi, rtol=closed_form(), inputs=problem)
    offset = 2 * pi.max() - 1 - np.log(pi.max())
    # the formula divides by 2π_c - 1
    condition = 1 / np.min(np.abs(2 * pi[pi != 0.5] - 1), initial=1)
    if np.any(pi == 0.5):
        forced = float(categorical.diagonal.reward_at_half().at(side="derived"))
        agree(f"{name}: offset at ½", offset, forced, rtol=closed_form(), inputs=problem)
        other = pi != 0.5
        want = problem.lam * (np.log(pi[other]) + forced) / (2 * pi[other] - 1)
        got = u[torch.as_tensor(other)]
        if len(want):
            rtol = closed_form() * condition
            agree(f"{name}: other entries", got, want, rtol=rtol, inputs=problem)
    else:
        want = value(categorical.diagonal.reward(C), problem, offset=offset)
        agree(name, u, want, rtol=closed_form() * condition, inputs=problem)


def training_with_the_diagonal(problem: ClassProblem) -> None:
    """Policies trained with `exact_diagonal` end at π: logits, and a saturated logistic policy.

    A gradient of at most the tolerance in the logits, in nats, is `p (log p/p* - KL)`.
    """
    t, tolerance = problem.tensors(), 1e-8  # as far as a Hessian that is singular lets Newton go
    data = data_of(t["pi"], t["p"])
    u = between_classes.exact_diagonal(data.pi, t["lam"].expand(2))
    reward, policy = ClassReward.diagonal(u), CategoricalPolicy(1, problem.C)
    trained = inner.fit(
        policy, data, PolicyGradient(reward, t["lam"]), weight_decay=0.0, tolerance=tolerance
    )
    alone = ClassReward.diagonal(u[:1])

    def loss(theta: Params) -> Tensor:
        law = Categorical(with_last(theta["z"])[None])
        return PolicyGradient(alone, t["lam"])(law, data_of(t["pi"])) / t["lam"]

    start = {"z": torch.zeros(problem.C - 1, dtype=torch.float64)}
    free = inner.minimum(start, loss, tolerance=tolerance)
    for name, found, p, want in (
        ("a logistic policy", trained, policy(trained.value, data.x).p, data.pi),
        ("logits", free, with_last(free.value["z"]).softmax(-1), t["pi"]),
    ):
        claim = f"training {name} with the diagonal reward"
        require(found.converged, f"{claim} to stationarity", problem)
        # two inputs count one half each, and the slopes at the second are in weight and bias
        rtol = 4 * tolerance / float(data.pi.min())
        agree(f"{claim}: p = π", p, want, rtol=rtol, inputs=problem)
